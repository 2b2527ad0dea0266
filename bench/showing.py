"""What ``attrlab explain`` prints: every method side by side on one text, in colour and as HTML."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import command, data, plan
from attrlab.bench.continuation import ContinuationModel, Prompt, load_continuation_model
from attrlab.bench.engine import Engine
from attrlab.bench.errors import UserError
from attrlab.bench.explain import Outcome, Question, outcomes
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.model import TextModel
from attrlab.bench.questions import QuestionModel, load_question_model
from attrlab.bench.registry import METHODS
from attrlab.bench.removal import whole
from attrlab.bench.scalars import scalar
from attrlab.bench.store import write_text

SUPPORT, AGAINST, MAGNITUDE = (58, 124, 216), (222, 99, 66), (128, 90, 200)
"""Colours for words that support the class, speak against it, and for scores without a sign."""

KINDS = {"--target": "a causal language model", "--question": "an extractive question-answering model"}
"""Kind of model that an option of the command is for."""


class Subject(NamedTuple):
    """What is explained: an example, and the option that says for which kind of model it is (none: a classifier)."""

    example: Example
    option: str = ""


def subject(
    text: str,
    pair: str | None = None,
    target: str | None = None,
    foils: Sequence[str] = (),
    question: str | None = None,
) -> Subject:
    """Returns what the options of the command describe.

    Args:
        text: The text, prompt or context.
        pair: Second text, for a classifier of pairs.
        target: Continuation of the prompt, for a causal language model.
        foils: Continuations to compare it with.
        question: Question that the context answers, for an extractive question-answering model.

    Raises:
        UserError: If options do not go together, or a text is empty.
    """
    options = {"--pair": pair, "--target": target, "--question": question}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} do not go together; each is for another kind of model: give one")
    if foils and target is None:
        raise UserError("--foil needs --target: the continuation that the foil is compared with")
    for part in (text, pair, question):
        if part is not None and not part.strip():
            raise UserError("the text is empty; give at least one word to explain")
    if target is not None:
        return Subject(Prompt(id="text", texts=(text, target), label=None, foils=tuple(foils)), "--target")
    texts = (text,) if pair is None else (text, pair)
    if question is not None:
        return Subject(Example(id="text", texts=(question, text), label=None), "--question")
    return Subject(Example(id="text", texts=texts, label=None))


def show(model: str, what: Subject, methods: Sequence[str], where: tuple[str, Path | None], html: Path) -> None:
    """Explains one text by every method, prints it and writes it as HTML.

    Args:
        model: Mini, local folder or hub id.
        what: What is explained.
        methods: Names; all of the catalogue if empty.
        where: Data set a mini is trained on, and the folder of local data sets.
        html: File for the same as HTML.

    Raises:
        UserError: If a name is wrong, or the model is of another kind.
    """
    components = [METHODS.find(name) for name in methods or METHODS.entries()]
    loaded = _load(model, what.option, where)
    encoded = loaded.encode(what.example)
    engine = Engine(loaded, [encoded])
    target, answer = _answer(loaded, encoded)
    table = Table(title=escape(f"{model}: {answer}"), title_justify="left")
    table.add_column("method", style="bold")
    table.add_column("words", ratio=1)
    table.add_column("seconds", justify="right")
    for component in components:
        question = Question(slot=0, target=target, seed=(0, 0, "text", component.name))
        found_scores = outcomes(component.build(), [question], engine)[0]
        words = _words(encoded, found_scores, component.facts.signed)
        table.add_row(component.name, words, f"{found_scores.cost.seconds:.2f}")
    Console().print(table)
    _write(table, html)


def _load(model: str, option: str, where: tuple[str, Path | None]) -> TextModel:
    mini = checkpoints.is_mini(model)
    if mini and option:
        raise UserError(
            f"the mini {model!r} is a text classifier; {option} needs {KINDS[option]}: give its folder or id"
        )
    if option == "--target":
        return load_continuation_model(model)
    if option == "--question":
        return load_question_model(model)
    if not mini:
        found: TextModel = checkpoints.load(checkpoints.find(model))
        return found
    dataset = data.load(where[0], data_dir=where[1])
    loaded: TextModel = checkpoints.load(command.trained(model, dataset, where[1]))
    learned_from = plan.training_part(dataset, where[1]) or dataset
    loaded.calibration = [loaded.encode(example) for example in learned_from.take(plan.CALIBRATION)]
    return loaded


def _answer(model: TextModel, encoded: Encoded) -> tuple[int, str]:
    """The class that is explained, and what it is called with how sure the model is of it."""
    logits = model.forward(model.collate([whole(encoded)])).logits[0].detach().double()
    value = float(scalar("contrast", logits.cpu().numpy(), 0))
    if isinstance(model, QuestionModel):
        return 0, f"{model.answer(encoded)!r} ({value:.3f})"
    if isinstance(model, ContinuationModel) and isinstance(encoded.example, Prompt):
        against = " or ".join(map(repr, encoded.example.foils))
        return 0, f"{encoded.example.texts[1]!r}{' rather than ' if against else ''}{against} ({value:.3f})"
    target = int(logits.argmax())
    return target, f"{model.labels[target]} ({float(logits.softmax(0)[target]):.3f})"


def _words(encoded: Encoded, found: Outcome, signed: bool) -> Text:
    """The words on a background as strong as their score, in proportion to the largest one."""
    if found.scores is None:
        return Text(f"does not apply: {found.error}") if found.skipped else Text(f"failed: {found.error}", style="red")
    scores = found.scores if signed else found.scores - min(0.0, float(found.scores.min()))
    top = float(np.abs(scores).max()) or 1.0
    line = Text()
    for word, score in zip(encoded.words, scores, strict=True):
        colour = MAGNITUDE if not signed else SUPPORT if score > 0 else AGAINST
        line.append(encoded.example.texts[word.text][word.start : word.end], style=_style(colour, abs(score) / top))
        line.append(" ")
    return line


def _style(colour: tuple[int, int, int], strength: float) -> str:
    """Background between white and a colour, black or white text on it."""
    mixed = [round(255 + (part - 255) * strength) for part in colour]
    ink = "#ffffff" if sum(mixed) < 400 else "#000000"  # named colours depend on the theme of the page
    return f"{ink} on rgb({mixed[0]},{mixed[1]},{mixed[2]})"


def _write(table: Table, html: Path) -> None:
    recorder = Console(record=True, width=140, file=io.StringIO())
    recorder.print(table)
    write_text(html, recorder.export_html(inline_styles=True))
    command.print_line(f"the same as HTML: {html}")
