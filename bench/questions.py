"""An extractive question-answering model explained by the span it answers with (methods spec 0.2, 11.3).

Its answer has the form of a classifier's, so that every method and metric works on it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrlab.bench import checkpoint
from attrlab.bench.batch import Batch, Output
from attrlab.bench.checkpoint import Checkpoint
from attrlab.bench.encoding import Unit
from attrlab.bench.errors import NotApplicableError, UserError
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.language import is_causal
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.types import Ints

LONGEST_ANSWER = 30
"""Tokens of the longest span that can be predicted, as is usual on SQuAD."""


class QuestionModel(TextModel):
    """An extractive question-answering model with its tokenizer.

    An example is a question and a context. Its answer is the best span of the context on the unperturbed input, found
    when it is encoded and kept from then on as marks: 1 at its first token, 1 at its last. On any perturbed input the
    model gives the row ``[start logit there + end logit there, 0]``: ``contrast`` and ``logit`` are the sum, the other
    scalars mean nothing. That a question has no answer (SQuAD v2) is never predicted. Where ``delete`` would remove one
    of the two tokens, it is replaced. The pooling position is the first token of the answer.

    Args:
        network: A ``*ForQuestionAnswering`` of transformers, put into ``eval`` mode and fp32 by the caller.
        tokenizer: Its fast tokenizer.
        name: How the model is called in results.
        score_question: Attribute words of the question, too.

    Raises:
        UserError: If the tokenizer is not a fast one or has no replacement token.
    """

    def __init__(self, network: Any, tokenizer: Any, name: str, *, score_question: bool = False) -> None:
        super().__init__(network, tokenizer, name)
        self.score_question = score_question

    def encode(self, example: Example, unit: Unit = "word") -> Encoded:
        """Returns question and context as tokens, with the predicted span; truncated to the model's length.

        Args:
            example: Two texts: the question, and the context that holds the answer.
            unit: ``word`` for canonical words, ``token`` for one unit per non-special token.

        Raises:
            UserError: If there are not two texts, or no token of the context is left to answer with.
        """
        if len(example.texts) != 2:
            raise UserError(f"example {example.id!r}: {len(example.texts)} text; give the question and the context")
        encoded = super().encode(example, unit)
        asked = sum(word.text == 0 for word in encoded.words)
        candidates = np.flatnonzero(encoded.units >= asked)
        if len(candidates) == 0:
            raise UserError(f"example {example.id!r}: no word of the context fits; {self.name!r} needs one to answer")
        encoded = replace(encoded, marks=self._span(encoded, candidates))
        if self.score_question:
            return encoded
        units = np.where(encoded.units >= asked, encoded.units - asked, -1)
        return replace(encoded, units=units, words=encoded.words[asked:])

    @torch.no_grad()
    def _span(self, encoded: Encoded, candidates: Ints) -> Ints:
        """Marks of the best span between candidates, (2, n_tokens): first and last token."""
        logits, _ = self._run(self.collate([whole(encoded)]), None)
        start, end = logits[0].double().cpu().numpy()[:, candidates]
        lengths = np.arange(len(candidates)) - np.arange(len(candidates))[:, None]
        values = np.where((lengths >= 0) & (lengths < LONGEST_ANSWER), start[:, None] + end, -np.inf)
        first, last = np.unravel_index(values.argmax(), values.shape)
        marks = np.zeros((2, len(encoded.ids)), dtype=np.int64)
        marks[[0, 1], candidates[[first, last]]] = 1
        return marks

    def answer(self, encoded: Encoded) -> str:
        """Returns the predicted span as the tokenizer writes it."""
        assert encoded.marks is not None
        first, last = encoded.marks.argmax(1)
        text: str = self.tokenizer.decode(encoded.ids[first : last + 1])
        return text.strip()

    def pool(self, batch: Batch) -> Tensor:
        """Returns the position of the first token of each row's answer (R,)."""
        assert batch.marks is not None
        return batch.marks[:, 0].argmax(1)

    def forward(self, batch: Batch, embeds: Tensor | None = None) -> Output:
        """Returns the row [value of the span, 0] (R, 2), and the last state at the first token of the answer (R, D).

        Args:
            batch: R rows.
            embeds: (R, L, d) word embeddings; None uses the batch's own ids (and offset).
        """
        assert batch.marks is not None
        logits, hidden = self._run(batch, embeds)
        self.count(batch, hidden)
        value = (logits * batch.marks).sum((1, 2))
        rows = torch.arange(len(batch), device=hidden.device)
        return Output(torch.stack([value, torch.zeros_like(value)], 1), hidden[rows, self.pool(batch)])

    def answers(self, batch: Batch, states: Tensor) -> Tensor:
        """Refuses: an answer is read at two positions.

        Raises:
            NotApplicableError: Always.
        """
        raise NotApplicableError("an extractive answer is read at two positions, not at the end of a text")

    def _run(self, batch: Batch, embeds: Tensor | None) -> tuple[Tensor, Tensor]:
        """Start and end logits of every token (R, 2, L), and the last states (R, L, D)."""
        result = self.network(**self._inputs(batch, embeds))
        assert self._hidden is not None
        hidden, self._hidden = self._hidden, None
        return torch.stack([result.start_logits, result.end_logits], 1), hidden

    def _kind(self) -> tuple[bool, tuple[str, ...]]:
        return is_causal(self), ("answer", "nothing")


def load_question_model(
    model: str | Path | Checkpoint, device: str = "cpu", *, score_question: bool = False
) -> QuestionModel:
    """Returns an extractive question-answering model in fp32 and ``eval`` mode, weights frozen.

    Args:
        model: A folder, a hub id, or what ``checkpoint.find`` returned.
        device: Torch device.
        score_question: Attribute words of the question, too.

    Raises:
        UserError: If it cannot be found, has no trained head for answers, has no tokenizer, or lacks weights.
    """
    found = model if isinstance(model, Checkpoint) else checkpoint.find(str(model))
    loaded = checkpoint.pretrained(found, "QuestionAnswering", "question-answering model", ("qa_outputs.",))
    if loaded.random:
        raise UserError(
            f"model {found.name!r} has no trained head for answers ({loaded.random[0]!r} would be random); "
            "give one that was fine-tuned on extractive questions, such as SQuAD"
        )
    return QuestionModel(loaded.network.to(device), loaded.tokenizer, found.name, score_question=score_question)
