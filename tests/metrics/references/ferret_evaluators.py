"""Writes what ferret's faithfulness evaluators give, for ``test_metric_parity_curves.py``.

In an environment of its own, with ``pip install ferret-xai==0.4.2 transformers==4.57.6``:

    python tests/metrics/references/ferret_evaluators.py

writes ``tests/metrics/data/ferret_evaluators.json``: per text and explanation, its comprehensiveness, sufficiency and
tau-LOO of class 1, tokens deleted. Every word of the texts is one token, so that ferret's way through decoded text
loses nothing.
"""

import json
from pathlib import Path

import numpy as np
from curves_model import TARGET, TEXTS, explanations, network, tokenizer

FILE = Path(__file__).parents[1] / "data" / "ferret_evaluators.json"


def main():
    """Writes the file."""
    from ferret.evaluators import faithfulness_measures as measures
    from ferret.explainers.explanation import Explanation
    from ferret.model_utils import ModelHelper

    metrics = {
        "comprehensiveness": measures.AOPC_Comprehensiveness_Evaluation,
        "sufficiency": measures.AOPC_Sufficiency_Evaluation,
        "tau_loo": measures.TauLOO_Evaluation,
    }
    values = {name: [] for name in metrics}
    helper = ModelHelper(network(), tokenizer())
    for text in TEXTS:
        tokens = helper.get_tokens(text)
        for scores in explanations(len(text.split())):
            padded = np.concatenate([[0.0], scores, [0.0]])
            explanation = Explanation(text=text, tokens=tokens, scores=padded, explainer="", target=TARGET)
            for name, metric in metrics.items():
                found = metric(helper.model, helper.tokenizer).compute_evaluation(explanation, target=TARGET)
                values[name].append(float(found.score))
    FILE.write_text(json.dumps({"ferret-xai": "0.4.2", **values}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
