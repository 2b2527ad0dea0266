"""RISE against its formulas, enumeration of its expectation, and its own standard errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from toygames import Oracle, additive, curved, estimate, explain, game, subsets

from attrlab.bench.types import drive
from attrlab.methods.rise import Rise, centred, classic


def shared(rows=300, units=6, p=0.4):
    keep = np.random.default_rng(1).random((rows, units)) < p
    return keep, curved(units)(keep)


def test_classic_equals_the_formula_on_a_shared_mask_matrix(parity):
    keep, values = shared()
    expected = np.zeros(6)
    for row, value in zip(keep, values, strict=True):
        for unit in range(6):
            expected[unit] += value * row[unit] / (len(keep) * 0.4)
    error = np.abs(classic(keep, values, 0.4).scores - expected).max()
    parity("P16", "rise", "sum of F M / (N p) on a shared mask matrix", error, 1e-10)


def test_centred_is_the_mean_with_minus_the_mean_without():
    keep, values = shared()
    found = centred(keep, values)
    for unit in range(6):
        there, gone = values[keep[:, unit]], values[~keep[:, unit]]
        assert found.scores[unit] == pytest.approx(there.mean() - gone.mean(), abs=1e-12)
        error = np.sqrt(there.var(ddof=1) / len(there) + gone.var(ddof=1) / len(gone))
        assert found.errors[unit] == pytest.approx(error, abs=1e-12)


def test_centred_is_the_slope_of_a_regression_on_one_unit():
    keep, values = shared()
    slopes = [np.polyfit(keep[:, unit].astype(float), values, 1)[0] for unit in range(6)]
    assert centred(keep, values).scores == pytest.approx(np.array(slopes), abs=1e-10)


@settings(max_examples=30, deadline=None)
@given(constant=st.floats(-1e9, 1e9), units=st.integers(1, 9), seed=st.integers(0, 99), p=st.floats(0.05, 0.95))
def test_a_constant_game_gives_exactly_zero(constant, units, seed, p):
    scores = explain(Rise(samples=20, p=p), lambda keep: np.full(len(keep), constant), units, seed)
    assert (scores == 0).all()


@pytest.mark.parametrize("p", [0.5, 0.8])
def test_an_additive_game_gives_its_weights_within_three_standard_errors(p):
    weights = np.random.default_rng(0).normal(size=10)
    found = estimate(Rise(samples=4000, p=p), additive(weights), 10, seed=4)
    assert (np.abs(found.scores - weights) <= 3 * found.errors).all()
    assert (found.errors < 0.15).all()


@pytest.mark.parametrize("variant", ["centred", "classic"])
def test_scores_scatter_around_their_expectation_by_the_standard_error(variant):
    units, value, every = 5, curved(5, seed=2), subsets(5)
    values = value(every) if variant == "centred" else expit(value(every))
    # With p = 1/2 all coalitions are as likely; centred, that is the Banzhaf value.
    with_unit = np.array([values[every[:, unit]].mean() for unit in range(units)])
    without = np.array([values[~every[:, unit]].mean() for unit in range(units)])
    expected = with_unit - without if variant == "centred" else with_unit
    method = Rise(samples=500, variant=variant)
    found = [estimate(method, value, units, seed) for seed in range(200)]
    z = np.array([(one.scores - expected) / one.errors for one in found])
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(200)
    assert z.std(axis=0) == pytest.approx(np.ones(units), abs=0.2)


def test_a_unit_that_is_always_or_never_there_scores_nothing():
    keep = np.array([[True, False, True], [True, False, False], [True, False, True], [True, False, False]])
    found = centred(keep, np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.scores.tolist() == [0, 0, -1]
    assert found.errors is None


@pytest.mark.parametrize(("units", "samples"), [(1, 500), (12, 500), (13, 520), (100, 4000), (300, 4000)])
def test_number_of_questions_goes_with_the_length(units, samples):
    oracle = Oracle(lambda keep: keep.sum(axis=1))
    drive(Rise().ask(game(units), np.random.default_rng(0)), oracle)
    assert oracle.questions == samples


def test_units_come_and_go_by_themselves():
    oracle = Oracle(curved(6))
    drive(Rise(samples=20000, p=0.3).ask(game(6), np.random.default_rng(0)), oracle)
    keep = oracle.asked[0].astype(float)
    assert keep.mean(axis=0) == pytest.approx(np.full(6, 0.3), abs=4 * np.sqrt(0.21 / 20000))
    between = np.corrcoef(keep.T) - np.eye(6)
    assert np.abs(between).max() < 4 / np.sqrt(20000)


def test_classic_explains_the_probability():
    keep, _ = shared()
    oracle = Oracle(curved(6))
    found = drive(Rise(samples=50, variant="classic").ask(game(6), np.random.default_rng(3)), oracle)
    (keep,) = oracle.asked
    assert found.scores == pytest.approx(classic(keep, expit(curved(6)(keep)), 0.5).scores, abs=1e-12)
    assert (found.scores >= 0).all()
