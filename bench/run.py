"""Computes what a plan asks for and is not stored yet: predictions, then attributions, then scores.

Everything is written chunk by chunk, so an interrupted run loses the chunks in flight and nothing else.
"""

from attrlab.bench.attribute import attribute, tasks
from attrlab.bench.plan import Plan
from attrlab.bench.predict import predict
from attrlab.bench.score import score
from attrlab.bench.session import Options, Progress, Session
from attrlab.bench.store import Store


def count_chunks(plan: Plan) -> int:
    """Returns how many chunks of predictions and attributions a plan has, stored or not."""
    return sum(1 + len(tasks(plan, block, chunk)) for block in plan.live for chunk in plan.chunks(block))


def execute(plan: Plan, store: Store, options: Options, progress: Progress) -> None:
    """Computes every chunk of a plan that the store lacks.

    Raises:
        UserError: If a result cannot be written; all finished chunks are kept.
    """
    for block in plan.live:
        progress.now(f"{block.model} on {block.dataset.name}")
        session = Session(plan=plan, block=block, store=store, options=options, progress=progress)
        for chunk in plan.chunks(block):
            predictions = predict(session, chunk)
            redone = attribute(session, chunk, predictions)
            score(session, chunk, predictions, redone)
