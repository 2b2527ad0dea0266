"""``attrlab study lambda``: what the weight of the entropy does to co-perturbation, as numbers, figures and a page."""

import importlib.metadata
import math
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from attrlab.bench import command, plan, record, session
from attrlab.bench import run as runner
from attrlab.bench import suite as suites
from attrlab.bench.errors import UserError, unknown
from attrlab.bench.executor import Progress
from attrlab.bench.inputs import Encoded, Example, words
from attrlab.bench.model import TextModel
from attrlab.bench.plan import Block, Plan
from attrlab.bench.registry import METHODS, load
from attrlab.bench.removal import whole
from attrlab.bench.store import write_json, write_text, writing
from attrlab.bench.types import SCHEMA, Json

MODELS = ("bert-base-mini", "gpt2-mini", "opt-125m-mini")
LAMBDAS = (0.02, 0.1, 0.3, 0.6, 1.0, 3.0, 10.0, 30.0)
"""The grid of methods spec 1.1, and on to where everything is destroyed."""

ROWS = 32
"""Sentences that are predicted at once, to find those that the model gets right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Two words of a text by their place: of the first, more interest is expected."""

    text: str
    pair: tuple[str, str]
    places: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is studied.

    Attributes:
        models: Minis, local folders or hub ids.
        dataset: ``NAME`` or ``NAME:PART``, with planted words.
        limit: First so many sentences with planted words that the model classifies correctly.
        seeds: Repetitions with other draws.
        preset: Budget of co-perturbation.
        lams: Weights of the entropy.
        words: A text to follow beside the data set.
    """

    models: tuple[str, ...]
    dataset: str
    limit: int
    seeds: int
    preset: str
    lams: tuple[float, ...]
    words: Words | None


def named_words(text: str | None, pair: str | None) -> Words | None:
    """Returns where the two words of ``--pair WORD,OTHER`` stand in ``--text``, or None if neither is given.

    Case and punctuation around a word do not count; of a word that occurs twice, the first place is taken.

    Raises:
        UserError: If only one of the two is given, or they do not name two words of the text.
    """
    if text is None and pair is None:
        return None
    if text is None or pair is None:
        raise UserError("--text and --pair go together, as in --text 'In what year did it end?' --pair year,did")
    named = [_bare(word) for word in pair.split(",")]
    if len(named) != 2 or not all(named) or named[0] == named[1]:
        raise UserError(f"--pair {pair!r}: give two different words with a comma between them, as in year,did")
    present = [_bare(text[start:end]) for start, end in words(text)]
    for word in named:
        if word not in present:
            raise unknown("word of --text", word, [found for found in dict.fromkeys(present) if found])
    first, second = named
    return Words(text=text, pair=(first, second), places=(present.index(first), present.index(second)))


def _bare(word: str) -> str:
    return word.strip().strip(string.punctuation).casefold()


def run(settings: Settings, data_dir: Path | None, out: Path, workers: int) -> None:
    """Runs the study, writes its folder and prints the answer.

    Raises:
        UserError: If a setting is wrong, or the folder cannot be written.
    """
    from attrlab.leaderboard.study import read
    from attrlab.leaderboard.study_figures import figures, overview
    from attrlab.leaderboard.study_page import page
    from attrlab.leaderboard.study_tables import markdown, terminal

    start = time.perf_counter()
    lams, chosen = _weights(settings.lams), _suite(settings)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    options = session.Options(workers=workers)
    command.train_minis(chosen, data_dir, options)
    ready = plan.make(chosen, data_dir, lambda name, dataset: command.trained(name, dataset, data_dir))
    for block in ready.blocks:
        if block.reason:
            raise UserError(f"{block.model} on {block.dataset.name}: {block.reason}; choose another --dataset")
    write_json(out / "study.json", _content(settings, lams, ready, _measured(settings, lams, ready, options)))
    found = read(out / "study.json")
    drawings = figures(found)
    for name, drawing in drawings.items():
        write_text(out / "figures" / f"{name}.svg", drawing)
    with writing(out / "lambda.png"):
        (out / "lambda.png").write_bytes(overview(found))
    write_text(out / "index.html", page(found, drawings))
    write_text(out / "table.md", markdown(found))
    Console().print(terminal(found))
    command.print_line(f"page: {out / 'index.html'}   numbers: {out / 'study.json'}   figure: {out / 'lambda.png'}")
    command.print_line(f"{time.perf_counter() - start:.0f} s")


def _weights(lams: tuple[float, ...]) -> tuple[float, ...]:
    """Returns the weights once each, ascending."""
    for lam in lams:
        if not 0 < lam < math.inf:
            raise UserError(f"--lambda {lam:g}: give a weight above 0, as in --lambda 0.1")
    if len(set(lams)) < 2:
        raise UserError(f"--lambda {lams[0]:g} alone is no curve; repeat the option with at least one other weight")
    return tuple(sorted(set(lams)))


def _suite(settings: Settings) -> suites.Suite:
    from attrlab.bench import data

    base = settings.dataset.partition(":")[0]
    fit = [name for name, info in data.DATASETS.items() if info.rationales == "planted"]
    if base in data.DATASETS and base not in fit:
        raise UserError(f"data set {base!r} has no planted words, which the study follows; use: {', '.join(fit)}")
    return suites.override(
        suites.load("adhoc"),
        models=list(settings.models),
        datasets=[settings.dataset],
        methods=[f"co_perturbation:preset={settings.preset}"],
    )


def _measured(settings: Settings, lams: tuple[float, ...], ready: Plan, options: session.Options) -> list[Json]:
    """Returns what was measured per model, one process for each model and seed."""
    blocks = sorted(ready.live, key=lambda block: -block.size)
    work = [(settings, lams, block, seed) for block in blocks for seed in range(settings.seeds)]
    with command.bars() as progress:
        bar = command.Bar(progress, "sweeping lambda", len(work))
        parts = runner.executor_of(ready, options).each(study_one, work, bar)
    found: dict[str, Json] = {}
    for (_, _, block, _), part in zip(work, parts, strict=True):
        model = found.setdefault(block.model, {**part, "points": [], "text_points": []})
        model["points"] += part["points"]
        model["text_points"] += part["text_points"]
    return [found[block.model] for block in ready.live]


def study_one(work: tuple[Settings, tuple[float, ...], Block, int], progress: Progress) -> Json:
    """Returns what one model does under all weights with the draws of one seed."""
    settings, lams, block, seed = work
    progress.now(f"{block.model}, seed {seed}")
    study = load("attrlab.methods.lambda_study:study")
    model = session.load_model(block, session.Options())
    method = METHODS.find(f"co_perturbation:preset={settings.preset}").build()
    sentences = chosen_sentences(model, block, settings.limit)
    points = study(model, sentences, method, lams, seed)
    text = _followed(model, settings.words)
    text_points = study(model, text, method, lams, seed) if text else []
    progress.done()
    return {
        "card": record.model_card(block),
        "sentences": [_described(sentence) for sentence in sentences],
        "points": points,
        "text_points": text_points,
    }


def chosen_sentences(model: TextModel, block: Block, limit: int) -> list[Any]:
    """Returns the first sentences of the fixed order with planted and other words whose label the model predicts.

    Where the model is wrong, the planted words are not what it used.

    Raises:
        UserError: If there are fewer than two.
    """
    designate = load("attrlab.methods.lambda_study:designate")
    found: list[Any] = []
    for encoded, marks in _right(model, block):
        found.append(designate(encoded, marks))
        if len(found) == limit:
            return found
    if len(found) < 2:
        raise UserError(
            f"model {block.model!r} classifies {len(found)} sentences of {block.dataset.name} with planted words "
            "correctly; at least 2 are needed: use a model trained on this data set"
        )
    return found


def _right(model: TextModel, block: Block) -> Iterator[tuple[Encoded, Any]]:
    candidates = []
    for example in block.dataset.take():
        if example.rationales and example.label is not None:
            encoded = model.encode(example)
            marks = encoded.rationale(example.rationales[0])
            if marks.any() and not marks.all():
                candidates.append((encoded, marks, block.classes[example.label]))
    for start in range(0, len(candidates), ROWS):
        part = candidates[start : start + ROWS]
        with torch.inference_mode():
            logits = model.forward(model.collate([whole(encoded) for encoded, _, _ in part])).logits
        for (encoded, marks, label), predicted in zip(part, logits.argmax(1).tolist(), strict=True):
            if label == predicted:
                yield encoded, marks


def _followed(model: TextModel, given: Words | None) -> list[Any]:
    """Returns the user's text as the only sentence of a study, its first word taken as planted; empty without one."""
    if given is None:
        return []
    sentence = load("attrlab.methods.lambda_study:Sentence")
    encoded = model.encode(Example(id="text", texts=(given.text,), label=None))
    if max(given.places) >= encoded.n_units:
        raise UserError(f"--pair: model {model.name!r} reads only the first {encoded.n_units} words of --text")
    marks = [place == given.places[0] for place in range(encoded.n_units)]
    return [sentence(encoded=encoded, planted=np.array(marks), pair=given.places)]


