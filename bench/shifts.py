"""How far each removal operator takes inputs off the training distribution: one chunk per block and operator."""

import math

from attrlab.bench.errors import UserError
from attrlab.bench.failures import Failure, describe
from attrlab.bench.plan import Block, Plan, filling
from attrlab.bench.session import Session
from attrlab.bench.shift import shift
from attrlab.bench.store import key_of
from attrlab.bench.types import Json

EXAMPLES = 64
"""Texts that are perturbed, at most; the suite's limit does not count, so every limit finds the same number."""

VERSION = "1"
"""Raised by hand whenever ``bench.shift`` finds other numbers."""


def operators(plan: Plan) -> tuple[str, ...]:
    """Returns the operators under which metrics have a column, in order."""
    return tuple(dict.fromkeys(column.operator for column in plan.columns if column.operator))


def shift_of(plan: Plan, block: Block, operator: str) -> Json:
    """Returns what the key of an operator's shift on a block is made of."""
    assert block.checkpoint is not None
    return {
        "kind": "shifts",
        "version": VERSION,
        "model": block.checkpoint.hash,
        "dataset": block.dataset.fingerprint,
        "examples": EXAMPLES,
        "calibration": block.calibration[1],
        "operator": operator,
        "unit": plan.suite.unit,
        "precision": "float32",
        **filling(block, operator),
    }


def tell(session: Session) -> None:
    """Computes and stores the shifts of a block that are missing; none where there are no training texts."""
    plan, block, store = session.plan, session.block, session.store
    if block.no_training:
        return
    for operator in operators(plan):
        of = shift_of(plan, block, operator)
        key = key_of(of)
        again = session.options.retry_failed and store.failed("shifts", key)
        if again or not store.find("shifts", key):
            session.progress.now(f"{block.model} on {block.dataset.name}: share out of distribution, {operator}")
            store.write("shifts", key, of, [_row(session, operator)])


def _row(session: Session, operator: str) -> Json:
    """Returns the share of perturbed inputs that lie far from the training texts, or why it is not known."""
    row: Json = {"operator": operator, "status": "ok", "reason": None, "share": None}
    try:
        model = session.model()
        encoded = [model.encode(one, session.plan.suite.unit) for one in session.block.dataset.take(EXAMPLES)]
        share = shift(model, encoded, operator, token_budget=session.options.token_budget)
    except UserError as error:  # too few training texts
        return row | {"status": "skipped", "reason": str(error)}
    except Failure as error:
        return row | {"status": "failed", "reason": describe(error)}
    return row | ({"status": "skipped", "reason": "no text has words"} if math.isnan(share) else {"share": share})
