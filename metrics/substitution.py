"""Monotonicity and non-sensitivity: one unit at a time is exchanged for others, and the answer watched.

Source: Nguyen and Martinez 2020, "On quantitative aspects of model interpretability"; metrics spec 6.2 and 6.3.
"""

from dataclasses import replace

import numpy as np

from attrlab.bench.facts import MetricFacts
from attrlab.bench.scalars import scalar
from attrlab.bench.types import Ask, Asker, Bools, Case, Floats, Score
from attrlab.metrics.ranking import NO_WORDS
from attrlab.metrics.set_function import NEGLIGIBLE, each_left_out
from attrlab.metrics.stability import spearman

OPERATOR_OF = {"random": "random", "mlm": "mlm", "replacement": "replace"}
"""Removal operator that puts the values into the place of a unit."""

UNUSED = 1e-3
"""Share of the range of F (of the largest score) below which a change (a score) counts as none."""


class _Substitution:
    """Base of the metrics that exchange one unit at a time; all of them ask the same questions."""

    def __init__(self, *, values: str = "random", draws: int = 10) -> None:
        if values not in OPERATOR_OF:
            raise ValueError(f"values={values!r}; allowed: {', '.join(OPERATOR_OF)}")
        if draws < 1:
            raise ValueError(f"draws={draws}; allowed: 1 or more")
        self.operator = OPERATOR_OF[values]
        self.draws = 1 if values == "replacement" else draws

    @staticmethod
    def facts(base: MetricFacts, *, values: str = "random", **others: object) -> MetricFacts:
        """Returns the facts under the given values: other operators are asked, and the replacement only once."""
        del others
        forwards = "1 + m" if values == "replacement" else base.forwards
        return replace(base, operators=(OPERATOR_OF.get(values, values),), forwards=forwards)

    def answers(self, case: Case) -> Asker[tuple[Floats, Floats]]:
        """Asks, in one batch, for the full input and for every unit exchanged in every draw.

        Returns:
            Logits ``(n_classes,)`` of the full input and ``(draws, n_units, n_classes)``.
        """
        exchanged, m = each_left_out(case), case.n_units
        keep = np.vstack([np.ones((1, m), dtype=bool), np.tile(exchanged, (self.draws, 1))])
        draw = np.append(0, np.repeat(np.arange(self.draws), m))
        logits = yield Ask(keep=keep, operator=self.operator, draw=draw)
        return logits[0], logits[1:].reshape(self.draws, m, -1)


class Monotonicity(_Substitution):
    """Scores the rank correlation between the size of a unit's score and the loss without the unit.

    ``Spearman(|a_j|, mean over values v of -ln p(x with v for j))``, p the probability of the explained class.
    Higher is better. Range [-1, 1]. Equal scores get their mean rank. The loss falls where a unit spoke against the
    class, so even the exact explanation of an additive model has 1 only if no unit does; ``effect=squared`` compares
    with ``mean (F(x with v for j) - F(x))^2`` instead, F the explained scalar, where the exact one has 1. Undefined
    for fewer than two units, for scores of one size and where every exchange has the same effect.
    Source: Nguyen and Martinez 2020; metrics spec 6.3.

    Args:
        values: What a unit is exchanged for: ``random`` tokens, each as often as it occurs; words that a masked
            language model puts there (``mlm``); or the ``replacement`` token, once.
        draws: Number of values per unit; at least 1.
        effect: ``loss`` or ``squared``.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(self, *, values: str = "random", draws: int = 10, effect: str = "loss") -> None:
        super().__init__(values=values, draws=draws)
        if effect not in ("loss", "squared"):
            raise ValueError(f"effect={effect!r}; allowed: loss, squared")
        self.effect = effect

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then every unit exchanged."""
        if case.n_units < 2:
            return Score.undefined("only one word" if case.n_units else NO_WORDS)
        sizes = np.abs(case.scores)
        if np.ptp(sizes) == 0:
            return Score.undefined("all scores are of one size")
        full, changed = yield from self.answers(case)
        effects = self._effects(full, changed, case)
        if effects.std() < NEGLIGIBLE:
            return Score.undefined("exchanging any one word has the same effect")
        return Score(spearman(sizes, effects))

    def _effects(self, full: Floats, changed: Floats, case: Case) -> Floats:
        if self.effect == "loss":
            return np.asarray(-scalar("logprob", changed, case.target).mean(axis=0))
        shift = scalar(case.scalar, changed, case.target) - scalar(case.scalar, full, case.target)
        return np.asarray((shift**2).mean(axis=0))


class _Unused(_Substitution):
    """Base of the two that look for units whose exchange never moves the answer."""

    def score(self, case: Case) -> Asker[Score]:
        """Returns the score after one batch of questions: the full input, then every unit exchanged."""
        if case.n_units == 0:
            return Score.undefined(NO_WORDS)
        full, changed = yield from self.answers(case)
        values = scalar(case.scalar, changed, case.target)
        shifts = np.abs(values - scalar(case.scalar, full, case.target)).max(axis=0)
        # The floor is for a model that no exchange moves: what is left there is the rounding of its answers.
        return self.read(case, shifts <= max(UNUSED * np.ptp(values), NEGLIGIBLE))

    def read(self, case: Case, unused: Bools) -> Score:
        """Returns the score, given which units the model does not use."""
        raise NotImplementedError


class NonSensitivity(_Unused):
    """Scores the share of units that are scored zero though the model uses them, or the other way round.

    ``|X0 xor A0| / m``, X0 the units for which no value v moves F(x with v for j) from F(x) by more than a thousandth
    of the range of F over all exchanges (and 1e-6), A0 those with ``|a_j|`` at most a thousandth of the largest; F the
    explained scalar. Lower is better. Range [0, 1]. Signs and ties do not matter. On ordinary text no unit is unused
    and hardly any scored zero: 0 says little there, see :class:`UnusedWords`.
    Source: Nguyen and Martinez 2020; metrics spec 6.2.

    Args:
        values: What a unit is exchanged for: ``random``, ``mlm`` or ``replacement``, see :class:`Monotonicity`.
        draws: Number of values per unit; at least 1.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def read(self, case: Case, unused: Bools) -> Score:
        """Returns the size of the difference of the two sets."""
        sizes = np.abs(case.scores)
        return Score(float((unused ^ (sizes <= UNUSED * sizes.max())).mean()))


class UnusedWords(_Unused):
    """Scores the text and the model, not the explanation: the share of units that the model does not use.

    ``|X0| / m`` with the X0 of :class:`NonSensitivity`. It only describes. Range [0, 1]. Where it is 0, as on ordinary
    text, non-sensitivity counts nothing but units scored zero. Source: metrics spec 6.2 ("report sizes").

    Args:
        values: As in :class:`NonSensitivity`.
        draws: Number of values per unit; at least 1.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def read(self, case: Case, unused: Bools) -> Score:
        """Returns the share."""
        return Score(float(unused.mean()))
