"""A text classifier as the benchmark sees it: encode, embed, forward, count.

One forward path serves ids and embeddings, so that what is explained is what is deployed. Batches are padded on
the right; decoders are pooled by the attention mask, never by comparing ids with the pad id (methods spec 0.4).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from attrlab.bench.batch import Batch, KeysValues, Meter, Output, Row
from attrlab.bench.encoding import Unit, encode
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.types import Bools

LONGEST = 4096
"""Longest input where neither the tokenizer nor the configuration states one."""

RESUMABLE = ("gpt2", "opt")
"""Architectures whose attention looks back on all that precedes, at absolute positions."""


class TextModel:
    """A sequence classifier with its tokenizer.

    Args:
        network: A ``*ForSequenceClassification`` of transformers, put into ``eval`` mode and fp32 by the caller.
        tokenizer: Its fast tokenizer.
        name: How the model is called in results.

    Raises:
        UserError: If the tokenizer is not a fast one, there are fewer than two classes, or no replacement token.
    """

    def __init__(self, network: Any, tokenizer: Any, name: str) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.name = name
        self.decoder, self.labels = self._kind()
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(f"model {name!r} has no fast tokenizer; save one with a tokenizer.json beside the model")
        self.max_length = _max_length(network.config, tokenizer)
        self.replace_id = _replace_id(tokenizer, name)
        self.meter = _meter(0)
        self._segments = "token_type_ids" in tokenizer.model_input_names
        self.calibration: Sequence[Encoded] = ()
        self.fillers: dict[str, Callable[..., list[Row]]] = {}  # what removal operators that draw are asked
        self._hidden: Tensor | None = None
        network.base_model.register_forward_hook(self._capture)

    def _kind(self) -> tuple[bool, tuple[str, ...]]:
        """Whether the head reads the last token (else the first), and the names of its outputs."""
        return hasattr(self.network, "score"), _labels(self.network.config, self.name)

    def head(self, states: Tensor) -> Tensor:
        """Returns the outputs (..., V) of a decoder's head, as it would read last states (..., D)."""
        outputs: Tensor = self.network.score(states)
        return outputs

    def answers(self, batch: Batch, states: Tensor) -> Tensor:
        """Returns what each row of a causal model would answer (R, P, C) if its text ended at these states (R, P, D).

        An answer that does not exist (the foils of an example without any) is -inf.
        """
        return self.head(states)

    def _capture(self, _module: Any, _args: Any, output: Any) -> None:
        self._hidden = output.last_hidden_state

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @property
    def embedding(self) -> Tensor:
        """Word-embedding matrix (vocabulary, d)."""
        weight: Tensor = self.network.get_input_embeddings().weight
        return weight

    def encode(self, example: Example, unit: Unit = "word") -> Encoded:
        """Returns the example as tokens, each assigned to its unit; truncated to the model's length.

        Args:
            example: The example; an empty text gives no units.
            unit: ``word`` for canonical words, ``token`` for one unit per non-special token.
        """
        return encode(self.tokenizer, example, unit, self.max_length)

    def collate(self, rows: Sequence[Row], scorable: Sequence[Bools] = (), length: int = 0) -> Batch:
        """Returns rows as one batch padded on the right to ``length`` (or to the longest row)."""
        shape = (len(rows), max(length, *(len(row.ids) for row in rows)))
        ids, segments, mask, marks = (np.zeros(shape, dtype=np.int64) for _ in range(4))
        for index, row in enumerate(rows):
            n = len(row.ids)
            ids[index, :n], segments[index, :n], mask[index, :n] = row[:3]
            if scorable:
                marks[index, :n] = scorable[index]
        tensors = [torch.from_numpy(array).to(self.device) for array in (ids, segments, mask, marks)]
        return Batch(
            ids=tensors[0],
            segments=tensors[1],
            mask=tensors[2],
            scorable=tensors[3].bool(),
            last=torch.tensor([len(row.ids) - 1 for row in rows], device=self.device),
            owners=torch.arange(len(rows), device=self.device),
            offset=self._offset(rows, tensors[0]),
            marks=self._marks(rows, shape[1]),
        )

    def _offset(self, rows: Sequence[Row], ids: Tensor) -> Tensor | None:
        """What is added to the word embeddings (R, L, d); None where no row changes them, as is usual."""
        if all(row.offset is None for row in rows):
            return None
        own = self.network.get_input_embeddings()(ids).detach()
        offset = torch.zeros_like(own)
        for index, row in enumerate(rows):
            if index and row is rows[0]:  # a batch is filled up with its first row
                offset[index] = offset[0]
            elif row.offset is not None:
                offset[index, : len(row.ids)] = row.offset(own[index, : len(row.ids)])
        return offset

    def _marks(self, rows: Sequence[Row], length: int) -> Tensor | None:
        if rows[0].marks is None:
            return None
        padded = [np.pad(row.marks, ((0, 0), (0, length - len(row.ids)))) for row in rows if row.marks is not None]
        return torch.from_numpy(np.stack(padded)).to(self.device)

    def embed(self, batch: Batch) -> Tensor:
        """Returns the word embeddings (R, L, d) of a batch, offset included."""
        rows: Tensor = self.network.get_input_embeddings()(batch.ids)
        return rows if batch.offset is None else rows + batch.offset

    def baseline(self, batch: Batch) -> Tensor:
        """Returns the path baseline (R, L, d): the replacement token's row where scorable, own row elsewhere."""
        own = self.network.get_input_embeddings()(batch.ids)
        return torch.where(batch.scorable[..., None], self.embedding[self.replace_id], own)

    def pool(self, batch: Batch) -> Tensor:
        """Returns the pooling position of each row (R,): the last token for decoders, the first for encoders."""
        return batch.last if self.decoder else torch.zeros_like(batch.last)

    def backbone(self, batch: Batch, embeds: Tensor | None = None) -> Any:
        """Returns the output of the network below its head, as transformers names it; counts no row."""
        try:
            return self.network.base_model(**self._inputs(batch, embeds))
        finally:
            self._hidden = None

    def _inputs(self, batch: Batch, embeds: Tensor | None) -> dict[str, Any]:
        if embeds is None and batch.offset is not None:
            embeds = self.embed(batch)
        inputs: dict[str, Any] = {"attention_mask": batch.mask}
        inputs |= {"input_ids": batch.ids} if embeds is None else {"inputs_embeds": embeds}
        if self._segments:
            inputs["token_type_ids"] = batch.segments
        if self.decoder:
            positions = torch.arange(batch.ids.shape[1], device=batch.ids.device)[None]
            inputs |= {"position_ids": positions, "use_cache": False}
        return inputs

    def forward(self, batch: Batch, embeds: Tensor | None = None) -> Output:
        """Runs the network on ids, or on word embeddings in their place.

        Args:
            batch: R rows.
            embeds: (R, L, d) word embeddings; None uses the batch's own ids (and offset).
        """
        if self.decoder:
            result = self.backbone(batch, embeds)
            hidden = result.last_hidden_state
        else:
            result = self.network(**self._inputs(batch, embeds))
            assert self._hidden is not None
            hidden, self._hidden = self._hidden, None
        readout = hidden[torch.arange(len(batch), device=hidden.device), self.pool(batch)]
        logits = self.head(readout) if self.decoder else result.logits
        self.count(batch, hidden)
        return Output(logits, readout)

    @property
    def resumable(self) -> bool:
        """Whether the states of a text can be computed piece by piece, see :meth:`resume`."""
        return self.decoder and self.network.config.model_type in RESUMABLE

    def resume(self, ids: Tensor, past: Sequence[KeysValues] = ()) -> tuple[Tensor, list[KeysValues]]:
        """Reads tokens that follow others, of whose reading keys and values were kept; counts no row.

        Args:
            ids: (R, S) token ids; padding on the right changes nothing before it.
            past: Keys and values per block, (R, heads, P, d); left as they are. None of them for the begin of a text.

        Returns:
            The last states of these tokens (R, S, D), and keys and values (R, heads, P + S, d) per block.
        """
        cache, start = DynamicCache(), past[0][0].shape[2] if past else 0
        for keys, values in past:
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
        visible = torch.ones((len(ids), start + ids.shape[1]), dtype=torch.long, device=ids.device)
        result = self.network.base_model(
            input_ids=ids, attention_mask=visible, position_ids=positions, past_key_values=cache, use_cache=True
        )
        self._hidden = None
        return result.last_hidden_state, [(layer.keys, layer.values) for layer in cache.layers]

    def count(self, batch: Batch, hidden: Tensor) -> None:
        """Counts a forward pass of the rows, and a backward pass whenever a gradient reaches ``hidden``."""
        owners = batch.owners.cpu().numpy()
        owners = owners[(owners >= 0) & (owners < len(self.meter.forwards))]
        np.add.at(self.meter.forwards, owners, 1)
        if hidden.requires_grad:
            meter = self.meter
            hidden.register_hook(lambda _grad: np.add.at(meter.backwards, owners, 1))  # type: ignore[no-untyped-call]

    @contextmanager
    def metered(self, examples: int) -> Iterator[Meter]:
        """Counts the rows of each of ``examples`` batch rows while the block runs."""
        self.meter = _meter(examples)
        try:
            yield self.meter
        finally:
            self.meter = _meter(0)


def _meter(examples: int) -> Meter:
    return Meter(*np.zeros((2, examples), dtype=np.int64))


def _labels(config: Any, name: str) -> tuple[str, ...]:
    count = int(config.num_labels)
    if count < 2:
        raise UserError(f"model {name!r} has {count} output; a classifier needs at least two classes")
    return tuple(str(config.id2label[index]) for index in range(count))


def _max_length(config: Any, tokenizer: Any) -> int:
    stated = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions")]
    return int(min([tokenizer.model_max_length, LONGEST, *(value for value in stated if value)]))


def _replace_id(tokenizer: Any, name: str) -> int:
    """The id that stands for "nothing here": the mask token, else the lone space (methods spec 0.3)."""
    if tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    vocabulary = tokenizer.get_vocab()
    for space in ("Ġ", "▁"):
        if space in vocabulary and vocabulary[space] != tokenizer.pad_token_id:
            return int(vocabulary[space])
    raise UserError(f"model {name!r}: its tokenizer has neither a mask token nor a token for one space to replace with")
