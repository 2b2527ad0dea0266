"""Stability against hand-computed values, functions of known smoothness, scipy, captum and Quantus."""

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from attrlab.bench.errors import UserError
from attrlab.bench.registry import METRICS
from attrlab.bench.types import Case, Cost, Replica
from attrlab.metrics.cost import Forwards, Seconds
from attrlab.metrics.stability import (
    Continuity,
    LocalLipschitz,
    NoiseStability,
    SeedConsistency,
    jaccard,
    mean_pairwise_spearman,
    mean_variation,
    spearman,
)

QUANTUS = Path(__file__).parent / "data" / "quantus_stability.json"


def make(scores, *replicates):
    scores = np.array(scores, dtype=float)
    return Case(
        scores=scores,
        signed=True,
        target=0,
        label=0,
        tie_orders=np.arange(len(scores))[None],
        replicates=tuple(
            Replica(kind="seed", index=index, scores=np.array(replicate, dtype=float))
            for index, replicate in enumerate(replicates, 1)
        ),
    )


def test_seed_consistency_by_hand():
    # Spearman of 123 with 132 and with 213 is 1/2, of 132 with 213 it is -1/2.
    assert SeedConsistency().score(make([1, 2, 3], [1, 3, 2], [2, 1, 3])).value == pytest.approx(1 / 6)
    assert SeedConsistency().score(make([1, 2, 3], [6, 5, 4])).value == pytest.approx(-1.0)


def test_a_bitwise_repeat_is_exactly_one_even_if_flat():
    assert SeedConsistency().score(make([0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7])) == (1.0, None)
    assert SeedConsistency().score(make([0.3, 0.3], [0.3, 0.3])) == (1.0, None)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=2, max_size=4))
def test_seed_consistency_is_the_mean_of_scipys_spearman(rows):
    vectors = [np.array(row, dtype=float) for row in rows]
    if any(np.ptp(vector) == 0 for vector in vectors):
        vectors = [vector + np.arange(5) * 10 for vector in vectors]
    expected = np.mean([spearmanr(first, second).statistic for first, second in combinations(vectors, 2)])
    assert mean_pairwise_spearman(vectors) == pytest.approx(expected, abs=1e-12)


def test_spearman_of_a_flat_vector_is_undefined():
    assert np.isnan(spearman(np.array([1.0, 1.0]), np.array([1.0, 2.0])))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (make([1, 2], [1, 1]), "all scores are equal under some seed"),
        (make([1], [1]), "only one word"),
        (make([], []), "no words to attribute"),
        (make([1, 2]), "no second explanation to compare with"),
    ],
)
def test_seed_consistency_says_why_it_is_undefined(case, reason):
    score = SeedConsistency().score(case)
    assert np.isnan(score.value)
    assert score.reason == reason


def test_noise_stability_by_hand():
    # ||(3, 4)|| = 5; the changes are (0, 1), (3, 4) and (0, 0).
    assert NoiseStability().score(make([3, 4], [3, 5], [6, 8], [3, 4])).value == pytest.approx(1.0)
    assert NoiseStability().score(make([3, 4], [3, 5])).value == pytest.approx(0.2)
    assert NoiseStability().score(make([3, 4], [3, 4])) == (0.0, None)


def test_a_zero_explanation_is_measured_in_absolute_terms():
    assert NoiseStability().score(make([0, 0], [3, 4])).value == pytest.approx(5.0)


def test_noise_stability_says_why_it_is_undefined():
    assert NoiseStability().score(make([1, 2]))[1] == "no second explanation to compare with"
    assert NoiseStability().score(make([], [])).reason == "no words to attribute"


@pytest.mark.parametrize("zero_explanation", [False, True])
def test_noise_stability_is_captums_sensitivity_max_on_the_same_perturbations(zero_explanation, parity):
    import torch
    from captum.metrics import sensitivity_max

    rng = np.random.default_rng(7)
    embeddings, noise = rng.normal(size=(1, 6)), rng.uniform(-0.02, 0.02, size=(10, 6))
    weights = torch.tensor(rng.normal(size=6))
    origin = torch.tensor(embeddings if zero_explanation else 0 * embeddings)

    def explain(inputs):
        return (torch.sin(3 * (inputs[0] - origin)) * weights,)

    def perturb(inputs):
        return (torch.tensor(embeddings + noise),)

    theirs = sensitivity_max(explain, (torch.tensor(embeddings),), perturb_func=perturb, n_perturb_samples=10)
    vectors = [explain((torch.tensor(point),))[0].numpy().reshape(-1) for point in (embeddings, *(embeddings + noise))]
    ours = NoiseStability().score(make(*vectors)).value
    assert ours > 0
    parity("Q7", "noise_stability", "captum sensitivity_max", abs(ours - float(theirs.max())), 1e-10)


