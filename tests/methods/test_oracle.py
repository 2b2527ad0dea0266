"""The greedy oracle against a second greedy search, and against what it is to bound."""

from itertools import permutations

import numpy as np
import pytest
from scipy.special import expit
from toygames import Oracle, additive, curved, explain, game

from attrlab.bench.errors import NotApplicableError
from attrlab.bench.types import drive
from attrlab.methods.controls import Random
from attrlab.methods.oracle import GreedyOracle
from attrlab.methods.removal import LeaveOneOut


def area(value, order):
    """Mean probability over the deletion curve of an order."""
    keep = np.ones((len(order) + 1, len(order)), dtype=bool)
    for step, unit in enumerate(order):
        keep[step + 1 :, unit] = False
    return expit(value(keep))[1:].mean()


@pytest.mark.parametrize("units", [1, 2, 6])
def test_order_equals_a_greedy_search_one_removal_at_a_time(units):
    value = curved(units, seed=3)
    gone: list[int] = []
    while len(gone) < units:
        rest = [unit for unit in range(units) if unit not in gone]
        chances = [value(~np.isin(np.arange(units), [*gone, unit])[None])[0] for unit in rest]
        gone.append(rest[int(np.argmin(chances))])
    scores = explain(GreedyOracle(), value, units)
    assert np.argsort(-scores).tolist() == gone
    assert sorted(scores) == list(range(1, units + 1))


def test_an_additive_game_is_ordered_by_its_weights_which_is_best():
    weights = np.array([0.5, -1.0, 2.0, 0.1, -0.3])
    scores = explain(GreedyOracle(), additive(weights), 5)
    assert np.array_equal(scores.argsort(), weights.argsort())
    value = additive(weights)
    best = min(area(value, order) for order in permutations(range(5)))
    assert area(value, np.argsort(-scores)) == pytest.approx(best)


def test_no_method_descends_faster_on_average():
    areas = {name: [] for name in ("oracle", "leave_one_out", "random")}
    for seed in range(20):
        value = curved(8, seed)
        for name, method in (("oracle", GreedyOracle()), ("leave_one_out", LeaveOneOut()), ("random", Random())):
            areas[name].append(area(value, np.argsort(-explain(method, value, 8, seed))))
    assert np.mean(areas["oracle"]) < np.mean(areas["leave_one_out"]) - 0.02 < np.mean(areas["random"]) - 0.04


def test_of_equal_candidates_the_left_one_goes_first():
    assert explain(GreedyOracle(), additive(np.ones(4)), 4).tolist() == [4, 3, 2, 1]


def test_long_texts_are_skipped_with_a_reason():
    with pytest.raises(NotApplicableError, match="41 units; the oracle takes up to 40"):
        explain(GreedyOracle(), curved(41), 41)
    assert explain(GreedyOracle(largest=41), lambda keep: keep.sum(axis=1).astype(float), 41).max() == 41


def test_every_step_asks_its_candidates_at_once():
    oracle = Oracle(curved(5))
    drive(GreedyOracle().ask(game(5), np.random.default_rng(0)), oracle)
    assert [len(keep) for keep in oracle.asked] == [5, 4, 3, 2]
    assert [(~keep).sum(axis=1).tolist() for keep in oracle.asked] == [[1] * 5, [2] * 4, [3] * 3, [4] * 2]
