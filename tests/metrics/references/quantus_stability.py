"""Writes what Quantus' ``LocalLipschitzEstimate`` and ``MaxSensitivity`` give, for ``test_metric_stability.py``.

In an environment of its own, with ``pip install quantus==0.6.0 numpy==2.4.6``:

    python tests/metrics/references/quantus_stability.py

writes ``tests/metrics/data/quantus_stability.json``: per input, its explanation, those of its neighbours, how far these
are, and the two values. ``LocalLipschitzEstimate`` gets explanations of L2 norm 1 (its own option divides by the
maximum); predictions do not enter.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from quantus import LocalLipschitzEstimate, MaxSensitivity

TARGET = Path(__file__).parents[1] / "data" / "quantus_stability.json"
DRAWS = 6


def explain(inputs):
    """Returns explanations that are not linear in the input, ``(n, d)``."""
    weights = np.linspace(-1.5, 2.0, inputs.shape[-1])
    return np.sin(3 * inputs) * weights + inputs**2


def normalised(inputs):
    """Returns explanations of L2 norm 1."""
    scores = explain(inputs)
    return scores / np.linalg.norm(scores, axis=-1, keepdims=True)


def scored(kind, explanation, inputs, noise):
    """Returns the value of a metric under given noise, one draw after the other; the model is never asked."""
    draws = iter(noise)
    metric = kind(nr_samples=len(noise), perturb_func=lambda arr, **_options: arr + next(draws), disable_warnings=True)
    metric.explain_batch = lambda _model, perturbed, _classes: explanation(perturbed)
    (value,) = metric.evaluate_batch(None, inputs, np.zeros(1, dtype=int), explanation(inputs))
    return float(value)


def main():
    """Writes the file."""
    rng, rows = np.random.default_rng(0), []
    for size, spread in ((2, 0.01), (5, 0.02), (12, 0.02), (30, 0.3)):
        inputs = rng.normal(size=(1, size))
        noise = rng.uniform(-spread, spread, size=(DRAWS, 1, size))
        rows.append(
            {
                "scores": explain(inputs)[0].tolist(),
                "neighbours": explain(inputs + noise[:, 0]).tolist(),
                "distances": np.linalg.norm(noise[:, 0], axis=1).tolist(),
                "lipschitz": scored(LocalLipschitzEstimate, normalised, inputs, noise),
                "sensitivity": scored(MaxSensitivity, explain, inputs, noise),
            }
        )
    content = {"quantus": version("quantus"), "rows": rows}
    TARGET.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
