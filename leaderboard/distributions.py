"""Tails and quantiles that tables need.

SciPy, which the tests of these compare with, takes longer to import than a board takes to render, and has no noncentral
t far out.
"""

from collections.abc import Callable
from functools import cache
from math import erfc, exp, lgamma, log, pi, sqrt

import numpy as np

from attrlab.bench.types import Floats


def noncentral_t(critical: float, f: int, shift: float) -> float:
    """Returns the probability that a noncentral t with ``f`` degrees of freedom exceeds ``critical``.

    ``t = (z + shift) / s``: the normal tail averaged over ``s``, whose density is proportional to
    ``s^(f - 1) exp(-f s^2 / 2)``, by Gauss-Legendre quadrature.
    """
    places, weights = _spread(f)
    tails = [erfc((critical * s - shift) / sqrt(2)) / 2 for s in places]
    return float(weights @ tails)


@cache
def _spread(f: int) -> tuple[list[float], Floats]:
    half = 12 / sqrt(2 * f)  # twelve standard deviations of s to each side of 1
    low, high = max(0.0, 1 - half), 1 + half
    nodes, weights = np.polynomial.legendre.leggauss(200)
    places = (low + high) / 2 + (high - low) / 2 * nodes
    logs = (f - 1) * np.log(places) - f * places**2 / 2
    weights = weights * np.exp(logs - logs.max())
    return places.tolist(), weights / weights.sum()


def chi_squared(x: float, f: int) -> float:
    """Returns the probability that chi-squared with ``f`` degrees of freedom exceeds ``x``, in closed form."""
    if x <= 0:
        return 1.0
    half, odd = x / 2, f % 2 / 2
    terms = (exp((k + odd) * log(half) - half - lgamma(k + odd + 1)) for k in range(f // 2))
    return (erfc(sqrt(half)) if odd else 0.0) + sum(terms)


@cache
def range_quantile(level: float, m: int) -> float:
    """Returns what the range of ``m`` standard normals stays below with probability ``level``.

    ``P(range <= q) = m E (F(z) - F(z - q))^(m - 1)``, ``z`` the largest one, by the trapezoidal rule.
    """
    step = 0.01
    largest = np.arange(-9, 9, step)
    density = np.exp(-(largest**2) / 2) / sqrt(2 * pi)

    def below(z: Floats) -> Floats:
        return np.array([erfc(-one / sqrt(2)) / 2 for one in z.tolist()])

    upper = below(largest)
    return inverse(lambda q: float(m * step * (density * (upper - below(largest - q)) ** (m - 1)).sum()), level)


def inverse(function: Callable[[float], float], value: float) -> float:
    """Returns where a function that rises from 0 on has a value, to the last digit, by bisection."""
    low, high = 0.0, 1.0
    while function(high) < value:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if function(middle) < value else (low, middle)
    return high
