"""The proxy for ROAD: both curves by hand, the same noise for all methods, and its parameters."""

import numpy as np
import pytest
from erasuretoys import make, never
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench.facts import MetricFacts
from attrlab.bench.operators import DRAWS
from attrlab.bench.types import drive
from attrlab.metrics import road
from attrlab.metrics.ranking import count
from attrlab.metrics.road import SHARES, RoadProxy


@pytest.fixture
def no_noise(monkeypatch):
    monkeypatch.setattr(road, "NOISE", 0.0)


def decides(chosen):
    """Returns a model that predicts class 1 while more than half of some units are kept."""

    def answer(ask):
        assert ask.operator == "mlm"
        assert set(ask.draw.tolist()) == set(range(DRAWS["mlm"]))
        kept = ask.keep[:, chosen].mean(1)
        return np.stack([np.full(len(kept), 0.5), kept], axis=1)

    return answer


def test_the_area_by_hand(no_noise):
    # Ten units, the decision hangs on the two that are ranked first: both must go.
    model, case = decides([0, 1]), make(np.arange(10, 0, -1.0))
    morf = drive(RoadProxy(curve="morf").score(case), model)
    lerf = drive(RoadProxy(curve="lerf").score(case), model)
    # Kept share 1/2 ties with class 0, which is predicted then: at 10 % already one is gone.
    assert morf.value == 0.0
    assert lerf.value == pytest.approx(8 / 9), "all but the last share, which leaves one of the two"
    assert drive(RoadProxy().score(case), model).value == pytest.approx(8 / 9)
    assert drive(RoadProxy().score(make(np.arange(10.0))), model).value == pytest.approx(-8 / 9)


def test_draws_are_averaged_after_the_decision(no_noise):
    # Removed words flip the prediction in draws 0 and 1 of 5.
    def answer(ask):
        flips = ~ask.keep.all(1) & (ask.draw < 2)
        return np.stack([flips, ~flips], axis=1).astype(float)

    assert drive(RoadProxy(curve="morf").score(make([1.0, 2.0])), answer).value == pytest.approx(3 / 5)
    assert drive(RoadProxy().score(make([1.0, 2.0])), answer).value == 0.0


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 5))
def test_every_method_has_the_same_noise_and_as_many_units_on_top(m, seed, example):
    asked = []
    for method in (0, 1):
        scores = np.random.default_rng([seed, method]).permutation(m)
        case = make(scores, example=str(example))
        drive(RoadProxy().score(case), lambda ask: asked.append(~ask.keep) or np.zeros((len(ask.keep), 2)))
        first = asked[-1][: 1 + 2 * len(SHARES)]
        assert not first[0].any()
        best = np.argsort(-scores)
        noise = road._noise(case)
        for order, rows in ((best[::-1], first[1 : 1 + len(SHARES)]), (best, first[1 + len(SHARES) :])):
            for row, share in zip(rows, SHARES, strict=True):
                k = count(share, m)
                assert row[order[:k]].all()
                assert (row[order[k:]] == noise[order[k:]]).all()
    assert len(asked[0]) == len(asked[1]) == DRAWS["mlm"] * (1 + 2 * len(SHARES))


def test_noise_is_a_twentieth_and_follows_the_example_alone():
    def noise(example, **fields):
        return road._noise(make(np.arange(2000.0), example=example, **fields))

    assert 0.03 < noise("a").mean() < 0.07
    assert (noise("a") == noise("a", signed=False)).all()
    assert (noise("a") != noise("b")).any()


def test_noise_goes_with_the_words_when_they_are_renamed():
    m, order = 60, np.random.default_rng(1).permutation(60)  # new unit i is old unit order[i]
    case = make(np.zeros(m), example="a")
    renamed = make(np.zeros(m), example="a", tie_orders=np.argsort(order)[case.tie_orders])
    assert 0 < road._noise(case).sum() < m
    assert (road._noise(renamed) == road._noise(case)[order]).all()


def test_it_is_the_prediction_that_lasts_also_where_another_class_is_explained(no_noise):
    case, other = (make(np.arange(10, 0, -1.0), target=target) for target in (1, 0))
    assert drive(RoadProxy().score(other), decides([0, 1])) == drive(RoadProxy().score(case), decides([0, 1]))
    assert drive(RoadProxy(curve="lerf").score(other), decides([0, 1])).value == pytest.approx(8 / 9)


def test_reasons_and_parameters():
    assert drive(RoadProxy().score(make([])), never).reason == "no words to attribute"
    with pytest.raises(ValueError, match="curve='all'; allowed: area, morf, lerf"):
        RoadProxy(curve="all")
    card = MetricFacts(where="here:There", bounds=(-1.0, 1.0))
    assert RoadProxy.facts(card).bounds == (-1.0, 1.0)
    assert [RoadProxy.facts(card, curve=curve).higher_is_better for curve in road.CURVES] == [True, False, True]
    one = RoadProxy.facts(card, curve="morf")
    assert (one.bounds, one.forwards) == ((0.0, 1.0), "50")


def test_all_equal_scores_are_averaged_over_the_tie_orders(no_noise):
    flat, model = make([1.0, 1.0, 1.0]), decides([0])
    single = [drive(RoadProxy().score(make(3 - np.argsort(order))), model).value for order in flat.tie_orders]
    assert drive(RoadProxy().score(flat), model).value == pytest.approx(np.mean(single), abs=1e-12)
