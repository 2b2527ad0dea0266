"""Paired tests against SciPy, brute force and hand-computed values; calibration under the null; invariances."""

from itertools import product
from math import inf, isnan, nan, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from attrlab.leaderboard import comparisons, paired
from attrlab.leaderboard.board import ColumnScores
from attrlab.leaderboard.comparisons import Comparison, common, compare_all, detectable, holm, ratio_interval, win
from attrlab.leaderboard.paired import mcnemar, rank_biserial, sign_flip, signed_rank, standardized
from attrlab.leaderboard.statistics import resamples

# Whole numbers have ties and zeros, and their sums are exact.
DIFFERENCES = st.lists(st.integers(-5, 5), min_size=1, max_size=30).map(lambda values: np.array(values, dtype=float))


def brute_sign_flip(differences):
    """Tries every flip of every difference, zeros included."""
    flips = np.array(list(product([1, -1], repeat=len(differences))))
    return float((np.abs(flips @ differences) >= abs(differences.sum()) - 1e-9).mean())


def brute_signed_rank(differences):
    """Tries every sign of every rank."""
    ranks = stats.rankdata(np.abs(differences))[differences != 0]
    off = abs(ranks @ np.sign(differences[differences != 0]))
    signs = np.array(list(product([1, -1], repeat=len(ranks))))
    return float((np.abs(signs @ ranks) >= off - 1e-9).mean())


@pytest.mark.parametrize("seed", range(6))
def test_exact_permutation_is_brute_force_and_scipy(seed, parity):
    rng = np.random.default_rng(seed)
    differences = rng.normal(size=9 + seed % 3) + 0.4
    differences[seed % 4] = 0.0
    p = sign_flip(differences)
    assert p == pytest.approx(brute_sign_flip(differences), abs=1e-12)
    reference = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    parity("Q13", "statistics", "scipy permutation_test, exact", abs(p - reference.pvalue), 1e-9)


def test_drawn_permutation_is_within_three_standard_errors_of_scipy(parity):
    for seed, shift in enumerate((0.0, 0.1, 0.2, 0.3)):
        differences = np.random.default_rng(seed).normal(size=60) + shift
        reference = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=9_999, vectorized=True, rng=seed
        ).pvalue
        error = abs(sign_flip(differences) - reference)
        parity(
            "Q13",
            "statistics",
            "scipy permutation_test, drawn, in standard errors",
            error / sqrt(2 * reference * (1 - reference) / 10_000),
            3,
        )


def test_drawn_and_exact_flips_agree(monkeypatch):
    differences = np.random.default_rng(5).normal(size=12) + 0.3
    exact = sign_flip(differences)
    monkeypatch.setattr(paired, "all_flips", None)  # fails if it is called
    monkeypatch.setattr(paired, "FLIPS", 4_000)
    drawn = [sign_flip(differences, seed=seed) for seed in range(20)]
    assert len(set(drawn)) > 10
    assert np.mean(drawn) == pytest.approx(exact, abs=4 * sqrt(exact / 80_000) + 1 / 4_000)
    assert sign_flip(differences, seed=3) == drawn[3]


def test_drawn_p_counts_the_observed_flip():
    assert sign_flip(np.full(60, 0.1)) == 1 / 10_001


def test_blocks_of_flips_are_the_same_draws_with_less_memory(monkeypatch):
    whole = np.concatenate(list(paired.drawn_flips(40, 0)))
    assert whole.shape == (10_000, 40)
    assert set(np.unique(whole)) == {0.0, 1.0}
    assert abs(whole.mean(axis=0) - 0.5).max() < 0.025
    monkeypatch.setattr(paired, "_BLOCK", 40 * 800)
    blocks = list(paired.drawn_flips(40, 0))
    assert max(map(len, blocks)) == 800
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_groups_are_flipped_together():
    differences = np.array([1.0, 2.0, 0.5, -0.2, 3.0, 1.0])
    groups = ["a", "b", "a", "c", "b", "c"]
    sums = np.array([1.5, 5.0, 0.8])
    assert sign_flip(differences, groups) == brute_sign_flip(sums) == 0.25
    assert sign_flip(differences, range(6)) == sign_flip(differences) == brute_sign_flip(differences)
    assert sign_flip(differences, ["all"] * 6) == 1.0


