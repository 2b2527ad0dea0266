"""The kinds of re-explanations: what each one changes, how many there are, and whom it cannot reach.

A metric names the kinds that it compares with the first explanation (``MetricFacts.replicates``). Each re-explanation
is stored like any other explanation, under a key that also holds its kind and index; ``bench.again`` carries it out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from attrlab.bench.errors import unknown
from attrlab.bench.facts import MethodFacts
from attrlab.bench.suite import ReExplain

Replicate = tuple[str, int]
"""``("", 0)`` for the explanation itself, else kind and index of a re-explanation: ``("seed", 1)``."""

FIRST: Replicate = ("", 0)

RADII = (1e-3, 1e-2, 1e-1)
"""Radii of the noise of kind ``radii``, as a share of that of kind ``noise`` (metrics spec 5.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of re-explanations.

    Attributes:
        summary: What is changed.
        count: How many there are under a suite's budget; None where the model decides (``bench.alterations``).
        embeddings: It changes word embeddings: methods that read token ids are out of its reach.
        apart: It needs an engine of its own: other texts, another model or another way of batching.
        version: Raised by hand whenever what is changed changes; part of the key.
    """

    summary: str
    count: Callable[[ReExplain], int] | None
    embeddings: bool = False
    apart: bool = False
    version: str = "1"


KINDS: Mapping[str, Kind] = {
    "seed": Kind(summary="another seed of the method", count=lambda budget: budget.seeds - 1),
    "noise": Kind(summary="small noise on the word embeddings", count=lambda budget: budget.draws, embeddings=True),
    "radii": Kind(
        summary="the same noise, shrunk to each of three radii",
        count=lambda budget: len(RADII) * budget.draws,
        embeddings=True,
    ),
    "company": Kind(summary="alone in every batch; padded to another length", count=lambda _: 2, apart=True),
    "paraphrase": Kind(summary="a few words substituted", count=lambda budget: budget.variants, apart=True),
    "typo": Kind(summary="two letters swapped in a few words", count=lambda budget: budget.variants, apart=True),
    "runner_up": Kind(summary="the most probable of the other classes is explained", count=lambda _: 1),
    "rewrite": Kind(summary="a network that computes the same function", count=None, apart=True),
    "layers": Kind(summary="layers re-initialised from the head down", count=None, apart=True),
    "layer": Kind(summary="one layer re-initialised", count=None, apart=True),
    "redrawn": Kind(summary="a network drawn anew", count=None, apart=True),
    "constant": Kind(summary="a network whose output does not depend on its input", count=None, apart=True),
    "labels": Kind(summary="a model trained on permuted labels", count=lambda _: 1, apart=True),
}
"""All kinds by name."""

ALTERED = frozenset(name for name, kind in KINDS.items() if kind.count is None)
"""Kinds whose models ``bench.alterations`` makes of the model at hand."""


def check(names: Iterable[str], metric: str) -> None:
    """Refuses a metric that compares re-explanations of a kind that does not exist.

    Raises:
        UserError: If it does.
    """
    for name in names:
        if name not in KINDS:
            raise unknown(f"kind of re-explanations of metric {metric}", name, KINDS)


def obstacle(name: str, method: MethodFacts) -> str | None:
    """Returns why a kind of re-explanations tells nothing about a method, or None."""
    if KINDS[name].embeddings and "embeddings" not in method.needs:
        return "the method reads token ids: noise on the embeddings does not reach it"
    return None
