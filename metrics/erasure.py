"""Comprehensiveness, sufficiency, log-odds and divergence: what erasing the top-ranked words, or all others, does.

Source: DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models", section 5.2; metrics spec 1.1.
"""

import re
from dataclasses import replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.scalars import scalar
from attrlab.bench.types import Asker, Bools, Case, Floats, Ints, Score
from attrlab.metrics.ranking import NO_WORDS, count, ranked_facts, ranked_units, top

BINS = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the units that are erased (or kept): the thresholds of ERASER."""

LEAST = 1e-12
"""Probabilities below this are taken for this before a logarithm (metrics spec 1.4)."""


def aopc(full: float, changed: Floats) -> float:
    """Returns the area over the perturbation curve: mean over the bins of p_full - p_q, in [-1, 1].

    The ERASER paper divides by |B| + 1 and counts the unchanged input as a bin; its released code, followed here,
    averages over the bins alone: paper comp = |B| / (|B| + 1) times ours.

    Args:
        full: Probability of the target on the full input.
        changed: Its probability on each changed input, any shape.

    >>> aopc(0.75, np.array([0.75, 0.5, 0.25]))
    0.25
    """
    return float(np.mean(full - changed))


def log_odds(full: Floats, changed: Floats) -> float:
    """Returns the mean of ln p_q - ln p_full, probabilities below 1e-12 taken for 1e-12; in [-28, 28].

    >>> round(log_odds(np.array([0.5]), np.array([0.25, 1.0])), 6)  # (ln 1/2 + ln 2) / 2
    0.0
    """
    return float(np.mean(np.log(np.maximum(changed, LEAST)) - np.log(np.maximum(full, LEAST))))


def divergence(full: Floats, changed: Floats) -> float:
    """Returns the mean over rows of KL(full || changed) = sum over classes of P ln(P / Q) in nats, in [0, inf).

    Args:
        full: Logits, ``(1, n_classes)``.
        changed: Logits, ``(n_rows, n_classes)``.

    >>> round(divergence(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])), 4)  # ln(2) / 2 + ln(2 / 3) / 2
    0.1438
    """
    log_p, log_q = (logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True) for logits in (full, changed))
    return max(0.0, float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1))))


def top_sets(ranked: Ints, shares: tuple[float, ...] = BINS) -> Bools:
    """Returns the top units at every share of every ranking, ``(n_shares * n_rankings, n_units)``.

    In a short text several shares are the same set; each stays a term of the mean, so every method has as many.

    >>> top_sets(np.array([[1, 0]])).tolist()
    [[False, True], [False, True], [False, True], [False, True], [False, True]]
    """
    n_units = ranked.shape[1]
    return np.vstack([top(ranked, count(share, n_units)) for share in shares])


def parsed(at: str) -> tuple[float, ...]:
    """Returns the shares that ``at`` names: those of ERASER, the one given, or none yet for ``rationale``.

    >>> parsed("bins"), parsed("0.2"), parsed("rationale")
    ((0.01, 0.05, 0.1, 0.2, 0.5), (0.2,), ())

    Raises:
        ValueError: If it names nothing.
    """
    if at in ("bins", "rationale"):
        return BINS if at == "bins" else ()
    if re.fullmatch(r"0?\.[0-9]+|1(\.0*)?", at) and float(at) > 0:
        return (float(at),)
    raise ValueError(f"at={at!r}; allowed: bins, rationale, or a share above 0 and up to 1")


class _Erasure:
    """Base of all four: ranks, asks for the full input and every share at once; what is read from it differs."""

    keep_top = False

    def __init__(self, *, at: str = "bins", absolute: bool = False) -> None:
        self.at, self.shares, self.absolute = at, parsed(at), absolute

    @staticmethod
    def facts(base: MetricFacts, *, at: str = "", absolute: bool = False) -> MetricFacts:
        """Returns the facts under the given parameters; no ``at`` is the default."""
        needs = (*base.needs, "rationales") if at == "rationale" else base.needs
        forwards = str(1 + (len(parsed(at)) or 1)) if at else base.forwards
        return ranked_facts(replace(base, needs=needs, forwards=forwards), absolute=absolute)

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then every share of every ranking."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        shares = self.shares or (() if case.rationale_share is None else (case.rationale_share,))
        if not shares:
            return Score.undefined("the mean share of marked words is not known")
        chosen = top_sets(ranked_units(case, absolute=self.absolute), shares)
        full = np.ones((1, case.n_units), dtype=bool)
        logits = yield from case.ask(np.vstack([full, chosen if self.keep_top else ~chosen]))
        return Score(self.read(logits, case.target))

    def read(self, logits: Floats, target: int) -> float:
        """Returns the value from the answers: the full input first, then the changed ones."""
        p = scalar("prob", logits, target)
        return aopc(p[0], p[1:])


class Comprehensiveness(_Erasure):
    """Scores how much the probability of the target drops when the top-ranked units are removed.

    ``comp = mean over q in {1, 5, 10, 20, 50 %} of p(x) - p(x without its top k(q) units)``. Higher is better.
    Range [-1, 1]. Ties: see :func:`attrlab.metrics.ranking.rankings`; an explanation that scores all units alike gets
    the mean over all tie orders. Source: ERASER, section 5.2; metrics spec 1.1.

    Args:
        at: Where to cut: ``bins``, the mean over the five shares above; a single share, as in ``0.2``; or
            ``rationale``, the mean share of words that people mark in the data set part (undefined without).
        absolute: Rank by magnitude, whatever the sign.
    """


class Sufficiency(_Erasure):
    """Scores how much the probability of the target drops when only the top-ranked units are kept.

    ``suff = mean over q in {1, 5, 10, 20, 50 %} of p(x) - p(only the top k(q) units of x)``. Lower is better.
    Range [-1, 1]. Ties as in :class:`Comprehensiveness`. Source: ERASER, section 5.2; metrics spec 1.1.

    Args:
        at: Where to cut, as in :class:`Comprehensiveness`.
        absolute: Rank by magnitude, whatever the sign.
    """

    keep_top = True


class LogOdds(_Erasure):
    """Scores how much the log-probability of the target changes when the top fifth of the units is removed.

    ``LO = ln p(x without its top k(q) units) - ln p(x), q = 20 %``. Lower is better. Range [-28, 28], as
    probabilities are clamped at 1e-12. Its papers replace words (operator ``replace`` or ``pad``); read it in those
    columns when comparing with them. Ties as in :class:`Comprehensiveness`.
    Source: Shrikumar et al. 2017, "DeepLIFT"; Sanyal and Ren 2021, "Discretized Integrated Gradients";
    metrics spec 1.4.

    Args:
        at: Where to cut, as in :class:`Comprehensiveness`.
        absolute: Rank by magnitude, whatever the sign.
    """

    def __init__(self, *, at: str = "0.2", absolute: bool = False) -> None:
        super().__init__(at=at, absolute=absolute)

    def read(self, logits: Floats, target: int) -> float:
        """Returns the value from the answers: the full input first, then the changed ones."""
        p = scalar("prob", logits, target)
        return log_odds(p[:1], p[1:])


class ErasureKl(_Erasure):
    """Scores how far the distribution over all classes moves when the top-ranked units are removed.

    ``mean over q in {1, 5, 10, 20, 50 %} of KL(f(x) || f(x without its top k(q) units))`` in nats. Higher is better.
    Range [0, inf). It looks at every class, not only at the explained one: an explanation made for one class cannot
    pass by moving probability among the others unseen, nor by encoding that class in where it points.
    Ties as in :class:`Comprehensiveness`. Source: Jethani et al. 2023, "Don't be fooled: label leakage in
    explanation methods" (why all classes); ERASER's released code, which has the two distributions the other way round;
    metrics spec 1.1.

    Args:
        kept: Keep the top-ranked units and remove the others: then lower is better.
        at: Where to cut, as in :class:`Comprehensiveness`.
        absolute: Rank by magnitude, whatever the sign.
    """

    def __init__(self, *, kept: bool = False, at: str = "bins", absolute: bool = False) -> None:
        super().__init__(at=at, absolute=absolute)
        self.kept = self.keep_top = kept

    @staticmethod
    def facts(base: MetricFacts, *, kept: bool = False, at: str = "", absolute: bool = False) -> MetricFacts:
        """Returns the facts under the given parameters."""
        return replace(_Erasure.facts(base, at=at, absolute=absolute), higher_is_better=not kept)

    def read(self, logits: Floats, target: int) -> float:
        """Returns the value from the answers: the full input first, then the changed ones."""
        return divergence(logits[:1], logits[1:])
