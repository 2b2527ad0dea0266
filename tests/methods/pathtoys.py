"""Models for the tests of gradient and path methods: precise ones, and ones whose answers are known by hand."""

import numpy as np
import torch

from attrlab.bench.batch import Batch, Output, Targets
from attrlab.bench.testing import tiny
from attrlab.methods.gradients import scalar_at


def precise(mini, sharpness=3.0):
    """Returns a tiny model of its own in float64, with weights large enough that it is not nearly constant."""
    model = tiny.__wrapped__(mini, sharpness=sharpness)
    model.network.double()
    return model


def targets(rows=1):
    """Explains class 1."""
    return Targets(classes=torch.ones(rows, dtype=torch.int64))


def value_at(model, batch, embeds):
    """F of every row of embeddings (R, L, d) of the single example of a batch."""
    with torch.no_grad():
        return scalar_at(model, batch, targets())(embeds, torch.zeros(len(embeds), dtype=torch.int64))


def plain_batch(ids, scorable):
    """Returns a batch of one text without padding or segments."""
    ids, scorable = torch.tensor([ids]), torch.tensor([scorable])
    zeros = torch.zeros_like(ids)
    last = torch.tensor([ids.shape[1] - 1])
    return Batch(ids=ids, segments=zeros, mask=zeros + 1, scorable=scorable, last=last, owners=torch.tensor([0]))


class Toy:
    """A classifier made of a vocabulary and a network from embeddings (R, L, d) to logits; word 0 replaces others."""

    name = "toy"
    calibration = ("none is needed",)
    replace_id = 0

    def __init__(self, vocabulary, network):
        self.embedding = vocabulary
        self.network = network

    def embed(self, batch):
        return self.embedding[batch.ids]

    def baseline(self, batch):
        return torch.where(batch.scorable[..., None], self.embedding[self.replace_id], self.embed(batch))

    def forward(self, batch, embeds):
        logits = self.network(embeds)
        return Output(logits=logits, readout=logits)


class Scalar(torch.nn.Module):
    """Logit 1 is what ``value`` makes of the embeddings (R, L, d), logit 0 is zero: F is ``value``."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, embeds):
        value = self.value(embeds)
        return torch.stack([0 * value, value], 1)


def words(count=30, width=6, seed=0):
    """Returns a vocabulary (count, width), float64."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, width)))
