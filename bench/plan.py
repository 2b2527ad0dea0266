"""What a run will compute: models x data x methods x metrics, the chunks of each cell, and what is skipped and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from attrlab.bench import data, replicas, trials
from attrlab.bench.checkpoint import Checkpoint
from attrlab.bench.data import Dataset
from attrlab.bench.errors import UserError
from attrlab.bench.facts import MethodFacts, MetricFacts
from attrlab.bench.inputs import Example
from attrlab.bench.registry import METHODS, METRICS, Component
from attrlab.bench.replicas import FIRST, KINDS, Replicate
from attrlab.bench.store import key_of
from attrlab.bench.suite import Suite
from attrlab.bench.supplies import CheckpointFor, needs_training_part, supply
from attrlab.bench.types import Json

CALIBRATION = 256
"""Training texts that a model is calibrated on and that removals are compared with."""

Learned = tuple[Dataset | None, str | None]
"""The training part of a data set, and why there is none."""


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
        filler: The masked language model that fills words; None where nothing asks for it.
        shuffled: The model trained on permuted labels; None where nothing asks for it.
        altered: Number of models that each wanted kind of re-explanations makes of the model.
        lacks: Kinds of re-explanations that there are none of here, and why.
        no_training: Why there are no training texts that removals could be compared with, or None.
    """

    model: str
    dataset: Dataset
    examples: tuple[Example, ...]
    calibration: tuple[tuple[Example, ...], str]
    checkpoint: Checkpoint | None
    classes: tuple[int, ...]
    reason: str | None = None
    filler: Checkpoint | None = None
    shuffled: Checkpoint | None = None
    altered: Mapping[str, int] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    no_training: str | None = None

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
    def operators(self) -> frozenset[str]:
        """The removal operators that methods and metrics are asked under."""
        return _operators(self.suite, self.columns)

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

    def replicates(self, block: Block, metric: Component[MetricFacts]) -> list[Replicate]:
        """Returns the re-explanations that a metric compares with the first one."""
        return [(kind, index) for kind in metric.facts.replicates for index in range(1, self._count(block, kind) + 1)]

    def _count(self, block: Block, kind: str) -> int:
        count = KINDS[kind].count
        return block.altered[kind] if count is None else count(self.suite.re_explain)

    def rows(self, column: Column, chunk: Chunk) -> Chunk:
        """Returns the examples of a slice that a column scores."""
        return self.again(chunk) if column.metric.facts.replicates else chunk

    def skip(self, block: Block, method: Component[MethodFacts], column: Column) -> str | None:
        """Returns why a column does not apply to a method on a block, or None."""
        kind, needs = block.dataset.info.rationales, column.metric.facts.needs
        if "complete" in needs and not method.facts.complete:
            return "the method does not claim that its scores add up"
        if "rationales" in needs and not kind:
            return "the data set has no rationales"
        if "planted" in needs and kind != "planted":
            return "no features were planted in this data set"
        if column.metric.facts.trains and block.dataset.info.train is None:
            return "the data set has no training part"
        for again in column.metric.facts.replicates:
            if reason := block.lacks.get(again) or replicas.obstacle(again, method.facts):
                return reason
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
            "target": self.suite.explain.target,
            "unit": self.suite.unit,
            "precision": self.suite.precision,
        }

    def attributions(
        self, block: Block, chunk: Chunk, method: Component[MethodFacts], replicate: Replicate = FIRST
    ) -> Json:
        """Returns what the key of a slice's attributions is made of."""
        explain, kind = self.suite.explain, replicate[0]
        return self.predictions(block, chunk) | {
            "kind": "attributions",
            "method": method.key(),
            "seed": self.suite.seed,
            "replicate": list(replicate),
            "scalar": explain.scalar,
            "operator": explain.operator,
            "calibration": block.calibration[1] if "calibration" in method.facts.needs else None,
            **filling(block, explain.operator),
            **_changing(block, kind),
        }

    def scores(self, block: Block, chunk: Chunk, method: Component[MethodFacts], column: Column) -> Json:
        """Returns what the key of a slice's scores is made of."""
        if column.metric.facts.trains:
            study = key_of(trials.study_of(self, block, method, column))
            return {"kind": "scores", "study": study, "examples": [example.id for example in chunk.examples]}
        part = self.rows(column, chunk)
        return {
            "kind": "scores",
            "attributions": key_of(self.attributions(block, chunk, method)),
            "replicates": [
                key_of(self.attributions(block, part, method, replicate))
                for replicate in self.replicates(block, column.metric)
            ],
            "metric": column.metric.key(),
            "operator": column.operator,
            **filling(block, *column.metric.facts.operators, column.operator),
        }


