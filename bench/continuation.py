"""A causal language model explained by what it says next: a continuation, alone or against foils (methods spec 0.2).

Its answer has the form of a classifier's, so that every method and metric works on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Batch, Output, Row
from attrlab.bench.checkpoint import Checkpoint
from attrlab.bench.encoding import Unit
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.language import LanguageModel, causal_network, predicting

NOTHING = -1
"""In place of a foil's token: there is no foil."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt(Example):
    """A prompt and its continuation (two texts), with other continuations to compare it with.

    Attributes:
        foils: Continuations of as many tokens, as in " is" against (" are",); none explains the continuation alone.
    """

    foils: tuple[str, ...] = ()


class ContinuationModel(LanguageModel):
    """A causal language model whose answer is a row of values: of the continuation (class 0) and of every foil.

    The value of one token is its next-token logit. That of several is the sum over their steps, each read after the
    prompt and the continuation's own earlier tokens (teacher forcing), for foils too. So the scalar ``contrast`` is the
    value of the continuation minus the mean value of its foils. Without foils the row is ``[value, 0]``: ``contrast``
    and ``logit`` are the value, and the other scalars mean nothing. Only the prompt can be attributed.
    """

    def encode(self, example: Example, unit: Unit = "word") -> Encoded:
        """Returns prompt and continuation as tokens, and the foils' tokens beside those of the continuation.

        Args:
            example: Two texts, or a :class:`Prompt` for foils. The leading space of a continuation is part of it.
            unit: ``word`` for canonical words, ``token`` for one unit per non-special token.

        Raises:
            UserError: If there is no token to predict from, no continuation, a foil of another number of tokens, or
                there are more tokens than the model reads.
        """
        encoded = LanguageModel.encode(self, example, unit)
        told = encoded.segments == 1
        if not told.any():
            raise UserError(
                f"example {example.id!r}: there is no continuation to explain; give two texts, such as 'I am', ' here'"
            )
        foils = example.foils if isinstance(example, Prompt) else ()
        marks = np.zeros((max(1, len(foils)), len(told)), dtype=np.int64)
        marks[:, told] = NOTHING
        for row, foil in enumerate(foils):
            ids = self.tokenizer(foil, add_special_tokens=False)["input_ids"]
            if len(ids) != told.sum():
                raise UserError(
                    f"example {example.id!r}: the foil {foil!r} has {len(ids)} tokens, the continuation "
                    f"{example.texts[1]!r} {told.sum()}; step by step only as many can be compared"
                )
            marks[row, told] = ids
        return replace(encoded, marks=marks)

    def _kind(self) -> tuple[bool, tuple[str, ...]]:
        return True, ("continuation", "foil")

    def _marks(self, rows: Sequence[Row], length: int) -> Tensor | None:
        counts = {0 if row.marks is None else len(row.marks) for row in rows}
        if len(counts) > 1:
            raise UserError(f"examples of {sorted(counts)} foils in one batch; explain them apart")
        return super()._marks(rows, length)

    def forward(self, batch: Batch, embeds: Tensor | None = None) -> Output:
        """Returns the values (R, 1 + foils), and the last state of the prompt (R, D).

        Args:
            batch: R rows.
            embeds: (R, L, d) word embeddings; None uses the batch's own ids (and offset).
        """
        hidden = self.backbone(batch, embeds).last_hidden_state
        self.count(batch, hidden)
        following = _answers_at(batch).roll(-1, 1)
        told = predicting(self, batch)[..., None] & (following != NOTHING)
        values = self._logits(hidden, following).masked_fill(~told, 0).sum(1)
        return Output(values, hidden[torch.arange(len(batch), device=hidden.device), self.pool(batch)])

    def answers(self, batch: Batch, states: Tensor) -> Tensor:
        """Returns the logits of the first tokens of continuation and foils after states (R, P, D), (R, P, 1 + foils).

        Where there is no foil its logit is -inf.
        """
        rows = torch.arange(len(batch), device=states.device)
        first = _answers_at(batch)[rows, self.pool(batch) + 1]
        logits = self._logits(states, first[:, None].expand(-1, states.shape[1], -1))
        return logits.masked_fill(first[:, None] == NOTHING, -torch.inf)

    def _logits(self, states: Tensor, ids: Tensor) -> Tensor:
        """Logits of tokens (R, P, K) after states (R, P, D): the rest of the vocabulary is left out.

        A product per row, unlike that of a matrix, has the same last bits in any company.
        """
        output = self.network.get_output_embeddings()
        ids = ids.clamp(min=0)
        logits: Tensor = (states[:, :, None] * output.weight[ids]).sum(-1)
        return logits if output.bias is None else logits + output.bias[ids]


def _answers_at(batch: Batch) -> Tensor:
    """Returns the tokens of continuation and foils, (R, L, 1 + foils), at the positions of the continuation."""
    assert batch.marks is not None
    return torch.cat([batch.ids[:, None], batch.marks], 1).transpose(1, 2)


def load_continuation_model(model: str | Path | Checkpoint, device: str = "cpu") -> ContinuationModel:
    """Returns a causal language model to explain by its continuations, in fp32 and ``eval`` mode, weights frozen.

    Args:
        model: A folder, a hub id, or what ``checkpoint.find`` returned.
        device: Torch device.

    Raises:
        UserError: If it cannot be found, is a classifier or not causal, has no tokenizer, or lacks weights.
    """
    return ContinuationModel(*causal_network(model, device))
