"""Worker that runs attrlab on what the peers are given; see ``peers.py``.

Every part starts from an engine that knows nothing, with all its sentences in flight, as in a run. ``whole`` is
ferret's default job: all explainers in one engine, then the metrics of their explanations in the same one.

Where attrlab has no method of the same name:

* ferret's integrated gradients "without multiplication by the inputs" sum a gradient over dimensions, which LayerNorm
  makes 0 but for rounding; ours are their Euclidean length, at the same number of gradients;
* ferret's comprehensiveness and sufficiency cut at every tenth and at positive scores only; the questions asked here
  are those, so that the values can be compared.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from matmul import rate
from worker import Json, Rows, options, serve

from attrlab.bench import checkpoint
from attrlab.bench.engine import Engine, Job
from attrlab.bench.explain import Outcome, Question, is_white_box, jobs, white_box
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.predict import full_logits
from attrlab.bench.registry import METHODS, METRICS
from attrlab.bench.types import Ask, Asker, Bools, Case, Estimate, Score
from attrlab.methods.lime import neighbourhood
from attrlab.metrics.erasure import aopc
from attrlab.metrics.ranking import ranked_units, top

Parts = dict[str, Callable[[], None]]

GRADIENTS = {
    "gradient": "g_l1",
    "gradient_x_input": "input_x_gradient",
    "ig": "integrated_gradients_l2:steps=50,max_steps=0,baseline=pad",
    "ig_x_input": "integrated_gradients:steps=50,max_steps=0,baseline=pad",
}
EXPLAINERS = ("shap", "lime", *GRADIENTS)

FERRETS_MOST = 5000
"""Most samples that ferret gives LIME; else the square of the number of tokens, special ones included."""

INTERPRETOS = {
    "lime": "lime:samples={samples}",
    "kernel_shap": "kernel_shap:samples={samples}",
    "occlusion": "leave_one_out",
    "integrated_gradients": "integrated_gradients:steps=50,max_steps=0,baseline=zero",
}

CURVES = {"deletion": "deletion_auc", "insertion": "insertion_auc"}


class Ours:
    """Attrlab around a model."""

    def __init__(self, folder: str, dtype: str) -> None:
        self.model = checkpoint.load(checkpoint.find(folder))
        self.dtype = getattr(torch, dtype)
        self.model.network.to(self.dtype)
        self.rows = Rows(self.model.network.base_model)

    def answer(self, request: Json) -> Json:
        """Measures the machine's rate, describes the model and the sentences, or runs parts."""
        if request["parts"] == ["rate"]:
            return {"rate": rate(self.dtype)}
        if request["parts"] == ["describe"]:
            return self.describe(request)
        return {"parts": {part: self.measure(part, request) for part in request["parts"]}}

    def describe(self, request: Json) -> Json:
        """Returns the size of the model, and per sentence what it predicts and the number of tokens to explain.

        Weights are those that every token is multiplied by: neither embeddings, nor a pooler or head.
        """
        engine = _engine(self.model, request)
        logits = full_logits(engine)
        config, base = self.model.network.config, self.model.network.base_model
        apart = [
            part for name, part in base.named_modules() if isinstance(part, torch.nn.Embedding) or name == "pooler"
        ]
        counts = [sum(weight.numel() for weight in module.parameters()) for module in (base, *apart)]
        return {
            "targets": [int(logits[slot].argmax()) for slot in range(len(engine.encoded))],
            "units": [one.n_units for one in engine.encoded],
            "weights": counts[0] - sum(counts[1:]),
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
        }

    def measure(self, part: str, request: Json) -> Json:
        """Returns what a part finds and what it took; ``asked`` counts questions before any are merged."""

        def work() -> Task:
            task = Task(_engine(self.model, request), request)
            {"ferret": against_ferret, "interpreto": against_interpreto, "": alone}[request["peer"]](task)[part]()
            task.finish()
            return task

        task, took = self.rows.timed(work)
        return took | {"asked": task.asked, "found": task.found}


def _engine(model: TextModel, request: Json) -> Engine:
    examples = [Example(id=str(slot), texts=(text,), label=None) for slot, text in enumerate(request["sentences"])]
    return Engine(model, [model.encode(example, "token") for example in examples])


