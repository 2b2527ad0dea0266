"""Runs one method on examples: black-box ones as jobs of the engine, white-box ones in padded batches."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from attrlab.bench.batch import Batch, Targets
from attrlab.bench.engine import Engine, Job, peak_memory
from attrlab.bench.errors import ContractError, NotApplicableError
from attrlab.bench.failures import TIMED_OUT, Failure, describe, time_limit
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.seeds import generator
from attrlab.bench.types import Asker, Bools, Cost, Estimate, Floats, Game, Ints, drive

WARM_UP_SECONDS = 20.0
"""Longest that a method may take to load and compile its library, on a toy game."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What a method is to explain.

    Attributes:
        slot: Index of the example in the engine.
        target: Class to explain.
        seed: What the example's generator is made of, see :func:`attrlab.bench.seeds.generator`.
        noise: Offset on the word embeddings, ``(n_tokens, d)``, or None.
    """

    slot: int
    target: int
    seed: tuple[Any, ...]
    noise: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """Scores per unit ``(n_units,)`` with their cost and diagnostics, or the reason why there are none.

    Attributes:
        scores: The scores, or None.
        errors: Their standard errors, where the method estimates them.
        error: Why there are no scores.
        skipped: The method does not apply to the example, rather than failing on it.
        cost: What it cost.
        stats: Diagnostics.
    """

    scores: Floats | None = None
    errors: Floats | None = None
    error: str | None = None
    skipped: bool = False
    cost: Cost = field(default_factory=Cost)
    stats: dict[str, float] = field(default_factory=dict)


def is_white_box(method: Any) -> bool:
    """Whether a method gets the model (``attribute``) rather than asking questions (``ask``)."""
    return hasattr(method, "attribute")


def jobs(method: Any, questions: Sequence[Question], engine: Engine, scalar: str, operator: str) -> list[Job]:
    """Returns the jobs of a black-box method; the engine may run them together with any others."""
    _warm_up(method)
    return [
        Job(
            slot=question.slot,
            asker=_checked(method, engine.encoded[question.slot], question, scalar, operator),
            operator=operator,
        )
        for question in questions
    ]


_WARM: set[type] = set()


def _warm_up(method: Any) -> None:
    """Lets a method load and compile its library on a toy game, so that its first example is not charged for that."""
    if type(method) in _WARM:
        return
    _WARM.add(type(method))
    with contextlib.suppress(*Failure), time_limit(WARM_UP_SECONDS):
        asker = method.ask(Game(n_units=2, target=0), generator("warm-up"))
        drive(asker, lambda ask: np.zeros((len(ask.keep), 2)))


def outcome(job: Job) -> Outcome:
    """Returns what became of a job of a black-box method."""
    if job.error is not None:
        return Outcome(error=job.error, skipped=job.skipped, cost=job.cost())
    scores, errors, stats = job.result
    return Outcome(scores=scores, errors=errors, cost=job.cost(), stats=dict(stats))


def _checked(method: Any, encoded: Encoded, question: Question, scalar: str, operator: str) -> Asker[Estimate]:
    game = Game(
        n_units=encoded.n_units, target=question.target, scalar=scalar, operator=operator, words=encoded.readings
    )
    asker = method.ask(game, generator(*question.seed))
    if not hasattr(asker, "send"):
        raise ContractError("ask() must be a generator: use `yield from game.values(keep)` and `return scores`")
    found = yield from asker
    scores, errors, stats = found if isinstance(found, Estimate) else Estimate(found)
    return Estimate(
        check_scores(scores, encoded.n_units),
        None if errors is None else check_scores(errors, encoded.n_units),
        stats,
    )


def outcomes(
    method: Any, questions: Sequence[Question], engine: Engine, scalar: str = "contrast", operator: str = "replace"
) -> list[Outcome]:
    """Returns what becomes of one method of either kind, by itself, in the order of the questions."""
    if is_white_box(method):
        return white_box(method, questions, engine, scalar)
    asked = jobs(method, questions, engine, scalar, operator)
    engine.run(asked)
    return [outcome(job) for job in asked]


def check_scores(scores: Any, n_units: int) -> Floats:
    """Returns scores as float64 ``(n_units,)``.

    Raises:
        ContractError: If the shape is another one, or a score is not a finite number.
    """
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError):
        raise ContractError(f"returned {type(scores).__name__}; {n_units} numbers are needed") from None
    if array.shape != (n_units,):
        raise ContractError(f"returned scores of shape {array.shape}; ({n_units},) is needed, one per unit")
    if not np.isfinite(array).all():
        raise ContractError(f"returned {int((~np.isfinite(array)).sum())} of {n_units} scores that are not finite")
    return array


def white_box(method: Any, questions: Sequence[Question], engine: Engine, scalar: str) -> list[Outcome]:
    """Runs a white-box method on examples, in batches of like length; a batch that fails is run one by one."""
    outcomes: dict[int, Outcome] = {}
    for group in _groups(method, questions, engine):
        found = _isolated(method, [questions[index] for index in group], engine, scalar)
        outcomes |= dict(zip(group, found, strict=True))
    return [outcomes[index] for index in range(len(questions))]


def _isolated(method: Any, questions: Sequence[Question], engine: Engine, scalar: str) -> list[Outcome]:
    try:
        return _attribute(method, questions, engine, scalar)
    except Failure as error:
        if len(questions) == 1:
            return [Outcome(error=describe(error), skipped=isinstance(error, NotApplicableError))]
    return [one for question in questions for one in _isolated(method, [question], engine, scalar)]


def _groups(method: Any, questions: Sequence[Question], engine: Engine) -> list[list[int]]:
    """Groups questions by padded length, then by how many fit the token budget at the method's rows per example."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, question in enumerate(questions):
        by_length[engine.length_of(len(engine.encoded[question.slot].ids))].append(index)
    groups = []
    for length, members in sorted(by_length.items()):
        rows = length * max(1, int(getattr(method, "rows", 1)))
        size = 1 if engine.alone else max(1, engine.token_budget // rows)
        groups += [members[start : start + size] for start in range(0, len(members), size)]
    return groups


def _attribute(method: Any, questions: Sequence[Question], engine: Engine, scalar: str) -> list[Outcome]:
    model, encoded = engine.model, [engine.encoded[question.slot] for question in questions]
    batch = _batch(model, encoded, questions, engine.length_of(max(len(one.ids) for one in encoded)))
    targets = Targets(classes=torch.tensor([q.target for q in questions], device=model.device), scalar=scalar)
    limit = None if engine.timeout is None else engine.timeout * len(questions)
    start = time.perf_counter()
    with model.metered(len(questions)) as meter, time_limit(limit, TIMED_OUT.format(engine.timeout or 0)):
        explained = method.attribute(model, batch, targets, [generator(*question.seed) for question in questions])
    seconds = (time.perf_counter() - start) / sum(len(one.ids) for one in encoded)
    scores = _matrix(explained.scores, batch)
    return [
        _finish(
            _unit_scores(scores[row], one, method, model),
            explained.stats[row] if explained.stats else {},
            Cost(
                seconds=seconds * len(one.ids),
                forwards=int(meter.forwards[row]),
                backwards=int(meter.backwards[row]),
                unique_forwards=int(meter.forwards[row]),
                peak_memory=peak_memory(),
            ),
        )
        for row, one in enumerate(encoded)
    ]


def _finish(scores: Floats, stats: dict[str, float], cost: Cost) -> Outcome:
    try:
        return Outcome(scores=check_scores(scores, len(scores)), cost=cost, stats=stats)
    except ContractError as error:
        return Outcome(error=str(error), cost=cost, stats=stats)


def _batch(model: TextModel, encoded: Sequence[Encoded], questions: Sequence[Question], length: int) -> Batch:
    batch = model.collate([whole(one) for one in encoded], [one.units >= 0 for one in encoded], length)
    if all(question.noise is None for question in questions):
        return batch
    offset = torch.zeros((*batch.ids.shape, model.embedding.shape[1]), device=model.device)
    for row, question in enumerate(questions):
        if question.noise is not None:
            offset[row, : len(question.noise)] = torch.from_numpy(question.noise).to(offset)
    return replace(batch, offset=offset)


def _matrix(scores: Any, batch: Batch) -> Floats:
    shape = tuple(batch.ids.shape)
    if tuple(getattr(scores, "shape", ())) != shape:
        raise ContractError(f"returned scores of shape {tuple(getattr(scores, 'shape', ()))}; {shape} is needed")
    tensor = scores.detach().double().cpu() if isinstance(scores, torch.Tensor) else torch.as_tensor(scores)
    return np.asarray(tensor.numpy(), dtype=np.float64)


AGGREGATES: dict[str, Callable[[Floats], Any]] = {
    "sum": np.sum,
    "max": np.max,
    "min": np.min,
    "mean": np.mean,
    "first": lambda scores: scores[0],
    "last": lambda scores: scores[-1],
}
"""How the scores of a word's tokens become the word's score (methods spec 0.5)."""


def _unit_scores(tokens: Floats, encoded: Encoded, method: Any, model: TextModel) -> Floats:
    name = getattr(method, "aggregate", "sum")
    if name == "edge":  # the sub-token that has seen the whole word: the last one only where context is causal
        name = "last" if model.decoder else "first"
    combine = AGGREGATES[name]
    return np.array([combine(tokens[members]) for members in _members(encoded)], dtype=np.float64)


def _members(encoded: Encoded) -> list[Bools | Ints]:
    return [np.flatnonzero(encoded.units == unit) for unit in range(encoded.n_units)]
