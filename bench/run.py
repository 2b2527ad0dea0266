"""Computes what a plan asks for and is not stored yet: predictions, attributions, scores, and the operators' shifts.

Everything is written chunk by chunk, so an interrupted run loses the chunks in flight and nothing else.
"""

import os
from dataclasses import replace
from typing import NamedTuple

from attrlab.bench import shifts
from attrlab.bench.attribute import attribute, tasks
from attrlab.bench.errors import UserError
from attrlab.bench.executor import Executor, Local, Progress
from attrlab.bench.plan import Plan
from attrlab.bench.predict import predict
from attrlab.bench.score import score
from attrlab.bench.session import SMALL, Options, Session
from attrlab.bench.store import Store


class Part(NamedTuple):
    """A slice of one of the live blocks of a plan, by their indices; without a slice, the block's shifts."""

    block: int
    chunk: int | None


def count_chunks(plan: Plan) -> int:
    """Returns how many chunks of predictions and attributions a plan has, stored or not."""
    return sum(1 + len(tasks(plan, block, chunk)) for block in plan.live for chunk in plan.chunks(block))


def execute(plan: Plan, store: Store, options: Options, progress: Progress) -> None:
    """Computes every chunk of a plan that the store lacks.

    Raises:
        UserError: If a result cannot be written, or a worker died; all finished chunks are kept.
    """
    executor = executor_of(plan, options)
    worker = Worker(plan, executor.share(store), replace(options, threads=executor.threads))
    for fresh, found in executor.each(worker, parts(plan), progress):
        store.fresh += fresh
        store.found += found


def parts(plan: Plan) -> list[Part]:
    """Returns what workers are given one by one: slices of blocks and, last, the shifts of a block; large models first.

    A slice and not a block, since one model on one data set is to keep all workers busy.
    """
    indices = sorted(range(len(plan.live)), key=lambda index: -plan.live[index].size)
    return [Part(index, chunk) for index in indices for chunk in (*range(len(plan.chunks(plan.live[index]))), None)]


def executor_of(plan: Plan, options: Options) -> Executor:
    """Returns who carries out the work: as many as asked for, else one per core for small models and one for others.

    Raises:
        UserError: If Ray is asked for and not installed, or there is no cluster at its address.
    """
    small = options.device == "cpu" and all(block.size < SMALL for block in plan.live)
    if options.executor == "ray":
        try:
            from attrlab.bench.executor_ray import Ray
        except ModuleNotFoundError as error:
            raise UserError("Ray is not installed; use: pip install 'attrlab[ray]', or --executor local") from error
        return Ray(options.workers, options.address, small=small, gpu=options.device.startswith("cuda"))
    return Local(options.workers or (os.cpu_count() or 1 if small else 1))


class Worker:
    """Carries out parts of a plan; keeps the model of the block it works on from one part to the next."""

    def __init__(self, plan: Plan, store: Store, options: Options) -> None:
        self.plan = plan
        self.store = store
        self.options = options
        self._session: Session | None = None

    def __call__(self, part: Part, progress: Progress) -> tuple[int, int]:
        """Computes what is missing of a part; returns how many chunks were computed and found."""
        block = self.plan.live[part.block]
        session = self._session
        if session is None or session.block is not block:
            session = self._session = Session(
                plan=self.plan, block=block, store=self.store, options=self.options, progress=progress
            )
        fresh, found = self.store.fresh, self.store.found
        progress.now(f"{block.model} on {block.dataset.name}")
        if part.chunk is None:
            shifts.tell(session)
        else:
            chunk = self.plan.chunks(block)[part.chunk]
            predictions = predict(session, chunk)
            redone = attribute(session, chunk, predictions)
            score(session, chunk, predictions, redone)
        return self.store.fresh - fresh, self.store.found - found
