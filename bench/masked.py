"""Fills removed words with samples of a masked language model (operator ``mlm``, metrics spec 0.4).

A hole is a word. In the masked model's input it is as many mask tokens as the word has pieces in that model's own
vocabulary. The holes are filled one piece after the other, each drawn from the model's conditional given the kept
words and the pieces drawn so far: the holes in an order drawn anew for each draw, the pieces of a hole from left to
right, temperature 1. Special tokens are never drawn, nor is a word begun with a continuation piece. The text of a
filled hole is then tokenized by the classifier's tokenizer, for that word alone: kept ids stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench.batch import Row
from attrlab.bench.checkpoint import Checkpoint
from attrlab.bench.encoding import encode
from attrlab.bench.engine import padded_length
from attrlab.bench.errors import NotApplicableError, UserError
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.model import TextModel
from attrlab.bench.removal import Question, question_generator, staying, whole
from attrlab.bench.types import Floats, Ints

TOKENS = 1024
"""Padded tokens of one forward pass, always filled up: so what is drawn does not depend on what is drawn beside it."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Blank:
    """A text with holes that are being filled.

    Attributes:
        row: The masked model's input; its ids change as holes are filled.
        open: Positions of the pieces still to be drawn, in their order.
        rng: Of the draws.
    """

    row: Row
    open: list[int]
    rng: np.random.Generator


class MaskedWords:
    """Fills removed words; what the operator ``mlm`` asks.

    Args:
        network: A ``*ForMaskedLM`` of transformers, in ``eval`` mode.
        tokenizer: Its fast tokenizer.
        name: How it is called in messages.

    Raises:
        UserError: If the tokenizer is not a fast one or has no mask token.
    """

    def __init__(self, network: Any, tokenizer: Any, name: str) -> None:
        if not getattr(tokenizer, "is_fast", False) or tokenizer.mask_token_id is None:
            raise UserError(f"masked language model {name!r} has no fast tokenizer with a mask token")
        self.network, self.tokenizer, self.name = network, tokenizer, name
        self.max_length = int(min(tokenizer.model_max_length, network.config.max_position_embeddings))
        size = network.config.vocab_size
        self.drawable = np.zeros(size, dtype=bool)
        pieces = tokenizer.get_vocab()
        self.drawable[[index for index in pieces.values() if index < size]] = True
        self.drawable[tokenizer.all_special_ids] = False
        joined = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
        continues = [index for piece, index in pieces.items() if joined and piece.startswith(joined)]
        self.begins = self.drawable.copy()
        self.begins[continues] = False
        self._segments = "token_type_ids" in tokenizer.model_input_names

    def __call__(self, model: TextModel, encoded: Encoded, questions: Sequence[Question]) -> list[Row]:
        """Returns one input per question; it depends on the example, the question and its draw alone."""
        filled = self.fillings(encoded, questions)
        texts = sorted({(unit, text) for one in filled for unit, text in one.items()})
        spaces = [_space_before(encoded, unit) + text for unit, text in texts]
        coded = model.tokenizer(spaces, add_special_tokens=False)["input_ids"] if spaces else []
        ids = dict(zip(texts, coded, strict=True))
        return [_row(encoded, {unit: ids[unit, text] for unit, text in one.items()}, model) for one in filled]

    def fillings(self, encoded: Encoded, questions: Sequence[Question]) -> list[dict[int, str]]:
        """Returns, per question, what each removed unit reads instead.

        Raises:
            NotApplicableError: If this model does not read one of the removed words, or units are not words.
        """
        own = self._own(encoded)
        holes = self._holes(encoded, own)
        orders, blanks = [], []
        for keep, draw in questions:
            rng = question_generator("mlm", encoded, keep, draw)
            orders.append(rng.permutation(np.flatnonzero(~keep)).tolist())
            blanks.append(self._blank(own, [holes[unit] for unit in orders[-1]], rng))
        self._fill(blanks, {int(positions[0]) for positions in holes})
        decode = self.tokenizer.decode
        return [
            {unit: decode(blank.row.ids[holes[unit]], clean_up_tokenization_spaces=True).strip() for unit in order}
            for order, blank in zip(orders, blanks, strict=True)
        ]

    def _own(self, encoded: Encoded) -> Encoded:
        """The example as this model reads it, up to the last words that the classifier reads."""
        ends = [0] * len(encoded.example.texts)
        for word in encoded.words:
            ends[word.text] = max(ends[word.text], word.end)
        texts = tuple(text[:end] for text, end in zip(encoded.example.texts, ends, strict=True))
        return encode(self.tokenizer, Example(id=encoded.example.id, texts=texts, label=None), "word", self.max_length)

    def _holes(self, encoded: Encoded, own: Encoded) -> list[Ints]:
        """Positions of the pieces of each of the classifier's units in this model's input."""
        if len(set(encoded.words)) < encoded.n_units:
            raise NotApplicableError("removal operator 'mlm' fills whole words: units must be words")
        place = {word: np.flatnonzero(own.units == unit) for unit, word in enumerate(own.words)}
        unread = [reading for word, reading in zip(encoded.words, encoded.readings, strict=True) if word not in place]
        if unread:
            raise NotApplicableError(f"masked language model {self.name!r} does not read the word {unread[0]!r}")
        return [place[word] for word in encoded.words]

    def _blank(self, own: Encoded, holes: Sequence[Ints], rng: np.random.Generator) -> _Blank:
        positions = np.concatenate([np.zeros(0, dtype=np.int64), *holes])
        row = whole(own)._replace(ids=own.ids.copy())
        row.ids[positions] = self.tokenizer.mask_token_id
        return _Blank(row=row, open=positions.tolist(), rng=rng)

    def _fill(self, blanks: Sequence[_Blank], begins: set[int]) -> None:
        """Draws every open piece; blanks go in full batches of one shape, so that company changes no bit."""
        blanks = [blank for blank in blanks if blank.open]
        while blanks:
            length = padded_length(len(blanks[0].row.ids), self.max_length)
            size = max(1, TOKENS // length)
            for start in range(0, len(blanks), size):
                part = blanks[start : start + size]
                where = [blank.open.pop(0) for blank in part]
                fill = [part[0]] * (size - len(part))
                rows = [blank.row for blank in [*part, *fill]]
                logits = self.logits(rows, [*where, *where[:1] * len(fill)], length)
                for blank, position, one in zip(part, where, logits, strict=False):
                    allowed = self.begins if position in begins else self.drawable
                    blank.row.ids[position] = _draw(np.where(allowed, one, -np.inf), blank.rng)
            blanks = [blank for blank in blanks if blank.open]

    def logits(self, rows: Sequence[Row], positions: Sequence[int], length: int = 0) -> Floats:
        """Returns the logits of the piece at one position of each row, ``(n_rows, vocabulary)``."""
        with torch.inference_mode():
            found = self.network(**self.inputs(rows, length)).logits
        chosen: Tensor = found[torch.arange(len(rows)), torch.tensor(positions)]
        return np.asarray(chosen.double().cpu().numpy())

    def inputs(self, rows: Sequence[Row], length: int = 0) -> dict[str, Tensor]:
        """Returns rows as keyword arguments of the network, padded on the right to ``length`` or the longest row."""
        length = max(length, *(len(row.ids) for row in rows))
        parts: dict[str, list[Any]] = {
            "input_ids": [row.ids for row in rows],
            "attention_mask": [row.attend for row in rows],
        }
        if self._segments:
            parts["token_type_ids"] = [row.segments for row in rows]
        device = next(self.network.parameters()).device
        padded = {name: np.stack([np.pad(one, (0, length - len(one))) for one in own]) for name, own in parts.items()}
        return {name: torch.from_numpy(array.astype(np.int64)).to(device) for name, array in padded.items()}


def _draw(logits: Floats, rng: np.random.Generator) -> int:
    """Returns an index drawn from the softmax of the logits."""
    total = np.exp(logits - logits.max()).cumsum()
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))


