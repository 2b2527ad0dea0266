"""What the contract asks of a metric: on attributions and models that are made up, where right and wrong are known.

A metric is asked about additive models: every word adds its own weight to the contrast between two classes. There the
best explanation is known (the weights), and so is a bad one (the same scores given to the words in reverse order).
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from attrlab.bench.errors import ContractError
from attrlab.bench.estimate import formula
from attrlab.bench.facts import MetricFacts
from attrlab.bench.failures import TIMED_OUT, Failure, describe, time_limit
from attrlab.bench.finding import Finding
from attrlab.bench.registry import Component, load
from attrlab.bench.score import as_score
from attrlab.bench.store import FAILED
from attrlab.bench.testing import PATIENCE, Answer, cases, explained_right
from attrlab.bench.types import Ask, Case, Floats, Replica, Score, drive

PAIRS = 24
"""Right and reversed explanations that are compared to see a metric's direction."""

NUMBER = "a number, or NaN with a reason"
"""The check without which the others make no sense."""

CONVINCING = 0.75
"""Share of the pairs that must point the wrong way before a direction is called wrong."""

TRANSFORMS: dict[str, Callable[[Floats], Floats]] = {
    "scale": lambda scores: 8.0 * scores,  # a power of two: exact
    "monotone": lambda scores: scores * np.abs(scores) ** 2,
    "sign": lambda scores: -scores,
}
"""What of an explanation may change under each invariance that a metric declares; zero and sign order are kept."""


class Asked(NamedTuple):
    """A metric's score of one case, and what it asked for it."""

    score: Score
    questions: int
    operators: frozenset[str | None]


def check_metric(component: Component[MetricFacts]) -> Iterator[Finding]:
    """Yields the findings for a metric; one that trains models is left to its own tests."""
    facts = component.facts
    if facts.trains:
        yield Finding("any model", "the contract", "trains models: only its own tests can check it", skipped=True)
        return
    known = cases(facts.replicates or ("seed",))
    broken = False
    for name, (case, answer) in known.items():
        for finding in _alone(component, name, case, answer):
            broken |= finding.problem is not None and finding.check == NUMBER
            yield finding
    if broken:
        return
    yield Finding("all cases", "the company of other examples changes nothing", _swayed(component, known))
    for name in facts.invariances:
        yield Finding("all cases", f"as declared, invariant to {name}", _varies(component, known, name))
    yield Finding("additive models", "right explanations score no worse than reversed ones", _misdirected(component))
    yield Finding("re-explanations", "unchanged ones score as the family has it", _unsettled(component))


def _alone(component: Component[MetricFacts], name: str, case: Case, answer: Answer) -> Iterator[Finding]:
    low, high = component.facts.bounds
    before = _arrays(case)
    try:
        first, again = (run(component.build(), case, answer) for _ in range(2))
    except Failure as error:
        yield Finding(name, NUMBER, describe(error))
        return
    yield Finding(name, NUMBER)
    value = first.score.value
    inside = not np.isfinite(value) or low - 1e-9 <= value <= high + 1e-9
    yield Finding(name, f"inside [{low:g}, {high:g}]", None if inside else f"got {value:g}")
    same = np.array_equal([value], [again.score.value], equal_nan=True)
    yield Finding(name, "asked twice, the same answer", None if same else f"{value} and {again.score.value}")
    kept = before == _arrays(case)
    yield Finding(name, "what it is given is left as it was", None if kept else "an array was changed in place")
    yield Finding(name, "asks what is declared", _misstated(component, case, first))


def run(metric: Any, case: Case, answer: Answer) -> Asked:
    """Returns a metric's score of a case, its questions answered by a function.

    Raises:
        ContractError: If it returns something that is neither a number nor an undefined score with a reason.
    """
    asked: list[Ask] = []

    def listen(ask: Ask) -> Floats:
        asked.append(ask)
        return answer(ask)

    with time_limit(PATIENCE, TIMED_OUT.format(PATIENCE)):
        result = metric.score(case)
        result = drive(result, listen) if hasattr(result, "send") else result
    score = as_score(result)
    if score.reason and not (isinstance(result, Score) and result.reason):
        raise ContractError(f"{score.reason.removeprefix(FAILED)}; without a number, return Score.undefined(REASON)")
    return Asked(score, sum(len(ask.keep) for ask in asked), frozenset(ask.operator for ask in asked))


def _arrays(case: Case) -> list[tuple[str, bytes]]:
    """Everything a metric could write to."""
    found = []
    things: tuple[Any, ...] = (case, *case.replicates)
    for thing in things:
        for one in fields(thing):
            if isinstance(value := getattr(thing, one.name), np.ndarray):
                found.append((one.name, value.tobytes()))
    return found


