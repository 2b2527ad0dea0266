"""Tiny models, texts and cases on which methods and metrics can be tested, ours and those of plug-ins."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from attrlab.bench import minis
from attrlab.bench.engine import Engine
from attrlab.bench.explain import Outcome, Question, outcomes
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.types import Ask, Case, Cost, Floats, Replica
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


Answer = Callable[[Ask], Floats]
"""Maps a batch of questions to logits ``(n_questions, n_classes)``: a made-up model."""


def additive(weights: Floats, offset: float = 0.0) -> Answer:
    """Returns a model of two classes in which every kept word adds its weight to the logit of class 0."""

    def answer(ask: Ask) -> Floats:
        return np.stack([ask.keep @ weights - offset, np.zeros(len(ask.keep))], axis=1)

    return answer


def cases(replicates: Sequence[str] = ("seed",)) -> dict[str, tuple[Case, Answer]]:
    """Returns the contract's cases for metrics by name, each with the model that answers for it.

    Args:
        replicates: Kinds of the re-explanations in the cases, two of each.
    """
    rng = np.random.default_rng(0)
    scores: dict[str, Floats] = {
        "random scores": rng.normal(size=12),
        "a long text": rng.normal(size=130),
        "tied scores": rng.integers(0, 2, size=9).astype(np.float64),
        "constant scores": np.full(7, 0.5),
        "zero scores": np.zeros(7),
        "huge scores": 1e6 * rng.normal(size=8),
        "tiny scores": 1e-9 * rng.normal(size=8),
        "two words": rng.normal(size=2),
        "one word": rng.normal(size=1),
        "no words": np.zeros(0),
    }
    found: dict[str, tuple[Case, Answer]] = {}
    for name, values in scores.items():
        found[name] = (_case(name, values, replicates, rng), additive(np.linspace(-1.0, 2.0, len(values)), 0.5))
    case = found["random scores"][0]
    found["a model that never changes its mind"] = (case, additive(np.zeros(12)))
    found["a saturated model"] = (case, additive(np.linspace(100.0, 900.0, 12)))
    found["unsigned scores"] = (replace(case, scores=np.abs(case.scores), signed=False), additive(np.ones(12), 6.0))
    found["a wrong prediction"] = (replace(case, label=1), additive(np.ones(12), 6.0))
    found["nothing but scores"] = (replace(case, label=None, rationales=None, replicates=()), additive(np.ones(12)))
    return found


def explained_right(seed: int) -> tuple[Case, Answer]:
    """Returns an additive model with positive weights and the case in which they are the scores.

    The prediction hangs on the words: it is class 0 with all of them and class 1 without. The rationale is the half of
    the words with the larger weights.
    """
    rng = np.random.default_rng((1, seed))
    weights = rng.permutation(rng.exponential(size=int(rng.integers(6, 13))) + 0.05)
    case = _case(f"right {seed}", weights, (), rng)
    marked = np.tile(weights > np.median(weights), (2, 1))
    return replace(case, rationales=marked), additive(3 * weights, 1.5 * float(weights.sum()))


def _case(name: str, scores: Floats, replicates: Sequence[str], rng: np.random.Generator) -> Case:
    marked = np.zeros((2, len(scores)), dtype=bool)
    marked[:, :1] = True
    again = [
        Replica(kind=kind, index=index, scores=scores + spread * rng.normal(size=len(scores)), distance=0.1 * index)
        for kind in replicates
        for index, spread in ((1, 1.0), (2, 0.0))
    ]
    return Case(
        scores=scores,
        signed=True,
        target=0,
        label=0,
        tie_orders=np.array([rng.permutation(len(scores)) for _ in range(5)], dtype=np.int64),
        operator="delete",
        rationales=marked,
        rationale_share=0.2,
        replicates=tuple(again),
        cost=Cost(seconds=0.1, forwards=10),
        example=name,
    )
