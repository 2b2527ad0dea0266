"""ROAR: how much does a model that is trained afresh miss the words that an explanation calls important?

Source: Hooker et al. 2019, "A Benchmark for Interpretability Methods in Deep Neural Networks"; Madsen et al. 2022,
"Evaluating the Faithfulness of Importance Measures in NLP by Recursively Masking Allegedly Important Tokens and
Retraining" (recursive ROAR and RACU); metrics spec 2.1 and 2.2.
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from attrlab.bench.trials import Field, Findings, Stays, Study, Trained, Training
from attrlab.bench.types import Bools, Case, Floats, Ints, Json, Score
from attrlab.metrics.ranking import count, rankings, top

DEGENERATE = 1e-6
"""Areas under this are none."""

NOTHING_LOST = "with words removed at random accuracy is no better than with all removed: nothing to compare with"

_PARTS = ("method", "random", "none")

Trainings = Generator[Sequence[Training], Sequence[Trained], list[Trained]]


def area(shares: Sequence[int], heights: Floats) -> Floats:
    """Returns the area under a curve by trapezoids, with the shares in [0, 1].

    Args:
        shares: Shares of words in per cent, ascending.
        heights: ``(n_shares, ...)``.

    Returns:
        ``(...)``.

    >>> float(area((10, 20, 50), np.array([0.0, 1.0, 1.0])))
    0.35
    """
    steps = np.diff(np.asarray(shares) / 100.0)
    return np.asarray(np.tensordot(steps, (heights[:-1] + heights[1:]) / 2, axes=1))


def racu(shares: Sequence[int], own: Floats, random: Floats, none: float) -> float:
    """Returns the relative area between curves, clipped to [-1, 1]; NaN where random removal costs nothing.

    ``RACU = area of (y_rand - y) / area of (y_rand - y_100)``: 0 for a method no better than random removal, 1 for one
    whose removals cost as much as removing everything.

    Args:
        shares: Shares of words in per cent, ascending.
        own: Accuracy y at each share, ``(n_shares,)``.
        random: Accuracy y_rand where as many words are removed at random.
        none: Accuracy y_100 with every word removed.

    >>> round(racu((10, 50, 90), np.array([0.8, 0.6, 0.5]), np.array([0.9, 0.8, 0.6]), 0.5), 4)  # 0.12 / 0.22
    0.5455
    """
    whole = float(area(shares, random - none))
    return float(np.clip(area(shares, random - own) / whole, -1.0, 1.0)) if whole > DEGENERATE else float("nan")


def macro_f1(predicted: Ints, labels: Ints) -> float:
    """Returns the mean of the F1 of every class that is predicted or gold somewhere.

    >>> round(macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1])), 4)  # both 2 / 3
    0.6667
    """
    classes = np.union1d(predicted, labels)
    return float(
        np.mean(
            [
                2 * ((predicted == c) & (labels == c)).sum() / ((predicted == c).sum() + (labels == c).sum())
                for c in classes
            ]
        )
    )


def without_top(case: Case, scores: Floats, share: int) -> Bools:
    """Returns which units stay when the top share is removed; ties are broken by the first order shared by all."""
    if case.n_units == 0:
        return np.ones(0, dtype=bool)
    chosen = top(rankings(scores, case.tie_orders)[:1], count(share / 100, case.n_units))
    return np.asarray(~chosen[0], dtype=bool)


def explained(case: Case, share: int) -> Bools:
    """Returns which units stay when the share that the explanation ranks first is removed."""
    return without_top(case, case.scores, share)


def at_random(case: Case, share: int, seed: int) -> Bools:
    """Returns which units stay when the same share is removed at random: in one order per text and seed."""
    order = case.generator("roar", seed).permutation(case.n_units)
    return without_top(case, np.argsort(order).astype(np.float64), share)


def all_or_none(case: Case, stay: bool) -> Bools:
    """Returns that all units stay, or that none does."""
    return np.full(case.n_units, stay)


def on_all(field: Field, stays: Callable[[Case], Bools]) -> Stays:
    """Returns what stays in every text, from a rule for one."""
    return Stays(tuple(map(stays, field.train)), tuple(map(stays, field.test)))


def labels_of(cases: Sequence[Case]) -> Ints:
    """Returns the gold label of each text."""
    return np.array([-1 if case.label is None else case.label for case in cases], dtype=np.int64)


class _Retraining:
    """Base: the parameters, checked.

    Args:
        shares: Shares of the words that are removed, per cent, with dashes between them.
        seeds: Trainings per share, each under another seed.
        examples: Texts of the training part that are used, in its fixed order; 0 uses all.
        steps: Most steps of a training.
    """

    explains: ClassVar[str] = "gold"

    def __init__(self, *, shares: str = "10-20-50-90", seeds: int = 5, examples: int = 4000, steps: int = 800) -> None:
        parts = shares.split("-")
        self.shares = tuple(int(part) for part in parts if part.isdecimal())
        ascending = self.shares == tuple(sorted({*self.shares})) and len(self.shares) == len(parts)
        if not ascending or len(self.shares) < 2 or not 0 < self.shares[0] < self.shares[-1] < 100:
            raise ValueError(f"shares={shares}; allowed: at least two whole numbers from 1 to 99, as in 10-20-50-90")
        if seeds < 1:
            raise ValueError(f"seeds={seeds}; allowed: 1 and more")
        if examples and examples < 20:
            raise ValueError(f"examples={examples}; allowed: 20 and more, or 0 for all")
        if steps < 1:
            raise ValueError(f"steps={steps}; allowed: 1 and more")
        self.seeds = tuple(range(1, seeds + 1))
        self.examples, self.steps = examples, steps

    def _table(self, found: Sequence[Trained], of: Callable[[Ints], float]) -> list[list[float]]:
        """Returns a number of each training, by share, then seed."""
        values = [of(one.predicted) for one in found]
        return [values[start : start + len(self.seeds)] for start in range(0, len(values), len(self.seeds))]


class Roar(_Retraining):
    """Scores how much accuracy is lost, against random removal, when the words an explanation ranks first are removed.

    In every training, development and test text the top share q of the words, by the explanation for the gold label, is
    replaced; a fresh model is trained on the result and tested. ``value_i = area over q of (c_rand,i - c_i) / mean over
    i of the area of (c_rand,i - c_100,i)``, c being the share of seeds under which text i is classified correctly: with
    the explanation's words removed, as many random ones, or all. The mean of the values is RACU before it is clipped to
    [-1, 1]; a single text's value may leave that range. The areas are over the trained shares alone, without 0 and
    100 %. Higher is better. Range (-inf, inf), of the mean after clipping [-1, 1]. Undefined where as much is lost by
    random removal as by removing all. Ties are broken by the first of the orders that all methods share: a mask is
    trained on once.

    The fresh model of a mini starts from its untrained weights, drawn under the training's seed; that of any other
    checkpoint from the weights in its folder, with a new head. Source: Hooker et al. 2019; Madsen et al. 2022, section
    4; metrics spec 2.1.
    """

    def study(self, field: Field) -> Study:
        """Returns one score per test text, and the curves: accuracy by share and seed."""
        seeds, labels = self.seeds, labels_of(field.test)
        ends = [
            Training(seed=seed, stays=on_all(field, partial(all_or_none, stay=stay)))
            for stay in (True, False)
            for seed in seeds
        ]
        random = [
            Training(seed=seed, stays=on_all(field, partial(at_random, share=share, seed=seed)))
            for share in self.shares
            for seed in seeds
        ]
        found = yield from self._trained(field, [*ends, *random])
        whole, none = found[: len(seeds)], found[len(seeds) : len(ends)]
        drawn, own = found[len(ends) : len(ends) + len(random)], found[len(ends) + len(random) :]
        details: Json = {
            "shares": list(self.shares),
            "seeds": list(seeds),
            "seconds": sum(one.seconds for one in found),
        }
        measures = {"accuracy": lambda predicted: float((predicted == labels).mean())}
        measures["macro_f1"] = lambda predicted: macro_f1(predicted, labels)
        for name, of in measures.items():
            parts = {"method": own, "random": drawn, "none": none, "whole": whole}
            details[name] = {part: self._table(trained, of) for part, trained in parts.items()}
        details["racu"] = self._by_seed(**{part: np.array(details["accuracy"][part]) for part in _PARTS})
        return Findings(self._scores(own, drawn, none, labels), details)

    def _by_seed(self, method: Floats, random: Floats, none: Floats) -> list[float | None]:
        """Returns RACU of each seed by itself; None where it is undefined."""
        found = [racu(self.shares, method[:, i], random[:, i], none[0, i]) for i in range(len(self.seeds))]
        return [None if np.isnan(value) else value for value in found]

    def _trained(self, field: Field, beside: Sequence[Training]) -> Trainings:
        """Returns what became of the trainings beside, then of the method's own by share, then seed."""
        own = [
            Training(seed=seed, stays=on_all(field, partial(explained, share=share)))
            for share in self.shares
            for seed in self.seeds
        ]
        return list((yield [*beside, *own]))

    def _scores(
        self, own: Sequence[Trained], drawn: Sequence[Trained], none: Sequence[Trained], labels: Ints
    ) -> list[Score]:
        """Returns the scores of the test texts, whose mean is the relative area between curves."""

        def correct(found: Sequence[Trained]) -> Floats:
            hits = np.array([one.predicted == labels for one in found], dtype=np.float64)
            return np.asarray(hits.reshape(-1, len(self.seeds), len(labels)).mean(1))

        random = correct(drawn)
        gained = area(self.shares, random - correct(own))
        whole = float(area(self.shares, random - correct(none)).mean())
        if whole <= DEGENERATE:
            return [Score.undefined(NOTHING_LOST)] * len(labels)
        return [Score(float(value)) for value in gained / whole]


