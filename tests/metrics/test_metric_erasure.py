"""Comprehensiveness, sufficiency and tau-LOO against hand-computed values, ERASER's averaging and scipy."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from attrlab.bench.types import Case, drive
from attrlab.metrics.agreement import TauLoo, kendall
from attrlab.metrics.erasure import BINS, Comprehensiveness, Sufficiency, aopc
from attrlab.metrics.ranking import count

ORDERS_3 = np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1]])


def make(scores, *, tie_orders=None, signed=True):
    scores = np.array(scores, dtype=float)
    rng = np.random.default_rng(5)
    orders = np.array([rng.permutation(len(scores)) for _ in range(5)]) if tie_orders is None else tie_orders
    return Case(scores=scores, signed=signed, target=1, label=1, tie_orders=orders, operator="delete")


def answer_with(probability):
    """Returns a model of two classes whose probability of class 1 is given as a function of the kept units."""

    def answer(ask):
        assert ask.operator == "delete"
        p = np.array([probability(row) for row in ask.keep])
        return np.stack([np.log1p(-p), np.log(p)], axis=1)

    return answer


def additive(base, effects):
    return answer_with(lambda keep: base + float(np.dot(keep, effects)))


def value(metric, case, answer):
    score = drive(metric.score(case), answer)
    assert (score.reason is None) != np.isnan(score.value)
    return score.value


def test_comprehensiveness_and_sufficiency_by_hand():
    # Ten units, k = 1, 1, 1, 2, 5; the effects are .1 .05 .04 .03 .02 and zero, the scores have their order.
    effects = [0.1, 0.05, 0.04, 0.03, 0.02, 0, 0, 0, 0, 0]
    case = make([10, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    model = additive(0.5, effects)
    assert value(Comprehensiveness(), case, model) == pytest.approx((3 * 0.1 + 0.15 + 0.24) / 5, abs=1e-12)
    assert value(Sufficiency(), case, model) == pytest.approx((3 * 0.14 + 0.09 + 0.0) / 5, abs=1e-12)


def test_questions_are_asked_at_once_full_input_first_and_no_bin_is_dropped():
    asker = Comprehensiveness().score(make([3.0, 1.0]))
    keep = next(asker).keep
    assert keep.tolist() == [[True, True]] + 5 * [[False, True]]
    with pytest.raises(StopIteration) as stop:
        asker.send(np.zeros((6, 2)))
    assert stop.value.value == (0.0, None)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_every_explanation_contributes_the_same_number_of_bins(scores):
    for metric in (Comprehensiveness(), Sufficiency()):
        asked = next(metric.score(make(scores))).keep
        assert len(asked) in (1 + len(BINS), 1 + 5 * len(BINS))
        sizes = asked.sum(1) if isinstance(metric, Sufficiency) else len(scores) - asked.sum(1)
        expected = np.repeat([count(share, len(scores)) for share in BINS], (len(asked) - 1) // len(BINS))
        assert sizes[1:].tolist() == expected.tolist()


def eraser_average(instances, thresholds, key):
    """Second implementation, from ERASER's submission format: the mean over the thresholds, then over instances."""
    means = []
    for instance in instances:
        kls = instance["classification"]
        deltas = [
            instance["classification_scores"][kls] - row[key][kls]
            for row in sorted(instance["thresholded_scores"], key=lambda row: row["threshold"])
            if row["threshold"] in thresholds
        ]
        assert len(deltas) == len(thresholds)
        means.append(sum(deltas) / len(deltas))
    return sum(means) / len(means)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=6, max_size=6), min_size=1, max_size=4))
def test_averaging_is_erasers_on_the_same_probability_table(tables):
    instances = [
        {
            "classification": "pos",
            "classification_scores": {"pos": full, "neg": 1 - full},
            "thresholded_scores": [
                {"threshold": share, "scores": {"pos": p, "neg": 1 - p}} for share, p in zip(BINS, bins, strict=True)
            ],
        }
        for full, *bins in tables
    ]
    ours = np.mean([aopc(full, np.array(bins)) for full, *bins in tables])
    assert ours == pytest.approx(eraser_average(instances, BINS, "scores"), abs=1e-12)


def test_all_equal_scores_get_the_mean_over_the_tie_orders():
    model = additive(0.3, [0.3, 0.1, 0.05])
    for metric in (Comprehensiveness(), Sufficiency()):
        # A strict ranking in the order of each permutation, one at a time.
        single = [value(metric, make(-np.argsort(order)), model) for order in ORDERS_3]
        flat = value(metric, make([2.0, 2.0, 2.0], tie_orders=ORDERS_3), model)
        assert flat == pytest.approx(np.mean(single), abs=1e-12)
        assert np.ptp(single) > 0.01


def test_erasing_what_the_model_does_not_see_scores_exactly_zero():
    constant = answer_with(lambda keep: 0.7)
    for scores in ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [4.0]):
        assert value(Comprehensiveness(), make(scores), constant) == 0.0
        assert value(Sufficiency(), make(scores), constant) == 0.0


