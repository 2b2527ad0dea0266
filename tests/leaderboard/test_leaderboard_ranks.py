"""Ranks over blocks against SciPy, published examples and brute force."""

from math import isnan, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats

from attrlab.leaderboard import ranks as module
from attrlab.leaderboard.ranks import (
    block_ranks,
    borda,
    bradley_terry,
    critical_difference,
    friedman,
    pairwise_wins,
    robust,
    strengths,
)
from attrlab.leaderboard.statistics import resamples

# Games of the American League East in 1987, Milwaukee, Detroit, Toronto, New York, Boston, Cleveland, Baltimore:
# Agresti 2002, Categorical Data Analysis, 10.6; log strengths above Baltimore's as BradleyTerry2 has them.
BASEBALL = np.array(
    [
        [0, 7, 9, 7, 7, 9, 11],
        [6, 0, 7, 5, 11, 9, 9],
        [4, 6, 0, 7, 7, 8, 12],
        [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12],
        [4, 4, 5, 6, 6, 0, 6],
        [2, 4, 1, 3, 1, 7, 0],
    ],
    dtype=float,
)
BASEBALL_LOGS = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0]
# Citations between Biometrika, Communications in Statistics, JASA and JRSS-B in 1987-8: Stigler 1994.
CITATIONS = np.array([[0, 730, 498, 221], [33, 0, 68, 17], [320, 813, 0, 142], [284, 276, 325, 0]], dtype=float)
CITATIONS_LOGS = [0.0, -2.9491, -0.4796, 0.2690]

BLOCKS = arrays(np.float64, st.tuples(st.integers(6, 12), st.integers(2, 6)), elements=st.integers(0, 3))


@given(BLOCKS)
def test_block_ranks_are_scipys(blocks):
    np.testing.assert_array_equal(block_ranks(blocks, higher_is_better=False), stats.rankdata(blocks, axis=1))
    np.testing.assert_array_equal(block_ranks(blocks, higher_is_better=True), stats.rankdata(-blocks, axis=1))


def test_incomplete_blocks_are_left_out():
    blocks = np.array([[1.0, 2.0], [nan, 1.0], [4.0, 3.0]])
    assert block_ranks(blocks, higher_is_better=True).tolist() == [[2.0, 1.0], [1.0, 2.0]]


def test_friedman_is_scipy(parity):
    rng = np.random.default_rng(0)
    for shape, digits in (((6, 3), 5), ((14, 4), 5), ((9, 11), 5), ((20, 5), 0), ((7, 55), 1)):
        blocks = (rng.normal(size=shape) + np.linspace(0, 1, shape[1])).round(digits)
        found = friedman(block_ranks(blocks, higher_is_better=True))
        reference = stats.friedmanchisquare(*blocks.T)
        error = max(abs(found[0] / reference.statistic - 1), abs(found[1] - reference.pvalue))
        parity("Q13", "statistics", "scipy friedmanchisquare", error, 1e-9)


def test_friedman_where_there_is_nothing_to_tell():
    assert friedman(np.full((8, 3), 2.0)) == (0.0, 1.0)
    assert np.isnan(friedman(np.array([[1.0, 2.0]] * 5))).all()
    assert np.isnan(friedman(np.ones((8, 1)))).all()
    statistic, p = friedman(np.array([[1.0, 2.0, 3.0]] * 10))
    assert statistic == 20  # N (M - 1), the most there is
    assert p == pytest.approx(np.exp(-10))


@given(BLOCKS, st.randoms())
def test_friedman_ignores_the_order_of_blocks_methods_and_direction(blocks, random):
    found = friedman(block_ranks(blocks, higher_is_better=True))
    assert 0 <= found[1] <= 1
    assert 0 <= found[0] <= len(blocks) * (blocks.shape[1] - 1) + 1e-9
    assert friedman(block_ranks(blocks, higher_is_better=False)) == pytest.approx(found, abs=1e-9)
    rows, columns = (random.sample(range(size), size) for size in blocks.shape)
    assert friedman(block_ranks(blocks[rows][:, columns], higher_is_better=True)) == pytest.approx(found, abs=1e-9)


def test_critical_difference_is_scipys_and_demsars(parity):
    # Demsar 2006, table 5(a): q at 0.05 for 2 to 10 classifiers (for 3 he has 2.343, and not 2.344).
    table = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for m, published in enumerate(table, start=2):
        q = critical_difference(6, m) / sqrt(m * (m + 1) / 36)
        assert q == pytest.approx(published, abs=1e-3)
        exact = stats.studentized_range.ppf(0.95, m, np.inf) / sqrt(2)
        parity("Q13", "statistics", "scipy studentized_range", abs(q - exact), 1e-9)
    assert critical_difference(14, 4, 0.1) == pytest.approx(1.12, abs=0.005)  # his worked example, with 1.25 at 0.05
    assert critical_difference(24, 4) == pytest.approx(critical_difference(6, 4) / 2)
    assert isnan(critical_difference(5, 4))
    assert isnan(critical_difference(9, 1))


@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.integers(0, 2) | st.just(nan)))
def test_pairwise_wins_are_counted_one_by_one(values):
    higher = pairwise_wins(values, higher_is_better=True)
    for i in range(values.shape[1]):
        for j in range(values.shape[1]):
            expected = sum((row[i] > row[j]) + 0.5 * (row[i] == row[j]) for row in values) if i != j else 0
            assert higher[i, j] == expected
    np.testing.assert_array_equal(pairwise_wins(values, higher_is_better=False), higher.T)


