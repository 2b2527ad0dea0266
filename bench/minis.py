"""Builds a mini: the architecture class of its big namesake at small geometry, with a tokenizer of its family.

The geometry follows one rule (``zoo.ModelInfo.mini_geometry``); what is peculiar to an architecture is kept (OPT-350M:
LayerNorm after the residual sum, projected word embeddings). There is no dropout: it only slows such small models.
Decoders read the class at an appended end-of-text token
(methods spec 0.4): the tokenizer itself appends it, so a plain call of the saved model does the same.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from attrlab.bench.zoo import ModelInfo

PIECES, BYTE_PAIRS = 320, 600
"""Size of a mini's vocabulary (WordPiece, byte-level BPE): so small that some words are split, as in the big models."""

MAX_LENGTH = 128
"""Longest input of a mini, in tokens."""

WORDS, WORD_POSITIONS = 4096, MAX_LENGTH + 1
"""Vocabulary of the masked language model of words, and its length: pairs have one special token more than in GPT-2."""

BERT_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def tokenizer(info: ModelInfo, texts: Iterable[str]) -> Any:
    """Returns a fast tokenizer of the model's family, trained on ``texts`` (deterministic).

    BERT: lower-cased WordPiece. GPT-2 and OPT: byte-level BPE, with the family's own special tokens; GPT-2 has one,
    ``<|endoftext|>``, and no padding token.
    """
    if info.family == "bert":
        return _wordpiece(texts)
    return _byte_bpe(info, texts)


def _wordpiece(texts: Iterable[str]) -> Any:
    special = list(BERT_SPECIAL.values())
    backend = _bert_pipeline(models.WordPiece(unk_token="[UNK]"))
    texts = list(texts)
    letters = sorted({char for text in texts for char in backend.normalizer.normalize_str(text) if not char.isspace()})
    # The trainer numbers pieces in the order of a hash map, and ties between merges follow the numbers: naming every
    # single letter beforehand, with and without the prefix, fixes them.
    known = special + letters + [f"##{letter}" for letter in letters]
    trainer = trainers.WordPieceTrainer(vocab_size=PIECES, special_tokens=known, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    backend = _bert_pipeline(models.WordPiece(backend.get_vocab(), unk_token="[UNK]"))
    return _bert_tokenizer(backend, MAX_LENGTH)


def _bert_tokenizer(backend: Tokenizer, length: int) -> Any:
    backend.post_processor = template(backend, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **BERT_SPECIAL,
    )


def _bert_pipeline(model: models.WordPiece) -> Tokenizer:
    backend = Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def _byte_bpe(info: ModelInfo, texts: Iterable[str]) -> Any:
    opt = info.family == "opt"
    special = ["<s>", "<pad>", "</s>", "<unk>"] if opt else ["<|endoftext|>"]
    end = "</s>" if opt else "<|endoftext|>"
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BYTE_PAIRS,
        show_progress=False,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    backend.train_from_iterator(texts, trainer)
    start = f"{end} " if opt else ""
    backend.post_processor = template(backend, f"{start}$A {end}", f"{start}$A {end} $B {end}")
    names = {"bos_token": end, "eos_token": end, "unk_token": end} | ({"pad_token": "<pad>"} if opt else {})
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        **names,
    )


def word_tokenizer(texts: Iterable[str]) -> Any:
    """Returns a fast tokenizer with one token per white-space word: the ``WORDS`` most frequent of ``texts``."""
    counts = Counter(word for text in texts for word in text.split())
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    known = {token: index for index, token in enumerate(dict.fromkeys([*BERT_SPECIAL.values(), *ranked[:WORDS]]))}
    backend = Tokenizer(models.WordLevel(known, unk_token=BERT_SPECIAL["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _bert_tokenizer(backend, WORD_POSITIONS)


def template(backend: Tokenizer, single: str, pair: str) -> Any:
    """Returns the post-processor that puts special tokens around one text ``$A`` or two ``$A``, ``$B``."""
    names = {part.partition(":")[0] for part in f"{single} {pair}".split() if not part.startswith("$")}
    return processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(name, backend.token_to_id(name)) for name in sorted(names)]
    )


def network(info: ModelInfo, vocabulary: Any, labels: tuple[str, ...], seed: int) -> Any:
    """Returns the untrained classifier at mini geometry, weights drawn under ``seed``.

    Args:
        info: The architecture.
        vocabulary: Its tokenizer.
        labels: Names of the classes.
        seed: Of the initial weights; the global generator is left as it was.
    """
    common = {
        "vocab_size": len(vocabulary),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "pad_token_id": vocabulary.pad_token_id,
        "bos_token_id": vocabulary.bos_token_id,
        "eos_token_id": vocabulary.eos_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _BUILDERS[info.family](info, common).eval()


def masked_network(info: ModelInfo, vocabulary: Any, seed: int) -> Any:
    """Returns an untrained masked language model at the mini geometry of a BERT, weights drawn under ``seed``."""
    common = {"vocab_size": len(vocabulary), "pad_token_id": vocabulary.pad_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.BertForMaskedLM(_bert_config(info, common, WORD_POSITIONS)).eval()


def _bert(info: ModelInfo, common: dict[str, Any]) -> Any:
    return transformers.BertForSequenceClassification(_bert_config(info, common, MAX_LENGTH))


def _bert_config(info: ModelInfo, common: dict[str, Any], positions: int) -> Any:
    size = info.mini_geometry()
    return transformers.BertConfig(
        hidden_size=size["width"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        intermediate_size=4 * size["width"],
        max_position_embeddings=positions,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **common,
    )


def _gpt2(info: ModelInfo, common: dict[str, Any]) -> Any:
    size = info.mini_geometry()
    config = transformers.GPT2Config(
        n_embd=size["width"],
        n_layer=size["layers"],
        n_head=size["heads"],
        n_positions=MAX_LENGTH,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        **common,
    )
    return transformers.GPT2ForSequenceClassification(config)


def _opt(info: ModelInfo, common: dict[str, Any]) -> Any:
    size = info.mini_geometry()
    config = transformers.OPTConfig(
        hidden_size=size["width"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        ffn_dim=4 * size["width"],
        max_position_embeddings=MAX_LENGTH,
        dropout=0.0,
        do_layer_norm_before=not info.post_norm,
        word_embed_proj_dim=size["embedding_width"] or size["width"],
        **common,
    )
    return transformers.OPTForSequenceClassification(config)


_BUILDERS = {"bert": _bert, "gpt2": _gpt2, "opt": _opt}