# Top sets and spread over seeds


def test_top_sets_by_hand():
    consistency = SeedConsistency(measure="jaccard")
    # Of 8 units the top 2: {0, 1}, {0, 2} and {0, 1} share 1 of 3, all, and 1 of 3.
    vectors = [[9, 8, 1, 0, 0.5, 0.1, 0.2, 0.3], [9, 1, 8, 0, 0.5, 0.1, 0.2, 0.3], [7, 6, 1, 0, 0.5, 0.1, 0.2, 0.3]]
    assert consistency.score(make(*vectors)).value == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)


@given(st.lists(st.integers(-2, 2), min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_top_sets_are_compared_as_sets_and_ties_never_by_position(values, rng):
    first = np.array(values, dtype=float)
    other = np.array(rng.sample(values, len(values)), dtype=float)
    generator = np.random.default_rng(rng.randrange(99))
    orders = np.stack([generator.permutation(len(values)) for _ in range(5)])
    k = max(1, math.ceil(0.2 * len(values) - 1e-9))
    found = []
    for order in orders:
        tops = []
        for scores in (first, other):
            place = {unit: index for index, unit in enumerate(order.tolist())}
            tops.append(set(sorted(place, key=lambda unit: (-scores[unit], place[unit]))[:k]))
        found.append(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))
    few = all(len(np.unique(s)) >= 0.9 * len(s) for s in (first, other))
    assert jaccard(first, other, orders) == pytest.approx(found[0] if few else np.mean(found))
    assert jaccard(first, first, orders) == 1.0


def test_spread_over_seeds_by_hand():
    # Units (1, 3), (5, 5) and (-2, -6): sample deviations sqrt 2, 0, sqrt 8; means 2, 5, -4.
    case = make([1, 5, -2], [3, 5, -6])
    expected = (math.sqrt(2) / 2 + 0 + math.sqrt(8) / 4) / 3
    assert SeedConsistency(measure="variation").score(case).value == pytest.approx(expected)
    assert SeedConsistency(measure="variation").score(make([0, 0], [0, 0])) == (0.0, None)
    assert SeedConsistency(measure="variation").score(make([1], [1])) == (0.0, None)
    undefined = SeedConsistency(measure="variation").score(make([1, 2], [-1, 2]))
    assert undefined.reason == "the mean score of a word over the seeds is zero"


@given(st.integers(0, 99), st.floats(1e-3, 1e3))
def test_spread_over_seeds_has_no_unit(seed, factor):
    scores = np.random.default_rng(seed).normal(size=(3, 6)) + 5
    assert mean_variation(list(factor * scores)) == pytest.approx(mean_variation(list(scores)))


def test_measures_are_checked_and_have_facts_of_their_own():
    with pytest.raises(UserError, match="measure='tau'; allowed: spearman, jaccard, variation"):
        METRICS.find("seed_consistency:measure=tau").build()
    plain, top, spread = (
        METRICS.find(f"seed_consistency:measure={name}").facts for name in ("spearman", "jaccard", "variation")
    )
    assert (plain.higher_is_better, plain.bounds) == (True, (-1.0, 1.0))
    assert (top.higher_is_better, top.bounds) == (True, (0.0, 1.0))
    assert (spread.higher_is_better, spread.bounds) == (False, (0.0, math.inf))
    assert len({plain.summary, top.summary, spread.summary}) == 3


# Neighbours at known distances


def near(scores, *neighbours):
    """A case whose neighbours are (scores, distance) or (scores, distance, kept)."""
    again = tuple(
        Replica(kind="noise", index=index, scores=np.array(other, dtype=float), distance=distance, kept=all(kept))
        for index, (other, distance, *kept) in enumerate(neighbours, 1)
    )
    return replace(make(scores), replicates=again)


def test_lipschitz_by_hand():
    # Directions (1, 0) and (0.6, 0.8) are sqrt(0.16 + 0.64) apart, (1, 0) and (0, 1) are sqrt 2 apart.
    case = near([5, 0], ([3, 4], 0.5), ([0, 7], 4.0))
    assert LocalLipschitz().score(case).value == pytest.approx(math.sqrt(0.8) / 0.5)
    moved = near([5, 0], ([3, 4], 0.5, False), ([0, 7], 4.0))
    assert LocalLipschitz().score(moved).value == pytest.approx(math.sqrt(2) / 4)
    assert LocalLipschitz().score(near([5, 0], ([9, 0], 0.5))).value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (near([1, 2], ([1, 2], 0.1, False)), "no noised input keeps the prediction"),
        (near([1, 2], ([1, 2], math.nan)), "no noised input keeps the prediction"),
        (near([0, 0], ([1, 2], 0.1)), "all scores are zero"),
        (near([1, 2], ([0, 0], 0.1)), "all scores are zero"),
        (near([1, 2]), "no second explanation to compare with"),
        (near([], ([], 0.1)), "no words to attribute"),
    ],
)
def test_lipschitz_says_why_it_is_undefined(case, reason):
    score = LocalLipschitz().score(case)
    assert np.isnan(score.value)
    assert score.reason == reason


