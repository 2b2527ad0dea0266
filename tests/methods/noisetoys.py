"""Small optimisation problems with known answers, for tests of the noise methods."""

import math

import numpy as np
import torch

from attrlab.methods.tolerance import Problem

WEIGHTS = torch.tensor([10.0, 20.0, 5.0, -20.0, -10.0], dtype=torch.float64)
SPREAD = 0.1021


def rngs(count, first=0):
    """One generator per example."""
    return [np.random.default_rng(first + index) for index in range(count)]


def scaled(phi):
    """A representation as the methods want it: its squared length is the mean squared entry of ``phi``."""
    return lambda embeds, rows: phi(embeds, rows) / math.sqrt(phi(embeds[:1], rows[:1]).shape[1])


def toy(phi, tokens, examples=1, width=8, log_cap=0.0):
    """A problem over random embeddings."""
    generator = torch.Generator().manual_seed(0)
    embeds = 0.02 * torch.randn(examples, tokens, width, generator=generator, dtype=torch.float64)
    phi = scaled(phi)
    return Problem(
        phi=phi,
        embeds=embeds,
        scorable=torch.ones(examples, tokens, dtype=torch.bool),
        reference=phi(embeds, torch.arange(examples)),
        spread=torch.full((examples,), SPREAD, dtype=torch.float64),
        log_cap=torch.full((examples,), log_cap, dtype=torch.float64),
    )


def linear(weights=WEIGHTS, examples=1, width=256, log_cap=-1.6):
    """phi(e) = sum_j w_j e_j, whose optimum is known."""
    return toy(lambda embeds, rows: (weights[:, None] * embeds).sum(1), len(weights), examples, width, log_cap)


def exact(lam, weights=WEIGHTS):
    """The tolerated standard deviations of :func:`linear`."""
    return (lam * SPREAD / (2 * len(weights) * weights**2)).sqrt()


def ragged(examples=3, tokens=5):
    """A nonlinear problem whose examples have 5, 4, 3 tokens; the last one's representation ignores its input."""
    mix = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    live = torch.ones(examples, 1, dtype=torch.float64)
    live[-1] = 0
    order = torch.arange(1, tokens + 1, dtype=torch.float64)[:, None]
    problem = toy(lambda embeds, rows: live[rows] * ((order * embeds).sum(1) @ mix).tanh(), tokens, examples)
    for row in range(examples):
        problem.scorable[row, tokens - row :] = False
    return problem
