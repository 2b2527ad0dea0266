"""Writes what Quantus makes of small networks and made-up explanations, for ``test_metric_axioms.py``.

In an environment of its own, with ``pip install quantus==0.6.0 torch==2.15.0``:

    python tests/metrics/references/quantus_axioms.py

writes ``tests/metrics/data/quantus_axioms.json``: inputs, weights and scores, all drawn by NumPy, and per example the
counts of ``NonSensitivity`` and the value of ``MonotonicityCorrelation``. A unit is exchanged for 0, its only
substitute; ``softmax`` is off, so that the answer of the class is its logit. The logit of the other class is 0.
"""

import json
from pathlib import Path

import numpy as np
import quantus
import torch

TARGET = Path(__file__).parents[1] / "data" / "quantus_axioms.json"
EXAMPLES, UNITS, HIDDEN = 8, 9, 12


class Network(torch.nn.Module):
    """Two layers, the first blind to some of the units; logits are [one number, 0]."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = (torch.tensor(weights, dtype=torch.float32) for weights in (first, second))

    def forward(self, inputs):
        value = torch.tanh(inputs.flatten(1) @ self.first) @ self.second
        return torch.stack([value, torch.zeros_like(value)], 1)


def main():
    rng = np.random.default_rng(7)
    first, second = rng.normal(size=(UNITS, HIDDEN)) * 0.6, rng.normal(size=HIDDEN)
    first[[1, 4]] = 0.0  # two units that the network does not see
    inputs = rng.uniform(0.5, 1.5, size=(EXAMPLES, UNITS)) * rng.choice([-1, 1], size=(EXAMPLES, UNITS))
    scores = rng.normal(size=(EXAMPLES, UNITS))
    scores[rng.random((EXAMPLES, UNITS)) < 0.3] = 0.0

    def run(metric):
        return metric(
            model=Network(first, second).eval(),
            x_batch=inputs.astype(np.float32).reshape(EXAMPLES, 1, UNITS),
            y_batch=np.zeros(EXAMPLES, dtype=int),
            a_batch=scores.reshape(EXAMPLES, 1, UNITS).copy(),
            softmax=False,
            channel_first=True,
        )

    common = {"abs": True, "normalise": False, "perturb_baseline": 0.0, "disable_warnings": True}
    found = {
        "inputs": inputs.astype(np.float32).tolist(),
        "first": first.tolist(),
        "second": second.tolist(),
        "scores": scores.tolist(),
        "non_sensitivity": [int(value) for value in run(quantus.NonSensitivity(**common))],
        "monotonicity": [float(value) for value in run(quantus.MonotonicityCorrelation(nr_samples=1, **common))],
    }
    TARGET.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
