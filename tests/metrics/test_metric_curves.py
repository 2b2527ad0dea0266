"""Deletion and insertion curves and what is read from them, against hand-computed values and invariants."""

from itertools import permutations

import numpy as np
import pytest
from erasuretoys import additive, answer_with, make, never, random_model, value
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench.facts import MetricFacts
from attrlab.bench.types import drive
from attrlab.metrics.aopc import AopcComprehensiveness, AopcSufficiency
from attrlab.metrics.curves import DeletionAuc, InsertionAuc, deletion, insertion, steps
from attrlab.metrics.flips import DecisionFlipFirst, DecisionFlipFraction, EffectiveComplexity
from attrlab.metrics.ranking import ranked_units

METRICS = [
    DeletionAuc(),
    DeletionAuc(normalised=True),
    InsertionAuc(),
    InsertionAuc(normalised=True),
    AopcComprehensiveness(),
    AopcSufficiency(),
    DecisionFlipFirst(),
    DecisionFlipFraction(),
    EffectiveComplexity(),
    EffectiveComplexity(version="stable"),
]
SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=9)


def curve(kind, case, answer):
    return drive(kind(case, ranked_units(case)), answer)


def listed(probabilities, scores):
    """Returns a model that answers by how many units are kept, and checks that they are the top or the last ones."""
    order = np.argsort(-np.array(scores))

    def probability(keep):
        k = int(keep.sum())
        assert keep[order[:k]].all() or keep[order[len(order) - k :]].all()
        return probabilities[k]

    return answer_with(probability)


@pytest.mark.parametrize(("m", "expected"), [(1, [0, 1]), (4, [0, 1, 2, 3, 4])])
def test_steps_of_a_short_text_are_all_k(m, expected):
    assert steps(m).tolist() == expected


