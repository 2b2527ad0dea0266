"""Padded batches of the tiny models, for tests of methods that look inside the model."""

import numpy as np
import torch

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.types import Encoded, Example
from attrlab.methods.attention import AttentionLast
from attrlab.methods.co_perturbation import CoPerturbation
from attrlab.methods.gradients import InputTimesGradient, Saliency
from attrlab.methods.paths import IntegratedGradients
from attrlab.methods.word_perturbation import WordPerturbation

MINIS = ("bert-base-mini", "gpt2-mini", "opt-350m-mini")
"""One model per family; OPT by the one whose embeddings are narrower than its hidden states."""

WHITE_BOX = {
    "word_perturbation": WordPerturbation(draws=4),
    "saliency": Saliency(),
    "input_x_gradient": InputTimesGradient(),
    "integrated_gradients": IntegratedGradients(steps=12),
    "attention_last": AttentionLast(),
    "co_perturbation": CoPerturbation(steps=8, draws=2),
}
"""Every white-box method by its catalogue id, at a small budget."""


def encode(model: TextModel, texts) -> list[Encoded]:
    """Encodes texts, or pairs given as tuples."""
    pairs = [text if isinstance(text, tuple) else (text,) for text in texts]
    return [model.encode(Example(id=str(i), texts=pair, label=None)) for i, pair in enumerate(pairs)]


def collate(model: TextModel, encoded, length: int = 0) -> Batch:
    """Pads encoded examples to one batch."""
    return model.collate([whole(one) for one in encoded], [one.units >= 0 for one in encoded], length)


def attribute(method, model: TextModel, batch: Batch, *, first: int = 0) -> Explained:
    """Explains class 1; row i is drawn by generator number ``first + i``."""
    targets = Targets(classes=torch.ones(len(batch), dtype=torch.int64))
    return method.attribute(model, batch, targets, [np.random.default_rng(first + row) for row in range(len(batch))])


def same_scores(left: torch.Tensor, right: torch.Tensor, scorable: torch.Tensor, tolerance: float = 1e-5) -> bool:
    """Whether scores agree to a share of the largest one, at the tokens that count."""
    left, right = left[scorable].double(), right[scorable].double()
    return bool((left - right).abs().max() <= tolerance * right.abs().max())
