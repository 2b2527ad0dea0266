"""Leave-one-out and occlusion windows: arithmetic by hand, and removal by the engine."""

import numpy as np
import pytest
from toygames import Oracle, additive, curved, explain, game

from attrlab.bench.testing import examples, tiny
from attrlab.bench.testing import explain as explain_texts
from attrlab.bench.types import drive
from attrlab.methods.removal import LeaveOneOut, windows


def test_windows_by_hand():
    # Windows {0, 1} and {1, 2} weigh 3 and 5: the unit in the middle gets their mean.
    assert explain(LeaveOneOut(window=2), additive(np.array([1.0, 2.0, 3.0])), 3) == pytest.approx([3, 4, 5])


@pytest.mark.parametrize(("units", "width", "count"), [(1, 1, 1), (4, 1, 4), (4, 3, 2), (4, 4, 1), (4, 9, 1)])
def test_windows_slide_over_the_whole_text(units, width, count):
    found = windows(units, width)
    assert found.shape == (count, units)
    assert (found.sum(axis=1) == min(width, units)).all()
    assert [int(row.argmax()) for row in found] == list(range(count))


@pytest.mark.parametrize("window", [1, 2, 5])
def test_every_question_removes_one_window(window):
    oracle = Oracle(curved(5))
    drive(LeaveOneOut(window=window).ask(game(5), np.random.default_rng(0)), oracle)
    (asked,) = oracle.asked
    assert asked[0].all()
    assert np.array_equal(~asked[1:], windows(5, window))


def test_the_engine_refuses_an_operator_it_does_not_know():
    found = explain_texts(LeaveOneOut(operator="forget"), tiny(), examples()[:1])
    assert "removal operator 'forget'" in found[0].error


def test_own_operator_changes_what_the_engine_removes():
    model = tiny(sharpness=10.0)
    default, replaced, deleted = (
        explain_texts(LeaveOneOut(operator=operator), model, examples()[:1])[0].scores
        for operator in ("", "replace", "delete")
    )
    assert np.array_equal(default, replaced)
    assert not np.allclose(default, deleted)
