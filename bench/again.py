"""Carries re-explanations out: for each kind, which engine is asked, and what is changed about each example."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from attrlab.bench import alterations, neighbours
from attrlab.bench.engine import Engine, padded_length
from attrlab.bench.inputs import Encoded
from attrlab.bench.masked import MaskedWords
from attrlab.bench.neighbours import Neighbour
from attrlab.bench.plan import Chunk
from attrlab.bench.predict import full_logits
from attrlab.bench.removal import whole
from attrlab.bench.replicas import ALTERED, RADII, Replicate
from attrlab.bench.scalars import scalar
from attrlab.bench.session import Session, load_model
from attrlab.bench.types import Floats, Ints, Json


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """What is changed about one example.

    Attributes:
        target: Class to explain.
        seed: Index of the seed, 0 for that of the first explanation.
        noise: Offset on the word embeddings, ``(n_tokens, d)``, or None.
        units: As in :class:`~attrlab.bench.types.Replica`.
        kept: Likewise.
        reason: Why the example cannot be changed so, or None.
    """

    target: int
    seed: int = 0
    noise: Floats | None = None
    units: Ints | None = None
    kept: bool = True
    reason: str | None = None

    @property
    def distance(self) -> float | None:
        """L2 norm of the noise, or None."""
        return None if self.noise is None else float(np.linalg.norm(self.noise))


class Setting(NamedTuple):
    """How a slice is explained: the engine that is asked, and what is changed about each example by its slot."""

    engine: Engine
    changes: Mapping[int, Change]


class _Part(NamedTuple):
    """What is explained: the classes of those examples of a slice that can be explained, by slot."""

    session: Session
    chunk: Chunk
    targets: Mapping[int, int]

    @property
    def engine(self) -> Engine:
        """The engine of the slice."""
        return self.session.engine(self.chunk)

    def logits(self) -> Mapping[int, Floats]:
        """The model's logits of the unchanged examples."""
        return self.session.once(self.chunk, "logits", lambda: full_logits(self.engine))

    def kept(self, slot: int, logits: Floats) -> bool:
        """Whether logits mean the same prediction as on the unchanged example."""
        return bool(logits.argmax() == self.logits()[slot].argmax())


def prepare(session: Session, chunk: Chunk, predictions: Sequence[Json], replicate: Replicate) -> Setting:
    """Returns how the first explanation, or one re-explanation, of a slice is carried out.

    Args:
        session: Of the model and data set.
        chunk: The slice.
        predictions: Of its first examples, those that are explained.
        replicate: Which explanation.
    """
    targets = {slot: int(row["target"]) for slot, row in enumerate(predictions) if row["status"] == "ok"}
    kind, index = replicate
    return _SETTINGS[kind](_Part(session, chunk, targets), kind, index)


def _same(part: _Part, kind: str, index: int) -> Setting:
    seed = index if kind == "seed" else 0
    return Setting(part.engine, {slot: Change(target=target, seed=seed) for slot, target in part.targets.items()})


def _noised(part: _Part, kind: str, index: int) -> Setting:
    draw, share = index, 1.0
    if kind == "radii":  # every draw at every radius
        draw, share = 1 + (index - 1) // len(RADII), RADII[(index - 1) % len(RADII)]
    engine, changes = part.engine, {}
    for slot, target in part.targets.items():
        encoded = engine.encoded[slot]
        seed = (part.session.plan.suite.seed, "input noise", draw, encoded.example.id)
        noise = share * neighbours.input_noise(engine.model, encoded, seed)
        kept = part.kept(slot, _noised_logits(engine, encoded, noise))
        changes[slot] = Change(target=target, noise=noise, kept=kept)
    return Setting(engine, changes)


def _noised_logits(engine: Engine, encoded: Encoded, noise: Floats) -> Floats:
    """Logits ``(n_classes,)`` with an offset on the word embeddings; asked alone, so that nothing else matters."""
    row = whole(encoded)._replace(offset=lambda own: torch.from_numpy(noise).to(own))
    with torch.inference_mode():
        batch = engine.answering.collate([row], length=engine.length_of(len(encoded.ids)))
        return np.asarray(engine.answering.forward(batch).logits[0].double().cpu().numpy())


