"""Computes what a plan asks for and is not stored yet: predictions, attributions, scores, and the operators' shifts.

Everything is written chunk by chunk, so an interrupted run loses the chunks in flight and nothing else.
"""

import os
from pathlib import Path

from attrlab.bench import shifts
from attrlab.bench.attribute import attribute, tasks
from attrlab.bench.executor import each
from attrlab.bench.plan import Block, Plan
from attrlab.bench.predict import predict
from attrlab.bench.score import score
from attrlab.bench.session import SMALL, Options, Progress, Session
from attrlab.bench.store import Store


def count_chunks(plan: Plan) -> int:
    """Returns how many chunks of predictions and attributions a plan has, stored or not."""
    return sum(1 + len(tasks(plan, block, chunk)) for block in plan.live for chunk in plan.chunks(block))


def execute(plan: Plan, store: Store, options: Options, progress: Progress) -> None:
    """Computes every chunk of a plan that the store lacks.

    Raises:
        UserError: If a result cannot be written; all finished chunks are kept.
    """
    blocks = sorted(plan.live, key=lambda block: -block.size)
    work = [(plan, block, store.folder, options) for block in blocks]
    for fresh, found in each(run_block, work, workers(plan, options), progress):
        store.fresh += fresh
        store.found += found


def workers(plan: Plan, options: Options) -> int:
    """Returns how many processes to use: those asked for, else one per core for small models and one for others."""
    if options.workers:
        return options.workers
    small = options.device == "cpu" and all(block.size < SMALL for block in plan.live)
    return (os.cpu_count() or 1) if small else 1


def run_block(work: tuple[Plan, Block, Path, Options], progress: Progress) -> tuple[int, int]:
    """Computes what is missing of one block; returns how many chunks were computed and found."""
    plan, block, folder, options = work
    store = Store(folder)
    progress.now(f"{block.model} on {block.dataset.name}")
    session = Session(plan=plan, block=block, store=store, options=options, progress=progress)
    for chunk in plan.chunks(block):
        predictions = predict(session, chunk)
        redone = attribute(session, chunk, predictions)
        score(session, chunk, predictions, redone)
    shifts.tell(session)
    return store.fresh, store.found
