"""IOU F1, precision and recall of spans against hand-computed values and brute force over sets of units."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrlab.bench.types import Case
from attrlab.metrics.spans import IouF1, IouPrecision, IouRecall, matched, runs

ALL = (IouF1, IouPrecision, IouRecall)


def make(chosen, marked, texts=None):
    """A case in which the chosen units have the highest scores, k being their number."""
    chosen = np.array(chosen, dtype=bool)
    orders = np.array([np.roll(np.arange(len(chosen)), shift) for shift in range(5)])
    return Case(
        scores=chosen.astype(float),
        signed=True,
        target=1,
        label=1,
        tie_orders=orders,
        rationales=np.atleast_2d(np.array(marked, dtype=bool)),
        rationale_share=chosen.mean(),
        texts=None if texts is None else np.array(texts),
    )


def values(case):
    return [metric().score(case).value for metric in ALL]


def test_one_of_two_spans_is_matched_by_one_of_three():
    chosen = [1, 0, 1, 1, 0, 0, 1, 0]
    marked = [0, 0, 1, 1, 1, 0, 0, 1]  # the middle one has 2/3 in common, the others nothing
    assert values(make(chosen, marked)) == pytest.approx([2 / 5, 1 / 3, 1 / 2])


@pytest.mark.parametrize(("marked", "hit"), [([0, 1, 1, 0, 0], 1), ([0, 1, 1, 1, 0], 0), ([1, 1, 0, 0, 0], 1)])
def test_half_of_the_union_is_enough(marked, hit):
    assert values(make([0, 1, 0, 0, 0], marked)) == [hit, hit, hit]


def test_a_span_ends_where_its_text_ends():
    chosen, marked = [0, 1, 1, 0], [0, 1, 0, 1]
    assert values(make(chosen, marked)) == pytest.approx([2 / 3, 1, 1 / 2])  # {1, 2} and {1}: half
    assert values(make(chosen, marked, [0, 0, 1, 1])) == pytest.approx([2 / 4, 1 / 2, 1 / 2])
    whole = make([1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1])
    assert values(whole) == pytest.approx([2 / 3, 1 / 2, 1.0])


def test_ties_are_averaged_over_the_orders():
    flat = replace(make([0, 0, 0, 0], [1, 0, 0, 0]), rationale_share=0.25)
    assert IouF1().score(flat).value == pytest.approx(2 / 5)  # the orders begin with 0, 3, 2, 1, 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 1)), min_size=1, max_size=14))
def test_matches_are_those_of_brute_force_and_the_same_from_either_side(rows):
    chosen, marked, texts = np.array(rows).T
    texts = np.sort(texts)
    sides = [runs(np.flatnonzero(side), texts) for side in (chosen, marked)]
    for side, found in zip((chosen, marked), sides, strict=True):
        units = [unit for start, end in found for unit in range(start, end)]
        assert units == np.flatnonzero(side).tolist()
        assert all(len({texts[unit] for unit in range(start, end)}) == 1 for start, end in found)
        starts = {start for start, _ in found}
        assert all(stop not in starts or texts[stop] != texts[stop - 1] for _, stop in found), "no two touch"
    sets = [[set(range(start, end)) for start, end in found] for found in sides]
    expected = sum(any(len(one & two) / len(one | two) >= 0.5 for two in sets[1]) for one in sets[0])
    assert matched(*sides) == matched(*reversed(sides)) == expected


@pytest.mark.parametrize("metric", ALL)
def test_oracle_length_gives_the_oracle_one(metric):
    case = replace(make([0, 0, 0, 0, 0], [[0, 1, 1, 0, 1]]), scores=np.array([0.1, 3, 2, 0, 1]), rationale_share=None)
    assert metric(k="oracle").score(case).value == 1.0
    assert metric().score(case).reason == "the mean share of marked words is not known"
    assert metric(k="oracle").score(replace(case, label=0)).reason.startswith("prediction differs")


def test_soft_targets_have_no_spans():
    with pytest.raises(ValueError, match="annotators='soft'; allowed: majority, union, each"):
        IouF1(annotators="soft")
    each = make([1, 1, 0, 0], [[1, 1, 0, 0], [0, 0, 0, 1]])
    assert IouF1(annotators="each").score(each).value == pytest.approx(1 / 2)
    assert IouF1(annotators="union").score(each).value == pytest.approx(2 / 3)
