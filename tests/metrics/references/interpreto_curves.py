"""Writes what interpreto's ``Deletion`` and ``Insertion`` give, for ``test_metric_parity_curves.py``.

In an environment of its own, with ``pip install interpreto==0.5.2 transformers==5.23.0``:

    python tests/metrics/references/interpreto_curves.py

writes ``tests/metrics/data/interpreto_curves.json``: per text and explanation, tokens replaced by the mask token, the
area under the probability of class 1.
"""

import json
from pathlib import Path

import torch
from curves_model import TARGET, TEXTS, explanations, network, tokenizer

FILE = Path(__file__).parents[1] / "data" / "interpreto_curves.json"


def main():
    """Writes the file."""
    from interpreto import Granularity, Occlusion
    from interpreto.attributions.metrics import Deletion, Insertion

    metrics = {"deletion_auc": Deletion, "insertion_auc": Insertion}
    areas = {name: [] for name in metrics}
    for text in TEXTS:
        explainer = Occlusion(network(), tokenizer(), granularity=Granularity.TOKEN)
        for scores in explanations(len(text.split())):
            (explanation,) = explainer(text, targets=torch.tensor([TARGET]))
            explanation.attributions = torch.tensor(scores)[None]
            for name, metric in metrics.items():
                area, _ = metric(network(), tokenizer()).evaluate([explanation])
                areas[name].append(area)
    FILE.write_text(json.dumps({"interpreto": "0.5.2", **areas}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
