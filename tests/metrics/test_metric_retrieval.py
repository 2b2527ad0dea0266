"""Precision and recall at k and the reciprocal rank against hand-computed values and brute force."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrlab.bench.types import Case
from attrlab.metrics.retrieval import PrecisionAtK, RecallAtK, ReciprocalRank


def make(scores, marked):
    scores = np.array(scores, dtype=float)
    return Case(
        scores=scores,
        signed=True,
        target=1,
        label=1,
        tie_orders=np.array([np.roll(np.arange(len(scores)), shift) for shift in range(len(scores))]),
        rationales=np.atleast_2d(np.array(marked, dtype=bool)),
    )


@pytest.mark.parametrize(
    ("k", "precision", "recall"), [(1, 0, 0), (3, 1 / 3, 1 / 2), (4, 2 / 4, 1), (5, 2 / 4, 1), (99, 2 / 4, 1)]
)
def test_at_k_by_hand_and_never_more_than_there_are(k, precision, recall):
    case = make([4, 3, 2, 1], [0, 0, 1, 1])
    assert PrecisionAtK(k=k).score(case).value == pytest.approx(precision)
    assert RecallAtK(k=k).score(case).value == pytest.approx(recall)


def test_reciprocal_rank_by_hand():
    assert ReciprocalRank().score(make([4, 3, 2, 1], [0, 0, 1, 1])).value == pytest.approx(1 / 3)
    assert ReciprocalRank().score(make([4, 3, 2, 1], [1, 0, 0, 1])).value == 1.0
    assert ReciprocalRank(annotators="each").score(make([3, 2, 1], [[1, 0, 0], [0, 0, 1]])).value == pytest.approx(
        2 / 3
    )


def test_ties_are_averaged_over_all_places_a_unit_can_get():
    flat = make([1, 1, 1], [1, 0, 0])  # the orders put it first, second and third
    assert ReciprocalRank().score(flat).value == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert PrecisionAtK().score(flat).value == RecallAtK().score(flat).value == pytest.approx(1 / 3)
    assert PrecisionAtK(k=2).score(flat).value == pytest.approx(1 / 3)
    assert RecallAtK(k=2).score(flat).value == pytest.approx(2 / 3)


def test_a_soft_target_counts_by_weight():
    case = make([3, 2, 1], [[1, 1, 0], [1, 0, 0]])
    assert PrecisionAtK(k=2, annotators="soft").score(case).value == pytest.approx(1.5 / 2)
    assert RecallAtK(annotators="soft").score(case).value == pytest.approx(1 / 1.5)
    with pytest.raises(ValueError, match="annotators='soft'; allowed: majority, union, each"):
        ReciprocalRank(annotators="soft")


@pytest.mark.parametrize("metric", [PrecisionAtK, RecallAtK])
def test_k_is_at_least_one(metric):
    with pytest.raises(ValueError, match="k=0; allowed: 1 or more"):
        metric(k=0)


@settings(deadline=None)
@given(st.permutations(range(7)), st.lists(st.booleans(), min_size=7, max_size=7), st.integers(1, 9))
def test_of_different_scores_as_by_search(order, marked, k):
    marked[0] = True
    case = make([10.0 - rank for rank in order], marked)
    ranked = sorted(range(7), key=lambda unit: order[unit])
    hits = [unit for unit in ranked[:k] if marked[unit]]
    assert PrecisionAtK(k=k).score(case).value == pytest.approx(len(hits) / min(k, 7))
    assert RecallAtK(k=k).score(case).value == pytest.approx(len(hits) / sum(marked))
    first = next(rank for rank, unit in enumerate(ranked, 1) if marked[unit])
    assert ReciprocalRank().score(case).value == pytest.approx(1 / first)


@pytest.mark.parametrize("metric", [PrecisionAtK(), RecallAtK(), ReciprocalRank()])
def test_undefined_with_a_reason(metric):
    case = make([2, 1], [0, 1])
    assert metric.score(replace(case, rationales=None)).reason == "no rationale"
    assert metric.score(replace(case, label=0)).reason.startswith("prediction differs")
    assert metric.score(replace(case, rationales=np.zeros((1, 2), dtype=bool))).reason == "no word is marked"
    empty = make([], np.zeros((1, 0)))
    assert metric.score(empty).reason == "no words to attribute"
