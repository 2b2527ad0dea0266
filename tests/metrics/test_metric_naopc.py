"""Normalised AOPC: its bounds against brute force over all orders, and what a beam may miss."""

from itertools import permutations

import numpy as np
import pytest
from erasuretoys import additive, answer_with, make, never, random_model, value
from hypothesis import given, settings
from hypothesis import strategies as st

from attrlab.bench.types import drive
from attrlab.metrics.aopc import (
    AopcComprehensiveness,
    AopcSufficiency,
    NaopcComprehensiveness,
    NaopcSufficiency,
    enumerated_bounds,
    searched_bounds,
)


def probability(case, answer, keep):
    return drive(case.probabilities(np.asarray(keep, dtype=bool)), answer)


def all_areas(case, answer):
    """Returns the dense AOPC of every order, straight from the definition, ``(m!,)``."""
    m = case.n_units
    subsets = (np.arange(2**m)[:, None] >> np.arange(m) & 1).astype(bool)
    p = probability(case, answer, ~subsets)
    orders = np.array(list(permutations(range(m))))
    return (p[0] - p[np.cumsum(1 << orders, axis=1)]).mean(1)


@pytest.mark.parametrize("m", range(1, 8))
@pytest.mark.parametrize("seed", [0, 1])
def test_exact_bounds_are_those_of_all_orders(m, seed, parity):
    case, model = make(np.arange(m)), random_model(seed)
    areas = all_areas(case, model)
    low, high = drive(enumerated_bounds(case), model)
    error = max(abs(low - areas.min()), abs(high - areas.max()))
    parity("Q11", "naopc_comprehensiveness", "brute force over all orders, m = 1 to 7", error, 1e-12)


@given(st.integers(1, 6), st.integers(0, 99))
def test_a_beam_as_wide_as_all_sets_is_exact(m, seed):
    case, model = make(np.arange(m)), random_model(seed)
    full = probability(case, model, np.ones((1, m)))[0]
    found = drive(searched_bounds(case, full, 2**m), model)
    assert found == pytest.approx(drive(enumerated_bounds(case), model), abs=1e-12)


@given(st.integers(2, 7), st.integers(0, 99), st.integers(1, 4))
def test_a_narrow_beam_gives_areas_of_orders_inside_the_bounds(m, seed, width):
    case, model = make(np.arange(m)), random_model(seed)
    full = probability(case, model, np.ones((1, m)))[0]
    for found in drive(searched_bounds(case, full, width), model):
        assert np.abs(all_areas(case, model) - found).min() < 1e-12, "an order has it"


def test_a_greedy_beam_finds_the_bounds_of_an_additive_game():
    effects = np.array([0.02, -0.01, 0.05, 0.03, -0.04, 0.01, 0.06, 0.004, 0.015, 0.001, -0.02, 0.07, 0.08])
    case, model = make(effects), additive(0.4, effects)
    best, worst = np.cumsum(np.sort(effects)[::-1]).mean(), np.cumsum(np.sort(effects)).mean()
    full = 0.4 + effects.sum()
    assert drive(searched_bounds(case, full, 1), model) == pytest.approx((worst, best), abs=1e-12)
    assert value(NaopcComprehensiveness(), case, model) == pytest.approx(1.0, abs=1e-9)
    assert value(NaopcSufficiency(), case, model) == pytest.approx(0.0, abs=1e-9)
    reverse = make(-effects)
    assert value(NaopcComprehensiveness(), reverse, model) == pytest.approx(0.0, abs=1e-9)
    assert value(NaopcSufficiency(), reverse, model) == pytest.approx(1.0, abs=1e-9)


@given(st.permutations(range(4)), st.integers(0, 99))
def test_the_value_is_the_place_of_an_order_among_all_orders(order, seed):
    case, model = make(order), random_model(seed)
    areas = all_areas(case, model)
    low, spread = areas.min(), np.ptp(areas)
    comp = value(AopcComprehensiveness(), case, model)
    assert value(NaopcComprehensiveness(), case, model) == pytest.approx((comp - low) / spread, abs=1e-9)
    # Removing the last first for k = 1..m keeps the top m - 1 .. 0: p_empty in place of p_full of the dense sum.
    full, empty = probability(case, model, [[True] * 4, [False] * 4])
    suff = value(AopcSufficiency(), case, model) + (full - empty) / 4
    assert value(NaopcSufficiency(), case, model) == pytest.approx((suff - low) / spread, abs=1e-9)


