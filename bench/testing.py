"""Tiny models, texts and cases on which methods and metrics can be tested, ours and those of plug-ins."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from attrlab.bench import minis
from attrlab.bench.engine import Engine
from attrlab.bench.explain import Outcome, Question, outcomes
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.types import Case, Cost, Floats, Replica
from attrlab.bench.zoo import BY_MINI

TEXTS = (
    "The acting was truly wonderful, and the plot moved along nicely.",
    "A dull, lifeless film that nobody should watch twice.",
    "Not good.",
    "Brilliant",
    "She said the unforgettable soundtrack was not bad at all; we loved its heart-warming end.",
    "the story never becomes boring although the film is far too long for such a small idea",
)
"""Sentences of one to sixteen words."""

FAMILIES = ("bert-base-mini", "gpt2-mini", "opt-350m-mini")
"""One mini of each family, OPT by its most peculiar one."""

SHARPNESS = 10.0
"""Factor on the initial weights for the contract test: as drawn, words hardly move the logits."""

PATIENCE = 20.0
"""Seconds that a method or metric may take on one example before it counts as endless."""


@cache
def tiny(mini: str = "bert-base-mini", *, classes: int = 2, seed: int = 0, sharpness: float = 1.0) -> TextModel:
    """Returns an untrained model at the geometry of a mini: enough for what must hold for any weights.

    Its matrices are multiplied by ``sharpness``; more of it makes every word count more.
    """
    info = BY_MINI[mini]
    vocabulary = minis.tokenizer(info, TEXTS)
    labels = tuple(f"class {index}" for index in range(classes))
    network = minis.network(info, vocabulary, labels, seed).requires_grad_(requires_grad=False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.mul_(sharpness)
    return TextModel(network, vocabulary, mini)


def examples(*, pairs: bool = False) -> list[Example]:
    """Returns the contract's examples: single texts, or pairs of them."""
    partners = [*TEXTS[1:], TEXTS[0]]
    return [
        Example(id=str(index), texts=(text, partner) if pairs else (text,), label=0)
        for index, (text, partner) in enumerate(zip(TEXTS, partners, strict=True))
    ]


def explain(
    method: Any, model: TextModel, inputs: Sequence[Example], *, seed: int = 0, token_budget: int = 2048
) -> list[Outcome]:
    """Returns what a method makes of examples, explaining class 0 by the default scalar and operator."""
    encoded = [model.encode(example) for example in inputs]
    engine = Engine(model, encoded, token_budget=token_budget, timeout=PATIENCE)
    questions = [Question(slot=slot, target=0, seed=(seed, one.id)) for slot, one in enumerate(inputs)]
    return outcomes(method, questions, engine)


def cases() -> dict[str, Case]:
    """Returns the contract's cases for metrics, by name."""
    rng = np.random.default_rng(0)
    shapes: dict[str, Callable[[], Floats]] = {
        "random scores": lambda: rng.normal(size=12),
        "tied scores": lambda: rng.integers(0, 2, size=9).astype(np.float64),
        "constant scores": lambda: np.zeros(7),
        "one word": lambda: rng.normal(size=1),
    }
    return {name: _case(make(), rng) for name, make in shapes.items()}


def _case(scores: Floats, rng: np.random.Generator) -> Case:
    marked = np.zeros((2, len(scores)), dtype=bool)
    marked[:, 0] = True
    return Case(
        scores=scores,
        signed=True,
        target=0,
        label=0,
        tie_orders=np.array([rng.permutation(len(scores)) for _ in range(5)]),
        operator="delete",
        rationales=marked,
        rationale_share=0.2,
        replicates=(
            Replica(kind="seed", index=1, scores=scores + rng.normal(size=len(scores))),
            Replica(kind="seed", index=2, scores=scores.copy()),
        ),
        cost=Cost(seconds=0.1, forwards=10),
    )