@pytest.mark.parametrize("n", [8, 40, 150])
def test_p_is_uniform_under_the_null(n):
    """The share of p up to any level is the level, within three standard errors and the grid of the exact test."""
    rng = np.random.default_rng(n)
    simulations = 400
    samples = rng.gamma(1.0, size=(simulations, n)) * rng.choice([-1, 1], size=(simulations, n))
    for test in (sign_flip, signed_rank):
        ps = np.array([test(sample) for sample in samples])
        for level in (0.05, 0.1, 0.25, 0.5, 0.75):
            noise = 3 * sqrt(level * (1 - level) / simulations)
            grid = 0.04 if n == 8 else 0.0  # p only takes the values k / 2^7
            assert level - grid - noise <= (ps <= level).mean() <= level + noise


def test_the_test_has_the_power_that_is_promised():
    n = 40
    d = detectable(n)
    samples = np.random.default_rng(0).normal(loc=d, size=(400, n))
    found = np.mean([sign_flip(sample) < 0.05 for sample in samples])
    assert found == pytest.approx(0.8, abs=3 * sqrt(0.8 * 0.2 / 400))


def test_signed_rank_is_scipy(parity):
    rng = np.random.default_rng(0)
    for n in (5, 20, 50):
        differences = rng.normal(size=n) + 0.2
        exact = stats.wilcoxon(differences, zero_method="pratt", method="exact").pvalue
        parity("Q13", "statistics", "scipy wilcoxon, exact", abs(signed_rank(differences) - exact), 1e-9)
    for n, digits in ((80, 8), (80, 1), (400, 1)):
        differences = (rng.normal(size=n) + 0.1).round(digits)
        assert (differences != 0).sum() > 50
        assert (digits == 1) == (differences == 0).any()
        normal = stats.wilcoxon(differences, zero_method="pratt", correction=False, method="asymptotic").pvalue
        parity("Q13", "statistics", "scipy wilcoxon, Pratt zeros", abs(signed_rank(differences) - normal), 1e-9)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_signed_rank_with_ties_and_zeros_is_brute_force(values):
    differences = np.array(values, dtype=float)
    assert signed_rank(differences) == pytest.approx(brute_signed_rank(differences), abs=1e-12)


def test_signed_rank_by_hand():
    # Ranks by size: the zero has 1, then 2, the tied 3s share 3.5. W is 7 of 9; of the 8 sign patterns, sums are
    # 0, 2, 3.5, 3.5, 5.5, 5.5, 7, 9: four lie as far from 4.5 as 7 does.
    differences = np.array([0.0, -2.0, 3.0, 3.0])
    assert signed_rank(differences) == 0.5
    assert rank_biserial(differences) == pytest.approx((7 - 2) / 9)


@given(DIFFERENCES)
def test_p_values_and_effects_are_symmetric_and_in_range(differences):
    for test in (sign_flip, signed_rank):
        p = test(differences)
        assert 0 <= p <= 1
        assert test(-differences) == pytest.approx(p, abs=1e-12)
        assert test(7 * differences) == pytest.approx(p, abs=1e-12)
    assert rank_biserial(-differences) == pytest.approx(-rank_biserial(differences), abs=1e-12)
    assert -1 <= rank_biserial(differences) <= 1
    d_z = standardized(differences)
    assert isnan(d_z) == (len(differences) < 2)
    assert isnan(d_z) or standardized(-differences) == pytest.approx(-d_z)


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_the_order_of_the_examples_does_not_matter(n, seed):
    rng = np.random.default_rng(seed)
    differences, groups, order = rng.normal(size=n), rng.integers(0, n, size=n), rng.permutation(n)
    assert sign_flip(differences[order]) == sign_flip(differences)
    assert sign_flip(differences[order], groups[order].tolist()) == sign_flip(differences, groups.tolist())
    assert signed_rank(differences[order]) == pytest.approx(signed_rank(differences), abs=1e-12)
    assert rank_biserial(differences[order]) == pytest.approx(rank_biserial(differences), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=13))
def test_mcnemar_is_the_sign_flip_test_of_zeros_and_ones(pairs):
    first, second = np.array(pairs, dtype=float).T
    wins, losses = int((first > second).sum()), int((first < second).sum())
    assert mcnemar(first, second) == pytest.approx(sign_flip(first - second), abs=1e-12)
    assume(wins + losses)
    assert mcnemar(first, second) == pytest.approx(stats.binomtest(wins, wins + losses).pvalue, rel=1e-9)


