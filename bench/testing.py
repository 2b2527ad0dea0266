"""The public contract test for methods and metrics, and the tiny models it runs on.

``attrlab check`` prints what :func:`check` finds; a plug-in's own tests can call it too.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from attrlab.bench import minis
from attrlab.bench.engine import TIMED_OUT, Engine, Failure, describe, time_limit
from attrlab.bench.errors import ContractError, UserError
from attrlab.bench.estimate import per_example
from attrlab.bench.explain import Outcome, Question, outcomes
from attrlab.bench.model import TextModel
from attrlab.bench.registry import METHODS, METRICS, Component, MethodFacts, MetricFacts, load
from attrlab.bench.score import as_score
from attrlab.bench.types import Case, Cost, Example, Floats, Score, drive
from attrlab.bench.zoo import BY_MINI

TEXTS = (
    "The acting was truly wonderful, and the plot moved along nicely.",
    "A dull, lifeless film that nobody should watch twice.",
    "Not good.",
    "Brilliant",
    "She said the unforgettable soundtrack was not bad at all; we loved its heart-warming end.",
    "the story never becomes boring although the film is far too long for such a small idea",
)
"""Sentences of one to sixteen words."""

FAMILIES = ("bert-base-mini", "gpt2-mini", "opt-350m-mini")
"""One mini of each family, OPT by its most peculiar one."""

SHARPNESS = 10.0
"""Factor on the initial weights for the contract test: as drawn, words hardly move the logits."""

TOLERANCE = 1e-5
"""Largest change, relative to the largest score, that other company in a batch may make."""


PATIENCE = 20.0
"""Seconds that a method or metric may take on one example before it counts as endless."""


class Finding(NamedTuple):
    """One check: what must hold, and what was found instead (None if it holds)."""

    check: str
    problem: str | None


@cache
def tiny(mini: str = "bert-base-mini", *, classes: int = 2, seed: int = 0, sharpness: float = 1.0) -> TextModel:
    """Returns an untrained model at the geometry of a mini: enough for what must hold for any weights.

    Its matrices are multiplied by ``sharpness``; more of it makes every word count more.
    """
    info = BY_MINI[mini]
    vocabulary = minis.tokenizer(info, TEXTS)
    labels = tuple(f"class {index}" for index in range(classes))
    network = minis.network(info, vocabulary, labels, seed).requires_grad_(requires_grad=False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.mul_(sharpness)
    return TextModel(network, vocabulary, mini)


def examples(*, pairs: bool = False) -> list[Example]:
    """Returns the contract's examples: single texts, or pairs of them."""
    partners = [*TEXTS[1:], TEXTS[0]]
    return [
        Example(id=str(index), texts=(text, partner) if pairs else (text,), label=0)
        for index, (text, partner) in enumerate(zip(TEXTS, partners, strict=True))
    ]


def explain(
    method: Any, model: TextModel, inputs: Sequence[Example], *, seed: int = 0, token_budget: int = 2048
) -> list[Outcome]:
    """Returns what a method makes of examples, explaining class 0 by the default scalar and operator."""
    encoded = [model.encode(example) for example in inputs]
    engine = Engine(model, encoded, token_budget=token_budget, timeout=PATIENCE)
    questions = [Question(slot=slot, target=0, seed=(seed, one.id)) for slot, one in enumerate(inputs)]
    return outcomes(method, questions, engine)


def check(thing: str) -> list[Finding]:
    """Returns the findings of the contract test for a method or metric, named as on the command line.

    Raises:
        UserError: If there is no such thing, or it is neither a method nor a metric.
    """
    try:
        where = METHODS.find(thing).facts.where
    except UserError as no_method:
        try:
            where = METRICS.find(thing).facts.where
        except UserError:
            raise no_method from None
    if hasattr(load(where), "score"):
        return list(check_metric(METRICS.find(thing)))
    return list(check_method(METHODS.find(thing)))


def check_method(component: Component[MethodFacts]) -> Iterator[Finding]:
    """Yields the findings for a method: on one model of each family, single texts, pairs and a one-word text."""
    for name in FAMILIES:
        model, method = tiny(name, sharpness=SHARPNESS), component.build()
        before = _weights(model)
        first = explain(method, model, examples())
        failed = next((found.error for found in first if found.error), None)
        yield Finding(f"{name}: one finite score per word", failed)
        if failed:
            continue
        yield Finding(
            f"{name}: the same seed gives the same scores", _differs(first, explain(method, model, examples()))
        )
        if component.facts.deterministic:
            other = explain(method, model, examples(), seed=1)
            yield Finding(f"{name}: declared deterministic, another seed changes nothing", _differs(first, other))
        alone = explain(method, model, examples(), token_budget=0)
        yield Finding(f"{name}: the company in a batch changes nothing", _differs(first, alone, TOLERANCE))
        pairs = explain(method, model, examples(pairs=True))
        yield Finding(f"{name}: pairs of texts", next((found.error for found in pairs if found.error), None))
        yield Finding(f"{name}: declared cost is not exceeded", _overspent(component, model, first))
        yield Finding(f"{name}: the model is left as it was", None if _weights(model) == before else "weights changed")


