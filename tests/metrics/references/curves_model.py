"""A small BERT with known weights and texts that survive decoding and encoding: what the references are run on.

The weights are drawn by NumPy, so that they are the same with every version of torch.
"""

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

WORDS = ("the", "film", "was", "not", "bad", "but", "unforgettable", "we", "loved", "its", "end", "and", "music")
TEXTS = (
    "the film was not bad but unforgettable",
    "we loved its end",
    "the end was bad and the music was bad and we loved the film",
    "not unforgettable",
)
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
TARGET = 1


def network():
    """Returns a BERT of two layers in float64, every weight drawn from N(0, 0.3), scales of norms around 1."""
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    model, rng = BertForSequenceClassification(config).double().eval().requires_grad_(False), np.random.default_rng(1)
    for name, weight in sorted(model.named_parameters()):
        drawn = rng.normal(0.0, 0.3, tuple(weight.shape)) + float(name.endswith("LayerNorm.weight"))
        weight.copy_(weight.new_tensor(drawn.tolist()))
    return model


def tokenizer():
    """Returns a tokenizer of whole words, one token each."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL.values(), *WORDS))}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL["unk"]))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(SPECIAL[name], vocabulary[SPECIAL[name]]) for name in ("cls", "sep")],
    )
    names = {f"{name}_token": token for name, token in SPECIAL.items()}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=32, **names)


def explanations(n_tokens):
    """Returns explanations of a text, ``(3, n_tokens)``: of both signs, mostly negative, and none positive."""
    drawn = np.random.default_rng(n_tokens).normal(size=(3, n_tokens))
    return np.stack([drawn[0], drawn[1] - 0.5, -np.abs(drawn[2])])
