"""A causal language model as the benchmark sees it: a prompt, and what follows it (methods spec 1.5, ``lm``).

It has the interface of a text classifier, so that methods that look inside a model work on both.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrlab.bench import checkpoint
from attrlab.bench.batch import Batch
from attrlab.bench.checkpoint import Checkpoint
from attrlab.bench.encoding import Unit, encode
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.model import TextModel

_NO_LIMIT = 1 << 20
"""A length no prompt reaches: prompts are refused when they are too long, never cut."""


class LanguageModel(TextModel):
    """A causal language model with its tokenizer.

    An example is a prompt, or a prompt and its continuation. The prompt's tokens can be attributed, those of the
    continuation cannot; segment 1 marks them (decoders have no use of their own for segments). Readout and logits are
    those of the next token after the prompt.

    Args:
        network: A ``*ForCausalLM`` of transformers, put into ``eval`` mode and fp32 by the caller.
        tokenizer: Its fast tokenizer.
        name: How the model is called in results.

    Raises:
        UserError: If the network is not causal, or the tokenizer is not a fast one or has no replacement token.
    """

    def __init__(self, network: Any, tokenizer: Any, name: str) -> None:
        super().__init__(network, tokenizer, name)
        self._segments = False
        if network.get_output_embeddings() is None or not is_causal(self):
            raise UserError(
                f"model {name!r} ({type(network).__name__}) is no causal language model; give one such as GPT-2 or OPT"
            )

    def _kind(self) -> tuple[bool, tuple[str, ...]]:
        return True, ()

    def head(self, states: Tensor) -> Tensor:
        """Returns the logits of the next token (..., V) after last states (..., D)."""
        logits: Tensor = self.network.get_output_embeddings()(states)
        return logits

    def encode(self, example: Example, unit: Unit = "word") -> Encoded:
        """Returns prompt and continuation as tokens; only those of the prompt belong to units.

        The prompt keeps the special tokens its tokenizer puts in front and loses those behind it. The continuation
        follows immediately: its leading space, if it has one, is part of it.

        Args:
            example: One text, the prompt; or two, the prompt and the continuation.
            unit: ``word`` for canonical words, ``token`` for one unit per non-special token.

        Raises:
            UserError: If there is no token to predict from, or there are more than the model reads.
        """
        prompt, *rest = example.texts
        coded = encode(
            self.tokenizer,
            replace(example, texts=(prompt,), rationales=None, weights=None, parses=None),
            unit,
            _NO_LIMIT,
        )
        n = int((~coded.special).nonzero()[0].max(initial=-1)) + 1 or self._leading(coded)
        ids = np.array([i for text in rest for i in self.tokenizer(text, add_special_tokens=False)["input_ids"]])
        if n == 0:
            raise UserError(f"example {example.id!r}: the prompt is empty and {self.name!r} puts no token in front")
        if n + len(ids) > self.max_length:
            raise UserError(
                f"example {example.id!r}: {n + len(ids)} tokens of prompt and continuation; "
                f"{self.name!r} reads {self.max_length}; shorten the text"
            )
        return Encoded(
            example=example,
            ids=np.append(coded.ids[:n], ids).astype(np.int64),
            segments=np.repeat([0, 1], [n, len(ids)]).astype(np.int64),
            special=np.append(coded.special[:n], np.zeros(len(ids), dtype=bool)),
            units=np.append(coded.units[:n], np.full(len(ids), -1)).astype(np.int64),
            words=coded.words,
        )

    def _leading(self, empty: Encoded) -> int:
        """Number of special tokens in front of an empty prompt: those a text would have in front of it, too."""
        one = encode(self.tokenizer, Example(id="", texts=("a",), label=None), "token", _NO_LIMIT)
        return min(int((~one.special).argmax()), len(empty.ids))

    def pool(self, batch: Batch) -> Tensor:
        """Returns the last position of each prompt (R,)."""
        positions = torch.arange(batch.ids.shape[1], device=batch.ids.device)
        inside = (positions <= batch.last[:, None]) & (batch.segments == 0)
        return torch.where(inside, positions, 0).amax(1)


def predicting(model: TextModel, batch: Batch) -> Tensor:
    """Returns the positions (R, L) whose hidden state predicts the continuation, or else the next token.

    For a continuation of q tokens, the last of the prompt and the first q - 1 of the continuation; without one, and
    for a classifier, the pooling position.

    Raises:
        UserError: If the model is an encoder.
    """
    if not model.decoder:
        raise UserError(f"model {model.name!r} is an encoder and predicts no next token: use phi=readout, not phi=lm")
    positions = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    first = model.pool(batch)
    last = torch.maximum(first + 1, batch.last)
    return (positions >= first[:, None]) & (positions < last[:, None])


def load_language_model(model: str | Path | Checkpoint, device: str = "cpu") -> LanguageModel:
    """Returns a causal language model in fp32 and ``eval`` mode, weights frozen.

    Args:
        model: A folder, a hub id, or what ``checkpoint.find`` returned.
        device: Torch device.

    Raises:
        UserError: If it cannot be found, is a classifier or not causal, has no tokenizer, or lacks weights.
    """
    return LanguageModel(*causal_network(model, device))


def causal_network(model: str | Path | Checkpoint, device: str = "cpu") -> tuple[Any, Any, str]:
    """Returns the network, tokenizer and name of a causal language model; see :func:`load_language_model`."""
    found = model if isinstance(model, Checkpoint) else checkpoint.find(str(model))
    _refuse_classifier(found)
    loaded = checkpoint.pretrained(found, "CausalLM", "causal language model")
    return loaded.network.to(device), loaded.tokenizer, found.name


def _refuse_classifier(found: Checkpoint) -> None:
    """Refuses a fine-tuned classifier: with tied weights it loads without complaint, as a model nobody trained."""
    try:
        made = json.loads((found.folder / "config.json").read_text("utf-8")).get("architectures") or []
    except (ValueError, AttributeError) as error:
        raise UserError(f"model {found.name!r}: its config.json is no JSON object ({error})") from error
    if made and not any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in made):
        raise UserError(f"model {found.name!r} was saved as {made[0]}, not as a causal language model")


@torch.no_grad()
def is_causal(model: TextModel) -> bool:
    """Whether the state at the first of two tokens is the same whatever the second is."""
    ids = torch.tensor([[1, 2], [1, 3]], device=model.device)
    hidden = model.network.base_model(input_ids=ids).last_hidden_state
    return bool(torch.allclose(hidden[0, 0], hidden[1, 0], atol=1e-6))
