"""Ranking, ties and the k rule, against hand-computed values and brute force."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attrlab.metrics.ranking import count, rankings, tie_fraction, top

ORDERS = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])


@pytest.mark.parametrize(
    ("share", "n_units", "expected"),
    [(0.01, 1, 1), (0.01, 5, 1), (0.2, 5, 1), (0.2, 6, 2), (0.5, 5, 3), (0.05, 20, 1), (0.05, 21, 2), (1.0, 7, 7)],
)
def test_count_of_a_share(share, n_units, expected):
    assert count(share, n_units) == expected


@settings(deadline=None)
@given(percent=st.integers(0, 100), n_units=st.integers(1, 600))
@example(percent=7, n_units=100)  # 0.07 * 100 = 7.000000000000001
def test_count_is_the_exact_ceiling_whatever_the_float_error(percent, n_units):
    assert count(percent / 100, n_units) == max(1, ceil(Fraction(percent, 100) * n_units))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([], 0.0), ([2.0], 0.0), ([1.0, 2.0], 0.0), ([1.0, 1.0], 1.0), ([0.0, -0.0, 1.0, 2.0], 0.5), ([3, 3, 3, 1], 0.75)],
)
def test_tie_fraction(scores, expected):
    assert tie_fraction(np.array(scores, dtype=float)) == expected


def test_ties_follow_the_tie_order_and_never_the_position():
    assert rankings(np.array([0.0, 1.0, 0.0, 0.0]), ORDERS).tolist() == [[1, 0, 2, 3], [1, 3, 2, 0], [1, 3, 0, 2]]


def test_one_ranking_is_enough_up_to_a_fifth_of_ties():
    few = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 1], dtype=float)
    orders = np.array([range(10), range(9, -1, -1)])
    assert tie_fraction(few) == 0.2
    assert rankings(few, orders).tolist() == [list(range(10))]
    assert len(rankings(few[1:], np.array([range(9), range(8, -1, -1)]))) == 2


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_every_ranking_sorts_by_score_then_by_place_in_its_tie_order(values, random):
    scores = np.array(values, dtype=float)
    orders = np.array([random.sample(range(len(values)), len(values)) for _ in range(3)])
    for order, ranked in zip(orders, rankings(scores, orders), strict=False):
        place = {unit: rank for rank, unit in enumerate(order.tolist())}
        assert ranked.tolist() == sorted(range(len(values)), key=lambda unit, at=place: (-scores[unit], at[unit]))


def test_top_marks_the_first_k_of_each_ranking():
    assert top(ORDERS, 2).tolist() == [
        [True, True, False, False],
        [False, False, True, True],
        [False, True, False, True],
    ]
