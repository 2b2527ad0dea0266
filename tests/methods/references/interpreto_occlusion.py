"""Writes what interpreto's ``Occlusion`` gives on a small BERT with known weights, for ``test_parity_blackbox.py``.

In an environment of its own, with ``pip install interpreto==0.5.2 transformers==5.23.0``:

    python tests/methods/references/interpreto_occlusion.py

writes ``tests/methods/data/interpreto_occlusion.json``: per granularity, the attribution of class 1 (its logit) to the
tokens or words of ``TEXT``. The weights are drawn by NumPy, so that they are the same with every version of torch.
"""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

TEXT = "the film was not bad but unforgettable"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, "the", "film", "was", "not", "bad", "but", "un", "##forgettable"]
TARGET = Path(__file__).parents[1] / "data" / "interpreto_occlusion.json"


def network():
    """Returns a BERT of two layers in float64, every weight drawn from N(0, 0.3), scales of norms around 1."""
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    model, rng = BertForSequenceClassification(config).double().eval().requires_grad_(False), np.random.default_rng(0)
    for name, weight in sorted(model.named_parameters()):
        drawn = rng.normal(0.0, 0.3, tuple(weight.shape)) + float(name.endswith("LayerNorm.weight"))
        weight.copy_(torch.from_numpy(drawn))
    return model


def tokenizer():
    """Returns the tokenizer of the vocabulary."""
    return BertTokenizerFast(vocab={word: index for index, word in enumerate(VOCABULARY)})


def main():
    """Writes the file."""
    from interpreto import Granularity, Occlusion

    found = {}
    for granularity in (Granularity.TOKEN, Granularity.WORD):
        explainer = Occlusion(network(), tokenizer(), granularity=granularity)
        (explanation,) = explainer(TEXT, targets=torch.tensor([1]))
        found[granularity.name.lower()] = explanation.attributions.flatten().tolist()
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps({"interpreto": "0.5.2", "attributions": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
