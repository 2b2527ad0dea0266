"""What every black-box method promises, and the two that are one line of arithmetic."""

import captum.attr
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toygames import Oracle, additive, curved, explain, game, table

from attrlab.bench.types import drive
from attrlab.methods.controls import Random
from attrlab.methods.lime import Lime
from attrlab.methods.removal import LeaveOneOut
from attrlab.methods.shapley import Shap, ShapleySampling

METHODS = {
    "random": Random(),
    "leave_one_out": LeaveOneOut(),
    "lime": Lime(),
    "shapley_sampling": ShapleySampling(),
    "shap": Shap(),
}
EXACT = ("leave_one_out", "shapley_sampling", "shap")
STOCHASTIC = ("random", "lime", "shapley_sampling")

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
values_of = st.lists(st.floats(-5, 5, width=32), min_size=32, max_size=32).map(np.array)


@every_method
@pytest.mark.parametrize("units", [1, 2, 3, 17])
def test_scores_are_finite_doubles_one_per_unit(method, units):
    scores = explain(method, curved(units), units)
    assert scores.shape == (units,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("units", [1, 2, 7, 12])
def test_additive_game_gives_its_weights(name, units):
    weights = np.random.default_rng(units).normal(size=units)
    assert explain(METHODS[name], additive(weights), units) == pytest.approx(weights, abs=1e-10)


def test_lime_on_an_additive_game_gives_its_weights_up_to_the_ridge_penalty():
    weights = np.random.default_rng(3).normal(size=8)
    assert explain(METHODS["lime"], additive(weights), 8) == pytest.approx(weights, rel=0.02, abs=0.02)
    assert explain(Lime(samples=20000), additive(weights), 8) == pytest.approx(weights, rel=0.001, abs=0.001)


@every_method
@pytest.mark.parametrize("units", [1, 2, 12])
def test_same_seed_same_scores(method, units):
    assert np.array_equal(explain(method, curved(units), units, seed=5), explain(method, curved(units), units, seed=5))


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_matters_exactly_for_the_stochastic_methods(name):
    same = np.array_equal(*(explain(METHODS[name], curved(9), 9, seed) for seed in (0, 1)))
    assert same == (name not in STOCHASTIC)


@every_method
def test_global_generators_are_neither_used_nor_moved(method):
    results = []
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = np.random.get_state(legacy=False)["state"]["key"].copy(), torch.get_rng_state()
        results.append(explain(method, curved(9), 9))
        assert np.array_equal(before[0], np.random.get_state(legacy=False)["state"]["key"])
        assert torch.equal(before[1], torch.get_rng_state())
        assert np.random.get_state(legacy=False)["state"]["pos"] == 624
    assert np.array_equal(*results)


@every_method
def test_scores_do_not_depend_on_who_else_is_in_flight(method):
    units = (5, 9, 9)
    alone = [explain(method, curved(m, seed=m), m, seed) for seed, m in enumerate(units)]
    askers = [method.ask(game(m), np.random.default_rng(seed)) for seed, m in enumerate(units)]
    together = _round_robin(askers, [Oracle(curved(m, seed=m)) for m in units])
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))


def _round_robin(askers, oracles):
    """Drives all askers one step at a time, drawing from the global generators in between."""
    done, waiting = {}, dict.fromkeys(range(len(askers)))
    while waiting:
        for index, logits in list(waiting.items()):
            try:
                waiting[index] = oracles[index](askers[index].send(logits))
            except StopIteration as stop:
                done[index] = stop.value
                del waiting[index]
            np.random.random(index + 1)
            torch.rand(index + 1)
    return [done[index] for index in range(len(askers))]


@pytest.mark.parametrize("units", [1, 2, 12])
def test_number_of_questions(units):
    expected = {
        "random": 0,
        "leave_one_out": units + 1,
        "lime": 1000,
        "shapley_sampling": 1 + 50 * units,
        "shap": {1: 2, 2: 4, 12: 108}[units],
    }
    for name, method in METHODS.items():
        oracle = Oracle(curved(units))
        drive(method.ask(game(units), np.random.default_rng(0)), oracle)
        assert oracle.questions == expected[name], name
        assert len(oracle.asked) <= (7 if name == "shap" else 1)


@settings(max_examples=25, deadline=None)
@given(values=values_of, dummy=st.integers(0, 4))
def test_a_dummy_unit_gets_nothing(values, dummy):
    without = np.arange(32) & ~(1 << dummy)
    for name in EXACT:
        assert explain(METHODS[name], table(values[without]), 5)[dummy] == pytest.approx(0, abs=1e-10), name


@settings(max_examples=25, deadline=None)
@given(values=values_of)
def test_interchangeable_units_score_alike(values):
    index = np.arange(32)
    # Units 0 and 1 are neighbours in the tree; a single one of them present is always booked as unit 0.
    swapped = np.where((index & 3) == 2, index ^ 3, index)
    for method in (METHODS["leave_one_out"], METHODS["shap"]):
        first, second = explain(method, table(values[swapped]), 5)[:2]
        assert first == pytest.approx(second, abs=1e-10)
    first, second = explain(ShapleySampling(permutations=1), table(values[[0, 1, 1, 3]]), 2)
    assert first == pytest.approx(second, abs=1e-10)


@settings(max_examples=25, deadline=None)
@given(one=values_of, two=values_of)
def test_scores_are_linear_in_the_game(one, two):
    for name, method in METHODS.items():
        if name != "random":
            parts = [explain(method, table(values), 5) for values in (one, two, one - 2 * two)]
            assert parts[0] - 2 * parts[1] == pytest.approx(parts[2], abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(values=values_of, permutations=st.integers(1, 4), evals=st.integers(2, 40), seed=st.integers(0, 99))
def test_shapley_scores_sum_to_the_whole_gain(values, permutations, evals, seed):
    for method in (ShapleySampling(permutations), Shap(evals)):
        assert explain(method, table(values), 5, seed).sum() == pytest.approx(values[-1] - values[0], abs=1e-10)


def test_leave_one_out_equals_captum_feature_ablation():
    value = curved(9)
    forward = lambda present: torch.from_numpy(value(present.numpy().astype(bool)))  # noqa: E731
    reference = captum.attr.FeatureAblation(forward).attribute(torch.ones(1, 9, dtype=torch.float64))
    assert explain(LeaveOneOut(), value, 9) == pytest.approx(reference.numpy()[0], abs=1e-12)


def test_random_is_uniform_on_the_unit_interval():
    scores = np.array([explain(Random(), curved(10), 10, seed) for seed in range(400)])
    assert ((scores >= 0) & (scores < 1)).all()
    assert scores.mean() == pytest.approx(0.5, abs=3 * np.sqrt(1 / 12 / scores.size))
    assert scores.var() == pytest.approx(1 / 12, rel=0.05)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Lime(samples=1), "samples=1; allowed: 2 or more"),
        (lambda: Lime(kernel_width=0.0), "kernel_width=0.0; allowed: above 0"),
        (lambda: Lime(kernel_width=float("nan")), "kernel_width=nan; allowed: above 0"),
        (lambda: ShapleySampling(permutations=0), "permutations=0; allowed: 1 or more"),
        (lambda: Shap(evals=1), "evals=1; allowed: 2 or more"),
    ],
)
def test_parameters_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
