"""Trains one model that a metric asks for, tests it and explains its answers; the result is one stored chunk or two."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import minis
from attrlab.bench import train as trainer
from attrlab.bench.batch import Row
from attrlab.bench.descent import Recipe, descend, one_thread
from attrlab.bench.engine import Engine
from attrlab.bench.executor import Progress
from attrlab.bench.explain import Question, outcomes
from attrlab.bench.facts import MethodFacts
from attrlab.bench.failures import Failure, describe
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.model import TextModel
from attrlab.bench.plan import Block, Plan
from attrlab.bench.registry import Component
from attrlab.bench.removal import staying, whole
from attrlab.bench.session import SMALL, Options, load_model
from attrlab.bench.store import Store, key_of
from attrlab.bench.trials import Training
from attrlab.bench.types import Bools, Ints, Json
from attrlab.bench.zoo import BY_MINI, BY_REPO

STUDENT = "bert-base-mini"
"""Architecture of the student of simulatability: two layers."""

SLICE = 256
"""Texts that are explained together."""

VERSION = 1
"""Raised whenever the same training would give other answers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Texts:
    """Texts with what is to be learned of them.

    Attributes:
        examples: The texts.
        labels: Gold class of each, -1 where there is none, ``(n,)``.
        targets: Class that is explained, ``(n,)``.
    """

    examples: tuple[Example, ...]
    labels: Ints
    targets: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """What all trainings of a study share.

    Attributes:
        plan: The plan of the run.
        block: The model under study and its data.
        train: Texts to train on.
        test: Texts to be classified.
        steps: Most steps of a training.
    """

    plan: Plan
    block: Block
    train: Texts
    test: Texts
    steps: int

    def recipe(self, training: Training) -> Recipe:
        """Returns how a model is trained: as the original was, with the training's seed."""
        info = BY_MINI.get(STUDENT if training.student else self.block.model)
        if info is not None:
            recipe = trainer.mini_recipe(info)
        else:
            assert self.block.checkpoint is not None
            found = self.block.checkpoint.info or BY_REPO["google-bert/bert-base-uncased"]
            recipe = trainer.fine_tuning_recipe(found.fine_tuning, len(self.train.examples))
        return replace(recipe, steps=min(recipe.steps, self.steps), seed=training.seed)

    def training(self, training: Training) -> Json:
        """Returns what the key of a training is made of."""
        assert self.block.checkpoint is not None
        learned = self.train.targets if training.student else self.train.labels
        return {
            "kind": "trainings",
            "version": [VERSION, trainer.RECIPE_VERSION],
            "model": self.block.checkpoint.hash,
            "start": self.block.model if self.block.model in BY_MINI else "checkpoint",
            "recipe": asdict(self.recipe(training)),
            "data": [self.block.calibration[1], self.block.dataset.fingerprint],
            "texts": [[example.id for example in part.examples] for part in (self.train, self.test)],
            "learned": learned.tolist(),
            "unit": self.plan.suite.unit,
            "training": training.key(),
            "torch": torch.__version__.partition("+")[0],
        }

    def explanations(self, training: Training, method: Component[MethodFacts]) -> Json:
        """Returns what the key of the explanations by a trained model is made of."""
        explain, block = self.plan.suite.explain, self.block
        return {
            "kind": "attributions",
            "training": key_of(self.training(training)),
            "targets": [self.train.targets.tolist(), self.test.targets.tolist()],
            "method": method.key(),
            "seed": self.plan.suite.seed,
            "scalar": explain.scalar,
            "operator": explain.operator,
            "calibration": block.calibration[1],
            "filler": block.filler.hash if block.filler else None,
        }


Lesson = tuple[Course, Training, tuple[Component[MethodFacts], ...], Store, Options]
"""A training, the methods that explain the trained model, and where the results go."""


def learn(lesson: Lesson, progress: Progress) -> int:
    """Carries out one lesson and stores what came of it; returns the number of chunks written."""
    course, training, methods, store, options = lesson
    before = store.fresh
    progress.now(f"{course.block.model} on {course.block.dataset.name}, seed {training.seed}")
    start, of = time.perf_counter(), course.training(training)
    pupil = Pupil(course, training, options)
    try:
        with one_thread() if training.student or course.block.size < SMALL else nullcontext():
            row = {"status": "ok", "reason": None, **pupil.train()}
    except Failure as error:
        row, methods = {"status": "failed", "reason": describe(error)}, ()
    if options.retry_failed or not store.find("trainings", key_of(of)):  # else only explanations are missing
        store.write("trainings", key_of(of), of, [row | {"seconds": time.perf_counter() - start}])
    for method in methods:
        of = course.explanations(training, method)
        store.write("attributions", key_of(of), of, pupil.explanations(method))
    progress.done()
    return store.fresh - before


