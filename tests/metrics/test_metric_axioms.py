"""Sensitivity, non-sensitivity, monotonicity, completeness: saturation, dead words, Quantus, exact methods."""

import json
from dataclasses import replace
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from attrlab.bench.engine import Engine, Job
from attrlab.bench.facts import MetricFacts
from attrlab.bench.model import TextModel
from attrlab.bench.testing import examples, explain, tiny
from attrlab.bench.types import Case, drive
from attrlab.methods.paths import IntegratedGradients
from attrlab.methods.relevance import ConservativeLRP
from attrlab.metrics.axioms import CompletenessGap, ConservationGap, SensitivityViolation
from attrlab.metrics.substitution import Monotonicity, NonSensitivity, UnusedWords

QUANTUS = json.loads((Path(__file__).parent / "data" / "quantus_axioms.json").read_text("utf-8"))
BASE = MetricFacts(where="here:There", operators=("random",), forwards="1 + draws * m")


def make(scores, *, signed=True, example="one"):
    scores = np.array(scores, dtype=float)
    orders = np.arange(len(scores))[None]
    return Case(scores=scores, signed=signed, target=0, label=0, tie_orders=orders, operator="delete", example=example)


def game(function, operator="replace"):
    """Returns a model of two classes whose contrast of class 0 is given as a function of the kept units (and draw)."""

    def answer(ask):
        assert ask.operator == operator
        draws = np.broadcast_to(ask.draw, len(ask.keep))
        values = np.array([function(row, draw) for row, draw in zip(ask.keep, draws, strict=True)], dtype=float)
        return np.stack([values, np.zeros(len(values))], axis=1)

    return answer


def additive(weights, base=0.0, operator="replace"):
    return game(lambda keep, draw: base + float(np.dot(keep, weights)), operator)


def value(metric, case, answer):
    score = drive(metric.score(case), answer)
    assert (score.reason is None) != np.isnan(score.value)
    return score.value


def test_the_gradient_violates_sensitivity_where_the_model_is_saturated():
    def saturating(x):
        return 1 - torch.relu(1 - x)

    point = torch.tensor(2.0, requires_grad=True)
    saturating(point).backward()
    places = torch.linspace(0, 2, 2001, requires_grad=True)  # the path from the baseline 0 to the input 2
    saturating(places).sum().backward()
    model = game(lambda keep, draw: float(saturating(torch.tensor(2.0 * keep[0]))))
    gradient, integrated = float(point.grad), 2 * float(places.grad.mean())
    assert (gradient, integrated) == (0.0, pytest.approx(1, abs=1e-2))
    assert value(SensitivityViolation(), make([gradient]), model) == 1.0
    assert value(SensitivityViolation(), make([integrated]), model) == 0.0
    assert value(CompletenessGap(), make([gradient]), model) == 1.0
    assert value(CompletenessGap(), make([integrated]), model) == pytest.approx(0, abs=1e-2)


def test_sensitivity_violation_by_hand():
    # Effects 2, -1, 0.0019 and 0: a thousandth of the largest is 0.002, so only the first two words move the answer.
    model = additive([2.0, -1.0, 0.0019, 0.0])
    assert value(SensitivityViolation(), make([5.0, 0.0, 0.0, 1.0]), model) == 0.5
    assert value(SensitivityViolation(), make([-5.0, 6e-6, 0.0, 0.0]), model) == 0.0
    assert value(SensitivityViolation(), make([-5.0, 4e-6, 0.0, 0.0]), model) == 0.5
    assert value(SensitivityViolation(), make([0.0, 0.0, 0.0, 0.0]), model) == 1.0


def test_one_word_at_a_time_is_replaced_and_the_full_input_first():
    for metric, operator in ((SensitivityViolation(), "replace"), (SensitivityViolation(operator="delete"), "delete")):
        ask = next(metric.score(make([1.0, 2.0, 3.0])))
        assert ask.operator == operator
        assert ask.keep.tolist() == [[True] * 3, *(~np.eye(3, dtype=bool)).tolist()]


