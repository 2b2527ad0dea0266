"""Worker that runs interpreto, in an environment of its own; see ``peers.py``.

Tokens are explained and removed one by one, all sentences of a request in one call. ``deletion`` and ``insertion``
rank by the scores of the request, so that both sides follow the same ranking.
"""

from functools import partial
from typing import Any

import torch
from interpreto import Granularity, IntegratedGradients, KernelShap, Lime, Occlusion
from interpreto.attributions.metrics import Deletion, Insertion
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from worker import Json, Rows, options, serve

IG_STEPS = 50

METRICS = {"deletion": Deletion, "insertion": Insertion}


class Interpreto:
    """Interpreto around a model."""

    def __init__(self, folder: str) -> None:
        self.network = AutoModelForSequenceClassification.from_pretrained(folder).float().eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.rows = Rows(self.network.base_model)

    def explainer(self, part: str, samples: int, batch: int) -> Any:
        """Returns an explainer of tokens that takes logits for its scalar, as interpreto does by default."""
        made = {
            "lime": partial(Lime, n_perturbations=samples),
            "kernel_shap": partial(KernelShap, n_perturbations=samples),
            "integrated_gradients": partial(IntegratedGradients, n_perturbations=IG_STEPS),
            "occlusion": Occlusion,
        }
        return made[part](self.network, self.tokenizer, batch_size=batch, granularity=Granularity.TOKEN)

    def answer(self, request: Json) -> Json:
        """Runs the parts of the request."""
        return {
            "parts": {
                part: self._metric(part, request) if part in METRICS else self._explain(part, request)
                for part in request["parts"]
            }
        }

    def _explain(self, part: str, request: Json) -> Json:
        torch.manual_seed(0)
        explainer = self.explainer(part, request["samples"], request["batch"])
        targets = torch.tensor(request["targets"])
        explained, took = self.rows.timed(lambda: explainer(request["sentences"], targets=targets))
        scores = [one.attributions.flatten().tolist() for one in explained]
        return took | {"asked": took["run"], "found": {part: scores}}

    def _metric(self, part: str, request: Json) -> Json:
        explained = self.explainer("occlusion", 0, request["batch"])(
            request["sentences"], targets=torch.tensor(request["targets"])
        )
        for one, scores in zip(explained, request["scores"], strict=True):
            one.attributions = torch.tensor(scores, dtype=torch.float32)[None]
        metric = METRICS[part](self.network, self.tokenizer, batch_size=request["batch"])
        (_, curves), took = self.rows.timed(lambda: metric.evaluate(explained))
        areas = [(torch.trapezoid(curve[0]) / (len(curve[0]) - 1)).item() for curve in curves]
        return took | {"asked": took["run"], "found": {part: areas}}


if __name__ == "__main__":
    serve(Interpreto(str(options(__doc__).model)).answer)