def _operators(suite: Suite, columns: Iterable[Column]) -> frozenset[str]:
    own = {operator for column in columns for operator in column.metric.facts.operators}
    return frozenset({suite.explain.operator, *own, *(column.operator for column in columns if column.operator)})


def filling(block: Block, *operators: str | None) -> Json:
    """Returns what random operators draw from, for a key; nothing for the others."""
    drawn: Json = {}
    if "random" in operators:
        drawn["filling"] = block.calibration[1]
    if "mlm" in operators:
        assert block.filler is not None
        drawn["filling" if "random" not in operators else "filler"] = block.filler.hash
    return drawn


def _changing(block: Block, kind: str) -> Json:
    """What shapes a re-explanation beside its kind and index, for a key; nothing for the explanation itself."""
    if not kind or kind == "seed":  # the seed alone is changed
        return {}
    models = {"paraphrase": block.filler, "labels": block.shuffled}
    used = models.get(kind)
    return {"change": [KINDS[kind].version, used.hash if used else None]}


def make(suite: Suite, data_dir: Path | None, checkpoint_for: CheckpointFor) -> Plan:
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
        method.check_offers("ask", "attribute")
    for metric in metrics:
        metric.check_offers("study" if metric.facts.trains else "score")
        replicas.check(metric.facts.replicates, metric.name)
    for what, listed in (("model", suite.models), ("dataset", suite.datasets), ("method", suite.methods)):
        if not listed:
            raise UserError(f"nothing to run: no {what} is named; add --{what} NAME or choose a suite (attrlab list)")
    columns = tuple(
        Column(metric=metric, operator=operator)
        for metric in metrics
        for operator in (suite.operators if metric.facts.asks else [None])
    )
    datasets = [data.load(name, data_dir=data_dir) for name in dict.fromkeys(suite.datasets)]
    operators = _operators(suite, columns)
    if "mlm" in operators and suite.unit != "word":
        raise UserError(f"operator 'mlm' fills whole words: unit={suite.unit!r}; allowed: 'word'")
    wanted = operators | {kind for metric in metrics for kind in metric.facts.replicates}
    needed = needs_training_part(suite, methods, metrics, wanted)
    compared = any(column.operator for column in columns)
    learned = {one.name: _learned(one, data_dir, needed=needed, compared=compared) for one in datasets}
    blocks = tuple(
        _block(name, dataset, learned[dataset.name], suite, wanted, checkpoint_for)
        for name in dict.fromkeys(suite.models)
        for dataset in datasets
    )
    return Plan(suite=suite, methods=methods, columns=columns, blocks=blocks)


def _learned(dataset: Dataset, data_dir: Path | None, *, needed: bool, compared: bool) -> Learned:
    """Returns the training part if something asks for it; one that is only compared with may be missing."""
    try:
        train = training_part(dataset, data_dir) if needed or compared else None
    except UserError:
        if needed:
            raise
        part = f"{dataset.info.name}:{dataset.info.train}"  # the error itself names folders: not for a public page
        return None, f"the training part cannot be read (--dataset {part} says why)"
    return train, None if train else "the data set has no training part"


def _block(
    name: str, dataset: Dataset, learned: Learned, suite: Suite, wanted: frozenset[str], checkpoint_for: CheckpointFor
) -> Block:
    train, no_training = learned
    source = train or dataset
    return Block(
        model=name,
        dataset=dataset,
        examples=dataset.take(suite.limit),
        calibration=(source.take(CALIBRATION), source.fingerprint),
        no_training=no_training,
        **supply(name, dataset, train, suite, wanted, checkpoint_for)._asdict(),
    )


def training_part(dataset: Dataset, data_dir: Path | None) -> Dataset | None:
    """Returns the part of a data set that models are trained on, or None if it has none."""
    if dataset.info.train is None:
        return None
    return data.load(f"{dataset.info.name}:{dataset.info.train}", data_dir=data_dir)
