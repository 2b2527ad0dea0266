"""Writes what Quantus' ``Sparseness`` and ``Complexity`` give, for ``test_metric_complexity.py``.

In an environment of its own, with ``pip install quantus==0.6.0 numpy==2.4.6``:

    python tests/metrics/references/quantus_complexity.py

writes ``tests/metrics/data/quantus_complexity.json``: per explanation, its scores and the two values. Quantus adds 1e-7
to the scores, in the caller's own array, for ``Sparseness``: every metric gets a copy.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[1] / "data" / "quantus_complexity.json"


def explanations():
    """Returns explanations of 2 to 40 units: spread, concentrated, tied, with zeros."""
    rng = np.random.default_rng(0)
    drawn = [scale(rng, size) for size in (2, 7, 16, 40) for scale in (_normal, _heavy, _tied)]
    return [np.array([0.1, -0.2, 0.3, 0.4, 1.0]), np.array([0.0, 2.0, 0.0, -1.0]), *drawn]


def _normal(rng, size):
    return rng.normal(size=size)


def _heavy(rng, size):
    return rng.normal(size=size) ** 5


def _tied(rng, size):
    return rng.integers(1, 4, size=size) * rng.choice([-0.5, 0.5], size=size)


def main():
    """Writes the file."""
    import quantus

    found = []
    for scores in explanations():
        row = {"scores": scores.tolist()}
        for metric in (quantus.Sparseness, quantus.Complexity):
            batch = {"x_batch": np.zeros((1, 1, len(scores))), "y_batch": np.zeros(1, dtype=int)}
            ask = metric(abs=True, normalise=False, disable_warnings=True, display_progressbar=False)
            (value,) = ask(model=None, a_batch=scores[None, None].copy(), **batch)
            row[metric.__name__.lower()] = float(value)
        found.append(row)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps({"quantus": version("quantus"), "rows": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
