"""LIME against scikit-learn; against the lime package in test_parity_blackbox.py."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances
from toygames import curved

from attrlab.methods.lime import Lime, fit, neighbourhood


def test_fit_equals_weighted_ridge_regression_in_closed_form():
    keep = neighbourhood(300, 6, np.random.default_rng(0))
    values = curved(6)(keep)
    # Cosine of a mask with the full input, by hand: k / (sqrt(k) sqrt(m)); 0 for the empty mask.
    cosine = np.array([row.sum() / np.sqrt(row.sum() * 6) if row.any() else 0.0 for row in keep])
    weights = np.sqrt(np.exp(-((100 * (1 - cosine)) ** 2) / 25**2))
    centred = keep - weights @ keep / weights.sum()
    answer = values - weights @ values / weights.sum()
    gram = centred.T @ (weights[:, None] * centred) + np.eye(6)
    expected = np.linalg.solve(gram, centred.T @ (weights * answer))
    assert fit(keep, values, 25.0) == pytest.approx(expected, abs=1e-10)
    library = Ridge(alpha=1).fit(keep, values, sample_weight=weights)
    assert fit(keep, values, 25.0) == pytest.approx(library.coef_, abs=1e-12)


def test_distances_equal_those_of_scikit_learn_even_for_the_empty_mask():
    # A kernel of width 1e9 is flat, so compare through a narrow one, where a wrong distance shows.
    keep = np.vstack([np.ones((1, 4), dtype=bool), ~np.eye(4, dtype=bool), np.zeros((1, 4), dtype=bool)])
    values = np.array([3.0, 1.0, 2.0, 2.5, 0.0, -1.0])
    distances = 100 * pairwise_distances(keep.astype(float), np.ones((1, 4)), metric="cosine").ravel()
    weights = np.sqrt(np.exp(-((distances / 10) ** 2)))
    assert fit(keep, values, 10.0) == pytest.approx(Ridge(1.0).fit(keep, values, weights).coef_, abs=1e-12)


def test_neighbourhood_is_the_full_input_then_uniform_numbers_of_removed_units():
    units, samples = 5, 20001
    keep = neighbourhood(samples, units, np.random.default_rng(0))
    assert keep.shape == (samples, units)
    assert keep[0].all()
    assert not keep[1:].all(axis=1).any()
    counts = np.bincount((~keep[1:]).sum(axis=1), minlength=units + 1)[1:]
    assert counts == pytest.approx(np.full(units, 4000), abs=4 * np.sqrt(4000 * 0.8))
    # Given the number, every unit is as likely to go: overall (1 + 5) / 2 of 5.
    assert (~keep[1:]).mean(axis=0) == pytest.approx(np.full(units, 0.6), abs=4 * np.sqrt(0.24 / 20000))
    # Two removed of five: ten pairs, 400 times each.
    pairs = keep[1:][(~keep[1:]).sum(axis=1) == 2]
    frequencies = np.unique(pairs, axis=0, return_counts=True)[1]
    assert len(frequencies) == 10
    assert frequencies == pytest.approx(np.full(10, len(pairs) / 10), abs=4 * np.sqrt(400))


def test_kernel_width_and_samples_reach_the_estimate():
    assert Lime(samples=10).samples == 10
    keep = neighbourhood(400, 6, np.random.default_rng(0))
    values = curved(6)(keep)
    assert not np.allclose(fit(keep, values, 25.0), fit(keep, values, 10.0))
