"""LDS, its additive ceiling and the share of it: additive and saturated models, XOR, scipy, a small BERT."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression

from attrlab.bench.engine import Engine, Job
from attrlab.bench.testing import examples, explain, tiny
from attrlab.bench.types import Case, drive
from attrlab.methods.lime import Lime
from attrlab.methods.shapley import ShapleySampling
from attrlab.metrics.additive import AdditiveCeiling, Lds, LdsShare, ceiling, lds
from attrlab.metrics.infidelity import Infidelity
from attrlab.metrics.set_function import ranks

ALL = [Lds(), AdditiveCeiling(), LdsShare()]
weights_of = st.lists(st.integers(-20, 20).map(lambda value: value / 10), min_size=2, max_size=12).map(np.array)


def make(scores, *, example="one", operator="delete"):
    scores = np.array(scores, dtype=float)
    orders = np.arange(len(scores))[None]
    return Case(scores=scores, signed=True, target=0, label=0, tie_orders=orders, operator=operator, example=example)


def game(function):
    """Returns a model of two classes whose contrast of class 0 is given as a function of the kept units."""

    def answer(ask):
        values = np.array([function(row) for row in ask.keep], dtype=float)
        return np.stack([values, np.zeros(len(values))], axis=1)

    return answer


def bent(seed, m):
    rng = np.random.default_rng(seed)
    single, pairs = rng.normal(size=m), rng.normal(size=(m, m)) / np.sqrt(m)
    return lambda keep: keep @ single + keep @ pairs @ keep


def value(metric, case, answer):
    score = drive(metric.score(case), answer)
    assert (score.reason is None) != np.isnan(score.value)
    return score.value


def asked(metric, case):
    return next(metric.score(case)).keep


@settings(max_examples=25)
@given(weights_of, st.floats(-5, 5))
def test_on_an_additive_model_its_weights_the_ceiling_and_the_share_are_one(weights, base):
    assume(np.ptp(weights) > 0)
    case, model = make(weights), game(lambda keep: base + float(keep @ weights))
    for metric in ALL:
        assert value(metric, case, model) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("bend", [np.exp, np.tanh, lambda x: x**3, lambda x: 1 - np.maximum(0, 1 - x)])
def test_where_a_model_bends_a_sum_its_weights_reach_about_the_ceiling(bend):
    weights = np.random.default_rng(4).normal(size=14)
    model, case = game(lambda keep: float(bend(keep @ weights))), make(weights)
    best = value(AdditiveCeiling(), case, model)
    assert 0.95 < best <= 1
    assert value(Lds(), case, model) > best - 0.02
    assert 0.98 < value(LdsShare(), case, model) < 1.02


@pytest.mark.parametrize("m", [3, 7, 8, 19, 45])
def test_lds_is_spearmans_correlation_on_the_removals_that_are_asked(m):
    case, function = make(np.random.default_rng(m).normal(size=m)), bent(m, m)
    keep = asked(Lds(), case)
    expected = spearmanr(keep @ case.scores, [function(row) for row in keep]).statistic
    assert value(Lds(), case, game(function)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("m", [3, 8, 19])
def test_the_ceiling_is_the_better_of_two_regressions_and_above_other_explanations(m):
    function, rng = bent(m, m), np.random.default_rng(m)
    keep = asked(Lds(), make(np.zeros(m)))
    values = np.array([function(row) for row in keep])
    fits = [LinearRegression().fit(keep, goal).predict(keep) for goal in (values, ranks(values))]
    best = value(AdditiveCeiling(), make(np.zeros(m)), game(function))
    assert best == pytest.approx(max(spearmanr(fit, values).statistic for fit in fits), abs=1e-12)
    assert max(lds(rng.normal(size=m), keep, values).value for _ in range(300)) <= best + 1e-12


def test_the_ceiling_is_the_texts_and_the_models_not_the_explanations():
    model, rng = game(bent(1, 10)), np.random.default_rng(0)
    assert len({value(AdditiveCeiling(), make(rng.normal(size=10)), model) for _ in range(5)}) == 1
    assert value(AdditiveCeiling(), make(np.zeros(10)), model) < 1


def test_the_share_is_the_quotient_and_keeps_the_sign():
    model, case = game(bent(3, 9)), make(np.random.default_rng(3).normal(size=9))
    quotient = value(Lds(), case, model) / value(AdditiveCeiling(), case, model)
    assert value(LdsShare(), case, model) == pytest.approx(quotient, abs=1e-12)
    assert value(LdsShare(), replace(case, scores=-case.scores), model) == pytest.approx(-quotient, abs=1e-12)


def test_words_that_act_only_together_leave_nothing_additive():
    parity_of = game(lambda keep: float(keep.sum() % 2))
    case = make([1.0, 0.5, 0.25])
    assert value(Lds(), case, parity_of) == pytest.approx(0, abs=1e-12)
    for metric in (AdditiveCeiling(), LdsShare()):
        assert drive(metric.score(case), parity_of).reason == "nothing additive in the answers"


def test_no_share_of_a_ceiling_that_is_about_zero():
    noise = np.random.default_rng(5).normal(size=2**12)
    model = game(lambda keep: noise[int(keep @ 2 ** np.arange(12))])
    case = make(np.arange(12.0))
    low = value(AdditiveCeiling(samples=4096), case, model)
    assert abs(low) < 0.1
    assert drive(LdsShare(samples=4096).score(case), model).reason == "no additive explanation orders the removals"
    # The fewer removals, the more chance is fitted: the ceiling of pure noise stays below sqrt(m / N), about 0.25.
    drawn = [value(AdditiveCeiling(), replace(case, example=str(index)), model) for index in range(20)]
    assert 0.1 < np.mean(drawn) < 0.35


@pytest.mark.parametrize(("m", "samples", "expected"), [(3, 200, 8), (7, 200, 128), (8, 200, 200), (30, 200, 300)])
def test_at_least_ten_removals_per_word_and_never_more_than_there_are(m, samples, expected):
    for metric in (Lds, AdditiveCeiling, LdsShare):
        keep = asked(metric(samples=samples), make(np.arange(m)))
        assert len(keep) == expected
        design = np.column_stack([np.ones(len(keep)), keep])
        assert np.linalg.matrix_rank(design) == m + 1


def test_removals_are_the_same_for_all_methods_and_none_of_infidelitys():
    one, other = make(np.arange(20.0)), make(np.ones(20), operator="replace")
    shared = asked(Lds(), one)
    for metric in ALL:
        assert np.array_equal(asked(metric, other), shared)
        assert not np.array_equal(asked(metric, replace(one, example="another")), shared)
    rows = {row.tobytes() for row in shared}
    assert not rows & {row.tobytes() for row in asked(Infidelity(), one)}


@settings(max_examples=25)
@given(weights_of, st.integers(0, 5))
def test_the_scale_of_scores_does_not_matter_and_their_sign_flips_the_score(scores, seed):
    assume(np.ptp(scores) > 0)
    case, model = make(scores), game(bent(seed, len(scores)))
    plain = value(Lds(), case, model)
    assert value(Lds(), replace(case, scores=7 * scores), model) == pytest.approx(plain, abs=1e-12)
    assert value(Lds(), replace(case, scores=-scores), model) == pytest.approx(-plain, abs=1e-12)


@settings(max_examples=25)
@given(st.integers(2, 7), st.integers(0, 100), st.randoms(use_true_random=False))
def test_renaming_the_units_changes_nothing_where_all_subsets_are_asked(m, seed, random):
    order, function = np.array(random.sample(range(m), m)), bent(seed, m)
    scores, back = np.random.default_rng(seed).normal(size=m), np.argsort(order)
    for metric in (Lds(), AdditiveCeiling()):
        renamed = value(metric, make(scores[order]), game(lambda keep: function(keep[back])))
        assert renamed == pytest.approx(value(metric, make(scores), game(function)), abs=1e-9)


def test_sums_that_differ_by_rounding_are_ties():
    # 0.1 + 0.2 is not 0.3 in floating point: without care the order of such sums would be rounding's.
    weights = np.array([0.1, 0.2, 0.3, 0.6])
    assert ranks(np.array([0.1 + 0.2, 0.3, 0.6])).tolist() == [1.5, 1.5, 3.0]
    integers = game(lambda keep: float(keep @ np.array([1, 2, 3, 6])))
    for metric in ALL:
        assert value(metric, make(weights), integers) == pytest.approx(1, abs=1e-12)
    alike = make(np.full(9, 0.1))
    keep = asked(Lds(), alike)
    model = bent(2, 9)
    expected = spearmanr(keep.sum(1), [model(row) for row in keep]).statistic
    assert value(Lds(), alike, game(model)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", ALL, ids=["lds", "ceiling", "share"])
def test_reasons_of_undefined_scores(metric):
    steady = game(lambda keep: 1.5)
    assert drive(metric.score(make([])), steady).reason == "no words to attribute"
    assert drive(metric.score(make([1.0])), steady).reason == "only one word"
    assert drive(metric.score(make([1.0, 2.0, 3.0])), steady).reason == "no removal changes the answer"


def test_scores_of_zero_have_no_lds():
    for metric in (Lds(), LdsShare()):
        reason = drive(metric.score(make(np.zeros(5))), game(bent(0, 5))).reason
        assert reason == "the scores foretell the same for every removal"


def test_a_perfect_fit_of_as_many_weights_as_removals_has_ceiling_one():
    keep = np.array([[0, 0], [1, 0], [0, 1]], dtype=bool)
    assert ceiling(keep, np.array([1.0, 5.0, -2.0])).value == pytest.approx(1)


def test_parameters_are_checked():
    for metric in (Lds, AdditiveCeiling, LdsShare):
        with pytest.raises(ValueError, match="samples=1; allowed: 2 or more"):
            metric(samples=1)


def test_on_a_small_bert_methods_come_near_the_ceiling_and_chance_does_not():
    model, inputs = tiny(sharpness=5.0), examples()[:2]
    encoded = [model.encode(one) for one in inputs]
    engine = Engine(model, encoded)

    def share(scores, slot):
        case = make(scores, example=inputs[slot].id, operator="replace")
        job = Job(slot=slot, asker=LdsShare().score(case), operator="replace")
        engine.run([job], lambda done: None)
        assert job.error is None
        return job.result.value

    rng = np.random.default_rng(0)
    for method in (Lime(samples=300), ShapleySampling(permutations=10)):
        shares = [share(found.scores, slot) for slot, found in enumerate(explain(method, model, inputs))]
        assert min(shares) > 0.8
        assert max(shares) < 1.03
    chance = [share(rng.normal(size=one.n_units), slot) for slot, one in enumerate(encoded) for _ in range(20)]
    assert abs(np.mean(chance)) < 0.3
