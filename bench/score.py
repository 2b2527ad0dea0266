"""Stage 2: scores, from stored attributions. Metrics that ask the model are in flight together over all methods."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attrlab.bench.engine import Job
from attrlab.bench.facts import MethodFacts
from attrlab.bench.failures import Failure, describe
from attrlab.bench.plan import Chunk, Column
from attrlab.bench.registry import Component
from attrlab.bench.replicas import Replicate
from attrlab.bench.seeds import generator
from attrlab.bench.session import Session
from attrlab.bench.store import FAILED, key_of, number
from attrlab.bench.types import Case, Cost, Json, Replica, Score

TIE_ORDERS = 5
"""Permutations over which metrics average where many scores are equal (metrics spec 0.3)."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Task:
    """One chunk of scores: a metric, under an operator, of one method on a slice."""

    key: str
    of: Json
    chunk: Chunk
    method: Component[MethodFacts]
    column: Column
    replicates: Sequence[Replicate]
    scores: dict[int, Score] = field(default_factory=dict)


def score(session: Session, chunk: Chunk, predictions: Sequence[Json], redone: set[str]) -> None:
    """Computes the score chunks of a slice that are missing, or rest on attributions computed anew."""
    missing = [task for task in _tasks(session, chunk) if _is_missing(session, task, redone)]
    owner: dict[int, _Task] = {}
    asked: list[Job] = []
    for task in missing:
        metric = task.column.metric.build()
        for slot, case in enumerate(_cases(session, task, predictions)):
            result = case if isinstance(case, Score) else _attempt(metric, case)
            if isinstance(result, Generator):
                job = Job(slot=slot, asker=result, operator=task.column.operator or "")
                owner[id(job)] = task
                asked.append(job)
            else:
                task.scores[slot] = as_score(result)
        _write_if_whole(session, task)

    def finished(job: Job) -> None:
        task = owner[id(job)]
        task.scores[job.slot] = Score.undefined(FAILED + job.error) if job.error else as_score(job.result)
        _write_if_whole(session, task)

    if asked:
        session.engine(chunk).run(asked, finished)


def _tasks(session: Session, chunk: Chunk) -> list[_Task]:
    plan, block = session.plan, session.block
    found = []
    for method in plan.methods:
        for column in plan.columns:
            if column.metric.facts.trains:  # see ``bench.retrain``
                continue
            part = plan.rows(column, chunk)
            if part.examples and plan.skip(block, method, column) is None:
                of = plan.scores(block, chunk, method, column)
                again = plan.replicates(block, column.metric)
                found.append(_Task(key=key_of(of), of=of, chunk=part, method=method, column=column, replicates=again))
    return found


def _is_missing(session: Session, task: _Task, redone: set[str]) -> bool:
    if session.options.retry_failed:
        # Scores that tell of a failure may rest on attributions made anew by a retry that was itself interrupted.
        anew = bool(redone & {task.of["attributions"], *task.of["replicates"]})
        if anew or session.store.failed("scores", task.key):
            return True
    return not session.store.find("scores", task.key)


def _write_if_whole(session: Session, task: _Task) -> None:
    if len(task.scores) == len(task.chunk.examples):
        rows = [
            {"example": example.id, "value": number(task.scores[slot].value), "reason": task.scores[slot].reason}
            for slot, example in enumerate(task.chunk.examples)
        ]
        session.store.write("scores", task.key, task.of, rows)


def _cases(session: Session, task: _Task, predictions: Sequence[Json]) -> list[Case | Score]:
    keys = [task.of["attributions"], *task.of["replicates"]]
    chunks = [session.store.read("attributions", key) for key in keys]
    cases: list[Case | Score] = []
    for slot in range(len(task.chunk.examples)):
        first, *others = [chunk[slot] for chunk in chunks]
        again = list(zip(task.replicates, others, strict=True))
        bad = _obstacle(first, again)
        cases.append(Score.undefined(bad) if bad else _case(session, task, predictions[slot], first, again))
    return cases


def _obstacle(first: Json, again: Sequence[tuple[Replicate, Json]]) -> str | None:
    """Returns why there is nothing to score: a failure, or no explanation, or none of some kind made again."""
    failed = next((row for row in (first, *(row for _, row in again)) if row["status"] == "failed"), None)
    if failed is not None:
        return FAILED + str(failed["reason"])
    if first["status"] != "ok":
        return str(first["reason"])
    made = {kind for (kind, _), row in again if row["status"] == "ok"}
    return next((str(row["reason"]) for (kind, _), row in again if kind not in made), None)


def _case(session: Session, task: _Task, prediction: Json, row: Json, again: Sequence[tuple[Replicate, Json]]) -> Case:
    marked, weights = prediction["rationale"], prediction.get("weights")  # none in folders of before
    rng = generator("ties", prediction["example"])
    return Case(
        scores=np.array(row["scores"], dtype=np.float64),
        signed=task.method.facts.signed,
        target=prediction["target"],
        label=prediction["label"],
        tie_orders=np.array([rng.permutation(len(row["scores"])) for _ in range(TIE_ORDERS)], dtype=np.int64),
        operator=task.column.operator,
        correct=prediction["correct"],
        texts=np.array(prediction["texts"], dtype=np.int64),
        rationales=None if marked is None else np.array(marked, dtype=bool),
        weights=None if weights is None else np.array(weights, dtype=np.float64),
        rationale_share=session.block.dataset.rationale_share,
        replicates=tuple(_replica(replicate, other) for replicate, other in again if other["status"] == "ok"),
        cost=Cost(**{name: row[name] for name in Cost.__dataclass_fields__}),
        example=prediction["example"],
        scalar=session.plan.suite.explain.scalar,
        stats={name: value for name, value in row["stats"].items() if value is not None},
    )


def _replica(replicate: Replicate, row: Json) -> Replica:
    kind, index = replicate
    units, distance = row.get("units"), row.get("distance")
    return Replica(
        kind=kind,
        index=index,
        scores=np.array(row["scores"], dtype=np.float64),
        units=None if units is None else np.array(units, dtype=np.int64),
        distance=math.nan if distance is None else distance,
        kept=row.get("kept", True),
    )


def _attempt(metric: Any, case: Case) -> Any:
    try:
        return metric.score(case)
    except Failure as error:
        return Score.undefined(FAILED + describe(error))


def as_score(result: Any) -> Score:
    """Returns what a metric returned as a score: a bare number becomes one, NaN without a reason gets one."""
    value, reason = (result.value, result.reason) if isinstance(result, Score) else (result, None)
    try:
        value = float(value)
    except (TypeError, ValueError):
        return Score.undefined(f"{FAILED}the metric returned {type(result).__name__}, not a number")
    if not math.isfinite(value):
        return Score.undefined(reason or f"{FAILED}the metric returned {value}")
    return Score(value)