@given(BLOCKS)
def test_borda_counts_wins_and_orders_as_average_ranks_do(blocks):
    ranks = block_ranks(blocks, higher_is_better=True)
    np.testing.assert_array_equal(borda(ranks), pairwise_wins(blocks, higher_is_better=True).sum(axis=1))
    np.testing.assert_array_equal(stats.rankdata(-borda(ranks)), stats.rankdata(ranks.sum(axis=0)))


@pytest.mark.parametrize(("wins", "logs"), [(BASEBALL, BASEBALL_LOGS), (CITATIONS, CITATIONS_LOGS)])
def test_bradley_terry_is_as_published(wins, logs):
    found = np.log(bradley_terry(wins))
    reference = logs.index(0.0)
    np.testing.assert_allclose(found - found[reference], logs, atol=6e-5)
    assert found.sum() == pytest.approx(0, abs=1e-9)


def test_bradley_terry_is_the_most_likely():
    def surprise(logs):
        return (BASEBALL * np.logaddexp(0, logs[None, :] - logs[:, None])).sum()

    best = optimize.minimize(surprise, np.zeros(7), method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(np.log(bradley_terry(BASEBALL)), best - best.mean(), atol=1e-6)


def test_bradley_terry_of_expected_wins_is_the_truth():
    truth = np.array([0.2, 0.7, 1.0, 2.5, 4.0])
    truth /= np.exp(np.log(truth).mean())
    wins = 12 * truth[:, None] / (truth[:, None] + truth[None, :])
    np.fill_diagonal(wins, 0.0)
    wins[0, 4] = wins[4, 0] = 0.0  # these two never met
    np.testing.assert_allclose(bradley_terry(wins), truth, rtol=1e-8)
    order = [3, 0, 4, 1, 2]
    np.testing.assert_allclose(bradley_terry(wins[order][:, order]), truth[order], rtol=1e-8)


def test_bradley_terry_has_none_where_somebody_is_never_beaten():
    unbeaten = BASEBALL.copy()
    unbeaten[:, 0] = 0.0
    tables = np.stack([BASEBALL, unbeaten, BASEBALL.T, np.zeros((7, 7)), np.ones((7, 7)) - np.eye(7)])
    found = bradley_terry(tables)
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False, True, False]
    np.testing.assert_allclose(found[2], 1 / found[0], rtol=1e-8)
    np.testing.assert_allclose(found[4], 1.0, rtol=1e-12)
    np.testing.assert_array_equal(found[0], bradley_terry(BASEBALL))
    assert bradley_terry(np.zeros((1, 1))).tolist() == [1.0]
    ring = np.eye(7)[[1, 2, 3, 4, 5, 6, 0]]  # each beats the next, the last the first
    np.testing.assert_allclose(bradley_terry(ring), 1.0, rtol=1e-8)
    unbeaten[3, 0] = 0.5  # half a win is enough
    assert not np.isnan(bradley_terry(unbeaten)).any()


def test_strengths_that_do_not_settle_are_not_found(monkeypatch):
    monkeypatch.setattr(module, "STEPS", 3)
    assert np.isnan(bradley_terry(BASEBALL)).all()


def test_strengths_are_resampled_over_examples(monkeypatch):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(30, 4)) + np.array([0.0, 0.2, 0.4, 0.8])
    values[rng.random(values.shape) < 0.1] = nan
    found = strengths(values, higher_is_better=True, count=200)
    np.testing.assert_array_equal(found[:, 0], bradley_terry(pairwise_wins(values, higher_is_better=True)))
    assert (found[:, 1] < found[:, 0]).all()
    assert (found[:, 0] < found[:, 2]).all()
    drawn = [
        bradley_terry(pairwise_wins(values[rows], higher_is_better=True))
        for block in resamples(30, 200)
        for rows in block
    ]
    np.testing.assert_allclose(found[:, 1], np.quantile(drawn, 0.025, axis=0, method="lower"), rtol=1e-7)
    np.testing.assert_allclose(found[:, 2], np.quantile(drawn, 0.975, axis=0, method="higher"), rtol=1e-7)
    worse = strengths(values, higher_is_better=False, count=200)
    np.testing.assert_allclose(worse, 1 / found[:, [0, 2, 1]], rtol=1e-6)
    monkeypatch.setattr(module, "_BLOCK", 16 * 7)
    np.testing.assert_allclose(strengths(values, higher_is_better=True, count=200), found, rtol=1e-9)


def test_strengths_that_could_be_anything_say_so():
    close = np.array([[1.0, 0.0]] * 9 + [[0.0, 1.0]])  # a third of the resamples miss the only defeat
    found = strengths(close, higher_is_better=True, count=400)
    np.testing.assert_allclose(found[:, 0], [3.0, 1 / 3])
    assert found[:, 1:].tolist() == [[0.0, np.inf], [0.0, np.inf]]
    assert np.isnan(strengths(close[:9], higher_is_better=True, count=50)).all()


def test_a_place_is_robust_if_all_agree_and_no_data_set_decides():
    labels = ["sst", "sst", "hate", "hate", "nli", "nli"]
    ranks = np.array([[1.0, 2.0, 3.0, 4.0]] * 4 + [[1.0, 3.0, 2.0, 4.0]] * 2)
    merits = np.array([9.0, 5.0, 4.0, 1.0])
    # Without "hate" the second and the third tie; the first and the last stay.
    assert robust(ranks, labels, merits).tolist() == [True, False, False, True]
    assert robust(ranks, labels, merits[[1, 0, 2, 3]]).tolist() == [False, False, False, True]
    assert robust(ranks[:2], labels[:2], merits).tolist() == [False] * 4
    assert robust(ranks, labels, np.full(4, nan)).tolist() == [False] * 4
