"""What must hold of every metric on any case: bounds, reasons, invariances, inputs left alone."""

import hashlib
import inspect
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrlab.bench.estimate import formula
from attrlab.bench.registry import METRICS, load
from attrlab.bench.types import Case, Cost, Replica, drive
from attrlab.metrics import CATALOGUE

VARIANTS = [
    "comprehensiveness:absolute=true",
    "sufficiency:absolute=true",
    "tau_loo:absolute=true",
    "token_f1:k=oracle",
    "auprc:annotators=soft",
    "deletion_auc:normalised=true",
    "erasure_kl:kept=true",
    "soft_sufficiency:mass=raw",
    "infidelity:normalise=false",
    "monotonicity:values=replacement",
    "seed_consistency:measure=jaccard",
    "entropy:normalised=true",
]
ALL = [name for name in [*CATALOGUE, *VARIANTS] if not METRICS.find(name).facts.trains]
INVARIANT = [(name, kind) for name in ALL for kind in METRICS.find(name).facts.invariances]
ORDERED = {"iou_f1", "iou_precision", "iou_recall"}
"""What looks at which words are neighbours."""
DRAWN = {"road_proxy", "chance_level", *(name for name in ALL if "planted" in METRICS.find(name).facts.needs)}
"""What draws words by their place: another order of the words is another draw."""


def freeze(array):
    array.flags.writeable = False
    return array


@st.composite
def cases(draw, name):
    """Draws a case of 0 to 7 units, often with ties, whose arrays cannot be written to, for a metric."""
    m = draw(st.integers(0, 7))  # few enough that metrics that draw removals ask for all of them
    kinds = METRICS.find(name).facts.replicates or ("seed",)
    n_replicates = draw(st.integers(0, 3))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    vectors = rng.integers(-levels, levels + 1, size=(1 + n_replicates, m)) / 4
    if draw(st.booleans()):
        vectors[:] = vectors[0]
    signed = draw(st.booleans())
    vectors = vectors if signed else np.abs(vectors)
    label = draw(st.sampled_from([1, 1, 0, None]))
    marks = rng.random((draw(st.integers(1, 3)), m)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    return Case(
        scores=freeze(vectors[0].copy()),
        signed=signed,
        target=1,
        label=label,
        correct=None if label is None else label == 1,
        tie_orders=freeze(np.array([rng.permutation(m) for _ in range(5)])),
        operator="delete",
        rationales=freeze(marks) if draw(st.booleans()) else None,
        rationale_share=draw(st.sampled_from([None, 0.0, 0.3, 1.0])),
        replicates=tuple(
            Replica(kind=kind, index=index, scores=freeze(vector.copy()), distance=0.1 * index)
            for kind in kinds
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
    return first.reason == second.reason and first.value == pytest.approx(
        second.value, abs=1e-12, rel=1e-9, nan_ok=True
    )


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_number_within_bounds_or_a_reason_and_the_same_again(name, data):
    case = data.draw(cases(name))
    score = run(name, case)
    assert type(score.value) is float
    if np.isnan(score.value):
        assert score.reason
    else:
        low, high = METRICS.find(name).facts.bounds
        assert low - 1e-12 <= score.value <= high + 1e-12
        assert score.reason is None
    assert run(name, case) == score or np.isnan(score.value)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ORDERED | DRAWN])
@settings(deadline=None, max_examples=20)
@given(data=st.data(), random=st.randoms(use_true_random=False))
def test_renaming_the_units_changes_nothing(name, data, random):
    case = data.draw(cases(name))
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


TRANSFORMS = {"scale": lambda a: 8 * a, "monotone": lambda a: a**3, "sign": lambda a: -a}


@pytest.mark.parametrize(("name", "kind"), INVARIANT)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_declared_invariances_hold(name, kind, data):
    case = data.draw(cases(name))
    assert same(run(name, transformed(case, TRANSFORMS[kind])), run(name, case))


def test_rank_metrics_are_declared_invariant():
    """Whatever cuts a ranking at k may not depend on anything but the order."""
    asked = {name: facts for name, facts in CATALOGUE.items() if facts.family == "faithfulness"}
    cut = [name for name, facts in asked.items() if " top " in facts.formula and "|a|" not in facts.formula]
    assert len(cut) >= 10
    assert all({"scale", "monotone"} <= set(METRICS.find(name).facts.invariances) for name in cut)


@pytest.mark.parametrize("name", [name for name in ALL if METRICS.find(name).facts.asks])
@pytest.mark.parametrize("m", [2, 3, 20, 57])
def test_questions_asked_are_as_many_as_the_facts_say(name, m):
    found = METRICS.find(name)
    parameters = inspect.signature(load(found.facts.where)).parameters
    values = {key: found.params.get(key, one.default) for key, one in parameters.items()}
    scores = np.arange(1.0, m + 1)
    case = Case(scores=scores, signed=True, target=0, label=0, tie_orders=np.arange(m)[None], operator="delete")
    asked = []
    drive(found.build().score(case), lambda ask: asked.append(ask) or random_answers()(ask))
    declared = formula(found.facts.forwards, {**values, "m": m})
    total = sum(len(ask.keep) for ask in asked)
    assert total <= declared if found.facts.bound else total == declared
    assert all(ask.operator == "delete" and ask.keep.dtype == bool for ask in asked)


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
