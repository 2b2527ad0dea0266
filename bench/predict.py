"""Stage 0: what the model predicts on the unperturbed examples; fixes the class that everything explains."""

import numpy as np

from attrlab.bench.engine import Job
from attrlab.bench.plan import Block, Chunk
from attrlab.bench.session import Session
from attrlab.bench.store import key_of
from attrlab.bench.types import Ask, Asker, Encoded, Floats, Json


def predict(session: Session, chunk: Chunk) -> list[Json]:
    """Returns the predictions of a slice, one row per example; computed and stored if they were not."""
    of = session.plan.predictions(session.block, chunk)
    key = key_of(of)
    if not session.store.find("predictions", key):
        engine = session.engine(chunk)
        asked = [
            Job(slot=slot, asker=_logits(encoded), operator="")
            for slot, encoded in enumerate(engine.encoded)
            if encoded.n_units
        ]
        engine.run(asked)
        logits = {job.slot: job.result for job in asked}
        rows = [_row(encoded, logits.get(slot), session.block) for slot, encoded in enumerate(engine.encoded)]
        session.store.write("predictions", key, of, rows)
    session.progress.done()
    return session.store.read("predictions", key)


def _logits(encoded: Encoded) -> Asker[Floats]:
    logits = yield Ask(keep=np.ones((1, encoded.n_units), dtype=bool))
    return np.asarray(logits[0])


def _row(encoded: Encoded, logits: Floats | None, block: Block) -> Json:
    example = encoded.example
    row: Json = {
        "example": example.id,
        "status": "ok",
        "reason": None,
        "tokens": len(encoded.ids),
        "dropped": encoded.dropped,
        "words": [example.texts[word.text][word.start : word.end] for word in encoded.words],
        "texts": [word.text for word in encoded.words],
    }
    if logits is None:
        return row | {"status": "skipped", "reason": "the text has no words"}
    target = int(logits.argmax())
    label = None if example.label is None else block.classes[example.label]
    marked = None
    if example.rationales is not None:
        marked = [encoded.rationale(spans).astype(int).tolist() for spans in example.rationales]
    return row | {
        "target": target,
        "label": label,
        "probability": float(np.exp(logits[target] - np.logaddexp.reduce(logits))),
        "correct": None if label is None else target == label,
        "rationale": marked,
    }
