"""Worker that runs ferret, in an environment of its own; see ``peers.py``.

Whatever the request names, ``whole`` is run, ferret's default job: sentence by sentence its six explainers, then its
three faithfulness evaluators on all six explanations. It does one thing after the other, so the parts are timed on the
way.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from ferret import Benchmark
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from worker import Json, Rows, options, serve

EXPLAINERS = ("shap", "lime", "gradient", "gradient_x_input", "ig", "ig_x_input")
"""Ferret's default explainers in its order, by what they are called here."""

PART_OF = {"shap": "shap", "lime": "lime"}
"""Explainers that are a part by themselves; the others are ``gradients``."""

METRICS = {"aopc_compr": "comprehensiveness", "aopc_suff": "sufficiency", "taucorr_loo": "tau_loo"}


class Ferret:
    """Ferret around a model."""

    def __init__(self, folder: str) -> None:
        network = AutoModelForSequenceClassification.from_pretrained(folder).float().eval()
        self.bench = Benchmark(network, AutoTokenizer.from_pretrained(folder))
        self.rows = Rows(network.base_model)
        self.parts: Json = {}

    def answer(self, request: Json) -> Json:
        """Runs the default job on every sentence."""
        self.parts = {}
        for text, target in zip(request["sentences"], request["targets"], strict=True):
            self._explain(text, target)
        whole: Json = {"found": {}}
        for part in self.parts.values():
            for key in part.keys() - {"found"}:
                whole[key] = whole.get(key, 0) + part[key]
        return {"parts": {"whole": whole, **self.parts}}

    def _explain(self, text: str, target: int) -> None:
        explanations = []
        for name, explainer in zip(EXPLAINERS, self.bench.explainers, strict=True):
            explanation, took = self.rows.timed(partial(explainer, text, target))
            explanations.append(explanation)
            self._add(PART_OF.get(name, "gradients"), took, {name: explanation.scores[1:-1].tolist()})
        evaluate = partial(self.bench.evaluate_explanations, explanations, target, show_progress=False)
        evaluated, took = self.rows.timed(evaluate)
        values = {
            f"{METRICS[score.name]} {name}": float(score.score) if math.isfinite(score.score) else None
            for name, one in zip(EXPLAINERS, evaluated, strict=True)
            for score in one.evaluation_scores
        }
        self._add("metrics", took, values)

    def _add(self, part: str, took: Json, found: Mapping[str, Any]) -> None:
        total = self.parts.setdefault(part, {"found": {}})
        for key, value in took.items():
            total[key] = total.get(key, 0) + value
        total["asked"] = total["run"]
        for name, values in found.items():
            total["found"].setdefault(name, []).append(values)


if __name__ == "__main__":
    serve(Ferret(str(options(__doc__).model)).answer)
