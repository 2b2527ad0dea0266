"""Student simulatability: do explanations help a small student to learn what the teacher would predict?

Source: Pruthi et al. 2022, "Evaluating Explanations: How Much Do Explanations from the Teacher Aid Students?"; metrics
spec 10.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from attrlab.bench.trials import Field, Findings, Stays, Study, Trained, Training
from attrlab.bench.types import Bools, Case, Floats, Ints, Score
from attrlab.metrics.ranking import count, rankings, top


class Simulatability:
    """Scores how much more often a student agrees with the teacher if it was shown explanations while it learned.

    A two-layer encoder is trained on the teacher's predictions for N texts; beside the class it has to say of every
    word whether it is among the explanation's top share. On the test texts it gets no explanation. ``value_i = share of
    seeds under which the student predicts the teacher's class of i - the same share of students who were shown
    nothing``. Higher is better; 0 means that explanations do not help. Range [-1, 1]. Ties are broken by the first of
    the orders that all methods share. Controls are rows (``random``) and the parameter ``shuffled``. Source: after
    Pruthi et al. 2022; metrics spec 10 (auxiliary labelling of the top words).

    Args:
        examples: N, the texts that the student learns from.
        seeds: Students with and without explanations, each under another seed.
        share: Share of the words that is pointed out.
        weight: Of the loss of pointing them out, beside that of the class.
        shuffled: Deal each text's scores out anew among its words first, as a control.
        steps: Most steps of a training.
    """

    explains: ClassVar[str] = "predicted"

    def __init__(
        self,
        *,
        examples: int = 250,
        seeds: int = 5,
        share: float = 0.2,
        weight: float = 1.0,
        shuffled: bool = False,
        steps: int = 400,
    ) -> None:
        for name, value, lowest in (("examples", examples, 20), ("seeds", seeds, 1), ("steps", steps, 1)):
            if value < lowest:
                raise ValueError(f"{name}={value}; allowed: {lowest} and more")
        if not 0 < share <= 1:
            raise ValueError(f"share={share:g}; allowed: above 0, at most 1")
        if not 0 < weight < float("inf"):
            raise ValueError(f"weight={weight:g}; allowed: above 0")
        self.examples, self.steps = examples, steps
        self.seeds = tuple(range(1, seeds + 1))
        self.share, self.weight, self.shuffled = share, weight, shuffled

    def study(self, field: Field) -> Study:
        """Returns one score per test text, and the agreement of every student."""
        train, test = (tuple(np.ones(case.n_units, dtype=bool) for case in part) for part in (field.train, field.test))
        shown = Stays(train, test)
        marks = tuple(map(self._pointed_out, field.train))
        plain = [Training(seed=seed, stays=shown, student=True) for seed in self.seeds]
        taught = [
            Training(seed=seed, stays=shown, student=True, marks=marks, weight=self.weight) for seed in self.seeds
        ]
        found = yield [*plain, *taught]
        teacher = np.array([case.target for case in field.test])
        without, with_ = (_agreement(part, teacher) for part in (found[: len(plain)], found[len(plain) :]))
        details = {
            "seeds": list(self.seeds),
            "seconds": sum(one.seconds for one in found),
            "agreement": {"method": with_.mean(1).tolist(), "nothing": without.mean(1).tolist()},
        }
        return Findings([Score(float(value)) for value in with_.mean(0) - without.mean(0)], details)

    def _pointed_out(self, case: Case) -> Bools:
        if case.n_units == 0:
            return np.zeros(0, dtype=bool)
        scores = case.generator("simulatability").permutation(case.scores) if self.shuffled else case.scores
        return np.asarray(top(rankings(scores, case.tie_orders)[:1], count(self.share, case.n_units))[0])


def _agreement(found: Sequence[Trained], teacher: Ints) -> Floats:
    """Returns whether each student predicts the teacher's class, ``(n_seeds, n_test)`` of 0 and 1."""
    return np.array([one.predicted == teacher for one in found], dtype=np.float64)