class RecursiveRoar(Roar):
    """Scores the same where the explanation is made anew at every share, by the model trained at the share before.

    Words that are removed stay removed; of the others the explanation of the model that was trained without them, under
    the same seed, ranks first decide. ``value_i`` as in :class:`Roar`, whose first share and random curve it shares.
    It separates "not faithful" from "redundant": a word that says the same as a removed one is found in the next
    round. Higher is better. Range (-inf, inf), of the mean after clipping [-1, 1]. Undefined and ties as in
    :class:`Roar`. Source: Madsen et al. 2022, section 4.1; metrics spec 2.2.
    """

    def _trained(self, field: Field, beside: Sequence[Training]) -> Trainings:
        """Returns what became of the trainings beside, then of the method's own by share, then seed."""
        found: list[Trained] = []
        before: Sequence[Trained] = ()
        own: list[Training] = []
        for share in self.shares:
            last, first = share == self.shares[-1], on_all(field, partial(explained, share=share))
            stays = [_removed_again(field, share, *pair) for pair in zip(own, before, strict=True)]
            own = [
                Training(seed=seed, stays=stay, explain=not last)
                for seed, stay in zip(self.seeds, stays or [first] * len(self.seeds), strict=True)
            ]
            answers = yield [*([] if before else beside), *own]
            before = answers[-len(own) :]
            found += answers
        return found