def _described(sentence: Any) -> Json:
    encoded: Encoded = sentence.encoded
    texts = [encoded.example.texts[word.text][word.start : word.end] for word in encoded.words]
    return {
        "id": encoded.example.id,
        "text": " ".join(encoded.example.texts),
        "words": len(texts),
        "planted": [text for text, mark in zip(texts, sentence.planted, strict=True) if mark],
        "pair": [texts[place] for place in sentence.pair],
    }


def _content(settings: Settings, lams: tuple[float, ...], ready: Plan, models: list[Json]) -> Json:
    method = ready.methods[0].build()
    provenance = record.provenance(session.Options(), small=all(block.size < session.SMALL for block in ready.live))
    provenance["versions"]["matplotlib"] = importlib.metadata.version("matplotlib")
    return {
        "schema": SCHEMA,
        "setup": {
            "lams": list(lams),
            "limit": settings.limit,
            "seeds": settings.seeds,
            "preset": settings.preset,
            "draws": method.draws,
            "steps": method.steps,
            "unfinished": list(load("attrlab.methods.lambda_study:UNFINISHED")),
            "fresh": load("attrlab.methods.lambda_study:FRESH"),
            "usual": METHODS.find("co_perturbation").build().lam,
            "shrink": method.shrink,
            "text": settings.words.text if settings.words else None,
            "pair": list(settings.words.pair) if settings.words else [],
        },
        "dataset": record.dataset_card(ready.blocks[0]),
        "provenance": provenance,
        "models": models,
    }