def _differs(ours: Sequence[Outcome], theirs: Sequence[Outcome], tolerance: float = 0.0) -> str | None:
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a.scores is None or b.scores is None:
            return a.error or b.error
        gap = float(np.abs(a.scores - b.scores).max())
        if gap > tolerance * float(np.abs(a.scores).max()):
            return f"text {index}: scores differ by {gap:.3g}"
    return None


def _overspent(component: Component[MethodFacts], model: TextModel, found: Sequence[Outcome]) -> str | None:
    if not component.facts.forwards:
        return None
    layers = model.network.config.num_hidden_layers
    for one, example in zip(found, examples(), strict=True):
        encoded = model.encode(example)
        tokens = int((encoded.units >= 0).sum())
        forwards, backwards = per_example(component, encoded.n_units, layers, tokens)
        if one.cost.forwards > forwards or one.cost.backwards > backwards:
            return (
                f"{encoded.n_units} words cost {one.cost.forwards} forwards and {one.cost.backwards} backwards; "
                f"declared {forwards:g} and {backwards:g}"
            )
    return None


def _weights(model: TextModel) -> str:
    total = hashlib.blake2b()
    for name, tensor in sorted(model.network.state_dict().items()):
        total.update(name.encode() + tensor.cpu().numpy().tobytes())
    return total.hexdigest()


def check_metric(component: Component[MetricFacts]) -> Iterator[Finding]:
    """Yields the findings for a metric: on random, tied, constant and one-word attributions of a random model."""
    low, high = component.facts.bounds
    for name, case in cases().items():
        metric, scores = component.build(), case.scores.copy()
        try:
            value, again = _value(metric, case), _value(metric, case)
        except Failure as error:
            yield Finding(f"{name}: a number, or NaN with a reason", describe(error))
            continue
        yield Finding(f"{name}: a number, or NaN with a reason", None)
        inside = not np.isfinite(value.value) or low - 1e-12 <= value.value <= high + 1e-12
        yield Finding(f"{name}: inside [{low:g}, {high:g}]", None if inside else f"got {value.value:g}")
        same = np.array_equal([value.value], [again.value], equal_nan=True)
        yield Finding(f"{name}: asked twice, the same answer", None if same else f"{value.value} and {again.value}")
        kept = np.array_equal(scores, case.scores)
        yield Finding(f"{name}: the attribution is left as it was", None if kept else "scores changed in place")


def cases() -> dict[str, Case]:
    """Returns the contract's cases for metrics, by name."""
    rng = np.random.default_rng(0)
    shapes: dict[str, Callable[[], Floats]] = {
        "random scores": lambda: rng.normal(size=12),
        "tied scores": lambda: rng.integers(0, 2, size=9).astype(np.float64),
        "constant scores": lambda: np.zeros(7),
        "one word": lambda: rng.normal(size=1),
    }
    return {name: _case(make(), rng) for name, make in shapes.items()}


def _case(scores: Floats, rng: np.random.Generator) -> Case:
    marked = np.zeros((2, len(scores)), dtype=bool)
    marked[:, 0] = True
    return Case(
        scores=scores,
        signed=True,
        target=0,
        label=0,
        tie_orders=np.array([rng.permutation(len(scores)) for _ in range(5)]),
        operator="delete",
        rationales=marked,
        rationale_share=0.2,
        replicates=(scores + rng.normal(size=len(scores)), scores.copy()),
        cost=Cost(seconds=0.1, forwards=10),
    )


def _value(metric: Any, case: Case) -> Score:
    def answer(ask: Any) -> Floats:
        weights = np.linspace(-1.0, 2.0, case.n_units)
        return np.stack([ask.keep @ weights, np.zeros(len(ask.keep))], axis=1)

    with time_limit(PATIENCE, TIMED_OUT.format(PATIENCE)):
        result = metric.score(case)
        result = drive(result, answer) if hasattr(result, "send") else result
    score = as_score(result)
    if score.reason and not (isinstance(result, Score) and result.reason):
        raise ContractError(f"{score.reason}; without a number, return Score.undefined(REASON)")
    return score


def report(thing: str | None) -> bool:
    """Prints the findings for one thing, or for the whole catalogue; returns whether all is well."""
    from rich.console import Console

    console = Console(highlight=False)
    names = [thing] if thing else [*METHODS.entries(), *METRICS.entries()]
    passed = failed = 0
    for name in names:
        for finding in check(name):
            passed, failed = passed + (finding.problem is None), failed + (finding.problem is not None)
            if finding.problem is not None or thing:
                mark = "ok    " if finding.problem is None else "FAILED"
                console.print(f"{mark} {name}  {finding.check}  {finding.problem or ''}", markup=False, soft_wrap=True)
    console.print(f"{passed} passed, {failed} failed")
    return failed == 0
