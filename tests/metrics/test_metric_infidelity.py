"""Infidelity, faithfulness correlation and sensitivity-n against captum, brute force and additive models."""

from dataclasses import replace
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from attrlab.bench.facts import MetricFacts
from attrlab.bench.operators import DRAWS
from attrlab.bench.types import Case, drive
from attrlab.metrics.infidelity import FaithfulnessCorrelation, Infidelity, SensitivityN, infidelity

METRICS = [Infidelity(), Infidelity(normalise=False), FaithfulnessCorrelation(), SensitivityN()]
weights_of = st.lists(st.integers(-20, 20).map(lambda value: value / 10), min_size=3, max_size=9).map(np.array)


def make(scores, *, example="one", operator="delete", signed=True):
    scores = np.array(scores, dtype=float)
    orders = np.arange(len(scores))[None]
    return Case(scores=scores, signed=signed, target=1, label=1, tie_orders=orders, operator=operator, example=example)


def game(function):
    """Returns a model of three classes whose contrast of class 1 is given as a function of the kept units."""

    def answer(ask):
        values = np.array([function(row) for row in ask.keep], dtype=float)
        return np.stack([np.full(len(values), 0.5), values + 0.25, np.zeros(len(values))], axis=1)

    return answer


def additive(weights, base=0.3):
    return game(lambda keep: base + float(np.dot(keep, weights)))


def bent(seed, m):
    """Returns a set function with pairs and a bend in it."""
    rng = np.random.default_rng(seed)
    single, pairs = rng.normal(size=m), rng.normal(size=(m, m)) / 2
    return lambda keep: np.tanh(keep @ single) + keep @ pairs @ keep


def value(metric, case, answer):
    score = drive(metric.score(case), answer)
    assert (score.reason is None) != np.isnan(score.value)
    return score.value


def asked(metric, case):
    return next(metric.score(case)).keep


@pytest.mark.parametrize("m", [3, 6, 12, 30])
@pytest.mark.parametrize("normalise", [True, False])
def test_infidelity_is_captums_on_the_same_removals(parity, m, normalise):
    function, rng = bent(m, m), np.random.default_rng(m)
    case = make(rng.normal(size=m))
    keep = asked(Infidelity(), case)[1:]
    change = np.array([function(np.ones(m)) - function(row) for row in keep])

    def perturb(inputs):
        removed = torch.tensor(~keep, dtype=torch.float64)
        return removed, inputs - removed

    theirs = captum_infidelity(
        lambda rows: torch.tensor([function(row) for row in rows.numpy()]),
        perturb,
        torch.ones(1, m, dtype=torch.float64),
        torch.tensor(case.scores)[None],
        n_perturb_samples=len(keep),
        normalize=normalise,
    ).item()
    ours = value(Infidelity(normalise=normalise), case, game(function)) * float(np.mean(change**2))
    name = "normalised" if normalise else "raw"
    parity("Q6", "infidelity", f"captum infidelity, {name}", abs(ours - theirs), 1e-10)


def test_by_hand_for_two_words_that_act_together():
    # F = 1 if both words stay, else 0. Removals: none, first, second, both. A = 0, 1/2, 1/2, 1; Delta = 0, 1, 1, 1.
    together, half = game(lambda keep: float(keep.all())), make([0.5, 0.5])
    # beta = (1/2 + 1/2 + 1) / (1/4 + 1/4 + 1) = 4/3: the sum of squares is 1/9 + 1/9 + 1/9, of Delta 3.
    assert value(Infidelity(), half, together) == pytest.approx(1 / 9)
    assert value(Infidelity(normalise=False), half, together) == pytest.approx((0.25 + 0.25) / 3)
    assert value(FaithfulnessCorrelation(), half, together) == pytest.approx(0.5 / np.sqrt(0.5 * 0.75))


@settings(max_examples=25)
@given(weights_of)
def test_the_weights_of_an_additive_model_are_a_perfect_explanation(weights):
    assume(np.ptp(weights) > 0)
    case, model = make(weights), additive(weights)
    assert value(Infidelity(), case, model) == pytest.approx(0, abs=1e-12)
    assert value(Infidelity(normalise=False), case, model) == pytest.approx(0, abs=1e-12)
    assert value(FaithfulnessCorrelation(), case, model) == pytest.approx(1, abs=1e-12)
    for n in range(1, len(weights)):
        assert value(SensitivityN(n=n), case, model) == pytest.approx(1, abs=1e-9)


def every_subset(case, function):
    """Second implementation: the expectation over all subsets, one at a time."""
    pairs = []
    for removed in product([False, True], repeat=case.n_units):
        keep = ~np.array(removed)
        drop = function(np.ones(case.n_units)) - function(keep)
        pairs.append((sum(score for score, gone in zip(case.scores, removed, strict=True) if gone), drop))
    return np.array(pairs).T


