"""Shapley and Owen values against enumeration, a recursion written from the definition, and Captum itself."""

from itertools import pairwise
from math import factorial

import captum.attr
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toygames import Oracle, curved, estimate, explain, game, subsets

from attrlab.bench.types import drive
from attrlab.methods.shapley import Shap, ShapleySampling, neighbour_tree, order_gains


def exact_shapley(value, units):
    """The sum over all subsets (methods spec 3.4), one coalition at a time."""
    every = subsets(units)
    table = value(every)
    scores = np.zeros(units)
    for index, keep in enumerate(every):
        size = keep.sum()
        for unit in np.flatnonzero(~keep):
            weight = factorial(size) * factorial(units - size - 1) / factorial(units)
            scores[unit] += weight * (table[index | 1 << unit] - table[index])
    return scores


def owen(value, units):
    """The recursion of methods spec 3.4 on the tree that halves a range, the left half the shorter."""
    scores = np.zeros(units)

    def worth(present):
        return value(np.isin(np.arange(units), list(present))[None])[0]

    def visit(members, context, weight):
        if len(members) == 1:
            scores[members[0]] += weight * (worth({*context, *members}) - worth(context))
            return
        half = len(members) // 2
        for part, rest in ((members[:half], members[half:]), (members[half:], members[:half])):
            visit(part, context, weight / 2)
            visit(part, {*context, *rest}, weight / 2)

    visit(list(range(units)), set(), 1.0)
    return scores


def test_enumeration_by_hand():
    # v(0)=1, v(1)=2, v(both)=7: unit 0 gains (1 + 5) / 2, unit 1 gains (2 + 6) / 2.
    value = lambda keep: np.array([0.0, 1.0, 2.0, 7.0])[keep @ [1, 2]]  # noqa: E731
    for method in (ShapleySampling(permutations=1), Shap()):
        assert explain(method, value, 2) == pytest.approx([3, 4], abs=1e-12)
    assert exact_shapley(value, 2) == pytest.approx([3, 4])


@pytest.mark.parametrize("units", [3, 6])
def test_sampling_is_within_three_standard_errors_of_enumeration(units):
    value, pairs = curved(units, seed=4), 400
    scores = explain(ShapleySampling(permutations=pairs), value, units, seed=2)
    single = np.array([explain(ShapleySampling(permutations=1), value, units, seed) for seed in range(60)])
    error = single.std(axis=0, ddof=1) / np.sqrt(pairs)
    assert (np.abs(scores - exact_shapley(value, units)) <= 3 * error).all()
    assert (error < 0.05).all()


@settings(max_examples=20, deadline=None)
@given(units=st.integers(1, 8), seed=st.integers(0, 1000), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_gains_along_an_order_are_differences_of_prefixes(units, seed, scale):
    value = lambda keep: scale * curved(units, seed)(keep)  # noqa: E731
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(units), (3, 1)), axis=1)
    gains = order_gains(np.argsort(orders, axis=1), value)
    for order, row in zip(orders, gains, strict=True):
        prefixes = [np.isin(np.arange(units), order[:length]) for length in range(units + 1)]
        steps = [after - before for before, after in pairwise(value(np.array(prefixes)))]
        assert row[order] == pytest.approx(np.array(steps), abs=1e-11 * scale)


def test_gains_equal_captum_run_one_permutation_after_the_other():
    units, value = 7, curved(7)
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(units), (6, 1)), axis=1)
    sampler = captum.attr.ShapleyValueSampling(
        lambda present: torch.from_numpy(value(present.numpy().astype(bool))),
    )
    sampler.permutation_generator = lambda *_: iter(orders.tolist())
    reference = sampler.attribute(torch.ones(1, units, dtype=torch.float64), n_samples=6)
    gains = order_gains(np.argsort(orders, axis=1), value)
    # Captum returns float32.
    assert gains.mean(axis=0) == pytest.approx(reference.numpy()[0], abs=2e-6)


