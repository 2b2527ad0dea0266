"""Seconds and forwards: what one explanation costs (metrics spec 11). They only report what the harness counted."""

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
