"""Removal operators: how a unit is taken out of an input. What is kept is never decoded and tokenized again."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Row
from attrlab.bench.errors import ContractError, UserError
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.operators import EMBEDDED, Mask
from attrlab.bench.seeds import generator
from attrlab.bench.types import Bools

Question = tuple[Bools, int]
"""Which units stay, ``(n_units,)``, and the draw."""


def whole(encoded: Encoded) -> Row:
    """Returns the unperturbed input."""
    return Row(encoded.ids, encoded.segments, np.ones(len(encoded.ids), dtype=bool), encoded.marks)


def delete(model: TextModel, encoded: Encoded, stays: Bools) -> Row:
    """Returns the input without the removed ids, the gap closed (metrics spec 0.4, primary).

    With every word removed only special tokens remain, and a continuation; a tokenizer without any gets a single
    end-of-text token in front. Where the head reads at a removed token (marked), that token is replaced instead.
    """
    ids, segments, _, marks, _ = replace(model, encoded, stays)
    kept = stays if marks is None else stays | marks.any(0)
    ids, segments = ids[kept], segments[kept]
    marks = None if marks is None else marks[:, kept]
    if segments.all():
        end = model.tokenizer.eos_token_id
        ids = np.append(model.replace_id if end is None else end, ids)
        segments = np.append(0, segments)
        marks = None if marks is None else np.pad(marks, ((0, 0), (1, 0)))
    return Row(ids, segments, np.ones(len(ids), dtype=bool), marks)


def replace(model: TextModel, encoded: Encoded, stays: Bools) -> Row:
    """Returns the input with the family's replacement token in place of every removed one; the length stays."""
    return whole(encoded)._replace(ids=np.where(stays, encoded.ids, model.replace_id))


def attn(model: TextModel, encoded: Encoded, stays: Bools) -> Row:
    """Returns the input with nothing allowed to attend to removed positions; ids and positions stay.

    Special tokens stay visible, and so does the position at which the model is read: without a readout token that is
    the last word of a decoder's input, which this operator cannot remove.
    """
    attend = stays.copy()
    attend[int(model.pool(model.collate([whole(encoded)]))[0])] = True
    return whole(encoded)._replace(attend=attend)


def pad(model: TextModel, encoded: Encoded, stays: Bools) -> Row:
    """Returns the input with padding in place of every removed token, attended to like any other.

    A tokenizer without a padding token (GPT-2) gets its end-of-text token.
    """
    return _with(model, encoded, stays, model.tokenizer.pad_token_id)


def unk(model: TextModel, encoded: Encoded, stays: Bools) -> Row:
    """Returns the input with the unknown-word token in place of every removed one; in GPT-2 and OPT end of text."""
    return _with(model, encoded, stays, model.tokenizer.unk_token_id)


def _with(model: TextModel, encoded: Encoded, stays: Bools, token: int | None) -> Row:
    end = model.tokenizer.eos_token_id
    chosen = next(id_ for id_ in (token, end, model.replace_id) if id_ is not None)
    return whole(encoded)._replace(ids=np.where(stays, encoded.ids, chosen))


FIXED: dict[str, Callable[[TextModel, Encoded, Bools], Row]] = {
    "delete": delete,
    "replace": replace,
    "attn": attn,
    "pad": pad,
    "unk": unk,
}
"""Removal operators that change ids or attention and draw nothing, by name."""


def embedded(model: TextModel, encoded: Encoded, questions: Sequence[tuple[Mask, int]], operator: str) -> list[Row]:
    """Returns the inputs with one vector in place of the word embeddings of removed units; ids and positions stay.

    The vector is 0 (``zero``) or, but for rounding, the mean row of the embedding matrix (``mean``). Of a unit that
    stays in part, those coordinates stay whose number, uniform in [0, 1), is below its probability. The numbers depend
    on the example and the draw alone: methods are compared on the same ones. A row that waits for its batch holds no
    more than its mask.
    """
    own = model.embedding.detach()
    vector = own.mean(0) if operator == "mean" else torch.zeros_like(own[0])
    return [whole(encoded)._replace(offset=partial(_towards, vector, encoded, keep, draw)) for keep, draw in questions]