def _misstated(component: Component[MetricFacts], case: Case, asked: Asked) -> str | None:
    facts = component.facts
    if asked.questions and not (facts.asks or facts.operators):
        return "it asks the model: set asks=True in its facts"
    own = asked.operators - set(facts.operators)
    if own - {case.operator}:
        return f"asked under operators {sorted(map(str, own))}; declare them in its facts (operators=...)"
    if facts.forwards == "0" or not asked.questions:
        return None
    parameters = inspect.signature(load(facts.where)).parameters
    given = {name: component.params.get(name, one.default) for name, one in parameters.items()}
    numbers = {name: value for name, value in given.items() if isinstance(value, int | float)}
    declared = formula(facts.forwards, {**numbers, "m": case.n_units})
    tied = len(np.unique(case.scores)) < case.n_units or len(np.unique(np.abs(case.scores))) < case.n_units
    if tied and asked.questions <= declared * len(case.tie_orders):
        return None  # the formula is that of one ranking
    if asked.questions > declared or (asked.questions != declared and not facts.bound):
        return f"{case.n_units} words cost {asked.questions} questions; declared {facts.forwards} = {declared:g}"
    return None


def _swayed(component: Component[MetricFacts], known: dict[str, tuple[Case, Answer]]) -> str | None:
    """Scores all cases by one metric object, then the first one again, and compares with an object of its own."""
    metric, order = component.build(), [*known, *reversed(known)]
    for name in order:
        case, answer = known[name]
        together, alone = (run(one, case, answer).score.value for one in (metric, component.build()))
        if not np.array_equal([together], [alone], equal_nan=True):
            return f"{name}: {together:g} after other examples, {alone:g} alone"
    return None


def _varies(component: Component[MetricFacts], known: dict[str, tuple[Case, Answer]], name: str) -> str | None:
    change = TRANSFORMS[name]
    for place, (case, answer) in known.items():
        again = tuple(replace(one, scores=change(one.scores)) for one in case.replicates)
        changed = replace(case, scores=change(case.scores), replicates=again)
        before, after = (run(component.build(), one, answer).score.value for one in (case, changed))
        if not np.isclose(before, after, rtol=1e-9, atol=1e-12, equal_nan=True):
            return f"{place}: {before:g} became {after:g}"
    return None


def _misdirected(component: Component[MetricFacts]) -> str | None:
    """Compares right explanations with reversed ones; a metric that does not look at the order ties."""
    facts = component.facts
    if facts.higher_is_better is None or facts.replicates:
        return None
    pairs = []
    for index in range(PAIRS):
        right, answer = explained_right(index)
        reverse = np.empty(right.n_units)
        reverse[np.argsort(right.scores)] = np.sort(right.scores)[::-1]
        pairs.append([run(component.build(), one, answer) for one in (right, replace(right, scores=reverse))])
    return _verdict(facts, [(good.score.value, bad.score.value) for good, bad in pairs], ("right", "reversed"))


def _unsettled(component: Component[MetricFacts]) -> str | None:
    """Compares equal re-explanations with independent ones: best for stability, worst for a check of sanity."""
    facts = component.facts
    if facts.higher_is_better is None or not facts.replicates or facts.family not in ("stability", "sanity"):
        return None
    pairs = []
    for index in range(PAIRS):
        case, answer = explained_right(index)
        rng = np.random.default_rng(index)
        others = [rng.permutation(case.scores) * rng.uniform(0.5, 2) for _ in range(2)]
        both = [[case.scores.copy(), case.scores.copy()], others]
        again = [replace(case, replicates=_replicas(facts.replicates, vectors)) for vectors in both]
        pairs.append([run(component.build(), one, answer).score.value for one in again])
    if facts.family == "sanity":
        return _verdict(facts, [(other, same) for same, other in pairs], ("independent", "equal"))
    return _verdict(facts, [(same, other) for same, other in pairs], ("equal", "independent"))


def _replicas(kinds: Sequence[str], vectors: Sequence[Floats]) -> tuple[Replica, ...]:
    return tuple(
        Replica(kind=kind, index=index, scores=scores, distance=0.1 * index)
        for kind in kinds
        for index, scores in enumerate(vectors, 1)
    )


def _verdict(facts: MetricFacts, pairs: Sequence[tuple[float, float]], names: tuple[str, str]) -> str | None:
    found = np.array([pair for pair in pairs if np.isfinite(pair).all()])
    if not len(found):
        return None
    gaps = (found[:, 0] - found[:, 1]) * (1 if facts.higher_is_better else -1)
    if (gaps < -1e-9).mean() < CONVINCING:
        return None
    good, bad = found.mean(0)
    direction = "higher" if facts.higher_is_better else "lower"
    return (
        f"{direction} is declared better, but {names[0]} ones get {good:.3g} and {names[1]} ones {bad:.3g} on average"
    )
