"""Kernel SHAP: the regression against its definition, the designs against their probabilities, and what is exact."""

from collections import Counter
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from toygames import Oracle, additive, curved, explain, game, subsets

from attrlab.bench.types import drive
from attrlab.methods.exact_shapley import ExactShapley
from attrlab.methods.kernel_shap import (
    Design,
    KernelShap,
    by_leverage,
    by_weight,
    distinct_sets,
    every_coalition,
    number_of_pairs,
    pairs_per_size,
    random_sets,
    regression,
    rounded,
    size_masses,
)

SAMPLINGS = ("plain", "paired", "leverage")


def quadratic(units, seed=0):
    """A game of interactions of up to two units, and its Shapley values: weight plus half of each interaction."""
    rng = np.random.default_rng(seed)
    weights, pairs = rng.normal(size=units), np.triu(rng.normal(size=(units, units)), 1)
    value = lambda keep: keep @ weights + ((keep @ pairs) * keep).sum(axis=1) - 2.0  # noqa: E731
    return value, weights + (pairs + pairs.T).sum(axis=1) / 2


def kernel(units, size):
    return (units - 1) / (comb(units, size) * size * (units - size))


def test_regression_minimises_the_weighted_squares_under_the_constraint():
    rng = np.random.default_rng(0)
    keep, weights, gains, whole = rng.random((40, 5)) < 0.5, rng.random(40), rng.normal(size=40), 1.7
    found = regression(Design(keep, weights), gains, whole)
    loss = lambda scores: weights @ (keep @ scores - gains) ** 2  # noqa: E731
    constraint = {"type": "eq", "fun": lambda scores: scores.sum() - whole}
    best = minimize(loss, np.zeros(5), constraints=constraint, tol=1e-14).x
    assert found == pytest.approx(best, abs=1e-6)
    assert found.sum() == pytest.approx(whole, abs=1e-12)
    assert loss(found) <= loss(best) + 1e-12


def test_regression_equals_elimination_of_one_coefficient():
    rng = np.random.default_rng(1)
    keep, weights, gains, whole = rng.random((50, 6)) < 0.5, rng.random(50), rng.normal(size=50), -0.4
    # The last score is what the others leave over.
    matrix, rest = keep[:, :-1] ^ keep[:, -1:], gains - whole * keep[:, -1]
    signed = np.where(keep[:, -1:], -1.0, 1.0) * matrix
    normal = signed.T @ (weights[:, None] * signed)
    others = np.linalg.solve(normal, signed.T @ (weights * rest))
    expected = np.append(others, whole - others.sum())
    assert regression(Design(keep, weights), gains, whole) == pytest.approx(expected, abs=1e-12)


def test_what_no_coalition_tells_apart_is_shared_equally():
    keep = np.array([[True, True, False, False], [False, False, True, True]])
    found = regression(Design(keep, np.ones(2)), np.array([3.0, 1.0]), 4.0)
    assert found == pytest.approx([1.5, 1.5, 0.5, 0.5])
    nothing = Design(np.zeros((0, 3), dtype=bool), np.zeros(0))
    assert regression(nothing, np.zeros(0), 6.0) == pytest.approx([2, 2, 2])


@pytest.mark.parametrize("units", [2, 3, 6])
def test_enumeration_holds_every_coalition_with_the_shapley_kernel(units):
    design = every_coalition(units)
    assert len(np.unique(design.keep, axis=0)) == len(design.keep) == 2**units - 2
    expected = [kernel(units, int(size)) for size in design.keep.sum(axis=1)]
    assert design.weights == pytest.approx(expected)
    assert not design.keep.all(axis=1).any()


