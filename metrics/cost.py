"""Time, passes and memory: what one explanation costs (metrics spec 11). They only report what the harness counted."""

from attrlab.bench.types import Case, Score


class Seconds:
    """Scores the time of one explanation in seconds: own time plus its share, by tokens, of merged batches.

    Lower is better. Range [0, inf). Compare only on the same machine and thread count. Source: metrics spec 11.
    """

    def score(self, case: Case) -> Score:
        """Returns the score."""
        return Score(case.cost.seconds)


class Forwards:
    """Scores the inputs sent through the model for one explanation, before identical ones are merged.

    Lower is better. Range [0, inf). Backward passes are not counted. Source: metrics spec 11.
    """

    def score(self, case: Case) -> Score:
        """Returns the score."""
        return Score(float(case.cost.forwards))


class Backwards:
    """Scores the rows of backward passes for one explanation.

    Lower is better. Range [0, inf). Source: metrics spec 11.
    """

    def score(self, case: Case) -> Score:
        """Returns the score."""
        return Score(float(case.cost.backwards))


class Passes:
    """Scores the work of one explanation in forward passes, a backward pass counting as two: ``F + 2 B``.

    Lower is better. Range [0, inf). It is the same on any machine: what headline metrics are plotted against.
    Source: metrics spec 11.
    """

    def score(self, case: Case) -> Score:
        """Returns the score."""
        return Score(float(case.cost.forwards + 2 * case.cost.backwards))


class PeakMemory:
    """Scores the highest resident memory of the process up to the end of the explanation, in bytes.

    Lower is better. Range [0, inf). It never falls during a run and holds whatever ran before: compare runs of one
    method each. Source: metrics spec 11.
    """

    def score(self, case: Case) -> Score:
        """Returns the score; undefined where it was not measured."""
        return Score(float(case.cost.peak_memory)) if case.cost.peak_memory else Score.undefined("not measured")