def _removed_again(field: Field, share: int, before: Training, trained: Trained) -> Stays:
    """Returns what stays at a share, what was removed before counting as the most important."""

    def part(cases: Sequence[Case], stayed: Sequence[Bools], scores: Sequence[Floats]) -> tuple[Bools, ...]:
        return tuple(
            without_top(case, np.where(stay, anew, np.inf), share)
            for case, stay, anew in zip(cases, stayed, scores, strict=True)
        )

    return Stays(
        part(field.train, before.stays.train, trained.train), part(field.test, before.stays.test, trained.test)
    )


class RoarLeak(_Retraining):
    """Scores how much of the label can be read off which words are removed, whatever the words are.

    Every token becomes one of two symbols, "removed" or "kept", at the shares of :class:`Roar`; a fresh model is
    trained and tested on that. ``value_i = mean over shares and seeds of [i is classified correctly] - [the most
    frequent training label is that of i]``. An explanation for the gold label may tell the label by its pattern alone;
    ROAR then cannot be trusted. Texts keep their length, of which every removal tells, too. Lower is better; 0 or less
    means no leak. Range [-1, 1]. Ties as in :class:`Roar`. Source: Rong et al. 2022, "A Consistent and Efficient
    Evaluation Strategy for Attribution Methods"; Jethani et al. 2023; metrics spec 2.1 (leak control).
    """

    def study(self, field: Field) -> Study:
        """Returns one score per test text, and the accuracy by share and seed."""
        labels, learned = labels_of(field.test), labels_of(field.train)
        found = yield [
            Training(seed=seed, shows="pattern", stays=on_all(field, partial(explained, share=share)))
            for share in self.shares
            for seed in self.seeds
        ]
        usual = labels == np.bincount(learned).argmax()
        hits = np.mean([one.predicted == labels for one in found], axis=0)
        details: Json = {
            "shares": list(self.shares),
            "seeds": list(self.seeds),
            "seconds": sum(one.seconds for one in found),
            "pattern": self._table(found, lambda predicted: float((predicted == labels).mean())),
            "majority": float(usual.mean()),
        }
        return Findings([Score(float(value)) for value in hits - usual], details)