def test_a_ranking_beyond_inner_bounds_is_clipped():
    # Only the pair {0, 1} matters: a greedy search sees no difference at first, and a ranking may know better.
    model = answer_with(lambda keep: 0.9 - 0.8 * (not keep[0] and not keep[1]) + 0.01 * keep[2:].sum() - 0.05)
    case = make([5, 4, 3, 2, 1])
    assert value(NaopcComprehensiveness(exact=0, width=1), case, model) == 1.0
    low, high = drive(searched_bounds(case, probability(case, model, np.ones((1, 5)))[0], 1), model)
    assert value(AopcComprehensiveness(), case, model) > high + 0.01
    assert high < drive(enumerated_bounds(case), model)[1]
    assert low < high


def test_a_beam_decides_between_equal_sets_by_the_tie_order_and_not_by_position():
    # A greedy search sees no difference between single units; only {0, 1} together matter.
    def pair(first, second):
        return answer_with(lambda keep: 0.9 if keep[first] or keep[second] else 0.1)

    def bounds(answer, order):
        return drive(searched_bounds(make(np.zeros(4), tie_orders=[order]), 0.9, 1), answer)

    early, late = bounds(pair(0, 1), [0, 1, 2, 3]), bounds(pair(0, 1), [2, 3, 0, 1])
    assert early != late
    assert bounds(pair(2, 3), [2, 3, 0, 1]) == early, "the same units under other names"


@pytest.mark.parametrize("kind", [NaopcComprehensiveness, NaopcSufficiency])
def test_reasons(kind):
    assert drive(kind().score(make([])), never).reason == "no words to attribute"
    assert drive(kind().score(make(np.arange(101))), never).reason.startswith("more than 100 words")
    same = "every order of removal does the same"
    assert drive(kind().score(make([1.0])), answer_with(lambda keep: 0.9 if keep.all() else 0.1)).reason == same
    assert drive(kind().score(make([1.0, 2.0])), answer_with(lambda keep: 0.7)).reason == same


@settings(max_examples=20)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=5), st.integers(0, 99), st.sampled_from([0, 12]))
def test_scale_and_renaming_change_nothing(scores, seed, exact):
    metric = NaopcComprehensiveness(exact=exact, width=2)
    case, model = make(scores), random_model(seed)
    expected = drive(metric.score(case), model)
    np.testing.assert_equal(drive(metric.score(make(7 * np.array(scores))), model), expected)
    order = np.random.default_rng(seed).permutation(len(scores))  # new unit i is old unit order[i]
    new_name = np.argsort(order)
    renamed = make(np.array(scores)[order], tie_orders=new_name[case.tie_orders])

    def answer(ask):
        return model(type(ask)(keep=np.ascontiguousarray(ask.keep[:, new_name]), operator=ask.operator))

    np.testing.assert_allclose(drive(metric.score(renamed), answer).value, expected.value, atol=1e-12)


@pytest.mark.parametrize(("m", "exact", "width"), [(5, 12, 5), (12, 12, 5), (13, 12, 5), (6, 0, 2), (40, 12, 3)])
def test_questions_are_at_most_as_many_as_the_card_says(m, exact, width):
    asked = []
    model = random_model()
    metric = NaopcComprehensiveness(exact=exact, width=width)
    drive(metric.score(make(np.arange(m))), lambda ask: asked.append(len(ask.keep)) or model(ask))
    assert sum(asked) <= m + 1 + (2**m if m <= exact else width * m * (m + 1))
    assert len(asked) == (2 if m <= exact else m + 1), "batches"


@pytest.mark.parametrize(
    ("params", "message"), [({"exact": 17}, "exact=17; allowed: 0 to 16"), ({"width": 0}, "width=0")]
)
def test_bad_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        NaopcSufficiency(**params)