def test_every_order_is_also_used_in_reverse():
    oracle = Oracle(curved(6))
    drive(ShapleySampling(permutations=3).ask(game(6), np.random.default_rng(0)), oracle)
    asked = {tuple(keep) for keep in oracle.asked[0]}
    assert asked == {tuple(~np.array(keep)) for keep in asked}


@pytest.mark.parametrize("units", [2, 3, 7, 12])
def test_shap_with_full_budget_equals_the_recursion(units):
    value = curved(units, seed=1)
    assert explain(Shap(), value, units) == pytest.approx(owen(value, units), abs=1e-10)


def test_shap_opens_the_tree_of_seven_with_36_questions():
    oracle = Oracle(curved(7))
    drive(Shap().ask(game(7), np.random.default_rng(0)), oracle)
    assert oracle.questions == 36


@settings(max_examples=20, deadline=None)
@given(units=st.integers(1, 40), evals=st.integers(2, 90))
def test_shap_keeps_its_budget_and_asks_nothing_twice(units, evals):
    oracle = Oracle(curved(units))
    drive(Shap(evals).ask(game(units), np.random.default_rng(0)), oracle)
    assert oracle.questions <= evals
    asked = np.vstack(oracle.asked)
    assert len(np.unique(asked, axis=0)) == len(asked)


def test_shap_splits_what_it_cannot_afford_to_open_equally():
    value = curved(5)
    nothing, whole = value(np.array([[False] * 5, [True] * 5]))
    assert explain(Shap(evals=2), value, 5) == pytest.approx(np.full(5, (whole - nothing) / 5))
    # Two more questions open the root: units 0, 1 and units 2, 3, 4.
    left, right = value(np.array([[True, True, False, False, False], [False, False, True, True, True]]))
    halves = np.array([left - nothing + whole - right, right - nothing + whole - left]) / 2
    assert explain(Shap(evals=4), value, 5) == pytest.approx(np.repeat(halves / [2, 3], [2, 3]))


@pytest.mark.parametrize("units", [2, 5, 8, 13])
def test_tree_halves_ranges_of_neighbours(units):
    members = {unit: [unit] for unit in range(units)}
    for row, (left, right, height, size) in enumerate(neighbour_tree(units)):
        first, second = members[left], members[right]
        members[units + row] = first + second
        assert len(second) - len(first) in (0, 1)
        assert height == size == len(members[units + row])
    assert members[2 * units - 2] == list(range(units))
    assert len(neighbour_tree(units)) == units - 1


def test_shap_breaks_ties_the_same_way_for_every_seed():
    # All four halves gain 8 and the budget opens two of them: which, is drawn by SHAP.
    value = lambda keep: keep @ np.array([1.0, 1, 3, 3, 3, 3, 1, 1])  # noqa: E731
    scores = [explain(Shap(evals=8), value, 8, seed) for seed in range(5)]
    assert np.ptp(scores[0]) > 0
    assert all(np.array_equal(scores[0], other) for other in scores[1:])


@pytest.mark.parametrize("permutations", [6, 25])
def test_standard_errors_are_those_of_the_scatter_between_seeds(permutations):
    value, units = curved(6, seed=1), 6
    found = [estimate(ShapleySampling(permutations), value, units, seed) for seed in range(300)]
    scatter = np.std([one.scores for one in found], axis=0)
    assert np.sqrt(np.mean([one.errors**2 for one in found], axis=0)) == pytest.approx(scatter, rel=0.15)


def test_an_order_and_its_reverse_are_one_observation():
    # The gains of a pair cancel: with v = (units present)^2, each pair has the mean m at every unit.
    found = estimate(ShapleySampling(permutations=5), lambda keep: keep.sum(axis=1) ** 2.0, 7)
    assert found.scores == pytest.approx(np.full(7, 7.0), abs=1e-10)
    assert found.errors == pytest.approx(np.zeros(7), abs=1e-10)
    assert estimate(ShapleySampling(permutations=1), curved(7), 7).errors is None
