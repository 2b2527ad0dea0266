"""Exact Shapley values: axioms on arbitrary games, and what is asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toygames import Oracle, curved, explain, game, subsets, table

from attrlab.bench.errors import NotApplicableError
from attrlab.bench.types import drive
from attrlab.methods.exact_shapley import ExactShapley
from attrlab.methods.shapley import ShapleySampling

games = st.integers(1, 6).flatmap(
    lambda units: st.lists(st.floats(-5, 5, width=32), min_size=2**units, max_size=2**units).map(np.array)
)


def shapley(values):
    return explain(ExactShapley(), table(values), int(np.log2(len(values))))


@settings(max_examples=40, deadline=None)
@given(values=games)
def test_efficiency(values):
    assert shapley(values).sum() == pytest.approx(values[-1] - values[0], abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(values=games, data=st.data())
def test_a_unit_that_adds_the_same_to_every_coalition_gets_that(values, data):
    unit = data.draw(st.integers(0, int(np.log2(len(values))) - 1))
    weight, index = data.draw(st.floats(-3, 3)), np.arange(len(values))
    constant = values[index & ~(1 << unit)] + weight * (index >> unit & 1)
    assert shapley(constant)[unit] == pytest.approx(weight, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(values=games, data=st.data())
def test_renaming_the_units_renames_the_scores(values, data):
    units = int(np.log2(len(values)))
    order = np.array(data.draw(st.permutations(range(units))))
    # Unit j of the renamed game is unit order[j] of the first one.
    renamed = values[subsets(units) @ (1 << order)]
    assert shapley(renamed) == pytest.approx(shapley(values)[order], abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(values=games, factor=st.floats(-3, 3))
def test_linearity(values, factor):
    other = np.cos(7 * values + np.arange(len(values)))
    combined = shapley(values) + factor * shapley(other)
    assert shapley(values + factor * other) == pytest.approx(combined, abs=1e-11)


def test_all_orders_of_three_units_average_to_it():
    # 6 orders are all there is; over many seeds each pair (order and reverse) comes up equally often.
    value = curved(3, seed=1)
    found = np.mean([explain(ShapleySampling(permutations=200), value, 3, seed) for seed in range(5)], axis=0)
    assert found == pytest.approx(explain(ExactShapley(), value, 3), abs=0.05)


def test_every_coalition_is_asked_once_and_at_once():
    oracle = Oracle(curved(6))
    drive(ExactShapley().ask(game(6), np.random.default_rng(0)), oracle)
    (asked,) = oracle.asked
    assert len(np.unique(asked, axis=0)) == len(asked) == 64


def test_long_texts_are_skipped_with_a_reason():
    with pytest.raises(NotApplicableError, match="13 units; all coalitions are asked of up to 12"):
        explain(ExactShapley(), curved(13), 13)
    with pytest.raises(NotApplicableError, match="4 units"):
        explain(ExactShapley(largest=3), curved(4), 4)
