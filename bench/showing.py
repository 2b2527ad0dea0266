"""What ``attrlab explain`` prints: every method side by side on one text, in colour and as HTML."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import command, data
from attrlab.bench.engine import Engine
from attrlab.bench.errors import UserError
from attrlab.bench.explain import Outcome, Question, outcomes
from attrlab.bench.registry import METHODS
from attrlab.bench.removal import whole
from attrlab.bench.store import write_text
from attrlab.bench.types import Encoded, Example

SUPPORT, AGAINST, MAGNITUDE = (58, 124, 216), (222, 99, 66), (128, 90, 200)
"""Colours for words that support the class, speak against it, and for scores without a sign."""


def show(
    model: str, texts: tuple[str, ...], methods: Sequence[str], where: tuple[str, Path | None], html: Path
) -> None:
    """Explains one text by every method, prints it and writes it as HTML.

    Args:
        model: Mini, local folder or hub id.
        texts: One text, or two of a pair task.
        methods: Names; all of the catalogue if empty.
        where: Data set a mini is trained on, and the folder of local data sets.
        html: File for the same as HTML.

    Raises:
        UserError: If a text is empty, or a name is wrong.
    """
    for text in texts:
        if not text.strip():
            raise UserError("the text is empty; give at least one word to explain")
    components = [METHODS.find(name) for name in methods or METHODS.entries()]
    dataset_name, data_dir = where
    if checkpoints.is_mini(model):
        found = command.trained(model, data.load(dataset_name, data_dir=data_dir), data_dir)
    else:
        found = checkpoints.find(model)
    loaded = checkpoints.load(found)
    encoded = loaded.encode(Example(id="text", texts=texts, label=None))
    engine = Engine(loaded, [encoded])
    row = loaded.forward(loaded.collate([whole(encoded)])).logits[0].detach().double().softmax(0)
    target = int(row.argmax())
    table = Table(title=f"{model}: {loaded.labels[target]} ({float(row[target]):.3f})", title_justify="left")
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


def _words(encoded: Encoded, found: Outcome, signed: bool) -> Text:
    """The words on a background as strong as their score, in proportion to the largest one."""
    if found.scores is None:
        return Text(f"failed: {found.error}", style="red")
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
    ink = "white" if sum(mixed) < 400 else "black"
    return f"{ink} on rgb({mixed[0]},{mixed[1]},{mixed[2]})"


def _write(table: Table, html: Path) -> None:
    recorder = Console(record=True, width=140, file=io.StringIO())
    recorder.print(table)
    write_text(html, recorder.export_html(inline_styles=True))
    command.print_line(f"the same as HTML: {html}")