class Task:
    """What is asked of one engine, on all sentences of a request.

    Attributes:
        engine: The engine.
        request: The request.
        found: What was found, by name: a list with an entry per sentence.
        asked: Questions asked, and rows forwarded by methods that see the model.
    """

    def __init__(self, engine: Engine, request: Json) -> None:
        self.engine, self.request = engine, request
        self.found: dict[str, list[Any]] = {}
        self.asked = 0
        self._started: dict[str, list[Job]] = {}

    def explain(self, name: str, methods: Sequence[str], scalar: str) -> None:
        """Starts a method that asks, with parameters per sentence; runs one that sees the model."""
        questions = [
            Question(slot=slot, target=target, seed=(0, str(slot)))
            for slot, target in enumerate(self.request["targets"])
        ]
        first = METHODS.find(methods[0]).build()
        if is_white_box(first):
            outcomes = white_box(first, questions, self.engine, scalar)
            self.found[name] = [_scores(one) for one in outcomes]
            self.asked += sum(one.cost.forwards for one in outcomes)
            return
        built = {method: METHODS.find(method).build() for method in dict.fromkeys(methods)}
        started = [
            jobs(built[method], [question], self.engine, scalar, "replace")
            for method, question in zip(methods, questions, strict=True)
        ]
        self._started[name] = [job for some in started for job in some]

    def everywhere(self, name: str, method: str, scalar: str) -> None:
        """Starts or runs a method with the same parameters on all sentences."""
        self.explain(name, [method] * len(self.engine.encoded), scalar)

    def ask(self, name: str, askers: Sequence[Asker[Any]], operator: str) -> None:
        """Starts other computations, one per sentence."""
        self._started[name] = [Job(slot=slot, asker=one, operator=operator) for slot, one in enumerate(askers)]

    def cases(self, explanation: Sequence[Sequence[float]], operator: str) -> list[Case]:
        """Returns what metrics are given of an explanation of every sentence."""
        return [
            Case(
                scores=np.array(scores, dtype=np.float64),
                signed=True,
                target=target,
                label=None,
                tie_orders=np.arange(len(scores))[None],
                operator=operator,
            )
            for scores, target in zip(explanation, self.request["targets"], strict=True)
        ]

    def finish(self) -> None:
        """Runs all that was started, merged, and takes down what it found."""
        self.engine.run([job for some in self._started.values() for job in some])
        for name, some in self._started.items():
            self.asked += sum(job.forwards for job in some)
            self.found[name] = [_result(job) for job in some]
        self._started = {}


def against_ferret(task: Task) -> Parts:
    """Returns ferret's default job and its parts."""

    def shap() -> None:
        task.everywhere("shap", "shap", "prob")

    def lime() -> None:
        counts = [min(len(one.ids) ** 2, FERRETS_MOST) for one in task.engine.encoded]
        task.explain("lime", [f"lime:samples={count}" for count in counts], "prob")

    def gradients() -> None:
        for name, method in GRADIENTS.items():
            task.everywhere(name, method, "logit")

    def metrics(explanations: dict[str, Any]) -> None:
        kinds: dict[str, Callable[[Case], Asker[Any]]] = {
            "comprehensiveness": partial(tenths, keep_top=False),
            "sufficiency": partial(tenths, keep_top=True),
            "tau_loo": METRICS.find("tau_loo").build().score,
        }
        for kind, score in kinds.items():
            for name in EXPLAINERS:
                task.ask(f"{kind} {name}", [score(case) for case in task.cases(explanations[name], "delete")], "delete")

    def whole() -> None:
        shap()
        lime()
        gradients()
        task.finish()
        metrics(task.found)

    return {
        "whole": whole,
        "shap": shap,
        "lime": lime,
        "gradients": gradients,
        "metrics": lambda: metrics(task.request["explanations"]),
    }


def tenths(case: Case, *, keep_top: bool) -> Asker[float]:
    """Returns ferret's mean drop: tops of 10 to 100 %, rounded down, positive scores only, no set twice in a row."""
    positive, ranked = int((case.scores > 0).sum()), ranked_units(case)
    sizes = [min(int(share * case.n_units), positive) for share in np.arange(0.1, 1.1, 0.1)]
    sizes = [size for before, size in zip([0, *sizes], sizes, strict=False) if size not in (0, before)]
    if not sizes:
        return float(keep_top)
    chosen = np.vstack([top(ranked, size) for size in sizes])
    p = yield from case.probabilities(np.vstack([np.ones_like(chosen[:1]), chosen if keep_top else ~chosen]))
    return aopc(p[0], p[1:])


def against_interpreto(task: Task) -> Parts:
    """Returns interpreto's explainers and metrics."""

    def curve(part: str) -> None:
        metric = METRICS.find(CURVES[part]).build()
        task.ask(part, [metric.score(case) for case in task.cases(task.request["scores"], "replace")], "replace")

    methods = {part: text.format(samples=task.request["samples"]) for part, text in INTERPRETOS.items()}
    parts: Parts = {part: partial(task.everywhere, part, method, "logit") for part, method in methods.items()}
    return parts | {part: partial(curve, part) for part in CURVES}


def alone(task: Task) -> Parts:
    """Returns LIME's questions, asked by nobody who does anything with the answers."""

    def engine() -> None:
        rng, samples = np.random.default_rng(0), task.request["samples"]
        task.ask("engine", [_ask(neighbourhood(samples, one.n_units, rng)) for one in task.engine.encoded], "replace")

    return {"engine": engine}


def _ask(keep: Bools) -> Asker[None]:
    yield Ask(keep=keep)


def _result(job: Job) -> Any:
    """The scores of an explanation, or the value of a metric, None where it has none.

    Raises:
        RuntimeError: If the job failed.
    """
    if job.error is not None:
        raise RuntimeError(job.error)
    if isinstance(job.result, Estimate):
        return job.result.scores.tolist()
    value = job.result.value if isinstance(job.result, Score) else job.result
    return None if value is None or not np.isfinite(value) else float(value)


def _scores(found: Outcome) -> list[float]:
    if found.scores is None:
        raise RuntimeError(found.error)
    scores: list[float] = found.scores.tolist()
    return scores


if __name__ == "__main__":
    given = options(__doc__)
    serve(Ours(str(given.model), given.dtype).answer)