def shapley(values, m):
    """Returns Shapley values by the mean gain over all orders; ``values`` are indexed by the bits of the kept units."""
    gains = np.zeros(m)
    for order in permutations(range(m)):
        kept = 0
        for unit in order:
            gains[unit] += values[kept + 2**unit] - values[kept]
            kept += 2**unit
    return gains / factorial(m)


@settings(max_examples=30)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=5), st.integers(0, 50))
def test_shapley_values_are_complete_and_other_scores_miss_by_what_they_miss(scores, seed):
    m = len(scores)
    values = np.append(1.0, np.random.default_rng(seed).uniform(2, 3, size=2**m - 1))
    model, change = game(lambda keep, draw: values[int(keep @ 2 ** np.arange(m))]), values[-1] - 1.0
    assert value(CompletenessGap(), make(shapley(values, m)), model) == pytest.approx(0, abs=1e-12)
    assert value(CompletenessGap(), make(scores), model) == pytest.approx(abs(sum(scores) - change) / change)


def test_completeness_is_of_the_operator_it_is_given():
    case = make([1.0, 2.0])
    assert value(CompletenessGap(), case, additive([1, 2], base=7)) == 0.0
    assert value(CompletenessGap(operator="delete"), case, additive([1, 2], base=7, operator="delete")) == 0.0
    assert CompletenessGap.facts(BASE, operator="attn").operators == ("attn",)
    with pytest.raises(ValueError, match="operator='random'; allowed: delete, replace, attn, pad, unk"):
        CompletenessGap(operator="random")


@pytest.fixture(scope="module")
def bert():
    return tiny(sharpness=5.0)


def on(model: TextModel, metric, scores, slot, stats=None):
    inputs = examples()
    engine = Engine(model, [model.encode(one) for one in inputs])
    case = replace(make(scores, example=inputs[slot].id), stats=stats or {})
    job = Job(slot=slot, asker=metric.score(case), operator="delete")
    engine.run([job], lambda done: None)
    assert job.error is None
    return job.result.value


def test_integrated_gradients_are_complete_on_a_small_bert(bert):
    for slot, found in enumerate(explain(IntegratedGradients(), bert, examples()[:3])):
        assert on(bert, CompletenessGap(), found.scores, slot) < 1e-3
        assert on(bert, CompletenessGap(), 2 * found.scores, slot) == pytest.approx(1, abs=1e-2)


def test_the_conservation_gap_is_what_the_method_recorded_over_the_answer():
    model = additive([1, 2], base=7)
    for gap in (4.0, -4.0):
        case = replace(make([1.0, 2.0]), stats={"conservation_gap": gap})
        assert value(ConservationGap(), case, model) == pytest.approx(0.4)
    silent = drive(ConservationGap().score(make([1.0, 2.0])), model)
    assert silent.reason == "the method records no conservation gap"


def test_relevance_propagation_records_a_gap_of_rounding_where_there_are_no_biases(bert):
    for slot, found in enumerate(explain(ConservativeLRP(), bert, examples()[:3])):
        without = on(bert, ConservationGap(), found.scores, slot, found.stats)
        assert without < 1e-4  # float32


def network(index):
    """Returns one of the networks of the Quantus script on one of its inputs."""
    inputs, first, second = (np.array(QUANTUS[name]) for name in ("inputs", "first", "second"))
    return game(lambda keep, draw: float(np.tanh((inputs[index] * keep) @ first) @ second))


def test_non_sensitivity_counts_what_quantus_counts(parity):
    errors = []
    for index, (scores, count) in enumerate(zip(QUANTUS["scores"], QUANTUS["non_sensitivity"], strict=True)):
        ours = value(NonSensitivity(values="replacement"), make(scores), network(index))
        errors.append(abs(ours * len(scores) - count))
    assert len(set(QUANTUS["non_sensitivity"])) > 1
    parity("Q9", "non_sensitivity", "Quantus NonSensitivity, softmax off", max(errors), 1e-12)


def test_monotonicity_is_quantus_with_squared_changes(parity):
    errors = []
    for index, (scores, theirs) in enumerate(zip(QUANTUS["scores"], QUANTUS["monotonicity"], strict=True)):
        ours = value(Monotonicity(values="replacement", effect="squared"), make(scores), network(index))
        errors.append(abs(ours - theirs))
    parity("Q10", "monotonicity", "Quantus MonotonicityCorrelation, softmax off", max(errors), 1e-9)


