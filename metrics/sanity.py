"""Sanity checks: does an explanation depend on what it claims to explain: the weights, the class, the labels?

Each compares the explanation with one of an altered model, or of another class; what is altered is in
``bench.alterations``. A method that fails says something about the text alone, however convincing it looks.
Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps"; metrics spec 8.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.types import Case, Floats, Score
from attrlab.metrics.ranking import NO_WORDS
from attrlab.metrics.stability import NO_REPLICATES, spearman


def again(case: Case, kind: str) -> list[Floats]:
    """Returns the re-explanations of a kind, in the order of their indices, each ``(n_units,)``."""
    found = sorted((one for one in case.replicates if one.kind == kind), key=lambda one: one.index)
    return [one.scores for one in found]


def obstacle(case: Case, others: Sequence[Floats], needed: int = 1) -> str | None:
    """Returns why explanations cannot be compared by their ranks, or None if they can."""
    if case.n_units < 2:
        return "only one word" if case.n_units else NO_WORDS
    return None if len(others) >= needed else NO_REPLICATES


class _Similarity:
    """Base: mean Spearman correlation of the explanation with its re-explanations of one kind.

    Args:
        absolute: Compare magnitudes, else the scores with their signs.
    """

    kind: str
    flat: str

    def __init__(self, *, absolute: bool = True) -> None:
        self.absolute = absolute

    def score(self, case: Case) -> Score:
        """Returns the score over all re-explanations of the kind."""
        others = again(case, self.kind)
        reason = obstacle(case, others)
        if reason:
            return Score.undefined(reason)
        value = float(np.mean([spearman(self._view(case.scores), self._view(other)) for other in others]))
        return Score.undefined(self.flat) if np.isnan(value) else Score(value)

    def _view(self, scores: Floats) -> Floats:
        return np.abs(scores) if self.absolute else scores


class ParameterRandomisation(_Similarity):
    """Scores how much of an explanation survives when the model's weights are drawn anew, from the head down.

    ``mean over depths d of Spearman(|a|, |a_d|)``: the area under the curve of similarity against depth; ``a_d``
    explains the same class of the model whose head and last d - 1 blocks (in the end, embeddings too) are drawn anew.
    Lower is better. Range [-1, 1]; a sound method falls to 0. With signs it is no order of merit: a new head may
    turn them all round, and the steadier a method, the closer to -1 it then comes. Bitwise equal explanations count
    as exactly 1. Tied scores share their mean rank. Undefined for fewer than two units and where the explanation, or
    another that differs from it, scores all units alike.
    Source: Adebayo et al. 2018, model parameter randomization test; metrics spec 8.

    Args:
        absolute: Compare magnitudes, else the scores with their signs.
        one_by_one: Draw anew only one part at a time, the rest keeps its weights.
    """

    flat = "all scores are equal at some depth"

    def __init__(self, *, absolute: bool = True, one_by_one: bool = False) -> None:
        super().__init__(absolute=absolute)
        self.kind = "layer" if one_by_one else "layers"

    @staticmethod
    def facts(own: MetricFacts, *, absolute: bool = True, one_by_one: bool = False) -> MetricFacts:
        """Returns the facts at these parameters: which models are explained again depends on them."""
        return replace(own, replicates=("layer",)) if one_by_one else own


class RedrawnSimilarity:
    """Scores how alike the explanations of two models with unrelated random weights are.

    ``Spearman(|a_1|, |a_2|)``, the same class of two models all of whose weights are drawn anew. Lower is better.
    Range [-1, 1]. It is the noise floor of :class:`ParameterRandomisation`: what is above 0 here comes from the text or
    the architecture, and no similarity at or below it says that weights matter. Undefined for fewer than two units
    and where one of the two scores all units alike. Tied scores share their mean rank. Source: metrics spec 8.

    Args:
        absolute: Compare magnitudes, else the scores with their signs.
    """

    def __init__(self, *, absolute: bool = True) -> None:
        self.absolute = absolute

    def score(self, case: Case) -> Score:
        """Returns the score of the first two redrawn models."""
        others = again(case, "redrawn")
        reason = obstacle(case, others, needed=2)
        if reason:
            return Score.undefined(reason)
        first, second = (np.abs(one) if self.absolute else one for one in others[:2])
        value = spearman(first, second)
        return Score.undefined("all scores are equal for a redrawn model") if np.isnan(value) else Score(value)


class LabelRandomisation(_Similarity):
    """Scores how alike the explanations of the model and of one trained on permuted labels are.

    ``mean over models p of Spearman(|a|, |a_p|)``; ``a_p`` explains the same class of a model of the same architecture
    that learned labels without meaning. Lower is better. Range [-1, 1]. Bitwise equal explanations count as exactly
    1. Tied scores share their mean rank. Undefined for fewer than two units and where one of two different
    explanations scores all units alike. Source: Adebayo et al. 2018, data randomization test; metrics spec 8.

    Args:
        absolute: Compare magnitudes, else the scores with their signs.
    """

    kind = "labels"
    flat = "all scores are equal for some model"


class ClassContrast(_Similarity):
    """Scores how alike the explanations of the predicted class and of the runner-up are.

    ``Spearman(a for the first class, a for the second)``. Lower is better. Range [-1, 1]; near 1 the method does not
    see which class it explains. Of two classes, a method that is odd in the logits (any gradient or difference of the
    scalar ``contrast``) has -1 by construction. Bitwise equal explanations count as exactly 1. Tied scores share
    their mean rank. Undefined for fewer than two units and where one of two different explanations scores all units
    alike. Source: metrics spec 8.
    """

    kind = "runner_up"
    flat = "all scores are equal for one class"

    def __init__(self) -> None:
        super().__init__(absolute=False)


class ConstantModel:
    """Scores how strongly a method tells words apart where the model does not: its answer is the same for any input.

    ``(max a_0 - min a_0) / (max a - min a)``, ``a_0`` the explanation of the model whose head has only its bias left.
    Lower is better. Range [0, inf); all words alike is right, whatever their common score (the dummy axiom without its
    zero, which no distribution over words can meet). Undefined for fewer than two units and where the explanation
    itself scores all units alike. Source: metrics spec 8; Sundararajan et al. 2017, sensitivity (b).
    """

    def score(self, case: Case) -> Score:
        """Returns the score."""
        others = again(case, "constant")
        reason = obstacle(case, others)
        if reason:
            return Score.undefined(reason)
        spread = float(np.ptp(case.scores))
        if spread == 0:
            return Score.undefined("all scores are equal")
        return Score(float(np.ptp(others[0])) / spread)
