"""What the tests of the checklist share: models at work under the real engine, listened to and watched; and a run."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from attrlab.bench import command, generator, minis, testing, train
from attrlab.bench import engine as engines
from attrlab.bench.contract import quick
from attrlab.bench.engine import Engine, Job
from attrlab.bench.explain import Outcome
from attrlab.bench.facts import MetricFacts
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.masked import MaskedWords
from attrlab.bench.model import TextModel
from attrlab.bench.registry import METHODS, METRICS, Component
from attrlab.bench.removal import Unigram
from attrlab.bench.score import as_score
from attrlab.bench.seeds import generator as drawn
from attrlab.bench.session import Options
from attrlab.bench.suite import ReExplain, Suite
from attrlab.bench.types import Ask, Asker, Bools, Case, Cost, Floats, Game, Replica, Score, drive
from attrlab.bench.zoo import BY_MINI
from attrlab.metrics import CATALOGUE

FAMILIES = testing.FAMILIES
TOLERANCE = 1e-5
TRAINING = {name for name, facts in CATALOGUE.items() if facts.trains}
"""Metrics that train models: a run on its own, no score of one case."""
SCORED = [name for name in CATALOGUE if name not in TRAINING]
ASKING = [name for name in SCORED if CATALOGUE[name].asks or CATALOGUE[name].operators]
SAMPLE = ("random", "leave_one_out", "integrated_gradients", "attn_lrp")
"""A control, one that asks, two that see inside: signed and not, complete and not, with and without statistics."""
SHORT = [
    Example(id="single", texts=("Nobody loved its lifeless, never-ending end.",), label=0),
    Example(id="pair", texts=("is it unforgettable?", "Brilliant!"), label=0),
]


@cache
def metric_of(name: str) -> Component[MetricFacts]:
    """A metric by its name; looking for plug-ins takes a while."""
    return METRICS.find(name)


@cache
def filler() -> MaskedWords:
    """An untrained masked model with opinions of its own."""
    vocabulary = minis.word_tokenizer(testing.TEXTS)
    network = minis.masked_network(BY_MINI["bert-base-mini"], vocabulary, 0).requires_grad_(requires_grad=False)
    for weight in network.parameters():
        weight.mul_(4.0 if weight.ndim > 1 else 1.0)
    return MaskedWords(network, vocabulary, "words")


@cache
def tiny(mini: str) -> TextModel:
    """An untrained model that hangs on its words and is ready for every removal operator; no other test has it."""
    model = testing.tiny(mini, seed=7, sharpness=testing.SHARPNESS)
    model.calibration = [model.encode(example) for example in generator.lexicon("dev")[:16]]
    model.fillers |= {"random": Unigram(model.calibration), "mlm": filler()}
    return model


def inputs() -> list[Example]:
    """Six and two words, and a pair of which one text is a single word."""
    return [*SHORT, Example(id="two words", texts=("Not good.",), label=0)]


def state(model: TextModel) -> str:
    """Hash of all that makes a model and its tokenizer."""
    network, total = model.network, hashlib.blake2b()
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        total.update(f"{name} {tensor.dtype} {tensor.requires_grad}".encode() + tensor.numpy().tobytes())
    # transformers puts hooks of its own on a network the first time that hidden states are asked for.
    hooks = [
        hook for one in network.modules() for hook in [*one._forward_hooks.values(), *one._backward_hooks.values()]
    ]
    hooks = [hook.__qualname__ for hook in hooks if not hook.__module__.startswith("transformers.")]
    modules = [(type(one).__name__, one.training) for one in network.modules()]
    config = network.config.to_json_string(use_diff=False)
    tokenizer = json.loads(model.tokenizer.backend_tokenizer.to_str())
    per_call = ("truncation", "padding")  # set by each call for itself
    kept = {name: value for name, value in tokenizer.items() if name not in per_call}
    total.update(f"{modules} {hooks} {config} {json.dumps(kept)}".encode())
    return total.hexdigest()


# --- scoring by the real engine, and listening to what is asked


Heard = list[tuple[Ask, Floats]]


class Judged(NamedTuple):
    """Scores, and questions with their answers, by metric, method and example."""

    scores: dict[tuple[str, str, str], Score]
    heard: dict[tuple[str, str, str], Heard]

    def by_method(self, metric: str, example: str) -> dict[str, Heard]:
        return {key[1]: found for key, found in self.heard.items() if key[0] == metric and key[2] == example}


def overheard(asker: Asker[Any], heard: Heard, change: Callable[[Ask], Ask]) -> Asker[Any]:
    """The same asker; what it asks is changed, and is noted with the answers."""
    try:
        ask = change(next(asker))
        while True:
            answer = yield ask
            heard.append((ask, answer))
            ask = change(asker.send(answer))
    except StopIteration as stop:
        return stop.value


def case(one: Encoded, method: str, found: Outcome, kinds: Iterable[str], operator: str, times: float) -> Case:
    """What a metric is given; re-explanations, where it wants any, are the scores with noise on them."""
    rng = drawn("checklist", one.example.id)
    assert found.scores is not None
    marked = np.zeros((2, one.n_units), dtype=bool)
    marked[:, ::3] = marked[0, 1:2] = True
    noisy = [found.scores * (1 + spread * rng.normal(size=one.n_units)) for spread in (0.5, 0.1)]
    return Case(
        scores=times * found.scores,
        signed=METHODS.entries()[method].signed if method in METHODS.entries() else True,
        target=0,
        label=0,
        correct=True,
        tie_orders=np.array([rng.permutation(one.n_units) for _ in range(5)]),
        operator=operator,
        rationales=marked,
        rationale_share=0.3,
        replicates=tuple(
            Replica(kind=kind, index=index, scores=times * scores, distance=0.1 * index)
            for kind in kinds
            for index, scores in enumerate(noisy, 1)
        ),
        cost=Cost(seconds=0.1, forwards=10, backwards=2, unique_forwards=9, peak_memory=100),
        example=one.example.id,
        texts=np.array([word.text for word in one.words]),
        stats=found.stats,
    )


def judge(
    engine: Engine,
    attributions: Mapping[str, Mapping[str, Outcome]],
    metrics: Sequence[str] = SCORED,
    *,
    times: float = 1.0,
    operator: str = "delete",
    change: Callable[[Ask], Ask] = lambda ask: ask,
) -> Judged:
    """Scores attributions (by method and example) by metrics, all in flight together in one engine."""
    judged, jobs = Judged({}, {}), {}
    for name, (method, rows) in product(metrics, attributions.items()):
        facts, metric = metric_of(name).facts, metric_of(name).build()
        if "complete" in facts.needs and not METHODS.entries()[method].complete:
            continue
        for slot, one in enumerate(engine.encoded):
            if one.example.id not in rows:
                continue
            key = (name, method, one.example.id)
            result = metric.score(case(one, method, rows[one.example.id], facts.replicates, operator, times))
            if isinstance(result, Score):
                judged.scores[key] = result
            else:
                heard = judged.heard.setdefault(key, [])
                jobs[key] = Job(slot=slot, asker=overheard(result, heard, change), operator=operator)
    engine.run(list(jobs.values()))
    assert {job.error for job in jobs.values()} <= {None}
    judged.scores.update({key: as_score(job.result) for key, job in jobs.items()})
    return judged


def asked_of(model: TextModel, found: Sequence[Example], **options: Any) -> Engine:
    return Engine(model, [model.encode(one) for one in found], **options)


def made_up(found: Sequence[Example], model: TextModel, **shapes: Callable[[Floats], Floats]) -> dict[str, Any]:
    """Attributions that are no method's: each shape of the same draws."""
    made: dict[str, dict[str, Outcome]] = {name: {} for name in shapes}
    for one in found:
        draws = drawn("made up", one.id).normal(size=model.encode(one).n_units)
        for name, shape in shapes.items():
            made[name][one.id] = Outcome(scores=shape(draws))
    return made


