"""Planted metrics by hand, against brute force over all orders, and the causal filter on games with a known answer."""

from dataclasses import replace
from itertools import permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from attrlab.bench.registry import load
from attrlab.bench.types import Case, drive
from attrlab.metrics.planted import (
    DRAWS,
    BothFound,
    FirstGoldRank,
    PlantedAveragePrecision,
    PlantedPrecision,
    PlantedRecall,
    average_precision,
    interventions,
    unused,
)

METRICS = (PlantedRecall, PlantedPrecision, PlantedAveragePrecision, FirstGoldRank, BothFound)


def make(scores, planted, *, target=1, label=1, example="one", n_orders=5):
    scores = np.array(scores, dtype=float)
    orders = np.array([np.roll(np.arange(len(scores)), shift) for shift in range(n_orders)])
    marks = None if planted is None else np.atleast_2d(np.array(planted, dtype=bool))
    return Case(
        scores=scores, signed=True, target=target, label=label, tie_orders=orders, rationales=marks, example=example
    )


def model(weights, bias=0.0, target=1):
    """A two-class model whose logit of the target is linear in what is kept."""

    def answer(ask):
        assert ask.operator == "replace"
        logits = np.zeros((len(ask.keep), 2))
        logits[:, target] = ask.keep @ np.array(weights, dtype=float) + bias
        return logits

    return answer


def value(metric, case, answer=None):
    planted = case.rationales[0]
    return drive(metric.score(case), answer or model(np.where(planted, 8.0, 0.0), bias=-4.0 * planted.sum())).value


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (PlantedRecall(), 1 / 2),
        (PlantedPrecision(), 0.0),
        (PlantedPrecision(k=2), 1 / 2),
        (PlantedPrecision(k=4), 2 / 4),
        (PlantedPrecision(k=9), 2 / 5),
        (PlantedAveragePrecision(), (1 / 2 + 2 / 4) / 2),
        (FirstGoldRank(), 2.0),
        (BothFound(), 0.0),
    ],
)
def test_values_by_hand(metric, expected):
    case = make([5, 4, 3, 2, 1], [0, 1, 0, 1, 0])
    assert value(metric, case) == pytest.approx(expected)


def test_the_oracle_is_perfect_and_its_reverse_is_the_worst():
    planted = np.array([0, 1, 0, 1, 0, 0], dtype=bool)
    best = [value(metric(), make(planted, planted)) for metric in METRICS]
    worst = [value(metric(), make(~planted, planted)) for metric in METRICS]
    assert best == [1.0, 1.0, 1.0, 1.0, 1.0]
    assert worst == pytest.approx([0.0, 0.0, (1 / 5 + 2 / 6) / 2, 5.0, 0.0])


@pytest.mark.parametrize(("m", "planted"), [(4, 1), (5, 2), (6, 3)])
def test_a_random_order_gets_what_the_docstrings_state(m, planted):
    marks = np.arange(m) < planted
    found = [[value(metric(), make(order, marks)) for metric in METRICS[:4]] for order in permutations(range(m))]
    harmonic = sum(1 / k for k in range(1, m + 1))
    ap = (harmonic + (m - harmonic) * (planted - 1) / (m - 1)) / m
    chance = [planted / m, planted / m, ap, (m + 1) / (planted + 1)]
    assert np.mean(found, axis=0) == pytest.approx(chance, abs=1e-12)
    if planted > 1:
        both = [value(BothFound(), make(order, marks)) for order in permutations(range(m))]
        assert np.mean(both) == pytest.approx(1 / comb(m, planted))


@given(st.lists(st.booleans(), min_size=1, max_size=12).filter(any))
def test_average_precision_is_scikit_learns(found):
    scores = -np.arange(len(found))
    assert average_precision(np.array(found)) == pytest.approx(average_precision_score(found, scores), abs=1e-12)


def test_ties_are_averaged_over_the_orders():
    # The first unit of the orders 0123, 3012, 2301, 1230, 0123 is 0, 3, 2, 1, 0; unit 0 is at 1, 2, 3, 4, 1.
    flat = make([1, 1, 1, 1], [1, 0, 0, 0])
    assert value(PlantedRecall(), flat) == pytest.approx(2 / 5)
    assert value(FirstGoldRank(), flat) == pytest.approx((1 + 2 + 3 + 4 + 1) / 5)


def test_words_that_speak_against_the_prediction_are_found_by_magnitude():
    case = make([3, -2, 1, 0.5], [1, 1, 0, 0])
    answer = model([6, -2, 0, 0], bias=-0.0)
    assert value(PlantedRecall(), case, answer) == 0.5
    assert value(PlantedRecall(absolute=True), case, answer) == 1.0


