"""Transformers whose weights are set by hand: which words they use is proved, not measured.

A wired model solves the data set ``pointer`` as its rule does. In the first layer every position attends to the first
word and nothing else, and copies the place that it names; in the second layer every position attends to that place and
copies the class of the word there, which the head reads. The two attention scores are so far apart that the softmax is
exactly 1 there and exactly 0 elsewhere, also in float64: no other word can move the logits by a bit.

Every feature (a word's content, a position, what was copied) is a pair of dimensions, +1 and -1, and every token has
equally many features: so the LayerNorms, which the architectures insist on, find the same mean and variance everywhere
and change nothing. The feed-forward blocks add zero.

A text that does not begin with a place word points to its own first word. A word of no class there, or a replacement
token at the place that is pointed to, leaves both classes at the same logit.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import generator_words as vocabulary
from attrlab.bench import minis
from attrlab.bench.checkpoint import CARD
from attrlab.bench.data_catalogue import DATASETS
from attrlab.bench.model import TextModel
from attrlab.bench.seeds import digest
from attrlab.bench.train import save

VERSION = 1
"""Raised whenever the weights change."""

LENGTH = 16
"""Longest input in tokens."""

GAP = 1e4
"""Between the attention score of the chosen position and all others: exp(-GAP) is 0 in float64."""

CONFIDENCE = 4.0
"""Logit of the chosen class, where the other has 0."""

END = "<|endoftext|>"

_CONTENTS = len(vocabulary.PLACES) + len(vocabulary.KEYWORDS) + 1  # the last one: a word of neither kind
_POSITION = _CONTENTS
_POINTER = _POSITION + LENGTH
_POINTED = _POINTER + _CONTENTS
_WIDTH = 2 * (_POINTED + _CONTENTS)


def saved(name: str) -> Path:
    """Returns the folder of a wired model, written to the cache if it is not there."""
    folder = checkpoints.cache_dir() / "models" / f"{name}-{digest([VERSION, transformers.__version__])[:16]}"
    if not (folder / CARD).is_file():
        save(build(name), {"base": name, "dataset": "pointer", "wired": VERSION}, folder)
    return folder


def build(name: str) -> TextModel:
    """Returns ``bert-wired`` or ``gpt2-wired``, in fp32 and ``eval`` mode, its weights frozen."""
    tokenizer, network = _BUILDERS[name]()
    network.requires_grad_(requires_grad=False)
    return TextModel(network.eval(), tokenizer, name)


def _words() -> list[str]:
    return [*vocabulary.PLACES, *(word for words in vocabulary.KEYWORDS for word in words)]


def _content(token: str) -> int:
    """Returns the feature that stands for a token: its place, its class, or that it has neither."""
    if token in vocabulary.PLACES:
        return vocabulary.PLACES.index(token)
    for label, words in enumerate(vocabulary.KEYWORDS):
        if token in words:
            return len(vocabulary.PLACES) + label
    return _CONTENTS - 1


def _embeddings(tokens: dict[str, int]) -> Tensor:
    return _rows([_content(token) for token, _ in sorted(tokens.items(), key=lambda item: item[1])])


def _positions() -> Tensor:
    return _rows(list(range(_POSITION, _POSITION + LENGTH)))


def _rows(features: list[int]) -> Tensor:
    """Returns one row (F, D) per feature: +1 and -1 in its two dimensions."""
    rows = torch.zeros(len(features), _WIDTH)
    for row, feature in enumerate(features):
        rows[row, 2 * feature], rows[row, 2 * feature + 1] = 1.0, -1.0
    return rows


class _Attention(NamedTuple):
    """Matrices (out, in) of an attention layer, and the bias of its queries; the other biases are zero."""

    query: Tensor
    query_bias: Tensor
    key: Tensor
    value: Tensor
    output: Tensor


def _layers(first_word: int) -> tuple[_Attention, _Attention]:
    """Returns the two attention layers of a model in which the first word has this position."""
    look, follow = torch.zeros(_WIDTH), torch.zeros(_WIDTH, _WIDTH)
    sharp = GAP * math.sqrt(_WIDTH)  # attention divides by the root of the width
    look[first_word] = sharp
    for content in range(_CONTENTS):
        place = first_word + (content + 1 if content < len(vocabulary.PLACES) else 0)
        follow[place, 2 * (_POINTER + content)] = sharp
    key, value = torch.zeros(2, _WIDTH, _WIDTH)
    key[torch.arange(LENGTH), 2 * (_POSITION + torch.arange(LENGTH))] = 1.0
    copied = torch.arange(2 * _CONTENTS)
    value[copied, copied] = 1.0
    to_pointer, to_pointed = torch.zeros(2, _WIDTH, _WIDTH)
    to_pointer[2 * _POINTER + copied, copied] = 1.0
    to_pointed[2 * _POINTED + copied, copied] = 1.0
    return (
        _Attention(torch.zeros(_WIDTH, _WIDTH), look, key, value, to_pointer),
        _Attention(follow, torch.zeros(_WIDTH), key, value, to_pointed),
    )


def _readout() -> Tensor:
    """Returns the rows (C, D) that read the class of the word pointed to."""
    return _rows([_POINTED + len(vocabulary.PLACES) + label for label in range(len(vocabulary.KEYWORDS))]).relu()


def _norm(norm: Any, features: int) -> None:
    """Sets a LayerNorm so that it returns a row of so many features as it is."""
    norm.weight.fill_(math.sqrt(2 * features / _WIDTH))
    norm.bias.zero_()


def _common(tokens: int) -> dict[str, Any]:
    labels = DATASETS["pointer"].labels
    return {
        "vocab_size": tokens,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


@torch.no_grad()
def _bert() -> tuple[Any, Any]:
    tokenizer = minis.word_tokenizer(_words())
    config = transformers.BertConfig(
        hidden_size=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=1,
        max_position_embeddings=LENGTH,
        pad_token_id=tokenizer.pad_token_id,
        **_common(len(tokenizer)),
    )
    network = transformers.BertForSequenceClassification(config)
    for weight in network.parameters():
        weight.zero_()
    body = network.bert
    body.embeddings.word_embeddings.weight.copy_(_embeddings(tokenizer.get_vocab()))
    body.embeddings.position_embeddings.weight.copy_(_positions())
    _norm(body.embeddings.LayerNorm, 2)
    for features, block, wanted in zip((3, 4), body.encoder.layer, _layers(first_word=1), strict=True):
        inner = block.attention.self
        inner.query.weight.copy_(wanted.query)
        inner.query.bias.copy_(wanted.query_bias)
        inner.key.weight.copy_(wanted.key)
        inner.value.weight.copy_(wanted.value)
        block.attention.output.dense.weight.copy_(wanted.output)
        _norm(block.attention.output.LayerNorm, features)
        _norm(block.output.LayerNorm, features)
    classes = len(vocabulary.KEYWORDS)
    body.pooler.dense.weight[:classes] = _readout()
    network.classifier.weight[:, :classes] = torch.eye(classes) * CONFIDENCE / math.tanh(1)
    return tokenizer, network


@torch.no_grad()
def _gpt2() -> tuple[Any, Any]:
    tokenizer = _decoder_tokenizer()
    config = transformers.GPT2Config(
        n_embd=_WIDTH,
        n_layer=2,
        n_head=1,
        n_inner=1,
        n_positions=LENGTH,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
        **_common(len(tokenizer)),
    )
    network = transformers.GPT2ForSequenceClassification(config)
    for weight in network.parameters():
        weight.zero_()
    body = network.transformer
    body.wte.weight.copy_(_embeddings(tokenizer.get_vocab()))
    body.wpe.weight.copy_(_positions())
    for features, block, wanted in zip((2, 3), body.h, _layers(first_word=0), strict=True):
        _norm(block.ln_1, features)
        block.attn.c_attn.weight.copy_(torch.cat([wanted.query, wanted.key, wanted.value]).T)
        block.attn.c_attn.bias[:_WIDTH] = wanted.query_bias
        block.attn.c_proj.weight.copy_(wanted.output.T)
    _norm(body.ln_f, 4)
    network.score.weight.copy_(_readout() * CONFIDENCE)
    return tokenizer, network


def _decoder_tokenizer() -> Any:
    """Returns a tokenizer of white-space words with GPT-2's only special token, and its space to replace words with."""
    known = {token: index for index, token in enumerate([END, "Ġ", *_words()])}
    backend = Tokenizer(models.WordLevel(known, unk_token=END))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = minis.template(backend, f"$A {END}", f"$A {END} $B {END}")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END),
    )


_BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {"bert-wired": _bert, "gpt2-wired": _gpt2}
