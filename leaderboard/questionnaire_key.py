"""The key of a questionnaire: who is shown what and what is right. It stays with the experimenter."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attrlab.bench.errors import UserError
from attrlab.bench.store import key_of

SIMULATION, CHOICE = KINDS = ("simulation", "choice")
"""Predict the model's answer, or pick the better of two models."""

CONTROL = "no highlights"
"""The condition without an explanation."""

MODELS = ("A", "B")
"""What the two models of a choice are called, and thereby its options."""

KEY_FILE = "key.json"


class Strict(BaseModel):
    """A record in a file: every field as declared, and no others."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", str_strip_whitespace=True)


class Item(Strict):
    """A question as it is the same for everybody.

    Attributes:
        item: Its opaque id on the pages.
        examples: Ids of the examples it shows.
        correct: Whether the model's answer is the gold label (simulation); None where that is unknown, and in a choice.
    """

    item: str
    examples: tuple[str, ...]
    correct: bool | None = None


class Question(Strict):
    """An item as one group sees it: under a condition (a method or ``CONTROL``), with the option that is right."""

    item: str
    condition: str
    right: str


class Group(Strict):
    """The questions of one page, in order."""

    group: int
    questions: tuple[Question, ...]


class Asked(Strict):
    """A model that the questionnaire is about: on how many of the labelled examples of the folder it is right."""

    name: str
    hash: str | None
    n_correct: int
    n_labelled: int


class Results(Strict):
    """The results folder: hash of its ``run.json``, and the data set part."""

    run: str
    dataset: str
    fingerprint: str


class Key(Strict):
    """Everything that scoring needs.

    Attributes:
        version: Of this format.
        kind: ``simulation`` or ``choice``.
        seed: Of every draw.
        results: What it was made from.
        models: The model, or the two of a choice.
        options: What can be answered.
        conditions: ``CONTROL`` (simulation only) and the methods.
        items: The questions.
        groups: One per page.
        caution: What limits the conclusions that can be drawn, or nothing.
    """

    version: Literal[1] = 1
    kind: Literal["simulation", "choice"]
    seed: int
    results: Results
    models: tuple[Asked, ...]
    options: tuple[str, ...]
    conditions: tuple[str, ...]
    items: tuple[Item, ...]
    groups: tuple[Group, ...]
    caution: str = ""

    @property
    def id(self) -> str:
        """Hash of the whole key: pages and answers carry it, so that no answer is scored by another key."""
        return key_of({"questionnaire": self.model_dump(mode="json")})

    @property
    def better(self) -> Asked:
        """The model that is right more often."""
        return max(self.models, key=lambda model: model.n_correct)


class Answer(Strict):
    """What was answered to one question; ``confidence`` is 1 (guessing) to 4 (certain)."""

    item: str
    answer: str
    confidence: int | None = Field(None, ge=1, le=4)
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)


class Answers(Strict):
    """The file that a participant hands in."""

    version: Literal[1]
    questionnaire: str
    group: int
    participant: str = Field(min_length=1)
    started: str = ""
    finished: str = ""
    answers: tuple[Answer, ...]


class _KeyFile(Strict):
    questionnaire: str
    key: Key


S = TypeVar("S", bound=Strict)


def write_key(key: Key) -> str:
    """Returns the content of the key file."""
    return _KeyFile(questionnaire=key.id, key=key).model_dump_json(indent=1) + "\n"


def read_key(path: Path) -> Key:
    """Returns the key in a file.

    Raises:
        UserError: If there is none, or it was changed since the export.
    """
    found = read_file(_KeyFile, path)
    if found.key.id != found.questionnaire:
        raise UserError(f"{path} was changed after the export, so it may score wrongly; use the file as exported")
    return found.key


def read_file(kind: type[S], path: Path) -> S:
    """Returns a JSON file as a record.

    Raises:
        UserError: If it cannot be read or a field is not as declared; names file and field.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {f'{field}: ' if field else ''}{first['msg']}") from error