def test_stability_under_noise_is_that_of_quantus(parity):
    rows = json.loads(QUANTUS.read_text("utf-8"))["rows"]
    assert len(rows) == 4
    for row in rows:
        case = near(row["scores"], *zip(row["neighbours"], row["distances"], strict=True))
        lipschitz, sensitivity = (metric.score(case).value for metric in (LocalLipschitz(), NoiseStability()))
        gap = abs(lipschitz - row["lipschitz"])
        parity("Q7", "local_lipschitz", "Quantus LocalLipschitzEstimate", gap, 1e-6)
        parity("Q7", "noise_stability", "Quantus MaxSensitivity", abs(sensitivity - row["sensitivity"]), 1e-6)


@pytest.mark.parametrize(("power", "scale"), [(1, 1.0), (1, 7.0), (2, 1.0), (0, 3.0), (0.5, 1.0)])
def test_continuity_is_the_power_of_the_distance(power, scale):
    rng, radii = np.random.default_rng(0), [1e-3, 1e-2, 1e-1] * 2
    own, neighbours = rng.normal(size=9), []
    for radius in radii:
        direction = rng.normal(size=9)
        neighbours.append((own + scale * radius**power * direction / np.linalg.norm(direction), radius))
    assert Continuity().score(near(own, *neighbours)).value == pytest.approx(power, abs=1e-9)


def test_a_smooth_function_is_continuous_and_a_step_is_not():
    rng = np.random.default_rng(1)
    point = rng.normal(size=40)
    directions = rng.uniform(-1, 1, size=(3, 40))
    smooth, step = [], []
    for direction in directions:
        for radius in (1e-3, 1e-2, 1e-1):
            moved, distance = point + radius * direction, radius * float(np.linalg.norm(direction))
            smooth.append((np.tanh(moved), distance))
            step.append((np.floor(1e7 * moved) % 5, distance))
    assert Continuity().score(near(np.tanh(point), *smooth)).value == pytest.approx(1, abs=0.02)
    assert Continuity().score(near(np.floor(1e7 * point) % 5, *step)).value == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (near([1, 2], ([1, 2], 0.1), ([1, 3], 0.2)), "the explanation does not change at all under some noise"),
        (near([1, 2], ([1, 4], 0.1), ([1, 3], 0.1)), "noise of one radius only"),
        (near([1, 2], ([1, 4], 0.1)), "noise of one radius only"),
        (near([1, 2], ([1, 4], math.nan), ([1, 3], 0.1)), "noise of one radius only"),
        (near([1, 2]), "no second explanation to compare with"),
        (near([], ([], 0.1)), "no words to attribute"),
    ],
)
def test_continuity_says_why_it_is_undefined(case, reason):
    score = Continuity().score(case)
    assert np.isnan(score.value)
    assert score.reason == reason


def test_cost_is_reported_as_counted():
    case = replace(make([1, 2]), cost=Cost(seconds=0.25, forwards=7, backwards=3, unique_forwards=5))
    assert Seconds().score(case) == (0.25, None)
    assert Forwards().score(case) == (7.0, None)