def company(patch: pytest.MonkeyPatch) -> tuple[list[Example], dict[str, Any]]:
    """The same examples in the reverse order, among others, in smaller batches, padded to other lengths."""
    patch.setattr(engines, "LENGTHS", (60, 120))
    first, last = (Example(id=text, texts=(text,), label=1) for text in (testing.TEXTS[1], testing.TEXTS[3]))
    return [first, *reversed(inputs()), last], {"token_budget": 300}


class Worked(NamedTuple):
    """Every method and every metric at work on one model, and what the model was after each."""

    model: TextModel
    engine: Engine
    attributions: dict[str, dict[str, Outcome]]
    judged: Judged
    states: dict[str, str]

    def of(self, *methods: str) -> dict[str, dict[str, Outcome]]:
        return {name: self.attributions[name] for name in methods or self.attributions if self.attributions[name]}


def explained(model: TextModel, found: Sequence[Example], method: str, **options: Any) -> dict[str, Outcome]:
    """Outcomes by example, without those that the method does not apply to."""
    outcomes = testing.explain(quick(method).build(), model, found, **options)
    assert [one.error for one in outcomes if one.error and not one.skipped] == [], method
    return {one.id: outcome for one, outcome in zip(found, outcomes, strict=True) if not outcome.skipped}


