"""Shapley values: averaged over random orders by Captum, and Owen values over a tree of neighbours by SHAP."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from attrlab.bench.types import Asker, Bools, Estimate, Floats, Game, Ints
from attrlab.methods._callback import ask_through
from attrlab.methods.removal import under

Values = Callable[[Bools], Floats]
"""Maps keep-masks ``(q, m)`` to the explained scalar ``(q,)``."""


class ShapleySampling:
    """Returns Shapley values averaged over random orders, by Captum's ``ShapleyValueSampling``. Signed, stochastic.

    The gains along every order sum to ``v(S) - v(empty)``, hence so do the scores (methods spec 3.4). An order asks
    one question per prefix, which two neighbouring gains share; the engine answers a prefix that several orders have
    in common, as the two ends, once. An order and its reverse depend on each other: their mean is one observation,
    and the standard errors are those of the mean of such observations.
    Reference: Castro et al. 2009, "Polynomial calculation of the Shapley value based on sampling".

    Args:
        permutations: Number of random orders, each also used in reverse; at least 1.
        operator: Removal operator; empty is the suite's.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(self, permutations: int = 25, operator: str = "") -> None:
        if permutations < 1:
            raise ValueError(f"permutations={permutations}; allowed: 1 or more")
        self.permutations = permutations
        self.operator = operator

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Estimate]:
        """Returns scores ``(m,)``, with standard errors if there is more than one pair of orders.

        Asks ``1 + 2 * permutations * m`` questions, all at once.
        """
        forwards = rng.permuted(np.tile(np.arange(game.n_units), (self.permutations, 1)), axis=1)
        places = np.vstack([forwards, game.n_units - 1 - forwards])
        gains = yield from ask_through(partial(order_gains, places), under(game, self.operator), rng)
        pairs = (gains[: self.permutations] + gains[self.permutations :]) / 2
        if len(pairs) == 1:
            return Estimate(pairs[0])
        return Estimate(pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs)))


def order_gains(places: Ints, values: Values) -> Floats:
    """Returns what each unit adds when units arrive in given orders, ``(n_orders, m)``, computed by Captum.

    Args:
        places: When each unit arrives, a permutation of ``0..m-1`` per row, ``(n_orders, m)``.
        values: The set function.
    """
    import torch
    from captum.attr import ShapleyValueSampling

    def forward(present: torch.Tensor) -> torch.Tensor:
        keep = present.numpy()
        if not keep.any():
            return torch.zeros(len(keep), 2, dtype=torch.float64)
        answers = values(np.vstack([np.zeros_like(keep[:1]), keep]))
        return torch.from_numpy(_in_float32_parts(answers[1:] - answers[0]))

    orders, units = places.shape
    sampler = ShapleyValueSampling(forward)
    # Captum evaluates one permutation after the other, but many examples at once. So every order is an example
    # whose features are numbered by their place, and the one permutation is 0, 1, 2, ...: a single batch, and
    # no draw from torch's global generator.
    sampler.permutation_generator = lambda features, _: [range(features)]
    gains = sampler.attribute(
        torch.ones((orders, units), dtype=torch.bool),
        baselines=torch.zeros((orders, units), dtype=torch.bool),
        feature_mask=torch.from_numpy(places),
        n_samples=1,
        perturbations_per_eval=units,
    )
    return np.asarray(gains.numpy().astype(np.float64).sum(axis=1))


def _in_float32_parts(gains: Floats) -> Floats:
    """Returns two columns that sum to ``gains``, and whose differences fit in float32.

    Captum adds up differences in float32. Those of the first column, multiples of 2**-22 of the largest gain,
    are exact there; those of the second, the small rest, lose less than 1e-13 of the largest gain.
    """
    grid = np.ldexp(1.0, np.frexp(np.abs(gains).max())[1] - 22)
    coarse = np.round(gains / grid) * grid
    return np.stack([coarse, gains - coarse], axis=1)