@pytest.mark.parametrize("paired", [False, True])
def test_sampled_coalitions_follow_the_shapley_kernel(paired):
    units, count = 5, 60000
    design = by_weight(units, count, np.random.default_rng(0), paired=paired)
    assert design.keep.shape == (count, units)
    assert (design.weights == 1).all()
    found = Counter(map(bytes, design.keep))
    total = size_masses(units).sum()
    for keep in subsets(units)[1:-1]:
        p = kernel(units, int(keep.sum())) / total
        # Of a pair, both are drawn: half the draws, twice the chance.
        assert found[bytes(keep)] / count == pytest.approx(p, abs=5 * np.sqrt(2 * p / count))
    if paired:
        assert np.array_equal(design.keep[: count // 2], ~design.keep[count // 2 :])


@settings(max_examples=60, deadline=None)
@given(units=st.integers(2, 80), share=st.floats(0, 0.999), cap=st.integers(1, 2000), seed=st.integers(0, 99))
def test_pairs_per_size_are_as_many_as_affordable(units, share, cap, seed):
    most = 2 ** (units - 1) - 1
    pairs = min(int(share * min(most, cap)), most - 1 if most > 1 else 0)
    expected = pairs_per_size(units, pairs)
    limits = np.array([float(number_of_pairs(units, size)) for size in range(1, units // 2 + 1)])
    rates = np.where(2 * np.arange(1, units // 2 + 1) == units, 1.0, 2.0)
    assert expected.sum() == pytest.approx(pairs, abs=1e-6)
    assert (expected <= limits).all()
    # min(1, c / C(m, k)) for one c: what is not complete grows alike.
    open_ = expected < limits * (1 - 1e-9)
    if open_.any():
        level = (expected / rates)[open_]
        assert np.ptp(level) <= 1e-6 * max(1.0, level.max())
        assert (expected[~open_] / rates[~open_] <= level.max() * (1 + 1e-9)).all()
    counts = rounded(expected, np.random.default_rng(seed))
    assert counts.sum() == pairs
    assert (np.abs(counts - expected) <= 1 + 1e-9).all()
    assert (counts <= limits).all()


def test_rounding_keeps_expectations():
    expected, rng = np.array([3.0, 1.25, 0.6, 2.15]), np.random.default_rng(0)
    found = np.mean([rounded(expected, rng) for _ in range(20000)], axis=0)
    assert found == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(("units", "size"), [(6, 3), (6, 2), (7, 3), (12, 6), (12, 1)])
@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_distinct_sets_are_different_and_no_complements(units, size, share):
    count = max(1, int(share * number_of_pairs(units, size)))
    keep = distinct_sets(units, size, count, np.random.default_rng(0))
    assert keep.shape == (count, units)
    assert (keep.sum(axis=1) == size).all()
    both = np.vstack([keep, ~keep])
    assert len(np.unique(both, axis=0)) == 2 * count


@pytest.mark.parametrize("count", [2, 8])
def test_distinct_sets_are_uniform(count):
    rng = np.random.default_rng(0)
    found = Counter(bytes(keep) for _ in range(4000) for keep in distinct_sets(6, 3, count, rng))
    assert len(found) == 10
    p = count / 10
    assert np.array(list(found.values())) / 4000 == pytest.approx(np.full(10, p), abs=4 * np.sqrt(p / 4000))


def test_leverage_weights_are_the_kernel_over_the_probability_of_a_coalition():
    units, pairs, runs = 6, 12, 2500
    rng = np.random.default_rng(0)
    weight, seen = {}, Counter()
    for _ in range(runs):
        design = by_leverage(units, pairs, rng)
        assert len(np.unique(design.keep, axis=0)) == len(design.keep) == 2 * pairs
        assert np.array_equal(design.keep[:pairs], ~design.keep[pairs:])
        for keep, one in zip(design.keep, design.weights, strict=True):
            seen[bytes(keep)] += 1
            assert weight.setdefault(bytes(keep), one) == pytest.approx(one)
    for keep in subsets(units)[1:-1]:
        p = seen[bytes(keep)] / runs
        assert weight[bytes(keep)] * p == pytest.approx(kernel(units, int(keep.sum())), rel=5 / np.sqrt(runs * p))


def test_leverage_gives_every_size_the_same_share_of_the_questions():
    design = by_leverage(14, 520, np.random.default_rng(0))
    sizes = np.bincount(design.keep.sum(axis=1), minlength=15)[1:-1]
    # Sizes 1, 13 and 2, 12 are complete; the rest of the 1,040 is spread over the nine others.
    assert sizes[[0, 1, -2, -1]].tolist() == [14, 91, 91, 14]
    assert sizes[2:-2] == pytest.approx(np.full(9, 830 / 9), abs=2)


def test_leverage_scores_are_one_over_the_number_of_coalitions_of_a_size():
    # Of the weighted, projected design of all coalitions: the diagonal of its hat matrix.
    units = 6
    design = every_coalition(units)
    matrix = np.sqrt(design.weights)[:, None] * (design.keep - design.keep.mean(axis=1, keepdims=True))
    scores = np.einsum("ij,jk,ik->i", matrix, np.linalg.pinv(matrix.T @ matrix), matrix)
    expected = [1 / comb(units, int(size)) for size in design.keep.sum(axis=1)]
    assert scores == pytest.approx(expected, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(units=st.integers(12, 25), seed=st.integers(0, 99), sampling=st.sampled_from(SAMPLINGS))
def test_an_additive_game_is_solved_exactly_from_few_questions(units, seed, sampling):
    weights = np.random.default_rng(seed).normal(size=units)
    scores = explain(KernelShap(samples=6 * units, sampling=sampling), additive(weights), units, seed)
    assert scores == pytest.approx(weights, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(units=st.integers(12, 25), seed=st.integers(0, 99), sampling=st.sampled_from(["paired", "leverage"]))
def test_complements_solve_a_game_of_pairs_exactly(units, seed, sampling):
    value, expected = quadratic(units, seed)
    scores = explain(KernelShap(samples=12 * units, sampling=sampling), value, units, seed)
    assert scores == pytest.approx(expected, abs=1e-8)


def test_complements_cannot_be_left_out_for_that():
    value, expected = quadratic(14)
    assert np.abs(explain(KernelShap(samples=168, sampling="plain"), value, 14) - expected).max() > 0.01


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_estimates_are_near_the_exact_values_and_the_nearer_the_more_questions(sampling):
    value, units = curved(12, seed=3), 12
    exact = explain(ExactShapley(), value, units)
    errors = []
    for samples in (64, 512, 2072):
        found = np.array(
            [explain(KernelShap(samples=samples, sampling=sampling), value, units, seed) for seed in range(10)]
        )
        errors.append(float(np.sqrt(((found - exact) ** 2).mean()) / np.sqrt((exact**2).mean())))
        # Around them, and not beside them.
        assert np.abs(found.mean(axis=0) - exact).max() <= 4 * (found.std(axis=0, ddof=1) / np.sqrt(10)).max() + 1e-3
    assert errors[0] > 2 * errors[1] > 3 * errors[2]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    ("units", "samples", "asked"), [(3, 0, 8), (11, 0, 2048), (12, 0, 2072), (8, 33, 32), (9, 2, 2)]
)
def test_questions_never_exceed_the_budget(sampling, units, samples, asked):
    oracle = Oracle(curved(units))
    drive(KernelShap(samples=samples, sampling=sampling).ask(game(units), np.random.default_rng(0)), oracle)
    assert oracle.questions == asked
    assert oracle.asked[0][:2].all(axis=1).tolist() == [False, True]
    assert not oracle.asked[0][0].any()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_long_texts_are_possible(sampling):
    weights = np.linspace(-1, 1, 300)
    scores = explain(KernelShap(sampling=sampling), additive(weights), 300)
    assert scores == pytest.approx(weights, abs=1e-8)


def test_random_sets_have_their_sizes_and_are_uniform():
    keep = random_sets(4, np.array([1, 2] * 3000), np.random.default_rng(0))
    assert keep.sum(axis=1).tolist() == [1, 2] * 3000
    counts = np.array(list(Counter(map(bytes, keep[1::2])).values()))
    assert counts == pytest.approx(np.full(6, 500), abs=4 * np.sqrt(500))