def test_effects_by_hand():
    assert standardized(np.array([0.0, 1.0, 2.0, 1.0])) == pytest.approx(1 / sqrt(2 / 3))
    assert standardized(np.zeros(4)) == 0.0
    assert standardized(np.full(4, 0.1)) == inf
    assert standardized(np.full(4, -0.1)) == -inf
    assert isnan(standardized(np.array([1.0])))
    assert rank_biserial(np.array([0.1, 0.2])) == 1.0


@given(st.lists(st.floats(0, 1) | st.just(nan), max_size=12))
def test_holm_is_monotone_and_counts_tests_only(ps):
    adjusted, raw = holm(ps), np.array(ps)
    valid = ~np.isnan(raw)
    np.testing.assert_array_equal(np.isnan(adjusted), ~valid)
    assert (adjusted[valid] >= raw[valid]).all()
    assert (adjusted[valid] <= 1).all()
    assert (np.diff(adjusted[np.argsort(raw)][: valid.sum()]) >= 0).all()
    if valid.any():
        assert adjusted[valid].min() == pytest.approx(min(1.0, valid.sum() * raw[valid].min()))
        np.testing.assert_array_equal(adjusted[valid], holm(raw[valid]))


def test_holm_rejects_what_the_step_down_procedure_rejects():
    rng = np.random.default_rng(1)
    for _ in range(50):
        ps = rng.random(8) ** 3
        rejected = set()
        for step, index in enumerate(np.argsort(ps)):
            if ps[index] > 0.05 / (8 - step):
                break
            rejected.add(int(index))
        assert set(np.flatnonzero(holm(ps) <= 0.05).tolist()) == rejected


@pytest.mark.parametrize("n", [3, 8, 50, 200, 500])
def test_detectable_effect_has_the_power_by_scipy(n, parity):
    d = detectable(n)
    t = stats.t.ppf(0.975, n - 1)
    power = stats.nct.sf(t, n - 1, d * sqrt(n)) + stats.nct.cdf(-t, n - 1, d * sqrt(n))
    parity("Q13", "statistics", "scipy nct, power", abs(power - 0.8), 1e-9)


@pytest.mark.parametrize(("n", "level"), [(12, 0.001), (40, 0.01), (100, 0.00025), (200, 0.01), (200, 1e-6)])
def test_detectable_effect_of_a_one_sided_test_has_the_power_by_scipy(n, level, parity):
    power = stats.nct.sf(stats.t.isf(level, n - 1), n - 1, detectable(n, level, sides=1) * sqrt(n))
    parity("Q13", "statistics", "scipy nct, one-sided power", abs(power - 0.8), 1e-9)


def test_detectable_effect_falls_with_examples_and_level():
    found = [detectable(n) for n in (3, 5, 20, 100, 500)]
    assert found == sorted(found, reverse=True)
    assert detectable(50, power=0.9) > detectable(50) > detectable(50, alpha=0.1)
    assert detectable(5000) == pytest.approx((1.959964 + 0.841621) / sqrt(5000), rel=1e-3)
    assert isnan(detectable(2))


def test_ratio_interval_is_scipy_on_the_same_resamples(parity):
    rng = np.random.default_rng(7)
    for n in (25, 80):
        tops, bottoms = rng.gamma(1, size=n), rng.gamma(2, size=n)
        ratio, *ends = ratio_interval(tops, bottoms)
        assert ratio == pytest.approx(tops.mean() / bottoms.mean())
        reference = stats.bootstrap(
            (tops, bottoms),
            lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
            paired=True,
            vectorized=True,
            method="BCa",
            n_resamples=10_000,
            rng=np.random.default_rng(n),  # the generator of `resamples`
        ).confidence_interval
        parity("Q13", "statistics", "scipy bootstrap, BCa", np.abs(np.array(ends) - reference).max(), 1e-9)


def test_ratio_interval_where_there_is_none():
    ones = np.ones(20)
    assert np.isnan(ratio_interval(ones, 0 * ones)).all()
    assert np.isnan(ratio_interval(ones[:0], ones[:0])).all()
    assert ratio_interval(ones[:1], 2 * ones[:1])[0] == 0.5
    assert np.isnan(ratio_interval(ones[:1], ones[:1])[1:]).all()
    assert ratio_interval(0.3 * np.arange(1.0, 21), np.arange(1.0, 21)) == pytest.approx((0.3, 0.3, 0.3))
    assert ratio_interval(0 * ones, ones) == (0, 0, 0)
    rare = 0 * ones
    rare[:2] = 1  # one resample in eight draws none of these two
    for rest, expected in ((0.0, 10), (1e-8, 10), (-0.05, 20 / 1.1)):
        ratio, low, high = ratio_interval(ones, np.where(rare, rare, rest))
        assert ratio == pytest.approx(expected, rel=1e-6)
        assert isnan(low)
        assert isnan(high)