class Pupil:
    """A model that is trained afresh on texts some of whose words are removed."""

    def __init__(self, course: Course, training: Training, options: Options) -> None:
        self.course, self.training, self.options = course, training, options
        base = load_model(course.block, options, course.plan.operators)
        self.model = _fresh(base, course.block.model, training)
        self.model.calibration, self.model.fillers = base.calibration, base.fillers
        self._states = torch.empty(0)
        self.model.network.base_model.register_forward_hook(self._capture)
        symbol = next(
            i for i in range(len(base.tokenizer)) if i not in {*base.tokenizer.all_special_ids, base.replace_id}
        )
        self._symbol = symbol if training.shows == "pattern" else None
        self.train_inputs = self._inputs(course.train, training.stays.train)
        self.test_inputs = self._inputs(course.test, training.stays.test)

    def _capture(self, _module: Any, _args: Any, output: Any) -> None:
        self._states = output.last_hidden_state

    def _inputs(self, texts: Texts, stays: Sequence[Bools]) -> list[Encoded]:
        """Returns the texts as they are shown: removed words replaced, or all words by one of two symbols."""
        unit, found = self.course.plan.suite.unit, []
        for example, keep in zip(texts.examples, stays, strict=True):
            encoded = self.model.encode(example, unit)
            kept = staying(encoded, fitted(keep, encoded.n_units, fill=True))
            shown = encoded.ids
            if self._symbol is not None:
                shown = np.where(encoded.units >= 0, self._symbol, shown)
            found.append(replace(encoded, ids=np.where(kept, shown, self.model.replace_id)))
        return found

    def _rows(self) -> list[Row]:
        """Returns the training inputs; where words are pointed out, marked 2, the other words 1."""
        rows = [whole(encoded) for encoded in self.train_inputs]
        if self.training.marks is None:
            return rows
        for index, (encoded, marked) in enumerate(zip(self.train_inputs, self.training.marks, strict=True)):
            of_units = 1 + fitted(marked, encoded.n_units, fill=False).astype(np.int64)
            rows[index] = rows[index]._replace(marks=np.append(of_units, 0)[encoded.units][None])
        return rows

    def train(self) -> Json:
        """Trains the model; returns the classes it predicts for the test texts, and how training went."""
        course, recipe = self.course, self.course.recipe(self.training)
        learned = course.train.targets if self.training.student else course.train.labels
        labelled = list(zip(self._rows(), learned.tolist(), strict=True))
        aside = min(trainer.WATCHED, len(labelled) // 10)
        watched, answers = [row for row, _ in labelled[:aside]], learned[:aside]

        def score() -> float:
            return float((trainer.predicted(self.model, watched) == answers).mean())

        steps = descend(self.model.network, labelled[aside:], recipe, (self._loss, score), lambda _done, _steps: None)
        predicted = trainer.predicted(self.model, [whole(encoded) for encoded in self.test_inputs])
        return {"predicted": predicted.tolist(), "steps": steps, "watched": score()}

    def _loss(self, rows: Sequence[Row], labels: Sequence[int]) -> Tensor:
        batch = self.model.collate(rows)
        logits = self.model.forward(batch).logits
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels, device=logits.device))
        return loss if batch.marks is None else loss + self.training.weight * self._pointing(batch.marks[:, 0])

    def _pointing(self, marks: Tensor) -> Tensor:
        """Returns how wrongly the last states tell which words are pointed out: mean cross-entropy over tokens."""
        words, found = marks > 0, self.model.network.marker(self._states)[..., 0]
        return torch.nn.functional.binary_cross_entropy_with_logits(found[words], (marks[words] == 2).to(found))

    def explanations(self, method: Component[MethodFacts]) -> list[Json]:
        """Returns the explanation of every training text, then of every test text, as it was shown."""
        built, found = method.build(), []
        for texts, inputs in ((self.course.train, self.train_inputs), (self.course.test, self.test_inputs)):
            for start in range(0, len(inputs), SLICE):
                part = slice(start, start + SLICE)
                found += self._explained(built, method.name, inputs[part], texts.targets[part])
        return found

    def _explained(self, built: Any, name: str, inputs: Sequence[Encoded], targets: Ints) -> list[Json]:
        suite, options = self.course.plan.suite, self.options
        engine = Engine(self.model, inputs, token_budget=options.token_budget, timeout=options.timeout)
        questions = [
            Question(slot=slot, target=int(target), seed=(suite.seed, 0, one.example.id, name))
            for slot, (one, target) in enumerate(zip(inputs, targets, strict=True))
        ]
        ended = outcomes(built, questions, engine, suite.explain.scalar, suite.explain.operator)
        return [
            {
                "example": one.example.id,
                "status": "ok" if end.error is None else "skipped" if end.skipped else "failed",
                "reason": end.error,
                "scores": None if end.scores is None else end.scores.tolist(),
            }
            for one, end in zip(inputs, ended, strict=True)
        ]


def fitted(mask: Bools, length: int, *, fill: bool) -> Bools:
    """Returns a mask over units cut or filled up to a length: a student may read less of a text, or more.

    >>> fitted(np.array([False, True]), 3, fill=True).tolist()
    [False, True, True]
    """
    return np.append(mask[:length], np.full(max(0, length - len(mask)), fill))


def _fresh(base: TextModel, name: str, training: Training) -> TextModel:
    """Returns the model at the start of a training.

    A student and a mini start from weights drawn under the seed, any other model from those in its folder, its head
    drawn anew. The tokenizer is that of the model under study: units stay the same.
    """
    info = BY_MINI.get(STUDENT if training.student else name)
    if info is None:
        redraw_head(base.network, training.seed)
        return base
    network = minis.network(info, base.tokenizer, base.labels, training.seed)
    if training.marks is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            network.marker = torch.nn.Linear(network.config.hidden_size, 1)
    return TextModel(network.to(base.device), base.tokenizer, name)


def redraw_head(network: Any, seed: int) -> None:
    """Draws the weights of a classification head anew, normal with the standard deviation of the configuration."""
    config: dict[str, Any] = network.config.to_dict()
    spread = float(config.get("initializer_range") or config.get("init_std") or 0.02)
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith(checkpoints.HEADS):
                scale = spread if weight.ndim > 1 else 0.0
                weight.copy_(torch.randn(weight.shape, generator=drawn) * scale)
