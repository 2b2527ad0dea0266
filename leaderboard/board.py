"""What a results folder holds, typed: the input of every table and of the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attrlab.bench.types import Floats

Facts = dict[str, Any]
"""A JSON object whose fields are only shown, never computed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What was run: the settings that every table needs beside it.

    Attributes:
        name: Name of the suite.
        title: Heading of the page.
        description: What the suite is for.
        limit: Examples per data set, or None for all.
        seed: Seed of every draw.
        unit: ``word`` or ``token``.
        precision: In which the models answered questions.
        timeout: Seconds a method may take per example, or None.
        operators: Removal operators of the erasure metrics.
        explain: Target, scalar and operator that the methods explain.
        re_explain: Examples, seeds and draws of the metrics that explain again.
    """

    name: str
    title: str = ""
    description: str = ""
    limit: int | None = None
    seed: int = 0
    unit: str = "word"
    precision: str = "float32"
    timeout: float | None = None
    operators: tuple[str, ...] = ()
    explain: Facts = field(default_factory=dict)
    re_explain: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """With what it was run: versions, commit and machine."""

    attrlab: str = ""
    versions: dict[str, Any] = field(default_factory=dict)
    python: str = ""
    platform: str = ""
    git: Facts | None = None
    device: str = ""
    threads: int | None = None
    started: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodCard:
    """Facts of one method; ``name`` carries the parameters that differ from the defaults.

    ``needs`` is what it must be given of the model, empty if answers are enough; None if nobody noted it.
    """

    name: str
    id: str
    params: Facts = field(default_factory=dict)
    version: str = ""
    origin: str = ""
    family: str = ""
    summary: str = ""
    signed: bool = True
    deterministic: bool = False
    reference: str = ""
    forwards: str = ""
    backwards: str = ""
    needs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCard:
    """Facts of one metric: direction, range (None is unbounded), across what values compare."""

    name: str
    id: str
    params: Facts = field(default_factory=dict)
    version: str = ""
    origin: str = ""
    family: str = ""
    summary: str = ""
    higher_is_better: bool | None
    bounds: tuple[float | None, ...] = (None, None)
    comparable: str = ""
    reference: str = ""
    measured: bool = False
    asks: bool = False
    forwards: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the tables: a metric under a removal operator (None: it removes nothing)."""

    metric: str
    operator: str | None
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Facts of one model on one data set (small models are trained per data set).

    ``classes`` has the model's class index for each label of the data set; empty where they are the same.
    """

    name: str
    id: str = ""
    dataset: str
    family: str = ""
    parameters: int | None = None
    hash: str | None = None
    classes: tuple[int, ...] = ()
    trained: Facts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCard:
    """Facts of one data set part; ``rationales`` is ``planted``, ``human``, ``derived`` or empty."""

    name: str
    summary: str = ""
    labels: tuple[str, ...] = ()
    rationales: str = ""
    n_total: int = 0
    n_used: int = 0
    fingerprint: str = ""
    reference: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()

    def names(self, model: ModelCard) -> dict[int, str]:
        """Returns the label that each class of a model stands for; the model may have them in another order."""
        return dict(zip(model.classes or range(len(self.labels)), self.labels, strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the model said of one example; ``rationale`` has one row of 0 and 1 per annotator.

    ``target`` is the class that is explained, ``probability`` the model's for it. ``weights`` is the share of
    annotators who marked each word, where it is not known who marked what; ``lost`` counts marked words beyond the
    model's length.
    """

    example: str
    status: str
    reason: str | None = None
    words: tuple[str, ...] = ()
    texts: tuple[int, ...] = ()
    target: int | None = None
    label: int | None = None
    probability: float | None = None
    correct: bool | None = None
    tokens: int | None = None
    dropped: int | None = None
    rationale: tuple[tuple[int, ...], ...] | None = None
    weights: tuple[float, ...] | None = None
    lost: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttributionRow:
    """What a method said of one example; ``scores`` has one number per word, None unless status is ``ok``.

    ``forwards`` and ``backwards`` count the inputs that it sent through the model; None where nothing was counted.
    """

    example: str
    status: str
    reason: str | None = None
    scores: Floats | None = None
    forwards: int | None = None
    backwards: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ColumnScores:
    """The scores of one cell in one column.

    Attributes:
        reason: Why the metric does not apply to this cell at all, or None.
        complete: All chunks are on disk.
        examples: Ids of the examples, in stored order.
        values: One value per example, NaN where there is none, ``(n_examples,)``.
        reasons: Why there is no value, per example.
    """

    reason: str | None = None
    complete: bool = True
    examples: tuple[str, ...] = ()
    values: Floats = field(default_factory=lambda: np.zeros(0))
    reasons: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """One method on one model and data set: rows that are on disk, and scores per column.

    ``scores`` is empty when ``reason`` says why the method was skipped as a whole.
    """

    model: str
    dataset: str
    method: str
    reason: str | None
    predictions: tuple[Prediction, ...]
    attributions: Sequence[AttributionRow]
    scores: tuple[ColumnScores, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How far a removal operator takes the inputs of a model off its training texts.

    Attributes:
        share: Share of inputs, words of which were removed, that lie farther from the training texts than 99 % of
            whole texts do; None if it is not known.
        reason: Why it is not known; None where it is, or where it was not computed yet.
    """

    model: str
    dataset: str
    operator: str
    share: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settings:
    """What a run was made of, in the order of its ``run.json``."""

    suite: Suite
    provenance: Provenance
    methods: tuple[MethodCard, ...]
    metrics: tuple[MetricCard, ...]
    columns: tuple[Column, ...]
    models: tuple[ModelCard, ...]
    datasets: tuple[DatasetCard, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Board(Settings):
    """Everything a results folder holds, in the order of its ``run.json``."""

    cells: tuple[Cell, ...]
    shifts: tuple[Shift, ...] = ()

    @property
    def floor(self) -> str | None:
        """Name of the random method, the floor that every other method must beat; None if it was not run."""
        return next((method.name for method in self.methods if method.id == "random"), None)

    def ordered_methods(self) -> tuple[MethodCard, ...]:
        """Returns the methods with the floor first."""
        return tuple(sorted(self.methods, key=lambda method: method.name != self.floor))

    def metric(self, name: str) -> MetricCard:
        """Returns the facts of a metric."""
        return next(metric for metric in self.metrics if metric.name == name)

    def shown(self, timings: bool = True) -> tuple[int, ...]:
        """Returns the indices of the columns to show; ``timings=False`` leaves out what is measured, not computed."""
        return tuple(i for i, column in enumerate(self.columns) if timings or not self.metric(column.metric).measured)

    def blocks(self) -> tuple[tuple[DatasetCard, tuple[ModelCard, ...]], ...]:
        """Returns the data sets, each with its models."""
        return tuple(
            (dataset, tuple(model for model in self.models if model.dataset == dataset.name))
            for dataset in self.datasets
        )
