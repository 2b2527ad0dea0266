"""The texts that metrics train and test models on, explained for the class that it names by the usual stages."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attrlab.bench.attribute import attribute
from attrlab.bench.data import Dataset
from attrlab.bench.executor import Executor, Progress
from attrlab.bench.facts import MethodFacts
from attrlab.bench.inputs import Example
from attrlab.bench.learner import SLICE, Texts
from attrlab.bench.plan import Block, Chunk, Plan
from attrlab.bench.predict import predict
from attrlab.bench.registry import Component
from attrlab.bench.score import TIE_ORDERS
from attrlab.bench.seeds import generator
from attrlab.bench.session import Options, Session
from attrlab.bench.store import FAILED, Store, key_of
from attrlab.bench.types import Case, Json

NewBar = Callable[[str, int], Progress]
"""Returns a bar for so many pieces of work."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """The training or the test texts of a block with the class that is to be explained, as a plan of their own."""

    plan: Plan
    block: Block


def sides_of(plan: Plan, block: Block, metric: Any, source: Dataset | None) -> tuple[Side, Side]:
    """Returns the texts that a metric trains on, from the training part, and those that it scores."""
    assert source is not None  # else the plan skips the column
    explain = plan.suite.explain.model_copy(update={"target": metric.explains})

    def side(dataset: Dataset, examples: tuple[Example, ...], chunk: int) -> Side:
        own = replace(block, dataset=dataset, examples=examples)
        suite = plan.suite.model_copy(update={"explain": explain, "chunk": chunk})
        return Side(plan=replace(plan, suite=suite, columns=(), blocks=(own,)), block=own)

    return (
        side(source, source.take(metric.examples or None), SLICE),
        side(block.dataset, block.examples, plan.suite.chunk),
    )


Slice = tuple[Side, Chunk, Store, Options]
"""Texts of a side, and where their explanations go."""


def explain(sides: Sequence[Side], store: Store, options: Options, bar: NewBar, executor: Executor) -> None:
    """Explains all texts by all methods, what is stored aside."""
    work: dict[str, Slice] = {}
    shared = executor.share(store)
    for side in sides:
        for chunk in side.plan.chunks(side.block):
            work[key_of(side.plan.predictions(side.block, chunk))] = (side, chunk, shared, options)
    progress = bar("explaining the texts to train on", len(work))
    for fresh, found in executor.each(_explain, list(work.values()), progress):
        store.fresh += fresh
        store.found += found


class Quiet:
    """Tells nobody: a slice counts as one piece of work, whatever it consists of."""

    def now(self, what: str) -> None:
        """What is being worked on."""

    def done(self, chunks: int = 1) -> None:
        """So many chunks are finished."""


def _explain(work: Slice, progress: Progress) -> tuple[int, int]:
    side, chunk, store, options = work
    fresh, found = store.fresh, store.found
    progress.now(f"{side.block.model} on {side.block.dataset.name}: explanations")
    session = Session(plan=side.plan, block=side.block, store=store, options=options, progress=Quiet())
    attribute(session, chunk, predict(session, chunk))
    progress.done()
    return store.fresh - fresh, store.found - found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What is stored of a side for one method.

    Attributes:
        texts: The texts that can be used.
        cases: The same with their explanations.
        skipped: Why a text cannot be used by anyone (no words, no label), by its id.
        problems: Why texts could not be explained, and how many.
    """

    texts: Texts
    cases: tuple[Case, ...]
    skipped: dict[str, str]
    problems: Counter[str]


def read(side: Side, method: Component[MethodFacts], store: Store) -> Reading:
    """Returns the texts of a side with the explanations of one method."""
    examples: list[Example] = []
    cases: list[Case] = []
    skipped: dict[str, str] = {}
    problems: Counter[str] = Counter()
    for chunk in side.plan.chunks(side.block):
        predictions = store.read("predictions", key_of(side.plan.predictions(side.block, chunk)))
        rows = store.read("attributions", key_of(side.plan.attributions(side.block, chunk, method)))
        for example, prediction, row in zip(chunk.examples, predictions, rows, strict=True):
            if prediction["status"] != "ok":
                skipped[example.id] = prediction["reason"]
            elif row["status"] == "ok":
                examples.append(example)
                cases.append(_case(prediction, row, signed=method.facts.signed))
            else:
                problems[row["reason"] if row["status"] == "skipped" else FAILED + row["reason"]] += 1
    labels = np.array([-1 if case.label is None else case.label for case in cases], dtype=np.int64)
    targets = np.array([case.target for case in cases], dtype=np.int64)
    texts = Texts(examples=tuple(examples), labels=labels, targets=targets)
    return Reading(texts=texts, cases=tuple(cases), skipped=skipped, problems=problems)


def _case(prediction: Json, row: Json, *, signed: bool) -> Case:
    rng = generator("ties", prediction["example"])
    return Case(
        scores=np.array(row["scores"], dtype=np.float64),
        signed=signed,
        target=prediction["target"],
        label=prediction["label"],
        tie_orders=np.array([rng.permutation(len(row["scores"])) for _ in range(TIE_ORDERS)], dtype=np.int64),
        example=prediction["example"],
    )
