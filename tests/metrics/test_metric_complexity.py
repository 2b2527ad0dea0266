"""Complexity and cost against hand-computed values, a second implementation and Quantus."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench.types import Case, Cost
from attrlab.metrics.complexity import EffectiveSize, Entropy, Gini, MassCoverage
from attrlab.metrics.cost import Backwards, Passes, PeakMemory

QUANTUS = Path(__file__).parent / "data" / "quantus_complexity.json"
ALL = [Gini(), Entropy(), Entropy(normalised=True), EffectiveSize(), MassCoverage()]


def case(scores):
    scores = np.array(scores, dtype=float)
    return Case(scores=scores, signed=True, target=0, label=0, tie_orders=np.arange(len(scores))[None])


def value(metric, scores):
    score = metric.score(case(scores))
    assert score.reason is None
    return score.value


def test_by_hand():
    scores = [0, -3, 1, 0]  # shares 3/4 and 1/4
    nats = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert value(Gini(), scores) == pytest.approx((1 * 1 + 3 * 3) / (4 * 4))
    assert value(Entropy(), scores) == pytest.approx(nats)
    assert value(Entropy(normalised=True), scores) == pytest.approx(nats / np.log(4))
    assert value(EffectiveSize(), scores) == pytest.approx(np.exp(nats) / 4)
    assert value(MassCoverage(), scores) == 2 / 4
    assert value(MassCoverage(share=0.75), scores) == 1 / 4


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_gini_is_half_the_relative_mean_difference(scores):
    sizes = np.abs(np.array(scores, dtype=float))
    if sizes.any():
        differences = np.abs(sizes[:, None] - sizes).sum()
        assert value(Gini(), scores) == pytest.approx(differences / (2 * len(sizes) * sizes.sum()), abs=1e-12)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9), st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_mass_coverage_is_the_smallest_set_that_holds_enough(scores, share):
    sizes = sorted(map(abs, scores), reverse=True)
    if any(sizes):
        enough = [k for k in range(1, len(sizes) + 1) if sum(sizes[:k]) >= share * sum(sizes) - 1e-9]
        assert value(MassCoverage(share=share), scores) == enough[0] / len(sizes)


@pytest.mark.parametrize("scores", [[0.0] * 7, [0.1] * 7, [-0.3, 0.3] * 3 + [0.3]], ids=["zero", "equal", "signs"])
def test_equal_magnitudes_are_as_spread_as_can_be(scores):
    expected = [0, np.log(7), 1, 1, 1]  # of 7 equal words, 90 % take all
    assert [value(metric, scores) for metric in ALL] == pytest.approx(expected, abs=1e-12)
    assert value(MassCoverage(share=0.5), scores) == 4 / 7


def test_one_word_that_counts():
    assert [value(metric, [0, 0, -2, 0]) for metric in ALL] == pytest.approx([0.75, 0, 0, 0.25, 0.25])


def test_a_single_unit():
    assert [value(metric, [2.0]) for metric in (Gini(), Entropy(), EffectiveSize(), MassCoverage())] == [0, 0, 1, 1]
    assert Entropy(normalised=True).score(case([2.0])).reason == "only one word"


@pytest.mark.parametrize("metric", ALL)
def test_without_units_there_is_no_number(metric):
    assert metric.score(case([])).reason == "no words to attribute"


@pytest.mark.parametrize("metric", ALL)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_scale_sign_and_order_play_no_part(metric, scores, random):
    plain = value(metric, scores)
    signs = [random.choice([-1, 1]) * score for score in scores]
    assert value(metric, signs) == plain
    assert value(metric, random.sample(scores, len(scores))) == pytest.approx(plain, abs=1e-12)
    assert value(metric, [8 * score for score in scores]) == pytest.approx(plain, abs=1e-12)
    low, high = (0.0, np.log(len(scores)) if metric is ALL[1] else 1.0)
    assert low <= plain <= high


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("size", [1e308, 1e-310])
def test_huge_and_tiny_scores_do_not_overflow(metric, size):
    assert value(metric, [size, -size, size / 2]) == pytest.approx(value(metric, [1, -1, 0.5]), abs=1e-9)


@pytest.mark.parametrize("share", [0.0, 1.1, -0.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=f"share={share}; allowed"):
        MassCoverage(share=share)


def test_quantus_agrees(parity):
    for row in json.loads(QUANTUS.read_text("utf-8"))["rows"]:
        scores = np.array(row["scores"])
        # Quantus adds 1e-7 to every magnitude: on scores around 1e-2 and less that shows.
        shifted = np.abs(scores) + 1e-7
        parity("Q8", "gini", "Quantus Sparseness", abs(value(Gini(), shifted) - row["sparseness"]), 1e-6)
        parity("Q8", "entropy", "Quantus Complexity", abs(value(Entropy(), scores) - row["complexity"]), 1e-6)
        assert value(Gini(), shifted) == pytest.approx(row["sparseness"], abs=1e-12)
        assert value(Gini(), scores) == pytest.approx(row["sparseness"], abs=1e-7 / np.abs(scores).mean())


def test_cost_is_reported_as_counted():
    spent = replace(case([1, 2]), cost=Cost(forwards=7, backwards=3, peak_memory=1 << 30))
    assert Backwards().score(spent) == (3.0, None)
    assert Passes().score(spent) == (13.0, None)
    assert PeakMemory().score(spent) == (float(1 << 30), None)
    assert PeakMemory().score(case([1, 2])).reason == "not measured"
