"""What goes into a model and comes out of it: rows, padded batches, targets, outputs, and the count of passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from attrlab.bench.scalars import explained
from attrlab.bench.types import Bools, Ints

LEAST_TOKENS = 256
"""Padded tokens of a forward pass for one example alone: on fewer, matrix libraries round in another order."""

LEAST_ROWS = 8
"""Rows of a forward pass for each thread: on fewer, what is computed once a row is rounded in another order."""


NOBODY = -1
"""Owner of rows that no example asked for: the meter leaves them out."""


KeysValues = tuple[Tensor, Tensor]
"""Keys and values of a block's attention, (R, heads, L, d) each."""


class Row(NamedTuple):
    """One input of the network before padding: ids, segment ids, and which positions may be attended to.

    Attributes:
        marks: What the model's head reads beside them, ``(K, n_tokens)``, one number per token and kind; None for
            classifiers, which read nothing else.
        offset: What is added to its word embeddings ``(n_tokens, d)``, made of them only when the input is put into a
            batch; None for nothing.
    """

    ids: Ints
    segments: Ints
    attend: Bools
    marks: Ints | None = None
    offset: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """A padded batch on the model's device; R rows of L tokens.

    Attributes:
        ids: (R, L) token ids.
        segments: (R, L) segment ids.
        mask: (R, L) 1 where attention is allowed.
        scorable: (R, L) True at tokens that can be attributed.
        last: (R,) position of the last token of the unpadded row.
        owners: (R,) index of the example each row belongs to, for counting; negative for rows nobody asked for.
        offset: (R, L, d) added to the word embeddings (noised inputs, units removed there), or None.
        marks: (R, K, L) what the model's head reads beside the ids, 0 at padding; None for classifiers.
    """

    ids: Tensor
    segments: Tensor
    mask: Tensor
    scorable: Tensor
    last: Tensor
    owners: Tensor
    offset: Tensor | None = None
    marks: Tensor | None = None

    def take(self, rows: Tensor) -> "Batch":
        """Returns the batch made of the given rows, with repetition if rows repeat."""
        return Batch(
            ids=self.ids[rows],
            segments=self.segments[rows],
            mask=self.mask[rows],
            scorable=self.scorable[rows],
            last=self.last[rows],
            owners=self.owners[rows],
            offset=None if self.offset is None else self.offset[rows],
            marks=None if self.marks is None else self.marks[rows],
        )

    def __len__(self) -> int:
        return len(self.ids)


def filled(batch: Batch) -> Batch:
    """Returns the batch with copies of its first row, asked by nobody, up to ``LEAST_TOKENS`` tokens.

    Matrix libraries round small products in another order. Where scores are what is left of terms that cancel, those of
    a single word differed by up to 2e-4 between a batch of one and a larger one.
    """
    at = torch.arange(max(len(batch), LEAST_TOKENS // batch.ids.shape[1]), device=batch.ids.device)
    real = at < len(batch)
    rows = batch.take(torch.where(real, at, 0))
    return replace(rows, owners=torch.where(real, rows.owners, NOBODY))


class Output(NamedTuple):
    """What a forward pass gives: logits (R, C) and hidden state at the pooling position (R, D)."""

    logits: Tensor
    readout: Tensor


class Explained(NamedTuple):
    """What a white-box method returns.

    Attributes:
        scores: (B, L) one score per token; positions that cannot be attributed are ignored.
        stats: Per example, diagnostics that are stored with the scores; may be empty.
    """

    scores: Tensor
    stats: Sequence[dict[str, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """The class to explain for each example of a batch, and the scalar that is made of it.

    Attributes:
        classes: (B,) class index per example.
        scalar: One of ``SCALARS``.
    """

    classes: Tensor
    scalar: str = "contrast"

    def of(self, logits: Tensor, batch: Batch) -> Tensor:
        """Returns the explained scalar (R,) of rows that belong to ``batch.owners``, differentiable."""
        return explained(self.scalar, logits, self.classes[batch.owners])


@dataclass(slots=True)
class Meter:
    """Rows forwarded and back-propagated, per example of the current batch."""

    forwards: Ints
    backwards: Ints
