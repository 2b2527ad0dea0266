"""The facts of a data set: what is known of it without reading it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

UNSTATED = "none stated at the source"
"""Licence of what was published without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """What is known of a data set without reading it.

    Attributes:
        name: Name on the command line and of its folder.
        where: ``module:function``; from a part to its examples (embedded) or from a row to an example (the others).
        summary: One line for ``attrlab list``.
        labels: Names of the classes; a label is an index into them.
        parts: Names of the parts.
        train: The part to train on, or None.
        evaluation: The part that is meant when none is named.
        texts: 1, or 2 for a pair task.
        rationales: ``""``, ``"human"``, ``"derived"`` (computed from other human judgements) or ``"planted"`` (known by
            construction).
        source: ``embedded``, ``local`` (files in a folder) or ``hub`` (files in a folder, else the hub).
        file: Name of the file that holds a part, with ``{part}`` for the part.
        columns: Columns that the file must have; the texts come first.
        within: Parts that are a selection from the file of another part, and that part.
        beside: File with further columns, one row per value of ``key``; empty if there is none.
        key: Column by which rows of ``beside`` are found; without that file, rows alike in it become one row of lists.
        hub_id: Repository on the Hugging Face hub; the configuration has the name of the data set.
        reference: Paper.
        licence: As stated at the source.
        notes: What a reader of results must know, per part; ``""`` stands for all parts.
    """

    name: str
    where: str
    summary: str
    labels: tuple[str, ...]
    parts: tuple[str, ...] = ("train", "dev", "test")
    train: str | None = "train"
    evaluation: str = "test"
    texts: int = 1
    rationales: str = ""
    source: str = "embedded"
    file: str = ""
    columns: tuple[str, ...] = ()
    within: Mapping[str, str] = field(default_factory=dict)
    beside: str = ""
    key: str = ""
    hub_id: str | None = None
    reference: str
    licence: str
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def stem(self, part: str) -> str:
        """Returns the part in whose file a part is."""
        return self.within.get(part, part)

    def file_of(self, part: str) -> str:
        """Returns the name of the file that holds a part."""
        return self.file.format(part=self.stem(part))

    def notes_on(self, part: str) -> tuple[str, ...]:
        """Returns the notes that hold for a part."""
        return (*self.notes.get("", ()), *self.notes.get(part, ()))