@pytest.mark.parametrize("m", [101, 137, 512])
def test_steps_of_a_long_text_are_at_every_second_percent(m):
    # The k rule in whole numbers: ceil(2 i m / 100).
    assert steps(m).tolist() == [-(-2 * i * m // 100) for i in range(51)]
    assert steps(m)[-1] == m


@given(SCORES, st.integers(0, 99))
def test_the_ends_of_both_curves_are_the_full_and_the_empty_input(scores, seed):
    case, model = make(scores), random_model(seed)
    removed, kept = curve(deletion, case, model), curve(insertion, case, model)
    full = drive(case.probabilities(np.ones((1, len(scores)), dtype=bool)), model)[0]
    empty = drive(case.probabilities(np.zeros((1, len(scores)), dtype=bool)), model)[0]
    assert (removed.p[:, 0] == full).all(), "erase nothing: the original prediction"
    assert (kept.p[:, -1] == full).all(), "insertion's last step: the original prediction"
    assert (removed.p[:, -1] == empty).all(), "erase all: the same for every method"
    assert (kept.p[:, 0] == empty).all()
    assert (removed.full, removed.empty) == (kept.full, kept.empty) == (full, empty)


@given(SCORES)
def test_curves_remove_and_keep_exactly_the_top_k(scores):
    case, asked = make(scores), {}

    def noting(kind):
        def answer(ask):
            asked[kind] = ask.keep
            return np.zeros((len(ask.keep), 2))

        return answer

    found = {kind: curve(kind, case, noting(kind)) for kind in (deletion, insertion)}
    m = len(scores)
    ranked = ranked_units(case)
    for kind, keeps in ((deletion, False), (insertion, True)):
        rows = asked[kind].reshape(len(ranked), m + 1, m)
        rows = rows[:, ::-1] if keeps else rows
        assert found[kind].logits.shape == (len(ranked), m + 1, 2)
        for row, order in zip(rows, ranked, strict=True):
            for k in range(m + 1):
                assert set(np.flatnonzero(row[k] == keeps)) == set(order[:k].tolist())


def test_questions_start_with_the_full_input_and_come_in_one_batch():
    for metric in METRICS:
        asker = metric.score(make([3.0, 1.0, 2.0]))
        assert next(asker).keep[0].all()
        with pytest.raises(StopIteration):
            asker.send(np.zeros((2 if isinstance(metric, DecisionFlipFirst) else 4, 2)))


def test_areas_by_hand():
    # Two units: the curve is .8, .6, .1 at 0, 1/2, 1.
    model = listed([0.1, 0.6, 0.8], [2, 1])
    area = (0.8 / 2 + 0.6 + 0.1 / 2) / 2
    case = make([2, 1])
    assert value(DeletionAuc(), case, model) == pytest.approx(area, abs=1e-12)
    assert value(InsertionAuc(), case, model) == pytest.approx(area, abs=1e-12)
    assert value(DeletionAuc(normalised=True), case, model) == pytest.approx((area - 0.1) / 0.7, abs=1e-12)
    assert value(AopcComprehensiveness(), case, model) == pytest.approx((0.2 + 0.7) / 2, abs=1e-12)
    assert value(AopcSufficiency(), case, model) == pytest.approx((0.2 + 0.0) / 2, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_one_word_is_defined_and_none_is_not(metric):
    assert np.isfinite(value(metric, make([1.0]), answer_with(lambda keep: 0.9 if keep.all() else 0.4)))
    assert drive(metric.score(make([])), never).reason == "no words to attribute"


def test_a_normalised_area_needs_a_prediction_that_words_move():
    score = drive(DeletionAuc(normalised=True).score(make([1, 2])), answer_with(lambda keep: 0.7))
    assert score.reason == "removing every word changes nothing"
    assert value(DeletionAuc(), make([1, 2]), answer_with(lambda keep: 0.7)) == pytest.approx(0.7, abs=1e-12)


@given(SCORES, st.integers(0, 99), st.sampled_from(METRICS))
def test_seven_times_the_scores_changes_nothing_and_neither_does_a_cube(scores, seed, metric):
    scores, model = np.array(scores) / 4, random_model(seed)
    expected = drive(metric.score(make(scores)), model)
    for changed in (7 * scores, scores**3):
        np.testing.assert_equal(drive(metric.score(make(changed)), model), expected)


@given(st.integers(1, 9), st.integers(0, 99), st.sampled_from(METRICS))
def test_all_equal_scores_get_the_mean_over_the_tie_orders(m, seed, metric):
    model, flat = random_model(seed), make(np.full(m, 2.0))
    # Positive and falling along each permutation: one ranking each, by value and by magnitude alike.
    single = [value(metric, make(m - np.argsort(order)), model) for order in flat.tie_orders]
    assert value(metric, flat, model) == pytest.approx(np.mean(single), abs=1e-12)


@given(SCORES, st.integers(0, 99))
def test_every_explanation_has_as_many_points(scores, seed):
    case = make(scores)
    rankings = 5 if len(ranked_units(case)) == 5 else 1
    for metric in METRICS:
        asked = []
        drive(metric.score(case), lambda ask, asked=asked: asked.append(len(ask.keep)) or random_model(seed)(ask))
        per_ranking = 2 if isinstance(metric, DecisionFlipFirst) else len(scores) + 1
        complexity = isinstance(metric, EffectiveComplexity)
        expected = len(ranked_units(case, absolute=True)) if complexity else rankings
        assert asked == [expected * per_ranking]


@pytest.mark.parametrize("effects", [[0.2, 0.1, 0.05, 0.02], [0.2, -0.1, 0.05, -0.02]])
def test_in_an_additive_game_no_ranking_beats_the_oracle(effects):
    model, others = additive(0.5, effects), [make(order) for order in permutations(range(4))]
    for metric, sign in (
        (DeletionAuc(), -1),
        (InsertionAuc(), 1),
        (AopcComprehensiveness(), 1),
        (AopcSufficiency(), -1),
    ):
        best = sign * value(metric, make(effects), model)
        assert best >= max(sign * value(metric, case, model) for case in others) - 1e-12
        assert best > sign * value(metric, make([-effect for effect in effects]), model) + 0.01


@given(st.permutations(range(5)))
def test_dense_aopc_and_the_area_differ_by_half_a_step(order):
    # trapezoids of D over k / m = p_full - AOPC - (p_empty - p_full) / (2 m), for any curve.
    model, case = random_model(7), make(order)
    d = curve(deletion, case, model)
    area, aopc = value(DeletionAuc(), case, model), value(AopcComprehensiveness(), case, model)
    assert area == pytest.approx(d.full - aopc + (d.full - d.empty) / 10, abs=1e-12)


@pytest.mark.parametrize("m", [101, 250])
def test_a_long_text_on_the_grid_agrees_with_every_k_of_a_smooth_curve(m):
    scores = np.arange(m, 0, -1.0)
    effects = scores / scores.sum() * 0.6
    model = additive(0.2, effects)
    dense = 0.8 - np.concatenate([[0], np.cumsum(effects)])
    case = make(scores)
    asked = []
    area = value(DeletionAuc(), case, lambda ask: asked.append(len(ask.keep)) or model(ask))
    assert asked == [51]
    assert area == pytest.approx(np.trapezoid(dense) / m, abs=1e-3)
    assert value(AopcComprehensiveness(), case, model) == pytest.approx(np.mean(0.8 - dense[1:]), abs=0.01)


@pytest.mark.parametrize("m", [101, 130])
def test_a_long_text_keeps_as_many_units_as_the_grid_says(m):
    found = curve(insertion, make(np.arange(m, 0, -1.0)), answer_with(lambda keep: 0.1 + 0.8 * keep.sum() / m))
    assert found.p[0] == pytest.approx(0.1 + 0.8 * steps(m) / m, abs=1e-12)


def test_an_area_of_a_certain_prediction_is_exactly_one():
    def certain(ask):
        return np.tile([0.0, 800.0], (len(ask.keep), 1))

    for m in (3, 7, 49, 101):
        assert value(InsertionAuc(), make(np.arange(m)), certain) == 1.0


def logits_by_count(rows):
    """Returns a model that answers by how many units are kept."""
    return lambda ask: np.array([rows[int(keep.sum())] for keep in ask.keep], dtype=float)


def test_decision_flips_by_hand():
    # Three classes; predicted with 4, 3, 2, 1, 0 units kept: 1, 1, 2, 1, 0. It flips at k = 2 and back at k = 3.
    model = logits_by_count([[5, 0, 0], [0, 5, 0], [0, 0, 5], [0, 5, 4], [0, 5, 0]])
    case = make([4, 3, 2, 1])
    assert value(DecisionFlipFraction(), case, model) == 2 / 4
    assert value(DecisionFlipFirst(), case, model) == 0.0
    assert value(DecisionFlipFirst(), make([1]), logits_by_count([[5, 0], [0, 5]])) == 1.0
    assert value(DecisionFlipFraction(), case, logits_by_count([[0, 5]] * 5)) == 1.0, "never"
    # The flip is of the prediction, also where another class is explained.
    assert value(DecisionFlipFraction(), make([4, 3, 2, 1], target=0), model) == 2 / 4


def test_flip_first_averages_over_the_orders_of_tied_units():
    # Only removing unit 0 flips; three of five orders begin with it.
    model = answer_with(lambda keep: 0.9 if keep[0] else 0.1)
    orders = [[0, 1, 2], [0, 2, 1], [0, 1, 2], [1, 0, 2], [2, 1, 0]]
    assert value(DecisionFlipFirst(), make([1, 1, 1], tie_orders=orders), model) == pytest.approx(3 / 5)
    assert value(DecisionFlipFraction(), make([1, 1, 1], tie_orders=orders), model) == pytest.approx(8 / 15)


def test_effective_complexity_by_hand():
    # I_0 .. I_4 = .1 .75 .3 .72 .8: nine tenths of .8 is .72.
    model = listed([0.1, 0.75, 0.3, 0.73, 0.8], [4, 3, 2, 1])
    case = make([4, -3, 2, -1])  # by magnitude
    assert value(EffectiveComplexity(), case, model) == 1 / 4
    assert value(EffectiveComplexity(version="stable"), case, model) == 3 / 4
    assert value(EffectiveComplexity(share=1.0), case, model) == 1.0
    assert value(EffectiveComplexity(share=0.1), case, model) == 0.0, "the empty input is enough"
    assert value(EffectiveComplexity(share=1.0), case, answer_with(lambda keep: 0.7)) == 0.0, "so much is enough"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"share": 0.0}, r"share=0.0; allowed"),
        ({"share": 1.1}, "share=1.1"),
        ({"version": "last"}, "allowed: first, stable"),
    ],
)
def test_effective_complexity_refuses_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        EffectiveComplexity(**params)


def test_absolute_ranks_by_magnitude_and_says_so():
    model = additive(0.5, [0.05, -0.3, 0.1])
    for kind in (DeletionAuc, InsertionAuc, AopcComprehensiveness, AopcSufficiency, DecisionFlipFraction):
        assert value(kind(absolute=True), make([1, -3, 2]), model) == value(kind(), make([1, 3, 2]), model)
        facts = kind.facts(MetricFacts(where="here:There", bounds=(0.0, 1.0)), absolute=True)
        assert facts.invariances == ("scale", "sign")
        assert facts.bounds == (0.0, 1.0)
    assert DeletionAuc.facts(MetricFacts(where="here:There"), normalised=True).bounds == (-np.inf, np.inf)
