"""What must hold of every metric on any case: bounds, reasons, invariances, inputs left alone."""

import hashlib
import inspect
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrlab.bench.registry import METRICS
from attrlab.bench.types import Case, Cost, Replica, drive
from attrlab.metrics import CATALOGUE

VARIANTS = [
    "comprehensiveness:absolute=true",
    "sufficiency:absolute=true",
    "tau_loo:absolute=true",
    "token_f1:k=oracle",
]
ALL = [*CATALOGUE, *VARIANTS]
RANK = [name for name in ALL if name != "noise_stability"]


def freeze(array):
    array.flags.writeable = False
    return array


@st.composite
def cases(draw):
    """Draws a case of 0 to 9 units, often with ties, whose arrays cannot be written to."""
    m = draw(st.integers(0, 9))
    n_replicates = draw(st.integers(0, 3))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    vectors = rng.integers(-levels, levels + 1, size=(1 + n_replicates, m)) / 4
    if draw(st.booleans()):
        vectors[:] = vectors[0]
    signed = draw(st.booleans())
    vectors = vectors if signed else np.abs(vectors)
    marks = rng.random((draw(st.integers(1, 3)), m)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    return Case(
        scores=freeze(vectors[0].copy()),
        signed=signed,
        target=1,
        label=draw(st.sampled_from([1, 1, 0, None])),
        tie_orders=freeze(np.array([rng.permutation(m) for _ in range(5)])),
        operator="delete",
        rationales=freeze(marks) if draw(st.booleans()) else None,
        rationale_share=draw(st.sampled_from([None, 0.0, 0.3, 1.0])),
        replicates=tuple(
            Replica(kind="seed", index=index, scores=freeze(vector.copy()))
            for index, vector in enumerate(vectors[1:], 1)
        ),
        cost=Cost(seconds=0.5, forwards=m),
    )


def random_answers(order=slice(None)):
    """Returns a model that answers at random, but the same set the same way; ``order`` renames the units back."""

    def answer(ask):
        rows = [np.ascontiguousarray(keep[order]).tobytes() for keep in ask.keep]
        seeds = [int.from_bytes(hashlib.blake2b(row, digest_size=4).digest(), "big") for row in rows]
        return np.array([np.random.default_rng(seed).normal(size=3) * 4 for seed in seeds])

    return answer


def run(name, case, answer=None):
    result = METRICS.find(name).build().score(case)
    return drive(result, answer or random_answers()) if inspect.isgenerator(result) else result


def same(first, second):
    return first.reason == second.reason and first.value == pytest.approx(second.value, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=30)
@given(case=cases())
def test_a_number_within_bounds_or_a_reason_and_the_same_again(name, case):
    score = run(name, case)
    assert type(score.value) is float
    if np.isnan(score.value):
        assert score.reason
    else:
        low, high = METRICS.find(name).facts.bounds
        assert low <= score.value <= high
        assert score.reason is None
    assert run(name, case) == score or np.isnan(score.value)


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=20)
@given(case=cases(), random=st.randoms(use_true_random=False))
def test_renaming_the_units_changes_nothing(name, case, random):
    m = case.n_units
    order = np.array(random.sample(range(m), m), dtype=int)  # new unit i is old unit order[i]
    new_name = np.argsort(order)
    renamed = replace(
        case,
        scores=case.scores[order],
        tie_orders=new_name[case.tie_orders.astype(int)],
        rationales=None if case.rationales is None else case.rationales[:, order],
        replicates=tuple(replace(again, scores=again.scores[order]) for again in case.replicates),
    )
    assert same(run(name, renamed, random_answers(new_name)), run(name, case))


def transformed(case, transform):
    """Returns the case with every explanation in it transformed."""
    again = tuple(replace(one, scores=transform(one.scores)) for one in case.replicates)
    return replace(case, scores=transform(case.scores), replicates=again)


@pytest.mark.parametrize("name", RANK)
@pytest.mark.parametrize("transform", [lambda a: 7 * a, lambda a: a**3], ids=["times 7", "cubed"])
@settings(deadline=None, max_examples=20)
@given(case=cases())
def test_an_increasing_transform_that_keeps_the_sign_changes_no_rank_metric(name, transform, case):
    changed = transformed(case, transform)
    assert same(run(name, changed), run(name, case))


@settings(deadline=None)
@given(case=cases())
def test_noise_stability_does_not_depend_on_the_scale_of_the_scores(case):
    if case.scores.any():
        changed = transformed(case, lambda scores: 7 * scores)
        assert same(run("noise_stability", changed), run("noise_stability", case))


@pytest.mark.parametrize("name", [name for name in ALL if METRICS.find(name).facts.asks])
@pytest.mark.parametrize("m", [2, 3, 20, 57])
def test_questions_asked_are_as_many_as_the_facts_say(name, m):
    scores = np.arange(1.0, m + 1)
    case = Case(scores=scores, signed=True, target=0, label=0, tie_orders=np.arange(m)[None], operator="delete")
    asked = []
    drive(METRICS.find(name).build().score(case), lambda ask: asked.append(ask) or random_answers()(ask))
    assert [len(ask.keep) for ask in asked] == [eval(METRICS.find(name).facts.forwards, {"m": m})]
    assert all(ask.operator == "delete" and ask.keep.dtype == bool and ask.keep[0].all() for ask in asked[:1])


@pytest.mark.parametrize("name", ["comprehensiveness", "sufficiency", "tau_loo", "token_f1", "auprc", "planted_recall"])
def test_the_oracle_beats_random_scores_which_beat_the_reverse(name):
    """A planted shortcut: two of eight words carry the decision."""
    rng = np.random.default_rng(3)
    planted = np.array([0, 0, 1, 0, 0, 0, 1, 0], dtype=bool)
    weights = np.where(planted, 1.0, 0.01 * np.arange(8))

    def answer(ask):
        return np.stack([np.zeros(len(ask.keep)), ask.keep @ weights], axis=1)

    def mean(rows):
        orders = np.array([rng.permutation(8) for _ in range(5)])
        fields = {"signed": True, "target": 1, "label": 1, "tie_orders": orders, "operator": "delete"}
        given_by = {"rationales": planted[None], "rationale_share": 0.25}
        return np.mean([run(name, Case(scores=row, **fields, **given_by), answer).value for row in rows])

    sign = 1 if CATALOGUE[name].higher_is_better else -1
    oracle, random, reverse = mean([weights]), mean(rng.random((200, 8))), mean([1 - weights])
    assert sign * (oracle - random) > 0.05
    assert sign * (random - reverse) > 0.05