@pytest.mark.parametrize("effects", [[0.2, 0.1, 0.05, 0.02], [0.2, -0.1, 0.05, -0.02], [-0.1, -0.1, 0.0, 0.1]])
def test_in_an_additive_game_no_ranking_beats_the_oracle(effects):
    model = additive(0.5, effects)
    best = make(effects)
    comp, suff = value(Comprehensiveness(), best, model), value(Sufficiency(), best, model)
    others = [make(order) for order in permutations(range(4))]
    assert comp >= max(value(Comprehensiveness(), case, model) for case in others) - 1e-12
    assert suff <= min(value(Sufficiency(), case, model) for case in others) + 1e-12
    worst = make([-effect for effect in effects])
    assert comp > value(Comprehensiveness(), worst, model)
    assert suff < value(Sufficiency(), worst, model)


def test_absolute_ranks_by_magnitude():
    model = additive(0.5, [0.05, -0.3, 0.1])
    signed, magnitude = make([0.05, -0.3, 0.1]), make([0.05, 0.3, 0.1])
    for metric in (Comprehensiveness, Sufficiency):
        absolute = value(metric(absolute=True), signed, model)
        assert absolute == value(metric(), magnitude, model)
        assert absolute != value(metric(), signed, model)


def test_one_word_is_defined_and_none_is_not():
    model = answer_with(lambda keep: 0.9 if keep.all() else 0.4)
    assert value(Comprehensiveness(), make([1.0]), model) == pytest.approx(0.5, abs=1e-12)
    assert value(Sufficiency(), make([1.0]), model) == 0.0
    for metric in (Comprehensiveness(), Sufficiency(), TauLoo()):
        assert drive(metric.score(make([])), model).reason == "no words to attribute"


def tau_b(first, second):
    """Second implementation: counts the pairs."""
    pairs = [
        (np.sign(first[i] - first[j]), np.sign(second[i] - second[j])) for i, j in combinations(range(len(first)), 2)
    ]
    untied = [sum(pair[side] != 0 for pair in pairs) for side in (0, 1)]
    return sum(a * b for a, b in pairs) / np.sqrt(untied[0] * untied[1])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20))
def test_kendall_counts_pairs_and_is_scipys_tau_b(rows):
    first, second = np.array(rows, dtype=float).T
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert np.isnan(kendall(first, second))
    else:
        assert kendall(first, second) == pytest.approx(tau_b(first, second), abs=1e-12)
        assert kendall(first, second) == pytest.approx(kendalltau(first, second, variant="b").statistic, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-8, 8), min_size=2, max_size=7), st.integers(0, 99))
def test_tau_loo_correlates_with_the_drops_of_the_model(effects, seed):
    effects = np.array(effects) / 128
    scores = np.random.default_rng(seed).normal(size=len(effects))
    # Powers of two keep the sums exact, so that equal effects are equal in floating point.
    logits = {}

    def answer(ask):
        p = 0.5 + ask.keep @ effects
        logits["p"] = np.exp(np.log(p) - np.logaddexp(np.log1p(-p), np.log(p)))
        return np.stack([np.log1p(-p), np.log(p)], axis=1)

    score = drive(TauLoo().score(make(scores)), answer)
    drops = logits["p"][0] - logits["p"][1:]
    if np.ptp(drops) == 0:
        assert np.isnan(score.value)
        assert score.reason == "leaving out any one word has the same effect"
    else:
        assert score.value == pytest.approx(tau_b(scores, drops), abs=1e-12)


def test_tau_loo_by_hand_signed_and_absolute():
    model = additive(0.5, [0.1, -0.2, 0.05])
    case = make([0.3, -0.1, 0.2])
    assert value(TauLoo(), case, model) == pytest.approx(1.0)
    # |a| = .3 .1 .2 and |LOO| = .1 .2 .05: of three pairs only (0, 2) agrees.
    assert value(TauLoo(absolute=True), case, model) == pytest.approx(-1 / 3)
    assert value(TauLoo(absolute=True), make([0.1, 0.2, 0.05], signed=False), model) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("scores", "signed", "absolute", "reason"),
    [
        ([1.0, 2.0], False, False, "unsigned scores: use tau_loo:absolute=true"),
        ([1.0], True, False, "only one word"),
        ([2.0, 2.0], True, False, "all scores are equal"),
        ([2.0, -2.0], True, True, "all scores are equal"),
    ],
)
def test_tau_loo_says_why_it_is_undefined_before_it_asks(scores, signed, absolute, reason):
    def never(ask):
        raise AssertionError(ask)

    score = drive(TauLoo(absolute=absolute).score(make(scores, signed=signed)), never)
    assert np.isnan(score.value)
    assert score.reason == reason


def test_tau_loo_is_undefined_where_the_model_is_saturated():
    score = drive(TauLoo().score(make([1.0, 2.0, 3.0])), answer_with(lambda keep: 0.5))
    assert np.isnan(score.value)
    assert score.reason == "leaving out any one word has the same effect"
