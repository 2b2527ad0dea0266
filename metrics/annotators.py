"""What several annotators marked, made one target or several (metrics spec 4.1)."""

import numpy as np

from attrlab.bench.types import Bools, Case, Floats

CHOICES = ("majority", "union", "soft", "each")
"""How annotators are merged, see :func:`targets`."""


def majority(rationales: Bools) -> Bools:
    """Returns the units that more than half of the annotators marked, ``(n_units,)``.

    Exactly half is no majority. An annotator who marked nothing is counted.

    >>> majority(np.array([[True, True, False], [True, False, False]])).tolist()
    [True, False, False]
    """
    return np.asarray(2 * rationales.sum(axis=0) > len(rationales))


def targets(case: Case, annotators: str) -> list[Floats]:
    """Returns what an explanation is compared with: targets ``(n_units,)`` in [0, 1], those without a mark left out.

    - ``majority``: 1 for units that more than half of the annotators marked, else 0.
    - ``union``: 1 for units that anybody marked.
    - ``soft``: the share of annotators who marked the unit.
    - ``each``: the marks of each annotator, a target of its own; a metric is averaged over them.

    Graded marks (``case.weights``) are such shares themselves; they cannot be told apart, so ``each`` has no target.

    Args:
        case: A case with rationales or weights.
        annotators: One of ``CHOICES``.
    """
    marks, shares = case.rationales, case.weights
    if marks is not None and annotators == "majority":
        found = [majority(marks).astype(np.float64)]
    elif marks is not None and annotators == "each":
        found = list(marks.astype(np.float64))
    else:
        shares = shares if marks is None else marks.mean(axis=0)
        assert shares is not None
        merged = {"majority": shares > 0.5, "union": shares > 0, "soft": shares}
        found = [np.asarray(merged[annotators], dtype=np.float64)] if annotators in merged else []
    return [target for target in found if target.any()]