def test_monotonicity_is_the_rank_correlation_with_the_mean_loss_over_the_draws():
    rng = np.random.default_rng(1)
    weights, noise = rng.normal(size=6), rng.normal(size=(10, 64))
    model = game(lambda keep, draw: keep @ weights + noise[draw, int(keep @ 2 ** np.arange(6))], "random")
    case = make(rng.normal(size=6))
    losses, shifts = [], []
    for unit in range(6):
        keep = np.ones(6)
        keep[unit] = 0
        values = np.array([keep @ weights + noise[draw, 63 - 2**unit] for draw in range(10)])
        losses.append(np.mean(-np.log(1 / (1 + np.exp(-values)))))
        shifts.append(np.mean((values - (weights.sum() + noise[0, 63])) ** 2))
    for effect, expected in (("loss", losses), ("squared", shifts)):
        found = value(Monotonicity(effect=effect), case, model)
        assert found == pytest.approx(spearmanr(np.abs(case.scores), expected).statistic, abs=1e-12)


def test_an_exact_explanation_is_monotonous_only_if_the_loss_counts_both_signs():
    """The loss falls without a word that speaks against the class, however important it is (metrics spec 6.3)."""
    mixed, supporting = np.array([2.0, -1.0, 0.5]), np.array([2.0, 1.0, 0.5])
    squared, loss = (Monotonicity(values="replacement", effect=effect) for effect in ("squared", "loss"))
    assert value(squared, make(mixed), additive(mixed)) == pytest.approx(1)
    assert value(loss, make(mixed), additive(mixed)) == pytest.approx(0.5)
    assert value(loss, make(supporting), additive(supporting)) == pytest.approx(1)


def dead(seed):
    """Returns a bent model that does not see units 1 and 3 of six, whatever is drawn."""
    weights = np.random.default_rng(seed).normal(size=6)
    weights[[1, 3]] = 0
    return game(lambda keep, draw: np.tanh(keep @ weights) + draw * (1 - keep) @ weights, "random")


@pytest.mark.parametrize("seed", range(4))
def test_non_sensitivity_counts_dead_words_that_score_and_live_ones_that_do_not(seed):
    model = dead(seed)
    assert value(UnusedWords(), make(np.zeros(6)), model) == pytest.approx(2 / 6)
    right = np.array([1.0, 0.0, -2.0, 0.0009, 0.5, 3.0])
    assert value(NonSensitivity(), make(right), model) == 0.0
    assert value(NonSensitivity(), make([1.0, 0.5, -2.0, 0.0, 0.5, 3.0]), model) == pytest.approx(1 / 6)
    assert value(NonSensitivity(), make([1.0, 0.5, 0.001, 0.0, 0.5, 3.0]), model) == pytest.approx(2 / 6)
    assert value(NonSensitivity(), make(np.zeros(6)), model) == pytest.approx(4 / 6)


def test_a_unit_is_used_if_one_of_its_values_moves_the_answer():
    once = game(lambda keep, draw: float(not keep[0] and draw == 7), "random")
    assert value(UnusedWords(), make([0.0, 0.0]), once) == 0.5
    assert value(UnusedWords(draws=7), make([0.0, 0.0]), once) == 1.0


def test_a_model_that_nothing_moves_uses_no_word():
    steady = game(lambda keep, draw: 3 + 1e-8 * keep.sum(), "random")
    assert value(UnusedWords(), make([1.0, 2.0]), steady) == 1.0
    assert value(NonSensitivity(), make([0.0, 0.0]), steady) == 0.0
    assert value(NonSensitivity(), make([1.0, 0.0]), steady) == 0.5


def test_all_that_exchange_words_ask_the_same_questions():
    for metric in (Monotonicity(), NonSensitivity(), UnusedWords()):
        ask = next(metric.score(make([1.0, 2.0, 3.0])))
        assert ask.operator == "random"
        assert ask.draw.tolist() == [0, *np.repeat(np.arange(10), 3)]
        assert ask.keep[0].all()
        assert np.array_equal(ask.keep[1:], np.tile(~np.eye(3, dtype=bool), (10, 1)))
    single = next(NonSensitivity(values="replacement").score(make([1.0, 2.0])))
    assert (single.operator, len(single.keep), set(single.draw.tolist())) == ("replace", 3, {0})
    assert next(Monotonicity(values="mlm", draws=4).score(make([1.0, 2.0]))).operator == "mlm"