@pytest.mark.parametrize("m", [2, 5, 9])
def test_interventions_take_away_the_planted_units_then_as_many_others(m):
    planted = np.arange(m) < 2
    keep = interventions(make(np.zeros(m), planted), planted)
    assert keep[0].all()
    assert (keep[1] == ~planted).all()
    if m == 2:
        assert len(keep) == 2
    else:
        assert len(keep) == 2 + DRAWS
        assert keep[2:, planted].all()
        assert (~keep[2:]).sum(1).tolist() == [min(2, m - 2)] * DRAWS
    if m == 9:  # every other unit is drawn now and then, and other examples get other draws
        assert (~keep[2:]).any(0).tolist() == (~planted).tolist()
        other = interventions(make(np.zeros(m), planted, example="two"), planted)
        assert not np.array_equal(keep, other)


def test_all_methods_are_asked_the_same_questions():
    asked = []
    for scores in ([1, 2, 3, 4, 5], [5, 5, 1, 1, 0]):
        for metric in (PlantedRecall(), BothFound(), PlantedPrecision(k=3)):
            questions = drive_and_keep(metric, make(scores, [0, 1, 1, 0, 0]))
            asked.append(questions.tobytes())
    assert len(set(asked)) == 1


def drive_and_keep(metric, case):
    kept = []
    planted = model(np.where(case.rationales[0], 8.0, 0.0), bias=-8.0)
    drive(metric.score(case), lambda ask: kept.append(ask.keep) or planted(ask))
    return np.vstack(kept)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("weights", "bias", "reason"),
    [
        ([9, 9, 0, 0, 0], -9.0, None),
        ([0, 0, 9, 0, 0], -4.0, "the prediction stays without the planted words"),
        ([1, 1, 0, 0, 0], 9.0, "the prediction stays without the planted words"),
        ([1, 1, 0, 0, 0], -9.0, "the model does not predict the target"),
        ([9, 9, 9, 9, 9], -36.5, "the prediction changes without other words too"),
    ],
)
def test_the_filter_keeps_examples_in_which_the_planted_words_alone_matter(metric, weights, bias, reason):
    score = drive(metric().score(make([5, 4, 3, 2, 1], [1, 1, 0, 0, 0])), model(weights, bias))
    assert score.reason == reason
    assert np.isnan(score.value) == (reason is not None)


def test_the_filter_asks_for_half_of_the_lead_and_for_19_of_20_steady_draws():
    steady = np.full(DRAWS, 0.9)
    assert unused(np.array([0.9, 0.7, *steady]), 2) is None
    assert unused(np.array([0.9, 0.701, *steady]), 2) == "the prediction stays without the planted words"
    assert unused(np.array([0.9, 0.701, *steady]), 3) == "the prediction stays without the planted words"
    assert unused(np.array([0.9, 0.61, *steady]), 3) is None  # the lead over 1/3 falls from 0.567 to 0.277
    steady[0] = 0.1
    assert unused(np.array([0.9, 0.1, *steady]), 2) is None
    steady[1] = 0.1
    assert unused(np.array([0.9, 0.1, *steady]), 2) == "the prediction changes without other words too"
    assert unused(np.array([0.9, 0.1]), 2) is None  # every unit is planted


def test_the_filter_needs_no_label_and_without_it_the_prediction_must_be_the_label():
    wrong = make([3, 2, 1], [1, 0, 0], label=0)
    answer = model([9, 0, 0], bias=-4.0)
    assert drive(PlantedRecall().score(wrong), answer).value == 1.0
    assert drive(PlantedRecall().score(replace(wrong, label=None)), answer).value == 1.0
    unfiltered = drive(PlantedRecall(causal=False).score(wrong), answer)
    unlabelled = replace(wrong, label=None)
    assert drive(PlantedRecall(causal=False).score(unlabelled), answer).reason == "no gold label"
    assert unfiltered.reason == "prediction differs from the label the words decide"


def refuse(ask):
    raise AssertionError("asked")


def test_without_the_filter_nothing_is_asked():
    case = make([1, 5, 2, 3, 4], [0, 1, 0, 1, 0])
    assert drive(PlantedRecall(causal=False).score(case), refuse).value == pytest.approx(0.5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (make([1, 2], None), "no planted words"),
        (make([1, 2, 3], [0, 0, 0]), "no word is marked"),
        (make(np.zeros(0), np.zeros((1, 0))), "no words to attribute"),
    ],
)
def test_undefined_with_a_reason(metric, case, reason):
    score = drive(metric().score(case), refuse)
    assert np.isnan(score.value)
    assert score.reason == reason


def test_both_found_needs_two_planted_words():
    assert drive(BothFound().score(make([1, 2, 3], [1, 0, 0])), refuse).reason == "only one word is planted"


def test_k_is_checked_by_the_constructor():
    with pytest.raises(ValueError, match="k=0; allowed: 1 or more"):
        load("attrlab.metrics.planted:PlantedPrecision")(k=0)
