"""What a run will compute: models x data x methods x metrics, the chunks of each cell, and what is skipped and why."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import data
from attrlab.bench.checkpoint import Checkpoint
from attrlab.bench.data import Dataset
from attrlab.bench.errors import UserError
from attrlab.bench.registry import METHODS, METRICS, Component, MethodFacts, MetricFacts
from attrlab.bench.store import key_of
from attrlab.bench.suite import Suite
from attrlab.bench.types import Example, Json

CALIBRATION = 256
"""Examples on which co-perturbation learns the usual spread of a model's output."""

Replicate = tuple[str, int]
"""``("", 0)`` for the explanation itself, ``("seed", i)`` or ``("noise", i)`` for a re-explanation."""

FIRST: Replicate = ("", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A metric under one removal operator (None for metrics that ask nothing)."""

    metric: Component[MetricFacts]
    operator: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """One model on one data set.

    Attributes:
        model: Name of the model.
        dataset: The data, whole part.
        examples: Those that are explained, in the fixed order.
        calibration: Examples for calibration, and the fingerprint of the part they come from.
        checkpoint: The model on disk; None in a dry run of a mini that is not trained yet.
        classes: Class index of the model for each label index of the data set.
        reason: Why the whole block is skipped, or None.
    """

    model: str
    dataset: Dataset
    examples: tuple[Example, ...]
    calibration: tuple[tuple[Example, ...], str]
    checkpoint: Checkpoint | None
    classes: tuple[int, ...]
    reason: str | None = None

    @property
    def size(self) -> int:
        """Number of weights of the model, 0 if it is not there."""
        return self.checkpoint.parameters if self.checkpoint else 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """A fixed slice of a block's examples.

    Attributes:
        start: Index of its first example in the block.
        examples: The examples.
    """

    start: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Everything a run is going to compute."""

    suite: Suite
    methods: tuple[Component[MethodFacts], ...]
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]

    @property
    def metrics(self) -> tuple[Component[MetricFacts], ...]:
        """The metrics, once each, in order."""
        return tuple({column.metric.name: column.metric for column in self.columns}.values())

    @property
    def live(self) -> list[Block]:
        """The blocks that are not skipped as a whole."""
        return [block for block in self.blocks if block.reason is None]

    def chunks(self, block: Block) -> list[Chunk]:
        """Returns the slices of a block."""
        size = self.suite.chunk
        return [
            Chunk(start=start, examples=block.examples[start : start + size])
            for start in range(0, len(block.examples), size)
        ]

    def again(self, chunk: Chunk) -> Chunk:
        """Returns the part of a slice on which metrics that explain again run; may be empty."""
        count = max(0, self.suite.re_explain.examples - chunk.start)
        return Chunk(start=chunk.start, examples=chunk.examples[:count])

    def replicates(self, kind: str) -> list[Replicate]:
        """Returns the re-explanations that a metric of this kind compares with the first one."""
        count = {"seed": self.suite.re_explain.seeds - 1, "noise": self.suite.re_explain.draws}.get(kind, 0)
        return [(kind, index) for index in range(1, count + 1)]

    def rows(self, column: Column, chunk: Chunk) -> Chunk:
        """Returns the examples of a slice that a column scores."""
        return self.again(chunk) if column.metric.facts.replicates else chunk

    def skip(self, block: Block, method: Component[MethodFacts], column: Column) -> str | None:
        """Returns why a column does not apply to a method on a block, or None."""
        kind, needs = block.dataset.info.rationales, column.metric.facts.needs
        if "rationales" in needs and not kind:
            return "the data set has no rationales"
        if "planted" in needs and kind != "planted":
            return "no features were planted in this data set"
        if "embeddings" in needs and not method.facts.needs:
            return "the method reads token ids: noise on the embeddings does not reach it"
        return None

    def predictions(self, block: Block, chunk: Chunk) -> Json:
        """Returns what the key of a slice's predictions is made of."""
        assert block.checkpoint is not None
        return {
            "kind": "predictions",
            "model": block.checkpoint.hash,
            "dataset": block.dataset.fingerprint,
            "examples": [example.id for example in chunk.examples],
            "classes": list(block.classes),
            "unit": self.suite.unit,
            "precision": "float32",
        }

    def attributions(
        self, block: Block, chunk: Chunk, method: Component[MethodFacts], replicate: Replicate = FIRST
    ) -> Json:
        """Returns what the key of a slice's attributions is made of."""
        explain = self.suite.explain
        return self.predictions(block, chunk) | {
            "kind": "attributions",
            "method": method.key(),
            "seed": self.suite.seed,
            "replicate": list(replicate),
            "target": "predicted",
            "scalar": explain.scalar,
            "operator": explain.operator,
            "calibration": block.calibration[1] if "calibration" in method.facts.needs else None,
        }

    def scores(self, block: Block, chunk: Chunk, method: Component[MethodFacts], column: Column) -> Json:
        """Returns what the key of a slice's scores is made of."""
        part = self.rows(column, chunk)
        return {
            "kind": "scores",
            "attributions": key_of(self.attributions(block, chunk, method)),
            "replicates": [
                key_of(self.attributions(block, part, method, replicate))
                for replicate in self.replicates(column.metric.facts.replicates)
            ],
            "metric": column.metric.key(),
            "operator": column.operator,
        }