def gap(ours: float, theirs: float) -> float:
    """Difference, 0 where both are undefined; relative for numbers above 1."""
    if np.isnan(ours) and np.isnan(theirs):
        return 0.0
    return abs(ours - theirs) / max(1.0, abs(ours)) if np.isfinite([ours, theirs]).all() else np.inf


@cache
def work(mini: str) -> Worked:
    """All methods, quick, and all metrics of six of them."""
    with train.one_thread():
        model = tiny(mini)
        found = Worked(model, asked_of(model, inputs()), {}, Judged({}, {}), {"before": state(model)})
        for name in METHODS.entries():
            found.attributions[name] = explained(model, inputs(), name)
            found.states[name] = state(model)
        for name in SCORED:
            judged = judge(found.engine, found.of(*SAMPLE), [name])
            found.judged.scores.update(judged.scores)
            found.judged.heard.update(judged.heard)
            found.states[name] = state(model)
        return found


# --- what the network is given, and what it should be


STANDS_IN = {
    "bert-base-mini": {"replace": "[MASK]", "pad": "[PAD]", "unk": "[UNK]"},
    "gpt2-mini": {"replace": "Ġ", "pad": "<|endoftext|>", "unk": "<|endoftext|>"},
    "opt-350m-mini": {"replace": "Ġ", "pad": "<pad>", "unk": "</s>"},
}


