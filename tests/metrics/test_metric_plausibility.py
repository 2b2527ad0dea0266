"""Token F1, AUPRC and planted recall against hand-computed values and scikit-learn."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, f1_score, precision_recall_curve

from attrlab.bench.types import Case
from attrlab.metrics.planted import PlantedRecall
from attrlab.metrics.plausibility import Auprc, TokenF1, area, f1, majority

MARKED = st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=1, max_size=20).filter(
    lambda rows: any(marked for marked, _ in rows)
)


def make(scores, marked, *, signed=True, share=0.5, label=1):
    scores = np.array(scores, dtype=float)
    orders = np.array([np.roll(np.arange(len(scores)), shift) for shift in range(5)])
    return Case(
        scores=scores,
        signed=signed,
        target=1,
        label=label,
        tie_orders=orders,
        rationales=None if marked is None else np.atleast_2d(np.array(marked, dtype=bool)),
        rationale_share=share,
    )


def test_token_f1_by_hand_for_both_lengths():
    case = make([4, 3, 2, 1], [1, 0, 1, 1], share=0.5)
    assert TokenF1().score(case).value == pytest.approx(2 * 1 / (2 + 3))  # k = 2: P = 1/2, R = 1/3
    assert TokenF1(k="oracle").score(case).value == pytest.approx(2 * 2 / (3 + 3))  # k = 3: P = R = 2/3


@pytest.mark.parametrize(("share", "k"), [(0.0, 1), (0.01, 1), (0.26, 2), (0.75, 3), (1.0, 4)])
def test_avg_k_is_the_mean_share_rounded_up_within_one_and_m(share, k):
    score = TokenF1().score(make([4, 3, 2, 1], [1, 1, 1, 1], share=share))
    assert score.value == pytest.approx(2 * k / (k + 4))


def test_k_is_checked_by_the_constructor():
    with pytest.raises(ValueError, match="k='best'; allowed: avg, oracle"):
        TokenF1(k="best")


def test_majority_needs_more_than_half_of_all_annotators():
    marks = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    assert majority(marks).tolist() == [True, False, False, False]
    assert majority(marks[:3]).tolist() == [True, True, False, False]
    assert majority(marks[:1]).tolist() == [True, True, True, False]


def test_only_the_supporting_part_of_signed_scores_counts():
    # Clipped to 3 0 0 0: one positive unit, then ties that the five orders break in turn.
    signed = make([3, -1, -2, -5], [1, 0, 0, 1], share=0.5)
    clipped = make([3, 0, 0, 0], [1, 0, 0, 1], share=0.5)
    assert TokenF1().score(signed) == TokenF1().score(clipped)
    assert Auprc().score(signed) == Auprc().score(clipped)
    magnitudes = make([3, -1, -2, -5], [1, 0, 0, 1], signed=False)
    assert Auprc().score(magnitudes) != Auprc().score(clipped)


def test_ties_are_averaged_over_the_orders():
    # k = 1 of four equal scores; over the orders 0123, 3012, 2301, 1230, 0123 the first unit is 0, 3, 2, 1, 0.
    flat = make([1, 1, 1, 1], [1, 0, 0, 0], share=0.25)
    assert TokenF1().score(flat).value == pytest.approx(2 / 5)
    assert PlantedRecall().score(flat).value == pytest.approx(2 / 5)


@settings(deadline=None)
@given(MARKED)
def test_f1_is_scikit_learns_on_the_chosen_units(rows):
    positive = np.array([marked for marked, _ in rows])
    chosen = np.array([score > 0 for _, score in rows])
    assert f1(chosen, positive) == pytest.approx(f1_score(positive, chosen), abs=1e-12)


def area_by_thresholds(positive, scores):
    """Second implementation: one point for each distinct score, then trapezoids from (recall 0, precision 1)."""
    points = [(0.0, 1.0)]
    for threshold in sorted(set(scores), reverse=True):
        hits = sum(bool(p) and s >= threshold for p, s in zip(positive, scores, strict=True))
        points.append((hits / sum(positive), hits / sum(s >= threshold for s in scores)))
    return sum((r1 - r0) * (p0 + p1) / 2 for (r0, p0), (r1, p1) in pairwise(points))


@settings(deadline=None)
@given(MARKED)
def test_auprc_is_the_area_of_eraser_and_of_the_definition(rows):
    positive, scores = [marked for marked, _ in rows], [float(score) for _, score in rows]
    precision, recall, _ = precision_recall_curve([int(p) for p in positive], scores)
    assert area(np.array(positive), np.array(scores)) == pytest.approx(auc(recall, precision), abs=1e-12)
    assert area(np.array(positive), np.array(scores)) == pytest.approx(area_by_thresholds(positive, scores), abs=1e-12)


def test_auprc_of_perfect_reversed_and_flat_scores():
    assert Auprc().score(make([4, 3, 2, 1], [1, 1, 0, 0])).value == pytest.approx(1.0)
    assert Auprc().score(make([1, 2, 3, 4], [1, 0, 0, 0])).value == pytest.approx(0.125)  # (0, 0) to (1, 1/4)
    assert Auprc().score(make([1, 1, 1, 1], [1, 0, 0, 0])).value == pytest.approx((1 + 0.25) / 2)


def test_planted_recall_by_hand_and_for_oracle_and_reverse():
    planted = [0, 1, 0, 1, 0]
    assert PlantedRecall().score(make([1, 5, 2, 3, 4], planted)).value == pytest.approx(0.5)
    assert PlantedRecall().score(make(planted, planted)).value == 1.0
    assert PlantedRecall().score(make([-mark for mark in planted], planted)).value == 0.0


def test_planted_recall_of_random_scores_is_the_share_of_planted_units():
    rng = np.random.default_rng(0)
    values = [PlantedRecall().score(make(rng.normal(size=10), [1, 1, 1] + 7 * [0])).value for _ in range(2000)]
    # The standard error of the mean is 0.0055 (hypergeometric, 3 of 10).
    assert np.mean(values) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("metric", [TokenF1(), TokenF1(k="oracle"), Auprc(), PlantedRecall()])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": 0}, "prediction differs from the label the rationale explains"),
        ({"label": None}, "no gold label"),
        ({"rationales": np.zeros((1, 3), dtype=bool)}, "no word is marked"),
        ({"scores": np.zeros(0), "rationales": np.zeros((1, 0), dtype=bool)}, "no words to attribute"),
    ],
)
def test_undefined_with_a_reason(metric, change, reason):
    score = metric.score(replace(make([1, 2, 3], [1, 0, 0]), **change))
    assert np.isnan(score.value)
    assert score.reason == reason


def test_undefined_without_rationales_or_without_their_share():
    for metric in (TokenF1(), Auprc(), PlantedRecall()):
        score = metric.score(make([1, 2], None))
        assert np.isnan(score.value)
        assert score.reason.startswith("no ")
    without_share = make([1, 2], [1, 0], share=None)
    assert TokenF1().score(without_share).reason == "the mean share of marked words is not known"
    assert TokenF1(k="oracle").score(without_share).value == 0.0
