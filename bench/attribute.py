"""Stage 1: attributions. Black-box methods of a slice are in flight together; white-box ones run in batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from attrlab.bench.again import Change, Setting, prepare
from attrlab.bench.engine import Job
from attrlab.bench.explain import Outcome, Question, is_white_box, jobs, outcome, white_box
from attrlab.bench.facts import MethodFacts
from attrlab.bench.plan import Block, Chunk, Plan
from attrlab.bench.registry import Component
from attrlab.bench.replicas import FIRST, KINDS, Replicate
from attrlab.bench.session import Session
from attrlab.bench.store import key_of, number
from attrlab.bench.types import Json


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One attribution chunk.

    Attributes:
        key: Its key.
        of: What the key was made of.
        chunk: The examples it explains.
        method: The method.
        replicate: Which re-explanation it is.
        changes: What its rows tell of the change, by index in the slice of the examples that can be explained.
        outcomes: What became of these examples, likewise.
    """

    key: str
    of: Json
    chunk: Chunk
    method: Component[MethodFacts]
    replicate: Replicate
    changes: dict[int, Json] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)


def tasks(plan: Plan, block: Block, chunk: Chunk) -> list[Task]:
    """Returns the attribution chunks of a slice: every method once, and again for metrics that compare."""
    found: dict[str, Task] = {}
    for method in plan.methods:
        wanted = [(chunk, FIRST)]
        for column in plan.columns:
            if plan.skip(block, method, column) is None and plan.again(chunk).examples:
                wanted += [(plan.again(chunk), again) for again in plan.replicates(block, column.metric)]
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
    for together in _rounds(missing):
        _compute(session, chunk, predictions, together)
    return {task.key for task in missing}


def _rounds(missing: Sequence[Task]) -> list[list[Task]]:
    """Groups chunks by engine: those that one engine answers share what they ask it."""
    rounds: dict[Replicate, list[Task]] = {}
    for task in missing:
        kind = KINDS.get(task.replicate[0])
        rounds.setdefault(task.replicate if kind and kind.apart else FIRST, []).append(task)
    return list(rounds.values())


def _compute(session: Session, chunk: Chunk, predictions: Sequence[Json], together: Sequence[Task]) -> None:
    """Computes chunks that one engine answers; what a re-explanation needs is there only while it is worked on."""
    owner: dict[int, Task] = {}
    asked: list[Job] = []

    def finished(job: Job) -> None:
        task = owner[id(job)]
        task.outcomes[job.slot] = outcome(job)
        _write_if_whole(session, task, predictions)

    for replicate in dict.fromkeys(task.replicate for task in together):
        tasks_ = [task for task in together if task.replicate == replicate]
        setting = prepare(session, chunk, predictions[: len(tasks_[0].chunk.examples)], replicate)
        for task in tasks_:
            new = _start(session, task, setting)
            owner |= {id(job): task for job in new}
            asked += new
            _write_if_whole(session, task, predictions)
    setting.engine.run(asked, finished)


def _start(session: Session, task: Task, setting: Setting) -> list[Job]:
    """Runs a white-box method, or returns the jobs of a black-box one."""
    explain, method, engine = session.plan.suite.explain, task.method.build(), setting.engine
    task.changes = {slot: _told(change, task.replicate) for slot, change in setting.changes.items()}
    task.outcomes = {
        slot: Outcome(error=change.reason, skipped=True) for slot, change in setting.changes.items() if change.reason
    }
    questions = [
        Question(
            slot=slot,
            target=change.target,
            seed=(session.plan.suite.seed, change.seed, engine.encoded[slot].example.id, task.method.name),
            noise=change.noise,
        )
        for slot, change in setting.changes.items()
        if not change.reason
    ]
    if not is_white_box(method):
        return jobs(method, questions, engine, explain.scalar, explain.operator)
    found = white_box(method, questions, engine, explain.scalar)
    task.outcomes |= {question.slot: one for question, one in zip(questions, found, strict=True)}
    return []


def _write_if_whole(session: Session, task: Task, predictions: Sequence[Json]) -> None:
    if len(task.outcomes) == len(task.changes):
        rows = [
            _row(row, task.outcomes.get(slot)) | task.changes.get(slot, {})
            for slot, row in enumerate(predictions[: len(task.chunk.examples)])
        ]
        session.store.write("attributions", task.key, task.of, rows)
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


def _told(change: Change, replicate: Replicate) -> Json:
    """What metrics are told of a re-explanation beside its scores."""
    if replicate == FIRST:
        return {}
    units = None if change.units is None else change.units.tolist()
    return {"units": units, "distance": change.distance, "kept": change.kept}
