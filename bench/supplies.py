"""The models that a run needs for one model name and data set: found, or trained on the spot."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench.checkpoint import Checkpoint
from attrlab.bench.data import Dataset
from attrlab.bench.errors import UserError
from attrlab.bench.facts import MethodFacts, MetricFacts
from attrlab.bench.operators import FILLER
from attrlab.bench.registry import Component
from attrlab.bench.replicas import ALTERED
from attrlab.bench.suite import Suite

PERMUTED = " on permuted labels"
"""Added to the name of a mini where one is wanted that is trained on permuted labels."""

CheckpointFor = Callable[[str, Dataset], Checkpoint | None]
"""Returns the checkpoint of a mini for a data set, or None where it is not to be trained.

The name is that of a mini, the same and ``PERMUTED``, or ``FILLER``.
"""


class Supplies(NamedTuple):
    """What there is for a model on a data set.

    Attributes:
        checkpoint: The model on disk; None in a dry run of a mini that is not trained yet.
        classes: Class index of the model for each label index of the data set.
        reason: Why nothing can be run, or None.
        filler: The masked language model that fills words; None where nothing asks for it.
        shuffled: The same model trained on permuted labels; None where nothing asks for it.
        altered: Number of models that each wanted kind of re-explanations makes of this one.
        lacks: Wanted kinds of re-explanations that there are none of here, and why.
    """

    checkpoint: Checkpoint | None
    classes: tuple[int, ...]
    reason: str | None
    filler: Checkpoint | None
    shuffled: Checkpoint | None
    altered: Mapping[str, int]
    lacks: Mapping[str, str]


def needs_training_part(
    suite: Suite,
    methods: Iterable[Component[MethodFacts]],
    metrics: Iterable[Component[MetricFacts]],
    wanted: frozenset[str],
) -> bool:
    """Whether something is to be trained or calibrated. A finished model needs nothing but the evaluation file."""
    trains = any(metric.facts.trains for metric in metrics) or any(map(checkpoints.is_mini, suite.models))
    calibrates = "random" in wanted or any("calibration" in method.facts.needs for method in methods)
    return trains or calibrates or (_fills(wanted) and suite.filler == FILLER)


def supply(
    name: str,
    dataset: Dataset,
    train: Dataset | None,
    suite: Suite,
    wanted: frozenset[str],
    checkpoint_for: CheckpointFor,
) -> Supplies:
    """Returns the models of one name on a data set.

    Args:
        name: A mini, folder or hub id.
        dataset: The data that is explained.
        train: Its training part, where there is one and it is needed.
        suite: The settings.
        wanted: Removal operators that are asked under, and kinds of re-explanations that are compared.
        checkpoint_for: Finds or trains a mini.

    Raises:
        UserError: If there is no such model, or it does not fit the data set.
    """
    checkpoint, classes, reason = _classifier(name, dataset, train, checkpoint_for)
    filler = shuffled = None
    lacks: dict[str, str] = {}
    if _fills(wanted):
        filler, missing = _filler(suite, dataset, train, checkpoint_for)
        if missing and "mlm" in wanted:
            reason = missing
        elif missing:
            lacks["paraphrase"] = missing
    if "labels" in wanted and not checkpoints.is_mini(name):
        lacks["labels"] = "only minis are trained on permuted labels"
    elif "labels" in wanted and train is not None:
        shuffled = checkpoint_for(name + PERMUTED, dataset)
    altered: dict[str, int] = {}
    for kind in sorted(ALTERED & wanted) if reason is None else ():
        altered[kind], missing = _count(name, checkpoint, kind)
        if missing:
            lacks[kind] = missing
    return Supplies(checkpoint, classes, reason, filler, shuffled, altered, lacks)


def _classifier(
    name: str, dataset: Dataset, train: Dataset | None, checkpoint_for: CheckpointFor
) -> tuple[Checkpoint | None, tuple[int, ...], str | None]:
    """Returns the model, its classes, and why there is none."""
    classes = tuple(range(len(dataset.info.labels)))
    if not checkpoints.is_mini(name):
        found = checkpoints.find(name)
        return found, checkpoints.class_of_labels(found, dataset), None
    if train is None:
        return None, classes, "the data set has no training part to train a mini on"
    return checkpoint_for(name, dataset), classes, None


def _filler(
    suite: Suite, dataset: Dataset, train: Dataset | None, checkpoint_for: CheckpointFor
) -> tuple[Checkpoint | None, str | None]:
    """Returns the masked language model, and why there is none."""
    if suite.filler != FILLER:
        return checkpoints.find(suite.filler), None
    if train is None:
        return None, "the data set has no training part to train the filler of words on"
    return checkpoint_for(FILLER, dataset), None


def _fills(wanted: frozenset[str]) -> bool:
    return bool(wanted & {"mlm", "paraphrase"})


def _count(name: str, checkpoint: Checkpoint | None, kind: str) -> tuple[int, str | None]:
    """Returns how many models a kind of alteration makes of a model, from its architecture alone; and why none."""
    from attrlab.bench import alterations

    try:
        number = alterations.count(kind, checkpoints.outline(name, checkpoint))
    except UserError as error:  # an architecture that is not known inside
        return 0, str(error)
    return number, None if number else f"no alteration of kind {kind!r} is known for this model"