@contextmanager
def watched(model: TextModel) -> Iterator[list[dict[str, Any]]]:
    """Notes what the network itself is given."""
    seen: list[dict[str, Any]] = []

    def note(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append({"input_ids": given[0] if given else None} | named)

    hook = model.network.base_model.register_forward_pre_hook(note, with_kwargs=True)
    yield seen
    hook.remove()


def units(model: TextModel, texts: Sequence[str]) -> tuple[list[int], list[int], list[int]]:
    """Ids, segments, and the word that each token is of (-1: of none), by characters alone."""
    coded = model.tokenizer(*texts, return_offsets_mapping=True)
    before = [0, len(texts[0].split())]
    words = [
        # A token that is white space alone begins the next word.
        -1 if text is None else before[text] + len(texts[text][:end].split()) - (not texts[text][start:end].isspace())
        for text, (start, end) in zip(coded.sequence_ids(), coded["offset_mapping"], strict=True)
    ]
    return coded["input_ids"], coded.get("token_type_ids", [0] * len(words)), words


def intended(model: TextModel, texts: Sequence[str], keep: Bools, operator: str) -> tuple[Any, ...]:
    """Ids, attention and segments, by the definition of the operator."""
    ids, segments, words = units(model, texts)
    stays = [word < 0 or bool(keep[word]) for word in words]
    if operator == "delete":
        left = [(one, 1, segment) for one, segment, kept in zip(ids, segments, stays, strict=True) if kept]
        return tuple(left or [(model.tokenizer.eos_token_id, 1, 0)])
    if operator == "attn":
        stays[len(ids) - 1 if model.decoder else 0] = True  # where the class is read
        return tuple(zip(ids, map(int, stays), segments, strict=True))
    other = model.tokenizer.convert_tokens_to_ids(STANDS_IN[model.name][operator])
    return tuple((one if kept else other, 1, segment) for one, segment, kept in zip(ids, segments, stays, strict=True))


def rows(seen: Iterable[dict[str, Any]]) -> Iterator[tuple[tuple[int, int, int], ...]]:
    """What the network was given, row by row, without padding."""
    for given in seen:
        ids, mask = given["input_ids"], given["attention_mask"]
        segments = torch.zeros_like(ids) if given.get("token_type_ids") is None else given["token_type_ids"]
        for row in torch.stack([ids, mask, segments], dim=-1).tolist():
            length = max(index for index, (_, attended, _) in enumerate(row) if attended) + 1
            yield tuple(tuple(token) for token in row[:length])  # type: ignore[misc]


def fits(ids: Sequence[int], kept: Sequence[int | None], operator: str) -> bool:
    """Whether the kept ids are where they were, or, where words are filled with other words, in their order."""
    if operator == "random":
        return len(ids) == len(kept) and all(one in (None, got) for got, one in zip(ids, kept, strict=True))
    left = iter(ids)
    return all(one in left for one in kept if one is not None)


def plain(model: TextModel, one: Encoded) -> tuple[Floats, torch.Tensor]:
    """Logits as transformers computes them of one text alone, and the last states where they are read."""
    given = dict(model.tokenizer(*one.example.texts, return_tensors="pt"))
    with torch.inference_mode():
        output = model.network(**given, output_hidden_states=True)
        states = model.network.base_model(**given).last_hidden_state[0]
    return output.logits[0].double().numpy(), states[-1 if model.decoder else 0]


# --- a planted shortcut


REAL = ("rise", "lime", "leave_one_out")
JUDGED = [name for name, facts in CATALOGUE.items() if facts.family in ("faithfulness", "agreement")]
BLIND = {
    "additive_ceiling": "describes the model, not the explanation",
    "unused_words": "describes the model, not the explanation",
    "conservation_gap": "is of what a method records of itself, not of the scores",
    "sensitivity_violation": "wants scores other than 0 where words count, which noise has",
    "completeness_gap": "is of the total alone, which noise may have",
    **dict.fromkeys(TRAINING, "trains models"),
}
"""Metrics that cannot tell these explanations apart by construction, and why; the others all have to."""


def planted(index: int) -> tuple[Floats, Callable[[Ask], Floats]]:
    """Nine words: two decide, four say a little, three nothing; and the model."""
    rng = drawn("planted", index)
    weights = rng.permutation([1.5, 1.35, *rng.uniform(0.2, 0.8, 4), 0.0, 0.0, 0.0])
    needed = 0.5 if index % 2 else 1 - 1.42 / weights.sum()  # in every other text the first word alone decides
    return 3 * weights, testing.additive(3 * weights, 3 * needed * float(weights.sum()))


@cache
def shortcut() -> dict[str, dict[str, float]]:
    """The mean of each metric over twelve texts, for each explanation."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in JUDGED if name not in TRAINING}
    for index in range(12):
        weights, answer = planted(index)
        by: dict[str, Any] = {"oracle": weights}
        for method in (*REAL, "random"):
            game = Game(n_units=len(weights), target=0)
            made = drive(quick(method).build().ask(game, drawn("planted", method, index)), answer)
            by["noise" if method == "random" else method] = getattr(made, "scores", made)
        text = " ".join("abcdefghi")
        one = tiny("gpt2-mini").encode(Example(id=f"planted {index}", texts=(text,), label=0))
        for metric, (name, scores) in product(found, by.items()):
            given = case(one, name, Outcome(scores=np.asarray(scores)), (), "delete", 1.0)
            result = metric_of(metric).build().score(given)
            score = as_score(drive(result, answer) if not isinstance(result, Score) else result)
            found[metric].setdefault(name, []).append(score.value)
    return {
        metric: {name: float(np.nanmean(values)) for name, values in rows_.items()}
        for metric, rows_ in found.items()
        if metric not in BLIND
    }


# --- a run


BROKEN = """
class Broken:
    def ask(self, game, rng):
        raise ValueError("no method")
        yield


class Sometimes:
    def ask(self, game, rng):
        yield from ()
        return rng.normal(size=game.n_units if game.n_units < 3 else 1)


class BrokenMetric:
    def score(self, case):
        raise ValueError("no metric")
"""


def run(folder: Path, methods: Sequence[str], metrics: Sequence[str]) -> Path:
    """What ``attrlab run`` does: planted texts, and texts of which some have no words or one."""
    model, data = folder / "model", folder / "data" / "sst2"
    vocabulary = minis.tokenizer(BY_MINI["bert-base-mini"], testing.TEXTS)
    network = minis.network(BY_MINI["bert-base-mini"], vocabulary, ("negative", "positive"), 0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(testing.SHARPNESS if weight.ndim > 1 else 1.0)
    train.save(TextModel(network.eval(), vocabulary, "mine"), {}, model)
    train.save(filler(), {}, folder / "filler")
    data.mkdir(parents=True)
    for part, texts in {"train": testing.TEXTS, "dev": ("a good film", "", "  ", "Good", "bad, dull")}.items():
        lines = [f"{text}\t{index % 2}\n" for index, text in enumerate(texts)]
        (data / f"{part}.tsv").write_text("sentence\tlabel\n" + "".join(lines))
    suite = Suite(
        models=[str(model)],
        datasets=["lexicon", "sst2"],
        methods=list(methods),
        metrics=list(metrics),
        limit=5,
        chunk=3,
        operators=["delete"],
        filler=str(folder / "filler"),
        re_explain=ReExplain(examples=2, seeds=2, draws=1, variants=1),
    )
    command.run(suite, folder / "out", folder / "data", Options(workers=1))
    return folder / "out"


def change(folder: Path, kind: str, edit: Callable[[list[Any]], Any]) -> None:
    """Edits the rows of a chunk that has three."""
    for path in sorted((folder / kind).glob("*.json")):
        content = json.loads(path.read_text())
        if len(content["rows"]) == 3 and content["rows"][0].get("scores", 1):
            edit(content["rows"])
            path.write_text(json.dumps(content))
            return
    raise AssertionError(kind)