def _space_before(encoded: Encoded, unit: int) -> str:
    """White space in front of a word: it belongs to the word's tokens."""
    word = encoded.words[unit]
    before = encoded.example.texts[word.text][: word.start]
    return before[len(before.rstrip()) :]


def _row(encoded: Encoded, fillings: dict[int, list[int]], model: TextModel) -> Row:
    """The input with other ids for some units; fillings are cut, the longest first, where it gets too long.

    What the head reads at a removed token (marked) it reads at the first token of the filling.
    """
    fillings = {unit: list(ids) for unit, ids in fillings.items()}
    keep = ~np.isin(np.arange(encoded.n_units), list(fillings))
    stays = staying(encoded, keep)
    for _ in range(int(stays.sum()) + sum(map(len, fillings.values())) - model.max_length):
        max(fillings.values(), key=len).pop()
    positions = {unit: np.flatnonzero(encoded.units == unit) for unit in fillings}
    ids: list[int] = []
    sources: list[int] = []
    marks = None if encoded.marks is None else encoded.marks.copy()
    for position, (token, unit) in enumerate(zip(encoded.ids.tolist(), encoded.units.tolist(), strict=True)):
        new = [token] if unit not in fillings else fillings[unit] if position == positions[unit][0] else []
        ids += new
        sources += [position] * len(new)
        if marks is not None and encoded.marks is not None and unit in fillings and new:
            marks[:, position] = encoded.marks[:, positions[unit]].max(1)
    row = Row(np.array(ids, dtype=np.int64), encoded.segments[sources], np.ones(len(ids), dtype=bool))
    if marks is None:
        return row
    first = np.r_[True, np.diff(sources) > 0]
    return row._replace(marks=np.where(first, marks[:, sources], 0))


def load(checkpoint: Checkpoint, device: str = "cpu") -> MaskedWords:
    """Returns the masked language model of a checkpoint, in fp32 and ``eval`` mode.

    Raises:
        UserError: If it is none, has no fast tokenizer with a mask token, or lacks weights.
    """
    found = checkpoints.pretrained(checkpoint, "MaskedLM", "masked language model")
    return MaskedWords(found.network.to(device), found.tokenizer, checkpoint.name)
