"""Trains a network by steps along the gradient: the recipe, the order of the examples, when to stop."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Row

Progress = Callable[[int, int], None]
"""Told the steps done and the steps to do."""

LIKE_LENGTH = 8
"""Batches are cut from so many batches' worth of examples sorted by length: less padding, still a random mix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained: AdamW, linear warm-up over 5 % of the steps, then linear decay to zero.

    Attributes:
        learning_rate: Highest rate.
        steps: Upper bound on the number of steps.
        batch_size: Examples per step.
        weight_decay: AdamW's.
        evaluate_every: Steps between looks at the development part.
        patience: Looks without a better accuracy after which training stops.
        good_enough: Accuracy at which training stops at once.
        seed: Of the initial weights, dropout and the order of the examples.
    """

    learning_rate: float
    steps: int = 800
    batch_size: int = 32
    weight_decay: float = 0.01
    evaluate_every: int = 50
    patience: int = 20
    good_enough: float = 0.985
    seed: int = 42


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch to one thread: small products gain nothing from more, and the weights come out the same anywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def descend(
    network: Any,
    labelled: Sequence[tuple[Row, int]],
    recipe: Recipe,
    aims: tuple[Callable[[Sequence[Row], Sequence[int]], Tensor], Callable[[], float]],
    progress: Progress,
) -> int:
    """Trains a network in place and leaves it frozen at its best weights; returns the number of steps run.

    The global torch generator is left as it was.

    Args:
        network: What is trained.
        labelled: Training inputs with their labels.
        recipe: How.
        aims: The loss of a batch, which is followed, and a held-out score (higher is better), which is watched.
        progress: Told the steps.
    """
    loss, score = aims
    network.requires_grad_(requires_grad=True)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    best, best_score, since, step = network.state_dict(), -math.inf, 0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        for step, (rows, labels) in enumerate(_batches(labelled, recipe), 1):
            network.train()
            _step(network, loss(rows, labels), optimizer)
            schedule.step()
            progress(step, recipe.steps)
            if step % recipe.evaluate_every and step != recipe.steps:
                continue
            network.eval()
            reached, since = score(), since + 1
            if reached > best_score:
                best_score, since = reached, 0
                best = {key: value.clone() for key, value in network.state_dict().items()}
            if since >= recipe.patience or reached >= recipe.good_enough:
                break
    network.load_state_dict(best)
    network.eval().requires_grad_(requires_grad=False)
    return step


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


def _batches(labelled: Sequence[tuple[Row, int]], recipe: Recipe) -> Iterator[tuple[list[Row], list[int]]]:
    """Yields batches of like length for ``recipe.steps`` steps, the examples in a new order in each epoch."""
    rng = np.random.default_rng(recipe.seed)
    lengths = np.array([len(row.ids) for row, _ in labelled])
    queue: list[list[int]] = []
    for _ in range(recipe.steps):
        if not queue:
            order = rng.permutation(len(labelled))
            window = recipe.batch_size * LIKE_LENGTH
            for start in range(0, len(order), window):
                part = order[start : start + window]
                part = part[np.argsort(lengths[part], kind="stable")]
                cuts = range(0, len(part), recipe.batch_size)
                queue += [part[cut : cut + recipe.batch_size].tolist() for cut in rng.permutation(cuts)]
        chosen = [labelled[index] for index in queue.pop()]
        yield [row for row, _ in chosen], [label for _, label in chosen]


def _step(network: Any, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
