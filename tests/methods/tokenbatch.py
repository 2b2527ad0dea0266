"""Padded batches of the tiny models, for tests of methods that look inside the model."""

from itertools import product

import numpy as np
import torch

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.contract import quick
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.testing import TEXTS
from attrlab.methods import CATALOGUE

MINIS = ("bert-base-mini", "gpt2-mini", "opt-350m-mini")
"""One model per family; OPT by the one whose embeddings are narrower than its hidden states."""

WHITE_BOX = {name: quick(name).build() for name, facts in CATALOGUE.items() if facts.needs}
"""Every white-box method by its catalogue id, at the parameters that make it cheap."""

NOT_APPLICABLE = {("bert-base-mini", name) for name in WHITE_BOX if "causal" in CATALOGUE[name].needs}
NOT_APPLICABLE |= {(mini, "g_avg") for mini in MINIS[:2]}  # the mean gradient is 0 under an embedding LayerNorm
APPLICABLE = [pair for pair in product(MINIS, WHITE_BOX) if pair not in NOT_APPLICABLE]
"""The pairs of one model per family and a white-box method that applies to it."""


def encode(model: TextModel, texts) -> list[Encoded]:
    """Encodes texts, or pairs given as tuples."""
    pairs = [text if isinstance(text, tuple) else (text,) for text in texts]
    return [model.encode(Example(id=str(i), texts=pair, label=None)) for i, pair in enumerate(pairs)]


def collate(model: TextModel, encoded, length: int = 0) -> Batch:
    """Pads encoded examples to one batch."""
    return model.collate([whole(one) for one in encoded], [one.units >= 0 for one in encoded], length)


def calibrated(name: str, model: TextModel, batch: Batch, *, first: int = 0) -> Explained:
    """Explains class 1 by a method of the catalogue, which may learn from a few texts beforehand."""
    before, model.calibration = model.calibration, encode(model, TEXTS)
    try:
        return attribute(WHITE_BOX[name], model, batch, first=first)
    finally:
        model.calibration = before


def attribute(method, model: TextModel, batch: Batch, *, first: int = 0) -> Explained:
    """Explains class 1; row i is drawn by generator number ``first + i``."""
    targets = Targets(classes=torch.ones(len(batch), dtype=torch.int64))
    return method.attribute(model, batch, targets, [np.random.default_rng(first + row) for row in range(len(batch))])


def same_scores(left: torch.Tensor, right: torch.Tensor, scorable: torch.Tensor, tolerance: float = 1e-5) -> bool:
    """Whether scores agree to a share of the largest one, at the tokens that count."""
    left, right = left[scorable].double(), right[scorable].double()
    return bool((left - right).abs().max() <= tolerance * right.abs().max())
