"""Stage 3: metrics that train models. What they all ask for is trained at once, each training in a process of its own.

The texts are explained by the ordinary stages first, those of the training part, too, for the class that the metric
names. Trainings are stored one by one under a key of everything that shapes them, so an interrupted run trains only
what is missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from attrlab.bench.executor import Executor
from attrlab.bench.facts import MethodFacts
from attrlab.bench.failures import Failure, describe
from attrlab.bench.learner import Course, Lesson, learn
from attrlab.bench.plan import Block, Column, Plan, training_part
from attrlab.bench.registry import Component
from attrlab.bench.run import executor_of
from attrlab.bench.score import as_score
from attrlab.bench.session import Options
from attrlab.bench.sides import NewBar, Side, explain, read, sides_of
from attrlab.bench.store import FAILED, Kind, Store, key_of, number
from attrlab.bench.trials import Field, Findings, Study, Trained, Training, study_of
from attrlab.bench.types import Floats, Score

FEWEST = 20
"""Texts to train on, at least: a tenth of them decides when to stop."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Undertaking:
    """One metric that trains, of one method on one block: where it stands.

    Attributes:
        course: What its trainings share, once it has begun.
        study: The metric at work; None before it begins and after it has ended.
        asked: The trainings it waits for.
        skipped: Why a text of the block cannot be scored, by its id.
    """

    plan: Plan
    block: Block
    method: Component[MethodFacts]
    column: Column
    metric: Any
    course: Course | None = None
    study: Study | None = None
    asked: Sequence[Training] = ()
    skipped: dict[str, str] = field(default_factory=dict)


def execute(plan: Plan, data_dir: Path | None, store: Store, options: Options, bar: NewBar) -> None:
    """Computes what the metrics of a plan that train models still lack.

    Raises:
        UserError: If a result cannot be written; all finished trainings are kept.
    """
    missing = [one for one in _undertakings(plan) if not _is_stored(one, store, retry=options.retry_failed)]
    if not missing:
        return
    datasets = {one.block.dataset.name: one.block.dataset for one in missing}
    sources = {name: training_part(dataset, data_dir) for name, dataset in datasets.items()}
    sides = [sides_of(plan, one.block, one.metric, sources[one.block.dataset.name]) for one in missing]
    executor = executor_of(plan, options)
    options = replace(options, threads=executor.threads)
    explain([side for pair in sides for side in pair], store, options, bar, executor)
    for one, pair in zip(missing, sides, strict=True):
        _begin(one, pair, store)
    while active := [one for one in missing if one.study is not None]:
        _train(active, store, options, bar, executor)
        for one in active:
            _go_on(one, store)


def _undertakings(plan: Plan) -> Iterator[_Undertaking]:
    for block in plan.live:
        for column in plan.columns:
            if column.metric.facts.trains:
                metric = column.metric.build()
                for method in plan.methods:
                    if plan.skip(block, method, column) is None:
                        yield _Undertaking(plan=plan, block=block, method=method, column=column, metric=metric)


def _is_stored(one: _Undertaking, store: Store, *, retry: bool) -> bool:
    keys = [key_of(one.plan.scores(one.block, chunk, one.method, one.column)) for chunk in one.plan.chunks(one.block)]
    return all([store.find("scores", key) and not (retry and store.failed("scores", key)) for key in keys])


def _begin(one: _Undertaking, sides: tuple[Side, Side], store: Store) -> None:
    """Starts a study, or writes why there is none."""
    train, test = (read(side, one.method, store) for side in sides)
    one.skipped = test.skipped
    if problems := train.problems + test.problems:
        reason, count = problems.most_common(1)[0]
        total = len(train.cases) + len(test.cases) + problems.total()
        start, reason = (FAILED, reason.removeprefix(FAILED)) if reason.startswith(FAILED) else ("", reason)
        _give_up(one, store, f"{start}{count} of {total} texts could not be explained: {reason}")
    elif len(train.cases) < FEWEST or not test.cases:
        _give_up(one, store, f"{len(train.cases)} texts to train on and {len(test.cases)} to score are too few")
    else:
        one.course = Course(plan=one.plan, block=one.block, train=train.texts, test=test.texts, steps=one.metric.steps)
        one.study = one.metric.study(Field(train=train.cases, test=test.cases))
        _advance(one, store, None)