class Shap:
    """Returns Owen values over a balanced tree of neighbouring units, by SHAP's ``PartitionExplainer``. Signed.

    What is usually called "SHAP for text", except that units are removed by the suite's operator: SHAP's own
    text masker re-tokenises and builds another tree. Scores sum to ``v(S) - v(empty)``; where the budget ends,
    what a subtree gains is split equally over its units (methods spec 3.4). Deterministic: ties between
    subtrees, which SHAP breaks by drawing, are broken by the same draws every time.
    Reference: Lundberg and Lee 2017, "A unified approach to interpreting model predictions"; ``shap``.

    Args:
        evals: Budget in questions; at least 2. The whole tree takes about ``2 m**2 / 3``.
        operator: Removal operator; empty is the suite's.

    Raises:
        ValueError: If a parameter is out of range.
    """

    def __init__(self, evals: int = 500, operator: str = "") -> None:
        if evals < 2:
            raise ValueError(f"evals={evals}; allowed: 2 or more")
        self.evals = evals
        self.operator = operator

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``, asking at most ``evals`` questions. ``rng`` is not used."""
        game = under(game, self.operator)
        if game.n_units == 1:
            whole, nothing = yield from game.values([[True], [False]])
            return np.array([whole - nothing])
        owen = partial(owen_values, game.n_units, self.evals)
        return (yield from ask_through(owen, game, np.random.default_rng(0)))


BATCH = 50
"""Questions per step of SHAP, which opens the most promising subtrees before it looks again.

SHAP's default of 10 takes three times the steps and ranks long texts no better; all at once ranks them worse.
"""


def owen_values(units: int, evals: int, values: Values) -> Floats:
    """Returns Owen values ``(units,)`` over the balanced tree, computed by SHAP with at most ``evals`` questions.

    Args:
        units: Number of units m, at least 2.
        evals: Budget.
        values: The set function.
    """
    from shap import PartitionExplainer

    explainer = PartitionExplainer(values, UnitMasker(units, neighbour_tree(units)))
    # Reading rows of the sparse matrix, meant for images, is most of SHAP's own time on a sentence.
    explainer._mask_matrix = explainer._mask_matrix.toarray()
    row = explainer.explain_row(
        np.ones(units),
        # Questions come in pairs: an odd budget would be overspent by one.
        max_evals=evals - evals % 2,
        batch_size=BATCH,
        main_effects=False,
        error_bounds=False,
        outputs=None,
        silent=True,
    )
    return np.asarray(row["values"], dtype=np.float64)


class UnitMasker:
    """SHAP's idea of a masker, reduced to: which units stay is itself the model's input.

    Args:
        units: Number of units.
        clustering: Tree over the units, as a SciPy linkage matrix, where the explainer wants one.
    """

    immutable_outputs = True

    def __init__(self, units: int, clustering: Floats | None = None) -> None:
        self.shape = (1, units)
        self.clustering = clustering

    def __call__(self, keep: Bools, _: Floats) -> Bools:
        """Returns a keep-mask ``(m,)`` as the model's input, ``(1, m)``."""
        return keep[None]


@cache
def neighbour_tree(units: int) -> Floats:
    """Returns the balanced binary tree over neighbours as a SciPy linkage matrix, ``(units - 1, 4)``.

    Columns: left node, right node, height (the size), size. Leaves are ``0..units-1``; row i is node
    ``units + i``; the left part of an odd range is the shorter one.

    >>> neighbour_tree(3)
    array([[1., 2., 2., 2.],
           [0., 3., 3., 3.]])
    """
    rows: list[tuple[int, int, int, int]] = []

    def build(start: int, stop: int) -> int:
        if stop - start == 1:
            return start
        middle = (start + stop) // 2
        rows.append((build(start, middle), build(middle, stop), stop - start, stop - start))
        return units + len(rows) - 1

    build(0, units)
    return np.array(rows, dtype=np.float64)