def _towards(vector: Tensor, encoded: Encoded, keep: Mask, draw: int, own: Tensor) -> Tensor:
    """Returns what to add to word embeddings (n, d) so that ``vector`` stands where they do not stay."""
    if keep.dtype == bool:
        kept = staying(encoded, keep.astype(bool, copy=False))[:, None]
    else:
        uniform = generator("coordinates", encoded.example.id, draw).random(tuple(own.shape), dtype=np.float32)
        kept = uniform < np.append(keep, 1.0)[encoded.units][:, None]
    return torch.where(torch.from_numpy(kept).to(own.device), torch.zeros_like(vector), vector - own)


class Unigram:
    """Fills removed positions with tokens drawn one by one, each as often as it occurs in some texts.

    Args:
        texts: Examples as the model sees them; their special tokens do not count.

    Raises:
        UserError: If they have no token.
    """

    def __init__(self, texts: Sequence[Encoded]) -> None:
        tokens = np.concatenate([np.zeros(0, dtype=np.int64), *(one.ids[one.units >= 0] for one in texts)])
        if not len(tokens):
            raise UserError("operator 'random' draws tokens from the calibration texts, and these have none")
        self.ids, counts = np.unique(tokens, return_counts=True)
        self.shares = counts / counts.sum()

    def __call__(self, model: TextModel, encoded: Encoded, questions: Sequence[Question]) -> list[Row]:
        """Returns one input per question; it depends on the example, the question and its draw alone."""
        rows = []
        for keep, draw in questions:
            rng = question_generator("random", encoded, keep, draw)
            drawn = rng.choice(self.ids, size=len(encoded.ids), p=self.shares)
            rows.append(whole(encoded)._replace(ids=np.where(staying(encoded, keep), encoded.ids, drawn)))
        return rows


def question_generator(operator: str, encoded: Encoded, keep: Bools, draw: int) -> np.random.Generator:
    """Returns the generator of one draw of one question about an example."""
    return generator("removal", operator, encoded.example.id, np.packbits(keep).tobytes().hex(), len(keep), draw)


def staying(encoded: Encoded, keep: Bools) -> Bools:
    """Returns which tokens stay, ``(n_tokens,)``: those of kept units and those of none."""
    return np.append(keep, True)[encoded.units]  # index -1, tokens of no unit, always stays


def removals(model: TextModel, encoded: Encoded, questions: Sequence[tuple[Mask, int]], operator: str) -> list[Row]:
    """Returns the inputs in which only the kept units (and all special tokens) are present.

    Args:
        model: Supplies the tokens that stand for removed ones.
        encoded: The example.
        questions: Per input, which units stay, ``(n_units,)``, in part only under one of ``EMBEDDED``; and the draw.
        operator: A name in ``OPERATORS``.

    Raises:
        ContractError: If the operator is random and the model was not given what it draws from.
    """
    if operator in EMBEDDED:
        return embedded(model, encoded, questions, operator)
    certain: list[Question] = [(keep.astype(bool, copy=False), draw) for keep, draw in questions]
    if operator in FIXED:
        return [FIXED[operator](model, encoded, staying(encoded, keep)) for keep, _ in certain]
    if operator not in model.fillers:
        raise ContractError(
            f"removal operator {operator!r} is not prepared: name it in the suite, under operators or explain.operator"
        )
    return model.fillers[operator](model, encoded, certain)


def remove(model: TextModel, encoded: Encoded, keep: Mask, operator: str, draw: int = 0) -> Row:
    """Returns one input in which only the kept units are present, see :func:`removals`."""
    return removals(model, encoded, [(keep, draw)], operator)[0]
