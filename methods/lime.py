"""LIME: the coefficients of a weighted linear model of the answers around the full input."""

import numpy as np

from attrlab.bench.types import Asker, Bools, Floats, Game
from attrlab.methods.removal import under


class Lime:
    """Returns LIME coefficients, fitted by ``lime.lime_base.LimeBase`` (methods spec 3.3). Signed, stochastic.

    Sampling is our own, by position: LIME's text front end splits with a regular expression and removes all
    occurrences of a word together. Reference: Ribeiro et al. 2016, "Why should I trust you?", equation 1 and
    the text explainer of the ``lime`` package.

    Args:
        samples: Number of questions, the full input included; at least 2.
        kernel_width: Width of the kernel on 100 times the cosine distance; above 0.
        operator: Removal operator; empty is the suite's.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(self, samples: int = 1000, kernel_width: float = 25.0, operator: str = "") -> None:
        if samples < 2:
            raise ValueError(f"samples={samples}; allowed: 2 or more")
        if not kernel_width > 0:
            raise ValueError(f"kernel_width={kernel_width}; allowed: above 0")
        self.samples = samples
        self.kernel_width = kernel_width
        self.operator = operator

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``; positive means the unit supports the target. Asks ``samples`` questions."""
        keep = neighbourhood(self.samples, game.n_units, rng)
        values = yield from under(game, self.operator).values(keep)
        return fit(keep, values, self.kernel_width)


def neighbourhood(samples: int, units: int, rng: np.random.Generator) -> Bools:
    """Returns LIME's keep-masks ``(samples, units)``: the full input, then rows with 1 to ``units`` units removed.

    The number removed is uniform; which ones, uniform among the subsets of that size.
    """
    removed = rng.integers(1, units + 1, size=samples - 1)
    ranks = rng.permuted(np.tile(np.arange(units), (samples - 1, 1)), axis=1)
    return np.vstack([np.ones((1, units), dtype=bool), ranks >= removed[:, None]])


def fit(keep: Bools, values: Floats, kernel_width: float) -> Floats:
    """Returns the ridge coefficients (penalty 1, free intercept) of ``values`` on ``keep``, ``(units,)``.

    Args:
        keep: Which units stayed, ``(samples, units)``; the first row is the full input.
        values: Explained scalar of each row, ``(samples,)``.
        kernel_width: Row i weighs ``sqrt(exp(-(d_i / kernel_width)**2))`` at ``d_i = 100 (1 - cos(row i, 1))``.
    """
    from lime.lime_base import LimeBase
    from sklearn.linear_model import Ridge

    # The cosine with a row of ones; the empty row, whose cosine is undefined, gets similarity 0.
    distances = 100 * (1 - np.sqrt(keep.mean(axis=1)))
    # An integer seed, as LimeBase would otherwise hold on to NumPy's global generator.
    base = LimeBase(lambda distance: np.sqrt(np.exp(-((distance / kernel_width) ** 2))), random_state=0)
    _, coefficients, _, _ = base.explain_instance_with_data(
        keep.astype(np.float64),
        values[:, None],
        distances,
        label=0,
        num_features=keep.shape[1],
        feature_selection="none",
        model_regressor=Ridge(alpha=1.0, fit_intercept=True),
    )
    scores = np.zeros(keep.shape[1])
    for unit, coefficient in coefficients:
        scores[unit] = coefficient
    return scores
