"""Metrics of erased words, and tau-LOO, against hand-computed values and scipy."""

from itertools import combinations, permutations

import numpy as np
import pytest
from erasuretoys import additive, answer_with, make, never, random_model, value
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from attrlab.bench.facts import MetricFacts
from attrlab.bench.types import drive
from attrlab.metrics.agreement import TauLoo, kendall
from attrlab.metrics.erasure import BINS, Comprehensiveness, ErasureKl, LogOdds, Sufficiency
from attrlab.metrics.ranking import count

ORDERS_3 = np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1]])


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
    score = drive(TauLoo(absolute=absolute).score(make(scores, signed=signed)), never)
    assert np.isnan(score.value)
    assert score.reason == reason


def test_tau_loo_is_undefined_where_the_model_is_saturated():
    score = drive(TauLoo().score(make([1.0, 2.0, 3.0])), answer_with(lambda keep: 0.5))
    assert np.isnan(score.value)
    assert score.reason == "leaving out any one word has the same effect"


def test_log_odds_by_hand():
    # k = ceil(.2 * 5) = 1: the probability falls from .8 to .5.
    model = additive(0.1, [0.3, 0.2, 0.1, 0.06, 0.04])
    case = make([5, 4, 3, 2, 1])
    assert value(LogOdds(), case, model) == pytest.approx(np.log(0.5 / 0.8), abs=1e-12)
    # The five bins of five units are k = 1, 1, 1, 1, 3.
    bins = [np.log(0.5 / 0.8)] * 4 + [np.log(0.2 / 0.8)]
    assert value(LogOdds(at="bins"), case, model) == pytest.approx(np.mean(bins), abs=1e-12)
    assert value(LogOdds(at="1.0"), case, model) == pytest.approx(np.log(0.1 / 0.8), abs=1e-12)


def test_log_odds_of_a_vanished_probability_is_clamped():
    def answer(ask):
        return np.where(ask.keep.all(1, keepdims=True), [[0.0, 1.0]], [[900.0, 0.0]])

    full = 1 / (1 + np.exp(-1))
    assert value(LogOdds(), make([2, 1]), answer) == pytest.approx(np.log(1e-12) - np.log(full), abs=1e-9)


@pytest.mark.parametrize(
    ("at", "cuts"),
    [("bins", [1, 1, 1, 2, 5]), ("0.2", [2]), ("0.75", [8]), (".5", [5]), ("1", [10]), ("rationale", [4])],
)
def test_where_to_cut(at, cuts):
    effects = np.array([0.1, 0.05, 0.04, 0.03, 0.02, 0.01, 0.02, 0.03, 0.04, 0.01])
    case, model = make(np.arange(10, 0, -1), rationale_share=0.33), additive(0.5, effects)
    comp = value(Comprehensiveness(at=at), case, model)
    assert comp == pytest.approx(np.mean([effects[:k].sum() for k in cuts]), abs=1e-12)
    assert value(Sufficiency(at=at), case, model) == pytest.approx(
        np.mean([effects[k:].sum() for k in cuts]), abs=1e-12
    )


@pytest.mark.parametrize("kind", [Comprehensiveness, Sufficiency, LogOdds, ErasureKl])
@pytest.mark.parametrize("at", ["", "0", "1.5", "-1", "half", "nan", "1e3", ".", "0.1.2", "0.0", "0.2\n"])
def test_where_to_cut_is_checked(kind, at):
    with pytest.raises(ValueError, match=r"allowed: bins, rationale, or a share above 0 and up to 1"):
        kind(at=at)


def test_the_length_of_rationales_must_be_known():
    score = drive(Comprehensiveness(at="rationale").score(make([1.0, 2.0])), never)
    assert score.reason == "the mean share of marked words is not known"


def test_facts_follow_the_parameters():
    card = MetricFacts(where="here:There", forwards="6", invariances=("scale", "monotone"))
    assert Comprehensiveness.facts(card) == card
    assert Comprehensiveness.facts(card, at="0.2").forwards == "2"
    assert LogOdds.facts(card, at="bins").forwards == "6"
    assert Sufficiency.facts(card, at="rationale").needs == ("rationales",)
    for kind in (Sufficiency, TauLoo):
        assert kind.facts(card, absolute=True).invariances == ("scale", "sign")
    assert [ErasureKl.facts(card, kept=kept).higher_is_better for kept in (False, True)] == [True, False]


def test_the_divergence_by_hand():
    # Without the top unit (1/2, 1/4, 1/4) becomes (1/4, 1/2, 1/4); without the other it stays.
    rows = {(True, True): [0.5, 0.25, 0.25], (False, True): [0.25, 0.5, 0.25], (True, False): [0.5, 0.25, 0.25]}

    def answer(ask):
        return np.log([rows[tuple(keep.tolist())] for keep in ask.keep]) + 3.0

    # ln 2 / 2 - ln 2 / 4: all five bins are k = 1.
    assert value(ErasureKl(), make([2, 1]), answer) == pytest.approx(np.log(2) / 4, abs=1e-12)
    assert value(ErasureKl(kept=True), make([2, 1]), answer) == pytest.approx(0.0, abs=1e-12)
    assert value(ErasureKl(kept=True), make([1, 2]), answer) == pytest.approx(np.log(2) / 4, abs=1e-12)


def test_the_divergence_sees_what_moves_among_the_other_classes():
    def answer(ask):
        gone = ~ask.keep[:, :1]
        return np.log(np.where(gone, [0.1, 0.6, 0.3], [0.3, 0.6, 0.1]))

    case = make([2, 1])
    assert value(Comprehensiveness(), case, answer) == pytest.approx(0.0, abs=1e-12)
    assert value(ErasureKl(), case, answer) == pytest.approx(0.3 * np.log(3) + 0.1 * np.log(1 / 3), abs=1e-12)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.integers(0, 99))
def test_divergences_are_never_negative_and_as_scipy_computes_them(scores, seed):
    from scipy.special import softmax
    from scipy.stats import entropy

    case, model, seen = make(scores), random_model(seed), []
    found = value(ErasureKl(), case, lambda ask: seen.append(softmax(model(ask), axis=1)) or model(ask))
    assert found >= 0
    assert found == pytest.approx(np.mean([entropy(seen[0][0], row) for row in seen[0][1:]]), abs=1e-12)


def test_a_class_that_vanishes_diverges_far_but_finitely():
    def answer(ask):
        return np.where(ask.keep.all(1, keepdims=True), [[0.0, 0.0]], [[800.0, 0.0]])

    assert value(ErasureKl(), make([2, 1]), answer) == pytest.approx(400 - np.log(2), abs=1e-9)


@pytest.mark.parametrize("metric", [LogOdds(), ErasureKl(), ErasureKl(kept=True)])
def test_logarithmic_metrics_of_a_constant_model_are_exactly_zero(metric):
    for scores in ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [4.0]):
        assert value(metric, make(scores), answer_with(lambda keep: 0.7)) == 0.0
    assert drive(metric.score(make([])), never).reason == "no words to attribute"
