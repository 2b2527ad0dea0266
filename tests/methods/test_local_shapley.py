"""L-Shapley against Shapley values by enumeration, where the two must agree and where they must not."""

import numpy as np
import pytest
from toygames import Oracle, additive, curved, explain, game, subsets, table

from attrlab.bench.types import drive
from attrlab.methods.exact_shapley import ExactShapley
from attrlab.methods.local_shapley import LocalShapley


def test_all_units_as_neighbours_give_the_exact_values():
    value = curved(6)
    np.testing.assert_allclose(explain(LocalShapley(radius=5), value, 6), explain(ExactShapley(), value, 6), atol=1e-12)


def test_additive_games_at_any_radius():
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    for radius in range(4):
        np.testing.assert_allclose(explain(LocalShapley(radius=radius), additive(weights), 4), weights, atol=1e-12)


def test_what_interacts_within_the_radius_is_shared_and_what_does_not_is_missed():
    near = table(np.array([float(keep[1] and keep[2]) for keep in subsets(5)]))
    np.testing.assert_allclose(explain(LocalShapley(radius=1), near, 5), [0, 0.5, 0.5, 0, 0], atol=1e-12)
    far = table(np.array([float(keep[0] and keep[4]) for keep in subsets(5)]))
    np.testing.assert_allclose(explain(LocalShapley(radius=1), far, 5), 0, atol=1e-12)
    np.testing.assert_allclose(explain(LocalShapley(radius=4), far, 5), [0.5, 0, 0, 0, 0.5], atol=1e-12)


@pytest.mark.parametrize(("units", "radius"), [(1, 2), (3, 2), (4, 2), (5, 2), (9, 2), (7, 1), (6, 0)])
def test_every_set_of_close_units_is_asked_once(units, radius):
    oracle = Oracle(additive(np.ones(units)))
    drive(LocalShapley(radius=radius).ask(game(units), np.random.default_rng(0)), oracle)
    assert oracle.questions == ((units - 2 * radius + 1) * 4**radius if units > 2 * radius else 2**units)
    assert len(np.unique(np.vstack(oracle.asked), axis=0)) == oracle.questions
