"""Class logits of many inputs of a causal model that begin alike: what they share is computed once.

A text is read in blocks whose ends come from a fixed ladder, each after the keys and values of what precedes it. Two
inputs that agree up to the end of a block share that block, whoever asks for them: the erased inputs of a method, the
steps of a deletion curve, the whole text. How an input is cut depends on its length alone and batches have fixed
shapes, so that its logits are the same, bit for bit, whether what precedes a block was found or computed.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import LEAST_ROWS, KeysValues, Row
from attrlab.bench.model import TextModel
from attrlab.bench.pooled import pooled
from attrlab.bench.types import Floats, Ints

STOPS = (*range(0, 32, 8), *range(32, 128, 16), *range(128, 256, 32), *range(256, 1024, 64), *range(1024, 4097, 256))
"""Where blocks begin and end, in tokens."""

BYTES = 2**29
"""Keys and values that are kept."""


@dataclass(slots=True, eq=False)
class _Part:
    """The beginning of some inputs, up to the end of a block; the block is to be computed.

    Attributes:
        ids: Tokens of the beginning, ``(n,)``.
        goes_on: Whether an input is longer, and needs the block's keys and values.
        rows: Indices of the inputs that end with the block.
    """

    ids: Ints
    goes_on: bool = False
    rows: list[int] = field(default_factory=list)


class Prefixes:
    """Answers rows of a causal classifier, and remembers keys and values of their beginnings.

    Args:
        model: A classifier with :attr:`TextModel.resumable`.
        tokens: Padded tokens of one forward pass.
        capacity: Bytes of keys and values that are kept; at least one input always finds room.
        last_block: Compute the last block only where inputs end; see :mod:`attrlab.bench.pooled`.
    """

    def __init__(self, model: TextModel, tokens: int, capacity: int = BYTES, *, last_block: bool = True) -> None:
        self.model = model
        self.tokens = tokens
        self._last_block = last_block
        self._stops = [stop for stop in STOPS if stop < model.max_length] + [model.max_length]
        self._known: dict[bytes, Ints] = {}  # ids of a beginning -> where the keys and values of its tokens are
        self._used = 0
        with torch.inference_mode():
            _, layers = model.resume(torch.zeros((1, 1), dtype=torch.long, device=model.device))
        per_token = sum(part.nbytes for layer in layers for part in layer)
        self._room = max(capacity // per_token, model.max_length)
        self._stored = [tuple(part.new_empty((self._room, *part[0, :, 0].shape)) for part in layer) for layer in layers]

    @staticmethod
    def apply(row: Row) -> bool:
        """Whether a row is read at its last token and changed in nothing but its ids."""
        plain = row.offset is None and row.marks is None
        return plain and bool(row.attend.all()) and not row.segments.any()

    def logits(self, rows: Sequence[Row]) -> Floats:
        """Returns class logits (R, C) of rows to which this applies."""
        answers: list[Tensor] = []
        with torch.inference_mode():
            while len(answers) < len(rows):
                left = [row.ids for row in rows[len(answers) :]]
                fitting = self._fitting(left)
                if fitting < len(left):
                    self._forget()
                    fitting = self._fitting(left)
                answers += self._together(left[:fitting])
            return torch.stack(answers).double().cpu().numpy()

    def _forget(self) -> None:
        self._known.clear()
        self._used = 0

    def _blocks(self, length: int) -> Iterator[tuple[int, int]]:
        """Yields begin and end of the blocks of an input; the last one may end after it."""
        return pairwise(self._stops[: bisect_left(self._stops, length) + 1])

    def _fitting(self, inputs: Sequence[Ints]) -> int:
        """Returns how many inputs, the first ones, find room for what they have to remember."""
        used, seen = self._used, set(self._known)
        for count, ids in enumerate(inputs):
            for start, stop in self._blocks(len(ids)):
                key = ids[:stop].tobytes()
                if stop < len(ids) and key not in seen:
                    seen.add(key)
                    used += stop - start
            if used > self._room:
                return count
        return len(inputs)

    def _together(self, inputs: Sequence[Ints]) -> list[Tensor]:
        """Returns the logits (C,) of each input, block by block through all of them."""
        answers: dict[int, Tensor] = {}
        for start, stop in self._blocks(max(len(ids) for ids in inputs)):
            parts: dict[bytes, _Part] = {}
            for index, ids in enumerate(inputs):
                key = ids[:stop].tobytes()
                if start < len(ids) <= stop:
                    parts.setdefault(key, _Part(ids)).rows.append(index)
                elif stop < len(ids) and key not in self._known:
                    parts.setdefault(key, _Part(ids[:stop])).goes_on = True
            todo, rows = list(parts.values()), self._rows(stop - start)
            for first in range(0, len(todo), rows):
                answers |= self._read(todo[first : first + rows], start, stop)
        return [answers[index] for index in range(len(inputs))]

    def _rows(self, size: int) -> int:
        """Returns how many blocks of a size are read at once."""
        return max(torch.get_num_threads() * LEAST_ROWS, self.tokens // size)

    def _read(self, parts: Sequence[_Part], start: int, stop: int) -> dict[int, Tensor]:
        """Computes one batch of blocks; returns the logits of the inputs that end there."""
        rows = self._rows(stop - start)
        filled = [*parts, *[parts[0]] * (rows - len(parts))]
        ids = np.zeros((rows, stop - start), dtype=np.int64)
        for row, part in zip(ids, filled, strict=True):
            row[: len(part.ids) - start] = part.ids[start:]
        last = torch.tensor([len(part.ids) - 1 - start for part in filled], device=self.model.device)
        with pooled(self.model, last) if self._last_block else nullcontext():
            states, layers = self.model.resume(torch.from_numpy(ids).to(self.model.device), self._past(filled, start))
        logits = self.model.head(states[torch.arange(rows, device=states.device), last])
        self._remember(parts, layers, start, stop)
        return {index: answer for part, answer in zip(parts, logits, strict=False) for index in part.rows}

    def _past(self, parts: Sequence[_Part], start: int) -> list[KeysValues]:
        """Returns keys and values (R, heads, start, d) of what precedes a block, per layer."""
        if not start:
            return []
        places = torch.from_numpy(np.concatenate([self._known[part.ids[:start].tobytes()] for part in parts]))
        places = places.to(self.model.device)

        def take(stored: Tensor) -> Tensor:
            return stored.index_select(0, places).view(len(parts), start, *stored.shape[1:]).transpose(1, 2)

        return [(take(keys), take(values)) for keys, values in self._stored]

    def _remember(self, parts: Sequence[_Part], layers: Sequence[KeysValues], start: int, stop: int) -> None:
        """Keeps keys and values of those blocks after which an input goes on."""
        kept = [index for index, part in enumerate(parts) if part.goes_on]
        size = stop - start
        for number, index in enumerate(kept):
            ids, first = parts[index].ids, self._used + number * size
            before = self._known[ids[:start].tobytes()] if start else np.zeros(0, dtype=np.int64)
            self._known[ids.tobytes()] = np.append(before, np.arange(first, first + size))
        end = self._used + len(kept) * size
        for stored, computed in zip(self._stored, layers, strict=True):
            for into, of in zip(stored, computed, strict=True):
                into[self._used : end] = of[:, :, start:][kept].transpose(1, 2).flatten(0, 1)
        self._used = end
