"""Sanity checks by hand, and on real models: who passes, who fails, and why."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from attrlab.bench.alterations import altered, count
from attrlab.bench.engine import Engine
from attrlab.bench.explain import Question, outcomes
from attrlab.bench.facts import MetricFacts
from attrlab.bench.registry import METHODS, load
from attrlab.bench.testing import examples, tiny
from attrlab.bench.types import Case, Replica
from attrlab.metrics.sanity import (
    ClassContrast,
    ConstantModel,
    LabelRandomisation,
    ParameterRandomisation,
    RedrawnSimilarity,
)

SIMILARITIES = [
    (ParameterRandomisation, "layers"),
    (LabelRandomisation, "labels"),
    (ClassContrast, "runner_up"),
]


def make(scores, kind="", *others):
    scores = np.array(scores, dtype=float)
    return Case(
        scores=scores,
        signed=True,
        target=0,
        label=0,
        tie_orders=np.arange(len(scores))[None],
        replicates=tuple(
            Replica(kind=kind, index=index, scores=np.array(other, dtype=float))
            for index, other in enumerate(others, 1)
        ),
    )


@pytest.mark.parametrize(("metric", "kind"), SIMILARITIES)
def test_similarity_by_hand(metric, kind):
    assert metric().score(make([1, 2, 3], kind, [10, 30, 20])).value == pytest.approx(0.5)
    assert metric().score(make([1, 2, 3], kind, [1, 2, 3])) == (1.0, None)
    assert metric().score(make([1, 2, 3], kind, [3, 2, 1])).value == pytest.approx(-1)


def test_the_area_is_the_mean_over_depths():
    case = make([1, 2, 3], "layers", [1, 2, 3], [1, 3, 2], [3, 2, 1])
    assert ParameterRandomisation().score(case).value == pytest.approx((1 + 0.5 - 1) / 3)


def test_a_change_of_sign_is_no_change_of_magnitude():
    for metric, kind in SIMILARITIES[:2]:
        case = make([1, -2, 3], kind, [-1, 2, -3])
        assert metric().score(case) == (1.0, None)
        assert metric(absolute=False).score(case).value == pytest.approx(-1)
    assert ClassContrast().score(make([1, -2, 3], "runner_up", [-1, 2, -3])).value == pytest.approx(-1)


def test_every_metric_reads_its_own_kind_only():
    case = make([1, 2, 3], "layers", [1, 2, 3])
    other = replace(case, replicates=(*case.replicates, Replica(kind="layer", index=1, scores=4 - case.scores)))
    assert ParameterRandomisation().score(other).value == 1.0
    assert ParameterRandomisation(one_by_one=True).score(other).value == pytest.approx(-1)


def test_facts_name_the_kind_that_is_read():
    own = MetricFacts(where="attrlab.metrics.sanity:ParameterRandomisation", replicates=("layers",))
    facts_of = load(own.where).facts
    assert facts_of(own).replicates == facts_of(own, absolute=False).replicates == ("layers",)
    assert facts_of(own, one_by_one=True).replicates == (ParameterRandomisation(one_by_one=True).kind,)


def test_redrawn_models_are_compared_with_each_other():
    case = make([1, 2, 3], "redrawn", [1, 2, 3], [-10, -30, -20])
    assert RedrawnSimilarity().score(case).value == pytest.approx(0.5)
    assert RedrawnSimilarity(absolute=False).score(case).value == pytest.approx(-0.5)
    backwards = replace(case, replicates=case.replicates[::-1])
    assert RedrawnSimilarity().score(backwards) == RedrawnSimilarity().score(case)
    assert RedrawnSimilarity().score(replace(case, scores=np.zeros(3))) == RedrawnSimilarity().score(case)


def test_a_constant_model_has_equal_scores():
    assert ConstantModel().score(make([1, -3, 2], "constant", [0, 0, 0])) == (0.0, None)
    assert ConstantModel().score(make([1, -3, 2], "constant", [0.2, 0.2, 0.2])) == (0.0, None)
    assert ConstantModel().score(make([1, -3, 2], "constant", [1, -1, 0])).value == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("metric", "kind", "flat"),
    [
        (ParameterRandomisation, "layers", "all scores are equal at some depth"),
        (LabelRandomisation, "labels", "all scores are equal for some model"),
        (ClassContrast, "runner_up", "all scores are equal for one class"),
        (ConstantModel, "constant", "all scores are equal"),
    ],
)
def test_reasons(metric, kind, flat):
    assert metric().score(make([], kind, [])).reason == "no words to attribute"
    assert metric().score(make([1], kind, [1])).reason == "only one word"
    assert metric().score(make([1, 2])).reason == "no second explanation to compare with"
    assert metric().score(make([1, 2], "seed", [1, 2])).reason == "no second explanation to compare with"
    assert metric().score(make([1, 1], kind, [1, 2])).reason == flat


def test_reasons_of_redrawn_models():
    assert RedrawnSimilarity().score(make([1, 2], "redrawn", [1, 2])).reason == "no second explanation to compare with"
    flat = RedrawnSimilarity().score(make([1, 2], "redrawn", [1, 2], [1, 1]))
    assert flat.reason == "all scores are equal for a redrawn model"


@given(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=2, max_size=4))
def test_the_area_is_the_mean_of_scipys_spearman(rows):
    first, *others = [np.array(row) + 0.1 * np.arange(5) for row in rows]
    expected = np.mean([spearmanr(first, other).statistic for other in others])
    case = make(first, "layers", *others)
    assert ParameterRandomisation(absolute=False).score(case).value == pytest.approx(expected, abs=1e-12)
    transformed = make(7 * first**3, "layers", *(7 * other**3 for other in others))
    assert ParameterRandomisation(absolute=False).score(transformed).value == pytest.approx(expected, abs=1e-12)
    sizes = make(np.abs(first), "layers", *(np.abs(other) for other in others))
    assert ParameterRandomisation().score(case) == ParameterRandomisation(absolute=False).score(sizes)


def explained(method, model, target=0):
    """Returns the scores of every contract example of three words or more."""
    inputs = [example for example in examples() if len(example.texts[0].split()) > 2]
    encoded = [model.encode(example) for example in inputs]
    questions = [Question(slot=slot, target=target, seed=(0, one.id)) for slot, one in enumerate(inputs)]
    found = outcomes(METHODS.find(method).build(), questions, Engine(model, encoded))
    return [one.scores for one in found]


def mean(metric, kind, method, mini):
    """Returns the mean score of a method on a model whose words count."""
    model = tiny(mini, classes=3, sharpness=10.0)
    if kind == "runner_up":
        others = [explained(method, model, target=1)]
    else:
        others = [explained(method, altered(model, kind, i), 0) for i in range(1, count(kind, model) + 1)]
    cases = [make(first, kind, *again) for first, *again in zip(explained(method, model), *others, strict=True)]
    return np.mean([metric.score(case).value for case in cases])


MINIS = ["bert-base-mini", "gpt2-mini", "opt-350m-mini"]


@pytest.mark.parametrize("mini", MINIS)
@pytest.mark.parametrize(
    ("metric", "kind"), [(ParameterRandomisation(), "layers"), (RedrawnSimilarity(), "redrawn")], ids=["area", "floor"]
)
def test_what_looks_at_the_text_alone_survives_any_change_of_weights(metric, kind, mini):
    assert mean(metric, kind, "position", mini) == 1.0
    assert abs(mean(metric, kind, "leave_one_out", mini)) < 0.6


@pytest.mark.parametrize("mini", MINIS)
def test_differences_of_answers_are_zero_on_a_constant_model(mini):
    for method in ("leave_one_out", "input_x_gradient", "shapley_sampling:permutations=4"):
        assert mean(ConstantModel(), "constant", method, mini) < 1e-9, method
    for method in ("position", "attention_rollout"):  # neither asks for the answer
        assert mean(ConstantModel(), "constant", method, mini) == pytest.approx(1.0), method


@pytest.mark.parametrize("mini", MINIS)
def test_attention_does_not_see_the_class_that_is_explained(mini):
    assert mean(ClassContrast(), "runner_up", "attention_rollout", mini) == 1.0
    assert mean(ClassContrast(), "runner_up", "leave_one_out", mini) < 0.5


def test_of_two_classes_the_contrast_is_the_opposite():
    model = tiny("gpt2-mini", sharpness=10.0)
    for first, second in zip(explained("leave_one_out", model, 0), explained("leave_one_out", model, 1), strict=True):
        assert ClassContrast().score(make(first, "runner_up", second)).value == pytest.approx(-1)