def make(
    suite: Suite,
    data_dir: Path | None,
    checkpoint_for: Callable[[str, Dataset], Checkpoint | None],
) -> Plan:
    """Returns the plan of a suite: names resolved, data loaded, models found (or trained by ``checkpoint_for``).

    Args:
        suite: The settings.
        data_dir: Folder with local data sets.
        checkpoint_for: Returns the checkpoint of a mini for a data set, or None where it is not to be trained.

    Raises:
        UserError: If the suite lists nothing to run, or a name, parameter, file or label is wrong.
    """
    methods = tuple(METHODS.find(text) for text in suite.methods)
    metrics = [METRICS.find(text) for text in suite.metrics]
    for method in methods:
        _check_offers(method, ("ask", "attribute"))
    for metric in metrics:
        _check_offers(metric, ("score",))
    for what, listed in (("model", suite.models), ("dataset", suite.datasets), ("method", suite.methods)):
        if not listed:
            raise UserError(f"nothing to run: no {what} is named; add --{what} NAME or choose a suite (attrlab list)")
    columns = tuple(
        Column(metric=metric, operator=operator)
        for metric in metrics
        for operator in (suite.operators if metric.facts.asks else [None])
    )
    datasets = [data.load(name, data_dir=data_dir) for name in dict.fromkeys(suite.datasets)]
    calibrated = any("calibration" in method.facts.needs for method in methods)
    blocks = tuple(
        _block(name, dataset, suite, data_dir, checkpoint_for, calibrated=calibrated)
        for name in dict.fromkeys(suite.models)
        for dataset in datasets
    )
    return Plan(suite=suite, methods=methods, columns=columns, blocks=blocks)


def _check_offers(component: Component[Any], functions: tuple[str, ...]) -> None:
    """Builds a component, so that bad parameters show now, and refuses what is no method or metric."""
    if not any(hasattr(component.build(), function) for function in functions):
        raise UserError(
            f"{component.id!r} has no {'() and no '.join(functions)}(); see 'Bring your method' in the README"
        )


def _block(
    name: str,
    dataset: Dataset,
    suite: Suite,
    data_dir: Path | None,
    checkpoint_for: Callable[[str, Dataset], Checkpoint | None],
    *,
    calibrated: bool,
) -> Block:
    reason, checkpoint = None, None
    classes = tuple(range(len(dataset.info.labels)))
    # A finished model needs no training part: a folder with the evaluation file alone is enough.
    train = training_part(dataset, data_dir) if calibrated or checkpoints.is_mini(name) else None
    if not checkpoints.is_mini(name):
        checkpoint = checkpoints.find(name)
        classes = class_of_labels(checkpoint, dataset)
    elif train is None:
        reason = "the data set has no training part to train a mini on"
    else:
        checkpoint = checkpoint_for(name, dataset)
    source = train or dataset
    return Block(
        model=name,
        dataset=dataset,
        examples=dataset.take(suite.limit),
        calibration=(source.take(CALIBRATION), source.fingerprint),
        checkpoint=checkpoint,
        classes=classes,
        reason=reason,
    )


def training_part(dataset: Dataset, data_dir: Path | None) -> Dataset | None:
    """Returns the part of a data set that models are trained on, or None if it has none."""
    if dataset.info.train is None:
        return None
    return data.load(f"{dataset.info.name}:{dataset.info.train}", data_dir=data_dir)


def class_of_labels(checkpoint: Checkpoint, dataset: Dataset) -> tuple[int, ...]:
    """Returns the model's class index for each label of a data set: by name, or by position where it has no names.

    Raises:
        UserError: If the model has fewer classes than the data set, or none of that name.
    """
    config: dict[str, Any] = json.loads((checkpoint.folder / "config.json").read_text("utf-8"))
    named = config.get("id2label") or {str(index): f"LABEL_{index}" for index in range(config.get("num_labels", 2))}
    names = [str(named[str(index)]).casefold() for index in range(len(named))]
    labels = dataset.info.labels
    if len(labels) > len(names):
        raise UserError(
            f"data set {dataset.name!r} has labels {', '.join(labels)}, model {checkpoint.name!r} only "
            f"{len(names)} classes: label {len(names)} is out of range; use a model trained on this data set"
        )
    if all(re.fullmatch(r"label_\d+", name) for name in names):
        return tuple(range(len(labels)))
    for label in labels:
        if label.casefold() not in names:
            raise UserError(
                f"label {label!r} of data set {dataset.name!r} is absent from the label names of model "
                f"{checkpoint.name!r}: {', '.join(names)}; use a model trained on this data set"
            )
    return tuple(names.index(label.casefold()) for label in labels)
