"""Stability under rewording, rewriting and other company, against hand-computed values."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from attrlab.bench.types import Case, Replica
from attrlab.metrics.robustness import (
    BatchInvariance,
    ImplementationInvariance,
    ParaphraseStability,
    TypoStability,
    largest_change,
)

REWORDED = [ParaphraseStability, TypoStability]
UNCHANGING = [BatchInvariance, ImplementationInvariance]


def make(scores, *others):
    """A case with re-explanations, each scores or (scores, units)."""
    scores = np.array(scores, dtype=float)
    again = []
    for index, other in enumerate(others, 1):
        values, units = other if isinstance(other, tuple) else (other, None)
        again.append(
            Replica(
                kind="typo",
                index=index,
                scores=np.array(values, dtype=float),
                units=None if units is None else np.array(units, dtype=np.int64),
            )
        )
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(len(scores)) for _ in range(5)], dtype=np.int64)
    return Case(scores=scores, signed=True, target=0, label=0, tie_orders=orders, replicates=tuple(again))


@pytest.mark.parametrize("metric", REWORDED)
def test_only_words_that_both_texts_have_are_compared(metric):
    # Left after the second word: (1, 3, 4) and (1, 4, 3), Spearman 1/2. After the first: (9, 3, 4) and (7, 2, 5), 1.
    case = make([1, 9, 3, 4], ([1, -50, 4, 3], [0, -1, 2, 3]), ([70, 7, 2, 5], [-1, 1, 2, 3]))
    assert metric().score(case).value == pytest.approx((0.5 + 1.0) / 2)


@pytest.mark.parametrize("metric", REWORDED)
def test_words_are_matched_by_what_they_stand_for_and_not_by_their_place(metric):
    # The new text lost the first word and gained one at its end.
    case = make([5, 1, 2, 3], ([1, 2, 3, 99], [1, 2, 3, -1]))
    assert metric().score(case) == (1.0, None)
    assert metric(measure="jaccard").score(case) == (1.0, None)


@given(st.integers(0, 999), st.integers(3, 12))
def test_likeness_is_scipys_spearman_of_the_shared_words(seed, m):
    rng = np.random.default_rng(seed)
    own, other = rng.normal(size=(2, m))
    units = np.where(rng.random(m) < 0.3, -1, rng.permutation(m))
    units[:2] = [unit for unit in range(m) if unit not in units[2:]][:2]
    left = np.flatnonzero(units >= 0)
    found = ParaphraseStability().score(make(own, (other, units))).value
    assert found == pytest.approx(spearmanr(own[units[left]], other[left]).statistic, abs=1e-12)
    alike = ParaphraseStability(measure="jaccard").score(make(own, (other, units))).value
    k = int(np.ceil(0.2 * len(left) - 1e-9))
    tops = [set(units[left][np.argsort(-scores)[:k]]) for scores in (own[units[left]], other[left])]
    assert alike == pytest.approx(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))


def test_equal_scores_have_equal_top_words_whatever_their_place():
    own = np.zeros(10)
    case = make(own, (np.zeros(10), [-1, *range(1, 10)]), (np.zeros(10), [*range(9), -1]))
    assert ParaphraseStability(measure="jaccard").score(case) == (1.0, None)
    assert ParaphraseStability().score(case) == (1.0, None)


@pytest.mark.parametrize("metric", REWORDED)
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (make([]), "no words to attribute"),
        (make([1, 2]), "no second explanation to compare with"),
        (make([1], ([3], [-1])), "fewer than two words are left to compare"),
        (make([1, 2], ([3, 4], [0, -1])), "fewer than two words are left to compare"),
        (make([1, 2, 3], ([5, 5, 8], [0, 1, -1])), "all scores are equal in some explanation"),
    ],
)
def test_rewording_says_why_it_is_undefined(metric, case, reason):
    score = metric().score(case)
    assert np.isnan(score.value)
    assert score.reason == reason


def test_measures_are_checked():
    with pytest.raises(ValueError, match="measure='tau'; allowed: spearman, jaccard"):
        TypoStability(measure="tau")


@pytest.mark.parametrize("metric", UNCHANGING)
def test_the_largest_change_by_hand(metric):
    # The largest score is 4 in magnitude, the largest change 1.
    assert metric().score(make([1, -4], [1.5, -4], [1, -3])) == (0.25, None)
    assert metric().score(make([1, -4], [1, -4])) == (0.0, None)
    assert metric().score(make([0, 0], [0, 0])) == (0.0, None)
    assert metric().score(make([0, 0], [0, 1])).reason == "all scores are zero"
    assert metric().score(make([])).reason == "no words to attribute"
    assert metric().score(make([1])).reason == "no second explanation to compare with"


@given(st.integers(0, 99), st.floats(1e-6, 1e6))
def test_the_largest_change_has_no_unit_and_no_order(seed, factor):
    rng = np.random.default_rng(seed)
    scores, first, second = rng.normal(size=(3, 6))
    order = rng.permutation(6)
    expected = max(np.abs(first - scores).max(), np.abs(second - scores).max()) / np.abs(scores).max()
    for change in (lambda one: factor * one, lambda one: -one, lambda one: one[order]):
        assert largest_change(change(scores), [change(second), change(first)]).value == pytest.approx(expected)


def test_one_change_is_enough():
    case = make(np.ones(5), *(np.ones(5) for _ in range(6)))
    again = (*case.replicates[:5], replace(case.replicates[5], scores=np.array([1, 1, 1, 1, 2.0])))
    assert ImplementationInvariance().score(replace(case, replicates=again)) == (1.0, None)