@pytest.mark.parametrize("m", [1, 2, 5, 7])
def test_on_short_texts_the_value_is_the_expectation_over_all_subsets(m):
    function, case = bent(m, m), make(np.random.default_rng(m).normal(size=m))
    foretold, change = every_subset(case, function)
    cosine = foretold @ change / np.sqrt((foretold @ foretold) * (change @ change))
    assert value(Infidelity(), case, game(function)) == pytest.approx(1 - cosine**2, abs=1e-12)
    raw = np.mean((foretold - change) ** 2) / np.mean(change**2)
    assert value(Infidelity(normalise=False), case, game(function)) == pytest.approx(raw)
    if m > 1:
        found = value(FaithfulnessCorrelation(), case, game(function))
        assert found == pytest.approx(pearsonr(foretold, change).statistic)


def test_samples_estimate_the_expectation():
    function, case = bent(9, 9), make(np.random.default_rng(9).normal(size=9))
    for few, many in (
        (Infidelity(), Infidelity(samples=512)),
        (FaithfulnessCorrelation(), FaithfulnessCorrelation(samples=512)),
        (SensitivityN(n=4, samples=60), SensitivityN(n=4, samples=126)),
    ):
        exact = value(many, case, game(function))
        drawn = [value(few, replace(case, example=str(index)), game(function)) for index in range(40)]
        assert np.std(drawn) > 0
        assert abs(np.mean(drawn) - exact) < 3.5 * np.std(drawn) / np.sqrt(len(drawn)) + 0.01


@pytest.mark.parametrize("n", [1, 2, 3])
def test_sensitivity_n_is_pearson_over_all_sets_of_n(n):
    function, case = bent(n, 6), make(np.random.default_rng(n).normal(size=6))
    foretold, drops = [], []
    for removed in combinations(range(6), n):
        keep = np.ones(6)
        keep[list(removed)] = 0
        foretold.append(case.scores[list(removed)].sum())
        drops.append(function(np.ones(6)) - function(keep))
    expected = pearsonr(foretold, drops).statistic
    assert value(SensitivityN(n=n), case, game(function)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("m", "n"), [(6, 2), (20, 2), (21, 2), (40, 5), (5, 4)])
def test_sensitivity_n_removes_n_units_each_time(m, n):
    keep = asked(SensitivityN(n=n), make(np.arange(m)))
    assert keep[0].all()
    assert len(keep) == 1 + min(200, comb(m, n))
    assert ((~keep[1:]).sum(1) == n).all()
    distinct = {row.tobytes() for row in keep[1:]}
    assert len(distinct) == comb(m, n) if comb(m, n) <= 200 else len(distinct) > 100
    assert ((~keep[1:]).mean(0) > 0).all()


def test_every_unit_goes_half_of_the_time():
    keep = asked(Infidelity(samples=4000), make(np.arange(20)))
    assert len(keep) == 4001
    assert keep[0].all()
    assert np.abs(keep[1:].mean(0) - 0.5).max() < 4 * 0.5 / np.sqrt(4000)


def test_draws_depend_on_the_example_and_the_length_alone():
    one, other = make(np.arange(30)), make(-np.ones(30), signed=False, operator="replace")
    for metric in METRICS:
        assert np.array_equal(asked(metric, one), asked(metric, other))
        assert not np.array_equal(asked(metric, one), asked(metric, replace(one, example="another")))
    assert np.array_equal(asked(Infidelity(), one), asked(FaithfulnessCorrelation(), one))


@settings(max_examples=25)
@given(weights_of, st.integers(0, 5))
def test_the_scale_of_scores_does_not_matter_and_the_sign_does_to_correlations_only(scores, seed):
    assume(np.ptp(scores) > 0)
    model, case = game(bent(seed, len(scores))), make(scores)
    for metric in (Infidelity(), FaithfulnessCorrelation(), SensitivityN()):
        plain, scaled = value(metric, case, model), value(metric, replace(case, scores=7 * scores), model)
        assert scaled == pytest.approx(plain, abs=1e-9)
        flipped = value(metric, replace(case, scores=-scores), model)
        assert flipped == pytest.approx(plain if isinstance(metric, Infidelity) else -plain, abs=1e-9)
        tiny = value(metric, replace(case, scores=1e-200 * scores), model)
        assert tiny == pytest.approx(plain, abs=1e-9)