def test_facts_name_the_operator_that_fills_in():
    assert Monotonicity.facts(BASE, effect="squared") == BASE
    assert NonSensitivity.facts(BASE, values="mlm", draws=3).operators == ("mlm",)
    single = UnusedWords.facts(BASE, values="replacement")
    assert (single.operators, single.forwards) == (("replace",), "1 + m")


ALL = [
    SensitivityViolation(),
    NonSensitivity(values="replacement"),
    Monotonicity(values="replacement"),
    Monotonicity(values="replacement", effect="squared"),
    UnusedWords(values="replacement"),
]


@settings(max_examples=40)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=8), st.integers(0, 20), st.integers(0, 10**6))
def test_neither_scale_nor_sign_nor_the_order_of_units_matters(scores, seed, shuffle):
    m, rng = len(scores), np.random.default_rng(seed)
    weights, pairs = rng.normal(size=m) * (rng.random(m) < 0.7), rng.normal(size=(m, m)) * 0.01
    order = np.random.default_rng(shuffle).permutation(m)
    back = np.argsort(order)
    model = game(lambda keep, draw: keep @ weights + keep @ pairs @ keep)
    renamed = game(lambda keep, draw: keep[back] @ weights + keep[back] @ pairs @ keep[back])
    case = make(scores)
    for metric in ALL:
        plain = drive(metric.score(case), model)
        for changed in (7 * case.scores, -case.scores, np.abs(case.scores)):
            again = drive(metric.score(replace(case, scores=changed)), model)
            assert again.value == pytest.approx(plain.value, abs=1e-12, nan_ok=True)
        moved = drive(metric.score(make(case.scores[order])), renamed)
        assert moved.value == pytest.approx(plain.value, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("metric", "scores", "weights", "reason"),
    [
        (SensitivityViolation(), [], [], "no words to attribute"),
        (NonSensitivity(values="replacement"), [], [], "no words to attribute"),
        (Monotonicity(values="replacement"), [], [], "no words to attribute"),
        (CompletenessGap(), [], [], "no words to attribute"),
        (ConservationGap(), [], [], "no words to attribute"),
        (Monotonicity(values="replacement"), [1.0], [1.0], "only one word"),
        (Monotonicity(values="replacement"), [1.0, -1.0], [1.0, 2.0], "all scores are of one size"),
        (Monotonicity(values="replacement"), [1.0, 2.0], [3, 3], "exchanging any one word has the same effect"),
        (SensitivityViolation(), [1.0, 2.0], [0, 1e-7], "leaving out any one word changes nothing"),
        (CompletenessGap(), [1.0, 2.0], [1.0, -1.0], "no removal changes the answer"),
    ],
)
def test_reasons_of_undefined_scores(metric, scores, weights, reason):
    score = drive(metric.score(make(scores)), additive(weights))
    assert np.isnan(score.value)
    assert score.reason == reason


def test_magnitudes_claim_no_total_and_no_share_is_taken_of_an_answer_of_0():
    score = drive(CompletenessGap().score(make([1.0, 2.0], signed=False)), additive([1.0, 2.0]))
    assert score.reason == "unsigned scores claim no total"
    case = replace(make([1.0, 2.0]), stats={"conservation_gap": 1.0})
    assert drive(ConservationGap().score(case), additive([1.0, -1.0])).reason == "the answer is 0"


def test_parameters_are_checked():
    for metric in (Monotonicity, NonSensitivity, UnusedWords):
        with pytest.raises(ValueError, match="values='pad'; allowed: random, mlm, replacement"):
            metric(values="pad")
        with pytest.raises(ValueError, match="draws=0; allowed: 1 or more"):
            metric(draws=0)
    with pytest.raises(ValueError, match="effect='cubed'; allowed: loss, squared"):
        Monotonicity(effect="cubed")
