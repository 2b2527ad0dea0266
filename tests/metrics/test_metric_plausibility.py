"""Plausibility of selected and of ranked words against hand-computed values and scikit-learn."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from attrlab.bench.types import Case
from attrlab.metrics.annotators import majority, targets
from attrlab.metrics.detection import auprc, auroc, average_precision
from attrlab.metrics.plausibility import (
    Auprc,
    Auroc,
    AveragePrecision,
    TokenF1,
    TokenIou,
    TokenPrecision,
    TokenRecall,
)

SELECTING = [TokenF1, TokenPrecision, TokenRecall, TokenIou]
RANKING = [Auprc, AveragePrecision, Auroc]

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


def test_the_other_selections_by_hand():
    case = make([4, 3, 2, 1, 0], [1, 0, 1, 1, 1], share=0.4)  # two chosen, one of four marked among them
    assert TokenPrecision().score(case).value == pytest.approx(1 / 2)
    assert TokenRecall().score(case).value == pytest.approx(1 / 4)
    assert TokenIou().score(case).value == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("metric", "setting", "message"),
    [
        (TokenF1, {"k": "best"}, "k='best'; allowed: avg, oracle"),
        (Auprc, {"annotators": "most"}, "annotators='most'; allowed: majority, union, soft, each"),
        (TokenIou, {"predictions": "any"}, "predictions='any'; allowed: correct, wrong, all"),
    ],
)
def test_parameters_are_checked_by_the_constructor(metric, setting, message):
    with pytest.raises(ValueError, match=message):
        metric(**setting)


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


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-99, 99)), min_size=2, max_size=12), st.integers(1, 12))
def test_selections_are_scikit_learns_on_the_chosen_units(rows, k):
    """All scores differ, so which units are chosen is beyond doubt."""
    marks = np.array([marked for marked, _ in rows]) | (np.arange(len(rows)) == 0)
    scores = np.array([score for _, score in rows]) + np.linspace(0, 0.5, len(rows)) + 200
    k = min(k, len(rows))
    chosen = np.isin(np.arange(len(rows)), np.argsort(-scores)[:k])
    case = make(scores, marks, share=k / len(rows))
    references = [f1_score, precision_score, recall_score, jaccard_score]
    for metric, reference in zip(SELECTING, references, strict=True):
        assert metric().score(case).value == pytest.approx(reference(marks, chosen, zero_division=0), abs=1e-12)


def area_by_thresholds(positive, scores):
    """Second implementation: one point for each distinct score, then trapezoids from (recall 0, precision 1)."""
    points = [(0.0, 1.0)]
    for threshold in sorted(set(scores), reverse=True):
        hits = sum(bool(p) and s >= threshold for p, s in zip(positive, scores, strict=True))
        points.append((hits / sum(positive), hits / sum(s >= threshold for s in scores)))
    return sum((r1 - r0) * (p0 + p1) / 2 for (r0, p0), (r1, p1) in pairwise(points))


@settings(deadline=None)
@given(MARKED)
def test_auprc_is_the_area_of_the_definition(rows):
    positive, scores = [marked for marked, _ in rows], [float(score) for _, score in rows]
    found = auprc(np.array(positive, dtype=float), np.array(scores))
    assert found == pytest.approx(area_by_thresholds(positive, scores), abs=1e-12)


@settings(deadline=None)
@given(MARKED.filter(lambda rows: not all(marked for marked, _ in rows)))
def test_auroc_is_the_share_of_ordered_pairs(rows):
    positive = [score for marked, score in rows if marked]
    negative = [score for marked, score in rows if not marked]
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    marks, scores = np.array(rows, dtype=float).T
    assert auroc(marks, scores) == pytest.approx(np.mean(pairs), abs=1e-12)


@settings(deadline=None)
@given(MARKED)
def test_perfect_scores_get_exactly_one_whatever_the_rounding(rows):
    marks = np.array([marked for marked, _ in rows], dtype=float)
    assert auprc(marks, marks) == average_precision(marks, marks) == 1.0
    if not marks.all():
        assert auroc(marks, marks) == 1.0


def test_average_precision_and_auroc_by_hand():
    case = make([4, 3, 2, 1], [0, 1, 0, 1])
    assert AveragePrecision().score(case).value == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert Auroc().score(case).value == pytest.approx(1 / 4)
    assert Auroc().score(make([1, 1, 1], [1, 0, 0])).value == 0.5
    assert Auroc().score(make([1, 2, 3], [1, 1, 1])).reason == "every word is marked"


def test_auprc_of_perfect_reversed_and_flat_scores():
    assert Auprc().score(make([4, 3, 2, 1], [1, 1, 0, 0])).value == pytest.approx(1.0)
    assert Auprc().score(make([1, 2, 3, 4], [1, 0, 0, 0])).value == pytest.approx(0.125)  # (0, 0) to (1, 1/4)
    assert Auprc().score(make([1, 1, 1, 1], [1, 0, 0, 0])).value == pytest.approx((1 + 0.25) / 2)


@pytest.mark.parametrize("metric", [*(kind() for kind in SELECTING + RANKING), TokenF1(k="oracle")])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": 0}, "prediction differs from the label the rationale explains"),
        ({"label": None}, "no gold label"),
        ({"correct": False}, "the prediction is wrong"),
        ({"rationales": np.zeros((1, 3), dtype=bool)}, "no word is marked"),
        ({"scores": np.zeros(0), "rationales": np.zeros((1, 0), dtype=bool)}, "no words to attribute"),
    ],
)
def test_undefined_with_a_reason(metric, change, reason):
    score = metric.score(replace(make([1, 2, 3], [1, 0, 0]), **change))
    assert np.isnan(score.value)
    assert score.reason == reason


def test_undefined_without_rationales_or_without_their_share():
    for metric in (TokenF1(), Auprc()):
        score = metric.score(make([1, 2], None))
        assert np.isnan(score.value)
        assert score.reason.startswith("no ")
    without_share = make([1, 2], [1, 0], share=None)
    assert TokenF1().score(without_share).reason == "the mean share of marked words is not known"
    assert TokenF1(k="oracle").score(without_share).value == 0.0


# --- several annotators ----------------------------------------------------------------------------------------

THREE = [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0]]


def test_targets_of_three_annotators():
    case = make([4, 3, 2, 1], THREE)
    assert [target.tolist() for target in targets(case, "majority")] == [[1, 0, 0, 0]]
    assert [target.tolist() for target in targets(case, "union")] == [[1, 1, 1, 0]]
    assert [target.tolist() for target in targets(case, "soft")] == [[1, 1 / 3, 1 / 3, 0]]
    assert [target.tolist() for target in targets(case, "each")] == THREE
    silent = make([2, 1], [[1, 0], [0, 0]])
    assert [target.tolist() for target in targets(silent, "each")] == [[1, 0]], "who marked nothing is no target"
    assert targets(silent, "majority") == []


def test_graded_marks_are_shares():
    case = replace(make([4, 3, 2, 1], None), weights=np.array([1, 2 / 3, 1 / 3, 0]))
    assert [target.tolist() for target in targets(case, "majority")] == [[1, 1, 0, 0]]
    assert [target.tolist() for target in targets(case, "union")] == [[1, 1, 1, 0]]
    assert TokenPrecision(annotators="soft").score(case).value == pytest.approx((1 + 2 / 3) / 2)
    assert Auprc().score(case).value == 1.0
    assert Auprc(annotators="each").score(case).reason == "graded marks do not tell who marked what"


def test_each_is_the_mean_over_annotators_who_marked_something():
    case = make([4, 3, 2, 1], [*THREE, [0, 0, 0, 0]], share=0.5)
    alone = [Auprc().score(make([4, 3, 2, 1], marks)).value for marks in THREE]
    assert Auprc(annotators="each").score(case).value == pytest.approx(np.mean(alone))
    assert TokenF1(annotators="each").score(case).value == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(2, 9))
def test_a_soft_target_is_that_of_the_pooled_annotators(seed, n_annotators, m):
    """As if each annotator's marks were an example of its own and all of them one long text, scored alike."""
    rng = np.random.default_rng(seed)
    marks, scores = rng.random((n_annotators, m)) < 0.4, rng.integers(0, 4, m).astype(float)
    marks[0, 0], marks[0, 1] = True, False
    pooled, repeated = marks.ravel().astype(float), np.tile(scores, n_annotators)
    soft = marks.mean(axis=0)
    for area in (auprc, average_precision, auroc):
        assert area(soft, scores) == pytest.approx(area(pooled, repeated), abs=1e-12)


@pytest.mark.parametrize("kind", SELECTING + RANKING)
@pytest.mark.parametrize("annotators", ["majority", "union", "soft", "each"])
def test_with_one_annotator_it_does_not_matter_how_they_are_merged(kind, annotators):
    case = make([3, 1, 2, 2, -1], [1, 0, 1, 0, 0])
    assert kind(annotators=annotators).score(case) == kind().score(case)


@pytest.mark.parametrize(
    ("predictions", "correct", "reason"),
    [
        ("correct", True, None),
        ("correct", False, "the prediction is wrong"),
        ("wrong", False, None),
        ("wrong", True, "the prediction is right"),
        ("wrong", None, "the prediction is right"),
        ("all", False, None),
        ("all", True, None),
    ],
)
def test_where_the_gold_label_is_explained_wrong_predictions_are_kept_apart(predictions, correct, reason):
    score = Auprc(predictions=predictions).score(replace(make([2, 1], [1, 0]), correct=correct))
    assert score.reason == reason
    predicted = replace(make([2, 1], [1, 0], label=0), correct=False)  # the wrong class is explained
    assert "differs" in Auprc(predictions=predictions).score(predicted).reason
