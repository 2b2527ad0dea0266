"""Seed consistency, noise stability and cost against hand-computed values, scipy and captum."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from attrlab.bench.types import Case, Cost, Replica
from attrlab.metrics.cost import Forwards, Seconds
from attrlab.metrics.stability import NoiseStability, SeedConsistency, mean_pairwise_spearman, spearman


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
def test_noise_stability_is_captums_sensitivity_max_on_the_same_perturbations(zero_explanation):
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
    assert ours == pytest.approx(float(theirs.max()), abs=1e-10)


def test_cost_is_reported_as_counted():
    case = replace(make([1, 2]), cost=Cost(seconds=0.25, forwards=7, backwards=3, unique_forwards=5))
    assert Seconds().score(case) == (0.25, None)
    assert Forwards().score(case) == (7.0, None)