def _train(active: Sequence[_Undertaking], store: Store, options: Options, bar: NewBar, executor: Executor) -> None:
    """Carries out what all studies wait for and is not stored: each training once, however many asked for it."""
    lessons: dict[str, Lesson] = {}
    shared = executor.share(store)
    for one in active:
        assert one.course is not None
        for training in one.asked:
            key = key_of(one.course.training(training))
            _, _, explainers, _, _ = lessons.get(key, (None, None, (), None, None))
            explainers += (one.method,) if training.explain and one.method not in explainers else ()
            lessons[key] = (one.course, training, explainers, shared, options)
    left = (_missing(key, lesson, store, options) for key, lesson in lessons.items())
    missing = [lesson for lesson in left if lesson is not None]
    if missing:
        progress = bar("training", len(missing))
        store.fresh += sum(executor.each(learn, missing, progress))


def _missing(key: str, lesson: Lesson, store: Store, options: Options) -> Lesson | None:
    """Returns a lesson with those explanations alone that are not stored, or None if all of it is."""
    course, training, explainers, shared, _ = lesson

    def stored(kind: Kind, key: str) -> bool:
        return store.find(kind, key) and not (options.retry_failed and store.failed(kind, key))

    left = tuple(one for one in explainers if not stored("attributions", key_of(course.explanations(training, one))))
    return None if stored("trainings", key) and not left else (course, training, left, shared, options)


def _go_on(one: _Undertaking, store: Store) -> None:
    """Sends a study what it asked for, or writes why that cannot be had."""
    answers = []
    for training in one.asked:
        answer = _answer(one, training, store)
        if isinstance(answer, str):
            _give_up(one, store, answer)
            return
        answers.append(answer)
    _advance(one, store, answers)


def _answer(one: _Undertaking, training: Training, store: Store) -> Trained | str:
    """Returns the result of a training, or why there is none."""
    assert one.course is not None
    row = store.read("trainings", key_of(one.course.training(training)))[0]
    if row["status"] != "ok":
        return f"{FAILED}{row['reason']}"
    trained = Trained(np.array(row["predicted"], dtype=np.int64), row["seconds"])
    if not training.explain:
        return trained
    rows = store.read("attributions", key_of(one.course.explanations(training, one.method)))
    bad = next((row for row in rows if row["status"] != "ok"), None)
    if bad is not None:
        return f"{'' if bad['status'] == 'skipped' else FAILED}{bad['reason']}"
    scores: list[Floats] = [np.array(row["scores"], dtype=np.float64) for row in rows]
    learned = len(training.stays.train)
    return trained._replace(train=tuple(scores[:learned]), test=tuple(scores[learned:]))


def _advance(one: _Undertaking, store: Store, answers: Sequence[Trained] | None) -> None:
    """Takes a study to its next question, or to its end."""
    assert one.study is not None
    try:
        one.asked = next(one.study) if answers is None else one.study.send(answers)
    except StopIteration as stop:
        _end(one, store, stop.value)
    except Failure as error:
        _give_up(one, store, describe(error))


def _end(one: _Undertaking, store: Store, findings: Findings) -> None:
    """Writes what a study returned, if it is what is needed."""
    assert one.course is not None
    needed, found = len(one.course.test.examples), len(findings.scores)
    if found == needed:
        _write(one, store, findings)
    else:
        _give_up(one, store, f"the metric returned {found} scores; {needed} are needed, one per text")


def _give_up(one: _Undertaking, store: Store, reason: str) -> None:
    _write(one, store, Findings([], {}), reason)


def _write(one: _Undertaking, store: Store, findings: Findings, reason: str = "") -> None:
    """Writes what a study found: its details, then the scores slice by slice."""
    plan, block = one.plan, one.block
    of, one.study = study_of(plan, block, one.method, one.column), None
    store.write("studies", key_of(of), of, [findings.details])
    tested = [] if one.course is None or reason else one.course.test.examples
    scores = dict(zip((example.id for example in tested), map(as_score, findings.scores), strict=True))
    for chunk in plan.chunks(block):
        of = plan.scores(block, chunk, one.method, one.column)
        rows = []
        for example in chunk.examples:
            score = scores.get(example.id) or Score.undefined(one.skipped.get(example.id, reason))
            rows.append({"example": example.id, "value": number(score.value), "reason": score.reason})
        store.write("scores", key_of(of), of, rows)
