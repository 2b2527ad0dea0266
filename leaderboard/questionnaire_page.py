"""The page that a group of participants answers: one self-contained HTML file that sends nothing anywhere.

It holds no answer: no gold label, method or example id, and highlights have one hue, since red and blue would tell the
class: words with a negative score look like those with a positive one.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby

import numpy as np
from markupsafe import Markup

from attrlab.bench.types import Floats
from attrlab.leaderboard.board import DatasetCard
from attrlab.leaderboard.heatmap import shades
from attrlab.leaderboard.questionnaire_key import MODELS, SIMULATION, Key
from attrlab.leaderboard.questionnaire_texts import Text
from attrlab.leaderboard.template import fill

CONFIDENCE = ("guessing", "unsure", "fairly sure", "certain")
"""How sure a participant is, from 1."""

_SPOKEN = 5  # highlighted words that a screen reader is told


@dataclass(frozen=True, slots=True)
class View:
    """A text as it is shown: per part its words with their style class, and its strongest words, strongest first.

    ``name`` is the model whose highlights these are, empty where there is but one.
    """

    name: str
    parts: tuple[tuple[tuple[str, str], ...], ...]
    strongest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A text, highlighted once or once per model, and the answer that is told (none if it is asked for)."""

    answer: str
    views: tuple[View, ...]


def passage(text: Text, rows: Sequence[Floats | None], answer: str) -> Passage:
    """Returns a text highlighted by the size of each row of scores; None highlights nothing."""
    names = MODELS if len(rows) > 1 else ("",)
    return Passage(answer, tuple(_view(name, text, row) for name, row in zip(names, rows, strict=True)))


def _view(name: str, text: Text, scores: Floats | None) -> View:
    sizes = np.zeros(len(text.words)) if scores is None else np.abs(scores)
    styled = list(zip(text.texts, text.words, shades(sizes, signed=False), strict=True))
    order = [index for index in np.argsort(-sizes, kind="stable")[:_SPOKEN] if sizes[index] > 0]
    return View(
        name,
        tuple(tuple((word, style) for _, word, style in part) for _, part in groupby(styled, key=lambda row: row[0])),
        tuple(text.words[index] for index in order),
    )


def page(key: Key, group: int, questions: Sequence[tuple[str, Sequence[Passage]]], dataset: DatasetCard) -> str:
    """Returns the HTML page of one group.

    Args:
        key: The key; only its id, kind and options get into the page.
        group: Number of the group.
        questions: Per question the id of its item and its texts, in order.
        dataset: The data set part.
    """
    script = (files("attrlab.leaderboard") / "page" / "questionnaire.js").read_text(encoding="utf-8")
    return fill(
        "questionnaire.html.j2",
        own_script=Markup(script),
        own_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        questionnaire=key.id,
        group=group,
        simulation=key.kind == SIMULATION,
        classes=dataset.labels,
        options=list(_options(key)),
        confidence=CONFIDENCE,
        highlighted=any(view.strongest for _, passages in questions for one in passages for view in one.views),
        questions=questions,
    )


def _options(key: Key) -> Iterator[tuple[str, str]]:
    """Yields what is stored and what is read of every option."""
    for option in key.options:
        yield option, option if key.kind == SIMULATION else f"Model {option}"