@settings(max_examples=25)
@given(st.integers(3, 7), st.integers(0, 100), st.randoms(use_true_random=False))
def test_renaming_the_units_changes_nothing_where_all_subsets_are_asked(m, seed, random):
    order, function = np.array(random.sample(range(m), m)), bent(seed, m)
    scores, back = np.random.default_rng(seed).normal(size=m), np.argsort(order)
    for metric in METRICS:
        renamed = value(metric, make(scores[order]), game(lambda keep: function(keep[back])))
        assert renamed == pytest.approx(value(metric, make(scores), game(function)), abs=1e-9)


def test_scores_of_zero_explain_nothing():
    flat, model = make(np.zeros(5)), additive([1, 2, 3, 4, 5])
    assert value(Infidelity(), flat, model) == 1.0
    assert value(Infidelity(normalise=False), flat, model) == 1.0
    for metric in (FaithfulnessCorrelation(), SensitivityN()):
        assert drive(metric.score(flat), model).reason == "the scores foretell the same for every removal"


def test_scores_that_are_all_alike_count_words():
    alike = make(np.full(6, 0.1))
    equal_words = additive(np.full(6, 2.0))
    assert value(FaithfulnessCorrelation(), alike, equal_words) == pytest.approx(1)
    assert drive(SensitivityN(n=3).score(alike), equal_words).reason == "the scores foretell the same for every removal"


def test_a_random_operator_is_asked_in_every_draw_and_the_contrast_averaged():
    weights, seen = np.array([1.0, -2.0, 0.5]), []

    def answer(ask):
        seen.append(np.unique(ask.draw).tolist())
        noise = np.where(ask.keep.all(1), 0.0, 3.0 * (np.asarray(ask.draw) - 2))  # of mean 0 over the five draws
        return np.stack([np.zeros(len(ask.keep)), ask.keep @ weights + noise, np.zeros(len(ask.keep))], axis=1)

    assert value(Infidelity(normalise=False), make(weights, operator="random"), answer) == pytest.approx(0, abs=1e-12)
    assert seen == [list(range(DRAWS["random"]))]


@pytest.mark.parametrize(
    ("metric", "scores", "answer", "reason"),
    [
        (Infidelity(), [], additive([]), "no words to attribute"),
        (FaithfulnessCorrelation(), [], additive([]), "no words to attribute"),
        (SensitivityN(), [], additive([]), "no words to attribute"),
        (FaithfulnessCorrelation(), [1.0], additive([1.0]), "only one word"),
        (SensitivityN(n=3), [1.0, 2.0, 3.0], additive([1, 2, 3]), "no more than 3 words"),
        (Infidelity(), [1.0, 2.0, 3.0], additive([0, 0, 0]), "no removal changes the answer"),
        (Infidelity(), [1.0, 2.0, 3.0], additive([1e-4, 0, 0]), "no removal changes the answer"),
        (FaithfulnessCorrelation(), [1.0, 2.0, 3.0], additive([0, 0, 0]), "no removal changes the answer"),
        (SensitivityN(), [1.0, 2.0, 3.0], additive([2, 2, 2]), "no removal changes the answer"),
    ],
)
def test_reasons_of_undefined_scores(metric, scores, answer, reason):
    score = drive(metric.score(make(scores)), answer)
    assert np.isnan(score.value)
    assert score.reason == reason


def test_one_word_is_foretold_up_to_scale():
    assert value(Infidelity(), make([0.2]), additive([3.0])) == pytest.approx(0, abs=1e-15)
    assert value(Infidelity(normalise=False), make([0.3]), additive([3.0])) == pytest.approx(0.9**2)


def test_never_above_one_but_for_raw():
    rng = np.random.default_rng(2)
    for _ in range(300):
        foretold, change = rng.normal(size=4), rng.normal(size=4)
        change -= foretold * (foretold @ change) / (foretold @ foretold)  # uncorrelated: beta is 0 but for rounding
        assert infidelity(foretold, change, normalise=True) == pytest.approx(float(np.mean(change**2)))
    score = value(Infidelity(normalise=False), make([5.0, -9.0]), additive([-1.0, 1.0]))
    assert score > 1


def test_facts_follow_the_parameters():
    base = MetricFacts(where="here:There", bounds=(0.0, 1.0), invariances=("scale", "sign"))
    assert Infidelity.facts(base, samples=10) == base
    raw = Infidelity.facts(base, normalise=False)
    assert (raw.bounds, raw.invariances) == ((0.0, float("inf")), ())


@pytest.mark.parametrize("metric", [Infidelity, FaithfulnessCorrelation, SensitivityN])
def test_parameters_are_checked(metric):
    with pytest.raises(ValueError, match="samples=1; allowed: 2 or more"):
        metric(samples=1)
    with pytest.raises(ValueError, match="n=0; allowed: 1 or more"):
        SensitivityN(n=0)