def test_compare_all_is_its_parts(monkeypatch):
    rng = np.random.default_rng(3)
    values = rng.normal(loc=[0.0, 0.1, 1.0], size=(40, 3))
    values[rng.random(values.shape) < 0.2] = nan
    found = compare_all(values)
    assert [(one.first, one.second) for one in found] == [(0, 1), (0, 2), (1, 2)]
    assert [one.adjusted for one in found] == holm([one.p for one in found]).tolist()
    for one in found:
        first, second = values[~np.isnan(values[:, [one.first, one.second]]).any(axis=1)][:, [one.first, one.second]].T
        assert one.n == len(first) < 40
        assert one.mean == pytest.approx((first - second).mean())
        assert one.low < one.mean < one.high
        assert one.p == sign_flip(first - second)
        assert one.p_wilcoxon == signed_rank(first - second)
        assert one.d_z == standardized(first - second)
        assert one.rank_biserial == rank_biserial(first - second)
        assert one.p_mcnemar is None
        assert one.win == (one.adjusted < 0.05)
    assert [one.win for one in found] == [False, True, True]
    monkeypatch.setattr(comparisons, "SMALLEST_EFFECT", 99.0)
    assert not any(one.win for one in found)


def test_intervals_of_differences_use_common_resamples():
    values = np.random.default_rng(4).normal(size=(15, 2))
    means = [np.mean(values[rows, 0] - values[rows, 1]) for block in resamples(15) for rows in block]
    one = compare_all(values)[0]
    assert [one.low, one.high] == pytest.approx(np.percentile(means, [2.5, 97.5]).tolist(), abs=1e-12)


def test_compare_all_of_little():
    assert compare_all(np.ones((5, 1))) == []
    assert compare_all(np.array([[1.0, nan], [nan, 2.0]])) == [Comparison(first=0, second=1, n=0)]
    alone = compare_all(np.array([[1.0, 0.5, nan], [nan, 0.2, nan]]))[0]
    assert (alone.n, alone.mean, alone.p, alone.adjusted, alone.low, alone.d_z) == (1, 0.5, 1.0, 1.0, None, None)
    assert not alone.win
    same = compare_all(np.ones((5, 2)))[0]
    assert (same.p, same.p_wilcoxon, same.p_mcnemar, same.d_z, same.rank_biserial) == (1, 1, 1, 0, 0)
    assert (same.low, same.mean, same.high, same.win) == (0, 0, 0, False)


def test_compare_all_flips_groups_and_spots_zeros_and_ones():
    values = np.array([[1.0, 0.0]] * 12)
    one = compare_all(values)[0]
    assert one.p == one.p_mcnemar == pytest.approx(2 / 2**12)
    assert one.d_z == inf
    assert one.win
    values[0] = nan  # alone in its group, which goes with it
    grouped = compare_all(values, groups=[-1, *(i // 3 for i in range(11))])[0]
    assert grouped.n == 11
    assert grouped.p == pytest.approx(2 / 2**4)


@pytest.mark.parametrize(
    ("adjusted", "d_z", "expected"),
    [(0.0499, 0.1, True), (0.0499, -0.1, True), (0.05, 1.0, False), (0.01, 0.099, False), (nan, 1, False)],
)
def test_a_win_needs_both(adjusted, d_z, expected):
    assert win(adjusted, d_z) is expected


def test_common_examples_are_matched_by_id():
    columns = [
        ColumnScores(examples=("a", "b", "c", "d"), values=np.array([1.0, 2.0, 3.0, nan])),
        ColumnScores(examples=("d", "c", "a"), values=np.array([40.0, 30.0, 10.0])),
    ]
    examples, values = common(columns)
    assert examples == ("a", "c")
    assert values.tolist() == [[1.0, 10.0], [3.0, 30.0]]
    examples, values = common([columns[0], ColumnScores()])
    assert examples == ()
    assert values.shape == (0, 2)
