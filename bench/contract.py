"""The public contract test for methods and metrics: ``attrlab check``, and a plug-in's own tests.

A method is run on untrained models at the geometry of the nine minis: what the contract asks must hold for any weights.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
import torch

from attrlab.bench import generator
from attrlab.bench.batch import Batch
from attrlab.bench.contract_metrics import check_metric
from attrlab.bench.errors import UserError
from attrlab.bench.estimate import per_example
from attrlab.bench.explain import Outcome
from attrlab.bench.facts import MethodFacts
from attrlab.bench.finding import Finding
from attrlab.bench.model import TextModel
from attrlab.bench.registry import METHODS, METRICS, Component, load
from attrlab.bench.testing import FAMILIES, SHARPNESS, examples, explain, tiny
from attrlab.bench.zoo import BY_MINI

TOLERANCE = 1e-5
"""Largest change, relative to the largest score, that other company in a batch may make."""

CALIBRATION = 16
"""Embedded examples that methods may learn from beforehand."""


class Tally(NamedTuple):
    """What became of the cells of a check."""

    passed: int
    skipped: int
    failed: int


def check(thing: str) -> list[Finding]:
    """Returns the findings for a method or metric, named as on the command line.

    Raises:
        UserError: If there is no such thing, or it is neither a method nor a metric.
    """
    try:
        method = METHODS.find(thing)
    except UserError as no_method:
        try:
            return list(check_metric(METRICS.find(thing)))
        except UserError:
            raise no_method from None
    if any(hasattr(load(method.facts.where), name) for name in ("ask", "attribute")) or method.id in METHODS.entries():
        return list(check_method(method))
    return list(check_metric(METRICS.find(thing)))


def check_method(component: Component[MethodFacts], minis: Iterable[str] = FAMILIES) -> Iterator[Finding]:
    """Yields the findings for a method: on tiny models, single texts, pairs and a one-word text."""
    for mini in minis:
        yield from _on(component, mini)


def _on(component: Component[MethodFacts], mini: str) -> Iterator[Finding]:
    model, method = _model(mini), component.build()
    before = _weights(model)
    with _watched(model) as touched:
        first = explain(method, model, examples())
    failed = next((found.error for found in first if found.error and not found.skipped), None)
    reasons = {found.error for found in first if found.skipped}
    if len(reasons) == 1 and all(found.skipped for found in first):
        yield Finding(mini, "does not apply", reasons.pop(), skipped=True)
        return
    yield Finding(mini, "one finite score per word", failed)
    if failed:
        return
    yield Finding(mini, "special tokens are left alone", next(iter(touched), None))
    again = explain(method, model, examples())
    yield Finding(mini, "the same seed gives the same scores", _differs(first, again))
    if component.facts.deterministic:
        other = explain(method, model, examples(), seed=1)
        yield Finding(mini, "declared deterministic, another seed changes nothing", _differs(first, other))
    alone = explain(method, model, examples(), token_budget=0)
    yield Finding(mini, "the company in a batch changes nothing", _differs(first, alone, TOLERANCE))
    pairs = explain(method, model, examples(pairs=True))
    yield Finding(
        mini, "pairs of texts", next((found.error for found in pairs if found.error and not found.skipped), None)
    )
    yield Finding(mini, "cost is what is declared", _misstated(component, model, first))
    yield Finding(mini, "the model is left as it was", None if _weights(model) == before else "weights changed")


@cache
def _model(mini: str) -> TextModel:
    model = tiny(mini, sharpness=SHARPNESS)
    model.calibration = [model.encode(example) for example in generator.lexicon("dev")[:CALIBRATION]]
    return model


def _differs(ours: Sequence[Outcome], theirs: Sequence[Outcome], tolerance: float = 0.0) -> str | None:
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a.skipped and b.skipped:
            continue
        if a.scores is None or b.scores is None:
            return a.error or b.error
        gap = float(np.abs(a.scores - b.scores).max())
        if gap > tolerance * float(np.abs(a.scores).max()):
            return f"text {index}: scores differ by {gap:.3g}"
    return None


def _misstated(component: Component[MethodFacts], model: TextModel, found: Sequence[Outcome]) -> str | None:
    """Compares counted rows with the declared formulas: equal, or not above where these are a bound."""
    if not component.facts.forwards:
        return None
    layers = model.network.config.num_hidden_layers
    for one, example in zip(found, examples(), strict=True):
        if one.skipped:
            continue
        encoded = model.encode(example)
        declared = per_example(component, encoded.n_units, layers, int((encoded.units >= 0).sum()))
        counted = (one.cost.forwards, one.cost.backwards)
        within = counted[0] <= declared[0] and counted[1] <= declared[1]
        if not within or (counted != declared and not component.facts.bound):
            return (
                f"{encoded.n_units} words cost {counted[0]} forwards and {counted[1]} backwards; "
                f"declared {'at most ' if component.facts.bound else ''}{declared[0]:g} and {declared[1]:g}"
            )
    return None


@contextmanager
def _watched(model: TextModel) -> Iterator[list[str]]:
    """Notes forward passes in which a special token is missing, or its embedding is not its own."""
    texts = [model.encode(example) for example in examples()]
    templates = {tuple(one.ids[one.special]) for one in texts}
    ids = {int(index) for template in templates for index in template}
    touched: list[str] = []

    def forward(batch: Batch, embeds: Any = None) -> Any:
        if embeds is None and batch.offset is None:
            for row, last in zip(batch.ids.tolist(), batch.last.tolist(), strict=True):
                found = Counter(index for index in row[: last + 1] if index in ids)
                if not any(not Counter(template) - found for template in templates):
                    touched.append("a special token was removed")
        elif embeds is not None and batch.scorable.any():
            own = model.network.get_input_embeddings()(batch.ids)
            special = (batch.mask == 1) & ~batch.scorable
            if not torch.equal(embeds.detach()[special], own[special]):
                touched.append("the embedding of a special token was changed")
        return plain(batch, embeds)

    plain = model.forward
    model.forward = forward  # type: ignore[method-assign]
    try:
        yield touched
    finally:
        del model.forward  # the class's own shows again


def _weights(model: TextModel) -> str:
    total = hashlib.blake2b()
    for name, tensor in sorted(model.network.state_dict().items()):
        total.update(name.encode() + tensor.cpu().numpy().tobytes())
    return total.hexdigest()


def quick(name: str) -> Component[MethodFacts]:
    """Returns a method of the catalogue at the parameters that cut its cost to a few dozen passes."""
    component = METHODS.find(name)
    return replace(component, params=dict(sorted(component.facts.quick.items())))


def check_all(show: Callable[[str, Finding], None]) -> tuple[Tally, Tally]:
    """Checks the whole catalogue, every method at its quick parameters on all nine minis; returns the tallies.

    Args:
        show: Called with every finding that is a problem.

    Returns:
        The cells (method, mini), and the metrics.
    """

    def found(name: str, findings: Iterable[Finding]) -> list[Finding]:
        bad = [finding for finding in findings if finding.problem is not None]
        for finding in bad:
            show(name, finding)
        return bad

    cells = [found(name, check_method(quick(name), [mini])) for name in METHODS.entries() for mini in BY_MINI]
    metrics = list(starmap(found, ((name, check_metric(METRICS.find(name))) for name in METRICS.entries())))
    return _tally(cells), _tally(metrics)


def _tally(cells: Sequence[Sequence[Finding]]) -> Tally:
    skipped = sum(any(finding.skipped for finding in bad) for bad in cells)
    return Tally(passed=sum(not bad for bad in cells), skipped=skipped, failed=sum(map(bool, cells)) - skipped)


def report(thing: str | None) -> bool:
    """Prints the findings for one thing, or what is wrong in the whole catalogue; returns whether all is well."""
    from rich.console import Console

    console = Console(highlight=False)

    def show(name: str, found: Finding) -> None:
        mark = "ok     " if found.problem is None else "skipped" if found.skipped else "FAILED "
        line = f"{mark} {name}  {found.place}: {found.check}  {found.problem or ''}"
        console.print(line.rstrip(), markup=False, soft_wrap=True)

    if thing is not None:
        findings = check(thing)
        for finding in findings:
            show(thing, finding)
        tally = _tally([[finding] if finding.problem else [] for finding in findings])
        console.print(f"{tally.passed} passed, {tally.skipped} skipped, {tally.failed} failed")
        return tally.failed == 0
    cells, metrics = check_all(show)
    console.print(f"methods x minis: {cells.passed} passed, {cells.skipped} skipped, {cells.failed} failed")
    console.print(f"metrics: {metrics.passed} passed, {metrics.skipped} skipped, {metrics.failed} failed")
    return cells.failed + metrics.failed == 0
