"""Shapley values by enumeration of all coalitions, for short texts: what every estimator of them is measured by."""

from functools import partial

import numpy as np

from attrlab.bench.errors import NotApplicableError
from attrlab.bench.types import Asker, Floats, Game
from attrlab.methods._callback import ask_through
from attrlab.methods.removal import under
from attrlab.methods.shapley import UnitMasker, Values

MOST = 20
"""Largest number of units that may be allowed: a million questions."""


class ExactShapley:
    """Returns the Shapley values, by SHAP's ``ExactExplainer`` (methods spec 3.4). Signed, deterministic.

    Reference: Shapley 1953, "A value for n-person games"; ``shap``.

    Args:
        largest: Most units that are enumerated, 1 to 20; longer texts are skipped.
        operator: Removal operator; empty is the suite's.

    Raises:
        ValueError: If ``largest`` is out of range.
    """

    def __init__(self, *, largest: int = 12, operator: str = "") -> None:
        if not 1 <= largest <= MOST:
            raise ValueError(f"largest={largest}; allowed: 1 to {MOST}")
        self.largest = largest
        self.operator = operator

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)`` that sum to ``v(S) - v(empty)``. Asks all 2**m coalitions at once.

        Raises:
            NotApplicableError: If there are more than ``largest`` units.
        """
        if game.n_units > self.largest:
            raise NotApplicableError(f"{game.n_units} units; all coalitions are asked of up to {self.largest}")
        return (yield from ask_through(partial(enumerated, game.n_units), under(game, self.operator), rng))


def enumerated(units: int, values: Values) -> Floats:
    """Returns the Shapley values ``(units,)`` of a set function, computed by SHAP; ``units`` at least 1."""
    from shap import ExactExplainer

    row = ExactExplainer(values, UnitMasker(units)).explain_row(
        np.ones(units),
        max_evals=2**units,
        main_effects=False,
        error_bounds=False,
        batch_size=2**units,
        outputs=None,
        interactions=False,
        silent=True,
    )
    return np.asarray(row["values"], dtype=np.float64)
