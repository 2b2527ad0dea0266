"""Stage 1: attributions. Black-box methods of a slice are in flight together; white-box ones run in batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from attrlab.bench.engine import Engine, Job
from attrlab.bench.explain import Outcome, Question, is_white_box, jobs, outcome, white_box
from attrlab.bench.facts import MethodFacts
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.plan import FIRST, Block, Chunk, Plan, Replicate
from attrlab.bench.registry import Component
from attrlab.bench.seeds import generator
from attrlab.bench.session import Session
from attrlab.bench.store import key_of, number
from attrlab.bench.types import Floats, Json


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One attribution chunk.

    Attributes:
        key: Its key.
        of: What the key was made of.
        chunk: The examples it explains.
        method: The method.
        replicate: Which re-explanation it is.
        outcomes: What became of each example, by index in the slice.
    """

    key: str
    of: Json
    chunk: Chunk
    method: Component[MethodFacts]
    replicate: Replicate
    outcomes: dict[int, Outcome] = field(default_factory=dict)


def tasks(plan: Plan, block: Block, chunk: Chunk) -> list[Task]:
    """Returns the attribution chunks of a slice: every method once, and again for metrics that compare."""
    found: dict[str, Task] = {}
    for method in plan.methods:
        wanted = [(chunk, FIRST)]
        for column in plan.columns:
            if plan.skip(block, method, column) is None and plan.again(chunk).examples:
                wanted += [(plan.again(chunk), again) for again in plan.replicates(column.metric)]
        for part, replicate in wanted:
            of = plan.attributions(block, part, method, replicate)
            key = key_of(of)
            found[key] = Task(key=key, of=of, chunk=part, method=method, replicate=replicate)
    return list(found.values())


def attribute(session: Session, chunk: Chunk, predictions: Sequence[Json]) -> set[str]:
    """Computes the attribution chunks of a slice that are missing; returns the keys of those that were."""
    missing = []
    for task in tasks(session.plan, session.block, chunk):
        retry = session.options.retry_failed and session.store.failed("attributions", task.key)
        if not retry and session.store.find("attributions", task.key):
            session.progress.done()
        else:
            missing.append(task)
    if missing:
        _compute(session, missing, predictions, session.engine(chunk))
    return {task.key for task in missing}


def _compute(session: Session, missing: Sequence[Task], predictions: Sequence[Json], engine: Engine) -> None:
    explain = session.plan.suite.explain
    owner: dict[int, Task] = {}
    asked: list[Job] = []
    for task in missing:
        rows = predictions[: len(task.chunk.examples)]
        method, questions = task.method.build(), _questions(session, task, rows, engine)
        if is_white_box(method):
            found = white_box(method, questions, engine, explain.scalar)
            task.outcomes = {question.slot: one for question, one in zip(questions, found, strict=True)}
            _write(session, task, rows)
        else:
            new = jobs(method, questions, engine, explain.scalar, explain.operator)
            owner |= {id(job): task for job in new}
            asked += new
            if not new:
                _write(session, task, rows)

    def finished(job: Job) -> None:
        task = owner[id(job)]
        rows = predictions[: len(task.chunk.examples)]
        task.outcomes[job.slot] = outcome(job)
        if len(task.outcomes) == sum(row["status"] == "ok" for row in rows):
            _write(session, task, rows)

    engine.run(asked, finished)


def _questions(session: Session, task: Task, rows: Sequence[Json], engine: Engine) -> list[Question]:
    kind, index = task.replicate
    base = session.plan.suite.seed
    questions = []
    for slot, row in enumerate(rows):
        if row["status"] == "ok":
            seed = (base, index if kind == "seed" else 0, row["example"], task.method.name)
            noise = None
            if kind == "noise":
                noise = input_noise(engine.model, engine.encoded[slot], (base, "input noise", index, row["example"]))
            questions.append(Question(slot=slot, target=row["target"], seed=seed, noise=noise))
    return questions


def input_noise(model: TextModel, encoded: Encoded, seed: tuple[int | str, ...]) -> Floats:
    """Returns uniform noise on the embeddings of scorable tokens, ``(n_tokens, d)`` (metrics spec 5.1).

    The radius is 0.02 for embeddings of standard deviation 0.05 and in proportion for others: families compare.
    """
    weight = model.embedding
    radius = 0.02 * float(weight.std()) / 0.05
    noise = generator(*seed).uniform(-radius, radius, (len(encoded.ids), weight.shape[1]))
    return np.where(encoded.units[:, None] >= 0, noise, 0.0)


def _write(session: Session, task: Task, rows: Sequence[Json]) -> None:
    session.store.write(
        "attributions", task.key, task.of, [_row(row, task.outcomes.get(i)) for i, row in enumerate(rows)]
    )
    session.progress.done()


def _row(prediction: Json, found: Outcome | None) -> Json:
    if found is None:
        return {"example": prediction["example"], "status": "skipped", "reason": prediction["reason"], "scores": None}
    cost = found.cost
    return {
        "example": prediction["example"],
        "status": "ok" if found.error is None else "skipped" if found.skipped else "failed",
        "reason": found.error,
        "scores": None if found.scores is None else found.scores.tolist(),
        "standard_errors": None if found.errors is None else found.errors.tolist(),
        "seconds": cost.seconds,
        "forwards": cost.forwards,
        "backwards": cost.backwards,
        "unique_forwards": cost.unique_forwards,
        "peak_memory": cost.peak_memory,
        "stats": {name: number(value) for name, value in found.stats.items()},
    }
