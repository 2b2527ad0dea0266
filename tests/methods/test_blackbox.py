"""What every black-box method promises."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toygames import Oracle, additive, curved, explain, game, table

from attrlab.bench.types import Estimate, drive
from attrlab.methods.controls import Position, Random, inverted
from attrlab.methods.exact_shapley import ExactShapley
from attrlab.methods.kernel_shap import KernelShap
from attrlab.methods.lime import Lime
from attrlab.methods.oracle import GreedyOracle
from attrlab.methods.removal import LeaveOneOut
from attrlab.methods.rise import Rise
from attrlab.methods.shapley import Shap, ShapleySampling

METHODS = {
    "random": Random(),
    "position": Position(),
    "leave_one_out": LeaveOneOut(),
    "windows": LeaveOneOut(window=3),
    "rise": Rise(samples=200),
    "rise_classic": Rise(samples=200, variant="classic"),
    "lime": Lime(),
    "exact_shapley": ExactShapley(largest=17),
    "shapley_sampling": ShapleySampling(),
    "kernel_shap": KernelShap(),
    "kernel_plain": KernelShap(samples=100, sampling="plain"),
    "kernel_paired": KernelShap(samples=100),
    "kernel_leverage": KernelShap(samples=100, sampling="leverage"),
    "shap": Shap(),
    "greedy_oracle": GreedyOracle(),
    "inverted": inverted("shapley_sampling:permutations=3"),
}
SHAPLEY = ("exact_shapley", "shapley_sampling", "kernel_shap")
"""Exact on five units, or whose every sample obeys all axioms."""
EXACT = ("leave_one_out", "shap", *SHAPLEY)
STOCHASTIC = {"random", "rise", "rise_classic", "lime", "shapley_sampling", "inverted"}
SAMPLED = {"kernel_plain", "kernel_paired", "kernel_leverage"}
"""Stochastic only where their budget does not cover all coalitions."""
NOT_LINEAR = {"random", "position", "rise_classic", "greedy_oracle"}
ASKS_NOTHING = {"random", "position"}

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
@pytest.mark.parametrize("units", [1, 2, 7, 11])
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
    assert same == (name not in STOCHASTIC | SAMPLED)


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
                done[index] = stop.value.scores if isinstance(stop.value, Estimate) else stop.value
                del waiting[index]
            np.random.random(index + 1)
            torch.rand(index + 1)
    return [done[index] for index in range(len(askers))]


@pytest.mark.parametrize("units", [1, 2, 12])
def test_number_of_questions(units):
    expected = {
        "leave_one_out": units + 1,
        "windows": {1: 2, 2: 2, 12: 11}[units],
        "lime": 1000,
        "exact_shapley": 2**units,
        "shapley_sampling": 1 + 50 * units,
        "kernel_shap": {1: 2, 2: 4, 12: 2072}[units],
        "shap": {1: 2, 2: 4, 12: 108}[units],
        "greedy_oracle": units * (units + 1) / 2 - 1,
        "inverted": 1 + 6 * units,
    }
    expected |= dict.fromkeys(ASKS_NOTHING, 0) | dict.fromkeys(("rise", "rise_classic"), 200)
    expected |= dict.fromkeys(SAMPLED, {1: 2, 2: 4, 12: 100}[units])
    for name, method in METHODS.items():
        oracle = Oracle(curved(units))
        drive(method.ask(game(units), np.random.default_rng(0)), oracle)
        assert oracle.questions == expected[name], name
        assert len(oracle.asked) <= {"shap": 7, "greedy_oracle": units - 1}.get(name, 1)


@pytest.mark.parametrize("method", [kind for kind in METHODS.values() if hasattr(kind, "operator")], ids=repr)
def test_a_method_asks_under_its_own_operator_or_under_the_suites(method):
    for own, suite, used in (("", None, None), ("", "delete", "delete"), ("pad", "delete", "pad")):
        seen, oracle = set(), Oracle(curved(4))
        method = type(method)(operator=own)

        def answer(ask, seen=seen, oracle=oracle):
            seen.add(ask.operator)
            return oracle(ask)

        drive(method.ask(replace(game(4), operator=suite), np.random.default_rng(0)), answer)
        assert seen == {used}


@settings(max_examples=25, deadline=None)
@given(values=values_of, dummy=st.integers(0, 4))
def test_a_dummy_unit_gets_nothing(values, dummy):
    without = np.arange(32) & ~(1 << dummy)
    for name in EXACT:
        assert explain(METHODS[name], table(values[without]), 5)[dummy] == pytest.approx(0, abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(values=values_of)
def test_interchangeable_units_score_alike(values):
    index = np.arange(32)
    # Units 0 and 1 are neighbours in the tree; a single one of them present is always booked as unit 0.
    swapped = np.where((index & 3) == 2, index ^ 3, index)
    for name in ("leave_one_out", "shap", "exact_shapley", "kernel_shap"):
        first, second = explain(METHODS[name], table(values[swapped]), 5)[:2]
        assert first == pytest.approx(second, abs=1e-9), name
    first, second = explain(ShapleySampling(permutations=1), table(values[[0, 1, 1, 3]]), 2)
    assert first == pytest.approx(second, abs=1e-10)


@settings(max_examples=25, deadline=None)
@given(one=values_of, two=values_of)
def test_scores_are_linear_in_the_game(one, two):
    for name, method in METHODS.items():
        if name not in NOT_LINEAR:
            parts = [explain(method, table(values), 5) for values in (one, two, one - 2 * two)]
            assert parts[0] - 2 * parts[1] == pytest.approx(parts[2], abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(
    values=values_of,
    permutations=st.integers(1, 4),
    evals=st.integers(2, 40),
    sampling=st.sampled_from(["plain", "paired", "leverage"]),
    seed=st.integers(0, 99),
)
def test_shapley_scores_sum_to_the_whole_gain(values, permutations, evals, sampling, seed):
    for method in (ShapleySampling(permutations), Shap(evals), KernelShap(samples=evals, sampling=sampling)):
        assert explain(method, table(values), 5, seed).sum() == pytest.approx(values[-1] - values[0], abs=1e-9)
    assert explain(ExactShapley(), table(values), 5).sum() == pytest.approx(values[-1] - values[0], abs=1e-10)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Lime(samples=1), "samples=1; allowed: 2 or more"),
        (lambda: Lime(kernel_width=0.0), "kernel_width=0.0; allowed: above 0"),
        (lambda: Lime(kernel_width=float("nan")), "kernel_width=nan; allowed: above 0"),
        (lambda: ShapleySampling(permutations=0), "permutations=0; allowed: 1 or more"),
        (lambda: Shap(evals=1), "evals=1; allowed: 2 or more"),
        (lambda: LeaveOneOut(window=0), "window=0; allowed: 1 or more"),
        (lambda: Rise(samples=1), "samples=1; allowed: 0"),
        (lambda: Rise(variant="centered"), "variant='centered'; allowed: centred, classic"),
        (lambda: Rise(p=1.0), "p=1.0; allowed: above 0"),
        (lambda: ExactShapley(largest=21), "largest=21; allowed: 1 to 20"),
        (lambda: KernelShap(samples=-1), "samples=-1; allowed: 0"),
        (lambda: KernelShap(sampling="pair"), "sampling='pair'; allowed: paired, plain, leverage"),
        (lambda: GreedyOracle(largest=0), "largest=0; allowed: 1 or more"),
        (lambda: Position(direction="left"), "direction='left'; allowed: first, last"),
    ],
)
def test_parameters_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
