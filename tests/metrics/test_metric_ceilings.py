"""The human ceiling and the chance level: by hand, against closed forms, and whose undefined cases they share."""

from dataclasses import replace

import numpy as np
import pytest

from attrlab.bench.registry import METRICS
from attrlab.bench.types import Case
from attrlab.metrics.ceilings import ChanceLevel, HumanCeiling
from attrlab.metrics.plausibility import Auprc, AveragePrecision


def make(marked, *, scores=None, example="x", share=0.5):
    marked = np.atleast_2d(np.array(marked, dtype=bool))
    m = marked.shape[1]
    return Case(
        scores=np.arange(1.0, m + 1) if scores is None else np.array(scores, dtype=float),
        signed=True,
        target=1,
        label=1,
        tie_orders=np.array([np.roll(np.arange(m), shift) for shift in range(5)]),
        rationales=marked,
        rationale_share=share,
        example=example,
    )


def test_the_ceiling_of_annotators_who_agree_is_one():
    assert HumanCeiling().score(make([[1, 0, 1, 0]] * 3)).value == 1.0
    assert HumanCeiling(of="token_f1").score(make([[1, 0, 1, 0]] * 3)).value == 1.0


def test_the_ceiling_by_hand():
    """Each annotator's marks are the scores, those of both others the target: half of two is no majority."""
    case = make([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0]])
    # Against {0}: scores 1 1 0 0 give the points (1, 1/2), (1, 1/4): area (1 + 1/2) / 2. Then 1, then as the first.
    assert HumanCeiling().score(case).value == pytest.approx((0.75 + 1 + 0.75) / 3)
    two = make([[1, 1, 0, 0], [0, 0, 1, 0]], share=0.25)
    # k = 1. Both marks of the first are wrong; the one of the second too.
    assert HumanCeiling(of="token_f1").score(two).value == 0.0


def test_annotators_whose_others_marked_nothing_together_are_left_out():
    case = make([[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    # Only for the third do the others agree: scores 0 1 0 against {0} give (0, 0) and (1, 1/3).
    assert HumanCeiling().score(case).value == pytest.approx(1 / 6)
    assert HumanCeiling().score(make([[1, 0], [0, 1], [0, 0]])).reason == "no word is marked"


@pytest.mark.parametrize("metric", [HumanCeiling(), ChanceLevel(), ChanceLevel(of="token_f1")])
def test_the_explanation_does_not_matter_but_the_example_does(metric):
    marked = [[1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0]]
    case = make(marked)
    other = replace(case, scores=-case.scores, signed=False)
    assert metric.score(case) == metric.score(other)
    assert 0 < metric.score(case).value < 1
    if isinstance(metric, ChanceLevel):
        assert metric.score(replace(case, example="y")) != metric.score(case)


def test_undefined_where_there_is_nobody_to_compare_with_or_the_metric_is():
    assert HumanCeiling().score(make([1, 0])).reason == "fewer than two annotators"
    graded = replace(make([1, 0]), rationales=None, weights=np.array([1.0, 0.5]))
    assert HumanCeiling().score(graded).reason == "fewer than two annotators"
    for metric in (HumanCeiling(), ChanceLevel()):
        assert metric.score(replace(make([[1, 0], [1, 0]]), label=0)).reason.startswith("prediction differs")
        assert metric.score(make(np.zeros((2, 0)))).reason == "no words to attribute"
    assert ChanceLevel().score(replace(make([1, 0]), rationales=None)).reason == "no rationale"


def chances(of, marked, n=400):
    metric = ChanceLevel(of=of)
    values = np.array([metric.score(make(marked, example=str(index), share=0.25)).value for index in range(n)])
    return values.mean(), 3 * values.std() / np.sqrt(n)


@pytest.mark.parametrize(("m", "n"), [(4, 1), (10, 1), (10, 3), (40, 10)])
def test_chance_is_that_of_the_closed_form_and_not_the_share_of_marked_words(m, n):
    """Over all orders the mean of AP is (H + (m - H)(n - 1)/(m - 1)) / m, H = 1 + ... + 1/m; of AUPRC (AP + n/m) / 2.

    At rank k sits a marked word with probability n/m, before it (k - 1)(n - 1)/(m - 1) others on average.
    """
    harmonic = sum(1 / rank for rank in range(1, m + 1))
    precision = (harmonic + (m - harmonic) * (n - 1) / (m - 1)) / m
    area = (precision + n / m) / 2
    marked = np.arange(m) < n
    found, error = chances("auprc", marked)
    assert found == pytest.approx(area, abs=error)
    assert area > n / m + 0.02, "the share of marked words (metrics spec 4.3) is too low in short texts"


def test_the_closed_forms_are_right_by_brute_force():
    orders = np.array(np.meshgrid(*[range(5)] * 5)).reshape(5, -1).T
    orders = orders[[len(set(row)) == 5 for row in orders.tolist()]]
    cases = [make([1, 1, 0, 0, 0], scores=1.0 + row) for row in orders]
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5
    precision = (harmonic + (5 - harmonic) / 4) / 5
    assert len(cases) == 120
    assert np.mean([AveragePrecision().score(case).value for case in cases]) == pytest.approx(precision)
    assert np.mean([Auprc().score(case).value for case in cases]) == pytest.approx((precision + 2 / 5) / 2)


def test_chance_of_token_f1_is_that_of_a_draw_without_replacement():
    found, error = chances("token_f1", [1, 1, 0, 0, 0, 0, 0, 0])  # k = 2 of 8, 2 marked: 2 * (2 * 2/8) / 4
    assert found == pytest.approx(0.25, abs=error)


def test_only_metrics_of_plausibility_can_be_named():
    for kind in (HumanCeiling, ChanceLevel):
        with pytest.raises(ValueError, match="of='seconds'; allowed: token_f1"):
            kind(of="seconds")


def test_the_version_follows_that_of_the_metric():
    facts = METRICS.entries()["auprc"]
    named = HumanCeiling.facts(facts, of="token_f1").version
    assert named == f"{facts.version}, token_f1 {METRICS.entries()['token_f1'].version}"
    assert HumanCeiling.facts(facts).version != named