class _Roomy(Engine):
    """Pads every row to the next length after the one that would do, as far as the model reads."""

    def length_of(self, tokens: int) -> int:
        """Returns the padded length of a row of ``tokens`` tokens."""
        longest = self.model.max_length
        return padded_length(min(longest, super().length_of(tokens) + 1), longest)


def _in_other_company(part: _Part, kind: str, index: int) -> Setting:
    """First alone in every batch, then padded to another length."""
    options = part.session.options
    make, token_budget = (Engine, 0) if index == 1 else (_Roomy, options.token_budget)
    engine = make(
        part.engine.model,
        part.engine.encoded,
        token_budget=token_budget,
        timeout=options.timeout,
        answering=part.engine.answering,
    )
    return Setting(engine, _same(part, kind, index).changes)


def _other_class(part: _Part, _kind: str, _index: int) -> Setting:
    logits = part.logits()
    targets = {slot: runner_up(logits[slot], target) for slot, target in part.targets.items()}
    return Setting(part.engine, {slot: Change(target=target) for slot, target in targets.items()})


def runner_up(logits: Floats, target: int) -> int:
    """Returns the most probable of the other classes.

    >>> runner_up(np.array([0.1, 2.0, 0.5]), 1)
    2
    """
    return int(np.where(np.arange(len(logits)) == target, -np.inf, logits).argmax())


def _of_another_model(part: _Part, kind: str, index: int) -> Setting:
    session = part.session
    if kind == "labels":
        block = replace(session.block, checkpoint=session.block.shuffled)
        model = load_model(block, session.options, session.plan.operators)
    else:
        model = alterations.altered(session.model(), kind, index)
    engine = session.new_engine(model, part.chunk.examples)
    logits = full_logits(engine)
    return Setting(
        engine,
        {slot: Change(target=target, kept=part.kept(slot, logits[slot])) for slot, target in part.targets.items()},
    )


def _reworded(part: _Part, kind: str, index: int) -> Setting:
    """Explains the example's ``index``-th neighbour of those that keep its prediction, where there are as many."""
    engine = part.session.new_engine(part.engine.model, part.chunk.examples)
    changes = {}
    for slot, target in part.targets.items():
        found = part.session.once(part.chunk, (kind, slot), partial(_neighbours, part, kind, slot))
        if isinstance(found, str) or index > len(found):
            reason = found if isinstance(found, str) else f"no other {kind} keeps the prediction"
            changes[slot] = Change(target=target, reason=reason)
        else:
            engine.encoded[slot] = found[index - 1].encoded
            changes[slot] = Change(target=target, units=found[index - 1].units)
    return Setting(engine, changes)


def _neighbours(part: _Part, kind: str, slot: int) -> list[Neighbour] | str:
    """Returns the neighbours of an example that keep its prediction, or why there are none."""
    model, encoded = part.engine.model, part.engine.encoded[slot]
    if kind == "typo":
        options = neighbours.misspellings(encoded)
    else:
        filler = model.fillers["mlm"]
        assert isinstance(filler, MaskedWords)
        options = neighbours.substitutes(encoded, filler)
    if not options:
        return f"no word of the text allows a {kind}"
    found = neighbours.proposals(model, encoded, options, kind)
    logits = full_logits(Engine(model, [one.encoded for one in found], answering=part.engine.answering))
    target = part.targets[slot]
    before = scalar("prob", part.logits()[slot][None], target)
    kept = []
    for number, one in enumerate(found):
        drift = abs(scalar("prob", logits[number][None], target) - before).item()
        if part.kept(slot, logits[number]) and (kind == "typo" or drift <= neighbours.DRIFT):
            kept.append(one)
    return kept or f"no {kind} keeps the prediction"


_SETTINGS: Mapping[str, Callable[[_Part, str, int], Setting]] = {
    "": _same,
    "seed": _same,
    "noise": _noised,
    "radii": _noised,
    "company": _in_other_company,
    "runner_up": _other_class,
    "paraphrase": _reworded,
    "typo": _reworded,
    "labels": _of_another_model,
    **dict.fromkeys(ALTERED, _of_another_model),
}
