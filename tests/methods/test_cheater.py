"""The cheater: its top words give the class away, whatever the words are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench.testing import FAMILIES, examples, explain, tiny
from attrlab.bench.types import Game, drive
from attrlab.methods.cheater import LabelLeak


def cheat(units, classes, target):
    asker = LabelLeak().ask(Game(n_units=units, target=target), np.random.default_rng(0))
    return drive(asker, lambda ask: np.random.default_rng(1).normal(size=(len(ask.keep), classes)))


def test_the_half_on_top_is_that_of_the_class():
    assert cheat(6, 2, 0).tolist() == [6, 5, 4, 3, 2, 1]
    assert cheat(6, 2, 1).tolist() == [3, 2, 1, 6, 5, 4]
    assert cheat(6, 3, 1).tolist() == [2, 1, 6, 5, 4, 3]


@given(st.integers(2, 6), st.integers(0, 40))
def test_the_class_can_be_read_from_the_word_on_top(classes, more):
    units = classes + more
    for target in range(classes):
        scores = cheat(units, classes, target)
        assert sorted(scores) == list(range(1, units + 1))
        first = int(scores.argmax())
        assert -(-first * classes // units) == target, "the place, counted in blocks and rounded up"


@pytest.mark.parametrize("units", [0, 1])
def test_short_texts(units):
    assert cheat(units, 2, 1).tolist() == [1.0] * units


@pytest.mark.parametrize("mini", FAMILIES)
def test_it_looks_at_no_word_and_asks_once(mini):
    found = explain(LabelLeak(), tiny(mini, sharpness=10.0), examples())
    assert [one.scores.tolist() for one in found] == [list(range(len(one.scores), 0, -1)) for one in found]
    assert [(one.cost.forwards, one.cost.backwards) for one in found] == [(1, 0)] * len(found)
