"""Stage 0: what the model predicts on the unperturbed examples; fixes the class that everything explains."""

import numpy as np

from attrlab.bench.engine import Engine, Job
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Encoded
from attrlab.bench.plan import Chunk
from attrlab.bench.session import Session
from attrlab.bench.store import key_of
from attrlab.bench.types import Ask, Asker, Floats, Json


def predict(session: Session, chunk: Chunk) -> list[Json]:
    """Returns the predictions of a slice, one row per example; computed and stored if they were not."""
    of = session.plan.predictions(session.block, chunk)
    key = key_of(of)
    if not session.store.find("predictions", key):
        shared = session.engine(chunk)
        logits = full_logits(shared)
        rows = [_row(encoded, logits.get(slot), session) for slot, encoded in enumerate(shared.encoded)]
        session.store.write("predictions", key, of, rows)
    session.progress.done()
    return session.store.read("predictions", key)


def full_logits(shared: Engine) -> dict[int, Floats]:
    """Returns the logits of the unperturbed examples of an engine that have words, by slot.

    They are asked of an engine of their own: nobody's time limit holds, and nobody's count of questions changes.

    Raises:
        RuntimeError: If the model cannot be asked.
    """
    engine = Engine(shared.model, shared.encoded, token_budget=shared.token_budget, answering=shared.answering)
    asked = [
        Job(slot=slot, asker=_logits(encoded), operator="replace")  # of nothing: all units stay
        for slot, encoded in enumerate(engine.encoded)
        if encoded.n_units
    ]
    engine.run(asked)
    broken = [job.error for job in asked if job.error]
    if broken:
        raise RuntimeError(f"the model could not be asked: {broken[0]}")
    return {job.slot: job.result for job in asked}


def _logits(encoded: Encoded) -> Asker[Floats]:
    logits = yield Ask(keep=np.ones((1, encoded.n_units), dtype=bool))
    return np.asarray(logits[0])


def _row(encoded: Encoded, logits: Floats | None, session: Session) -> Json:
    example = encoded.example
    row: Json = {
        "example": example.id,
        "status": "ok",
        "reason": None,
        "tokens": len(encoded.ids),
        "dropped": encoded.dropped,
        "words": list(encoded.readings),
        "texts": [word.text for word in encoded.words],
    }
    if logits is None:
        return row | {"status": "skipped", "reason": "the text has no words"}
    label = None if example.label is None else session.block.classes[example.label]
    target = explained_class(session.plan.suite.explain.target, logits, label)
    if target is None:
        return row | {"status": "skipped", "reason": "no gold label to explain"}
    marked = None
    if example.rationales is not None:
        marked = [encoded.rationale(spans).astype(int).tolist() for spans in example.rationales]
    return row | {
        "target": target,
        "label": label,
        "probability": float(np.exp(logits[target] - np.logaddexp.reduce(logits))),
        "correct": None if label is None else int(logits.argmax()) == label,
        "rationale": marked,
        "weights": None if encoded.weights is None else encoded.weights.tolist(),
        "lost": encoded.lost,
    }


def explained_class(choice: str, logits: Floats, label: int | None) -> int | None:
    """Returns the class that is explained, fixed once for all methods and metrics; None where it is unknown.

    Args:
        choice: ``predicted``, ``gold`` or ``fixed:K``.
        logits: Of the unperturbed input, ``(n_classes,)``.
        label: Gold class of the model, or None.

    Raises:
        UserError: If the model has no class K.
    """
    if choice == "predicted":
        return int(logits.argmax())
    if choice == "gold":
        return label
    fixed = int(choice.removeprefix("fixed:"))
    if fixed >= len(logits):
        raise UserError(f"explain.target={choice!r}: the model has classes 0 to {len(logits) - 1}")
    return fixed
