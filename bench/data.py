"""The data sets: facts that need no import, and the loaded examples with their order and fingerprint.

A data set is named ``NAME`` or ``NAME:PART`` (``sst2``, ``sst2:test``). Embedded sets are generated; the others are
read from ``DATA_DIR/NAME/`` or, for the GLUE sets, from the Hugging Face hub. Importing this module loads neither
NumPy nor the ``datasets`` package.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrlab.bench.errors import UserError, unknown

if TYPE_CHECKING:
    from attrlab.bench.types import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """What is known of a data set without reading it.

    Attributes:
        name: Name on the command line and of its folder.
        where: ``module:function``: from a part to examples (embedded), or from one row to an example or None.
        summary: One line for ``attrlab list``.
        labels: Names of the classes; a label is an index into them.
        parts: Names of the parts.
        train: The part to train on, or None.
        evaluation: The part that is meant when none is named.
        texts: 1, or 2 for a pair task.
        rationales: ``""``, ``"human"`` or ``"planted"`` (known by construction).
        source: ``embedded``, ``local`` (a folder only) or ``hub`` (a folder, else the hub).
        file: Name of the file of a part.
        columns: Columns that the file must have.
        hub_id: Repository on the hub; its configuration is ``name``.
        reference: Paper.
        licence: As stated at the source.
        notes: What a reader of results must know, per part; ``""`` stands for all parts.
    """

    name: str
    where: str
    summary: str
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    train: str | None = None
    evaluation: str
    texts: int = 1
    rationales: str = ""
    source: str
    file: str = ""
    columns: tuple[str, ...] = ()
    hub_id: str | None = None
    reference: str
    licence: str
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def notes_on(self, part: str) -> tuple[str, ...]:
        """Returns the notes that hold for a part."""
        return (*self.notes.get("", ()), *self.notes.get(part, ()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """The examples of one part.

    Attributes:
        info: Facts about the data set.
        part: Which part.
        examples: The examples in the order of the source.
    """

    info: DatasetInfo
    part: str
    examples: "tuple[Example, ...]"

    @property
    def name(self) -> str:
        """``NAME:PART``."""
        return f"{self.info.name}:{self.part}"

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2 hash (32 hexadecimal digits) of everything a score can depend on: ids, texts, labels, rationales."""
        digest = hashlib.blake2b(json.dumps(self.info.labels).encode(), digest_size=16)
        for example in self.examples:
            content = (example.id, example.texts, example.label, example.rationales)
            digest.update(json.dumps(content, ensure_ascii=True).encode() + b"\n")
        return digest.hexdigest()

    @cached_property
    def rationale_share(self) -> float | None:
        """Mean share of words that more than half of the annotators marked, in [0, 1] (metrics spec 4.2, ``avg_k``).

        The mean is over the examples that somebody annotated; None if there is none.
        """
        shares = [_marked_share(example) for example in self.examples if example.rationales and any(example.texts)]
        known = [share for share in shares if share is not None]
        return sum(known) / len(known) if known else None

    @cached_property
    def order(self) -> tuple[int, ...]:
        """A fixed order of the examples of which every prefix has the label shares of the whole, to one example.

        Within a label the order is by hash of the id; labels are interleaved by the share already used up. A longer
        prefix therefore starts with every shorter one, on every machine.
        """
        groups: dict[int, list[tuple[bytes, int]]] = {}
        for index, example in enumerate(self.examples):
            key = hashlib.blake2b(example.id.encode(), digest_size=16).digest()
            groups.setdefault(-1 if example.label is None else example.label, []).append((key, index))
        ranked = [
            ((rank + 0.5) / len(group), label, index)
            for label, group in groups.items()
            for rank, (_, index) in enumerate(sorted(group))
        ]
        return tuple(index for _, _, index in sorted(ranked))

    def take(self, limit: int | None = None) -> "tuple[Example, ...]":
        """Returns the first ``limit`` examples of :attr:`order` (all of them if None or more than there are)."""
        return tuple(self.examples[index] for index in self.order[:limit])


def load(name: str, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> Dataset:
    """Returns the data set ``NAME`` or ``NAME:PART``.

    Args:
        name: Data set, with its part or without (then its evaluation part).
        data_dir: Folder with a sub-folder per data set; default ``$ATTRLAB_DATA``.
        cache_dir: Where parsed files are kept; default ``$ATTRLAB_CACHE``, else ``~/.cache/attrlab``.

    Raises:
        UserError: If name or part are unknown, a file is missing or broken, or the hub cannot be reached.
    """
    base, colon, part = name.partition(":")
    if base not in DATASETS:
        raise unknown("data set", base, DATASETS)
    info = DATASETS[base]
    part = part if colon else info.evaluation
    if part not in info.parts:
        raise unknown(f"part of {base}", part, info.parts)
    from attrlab.bench.registry import load as load_object

    function: Any = load_object(info.where)
    if info.source == "embedded":
        return Dataset(info=info, part=part, examples=function(part))
    from attrlab.bench import sources

    folder = _folder(info, data_dir)
    cache = (cache_dir or Path(os.environ.get("ATTRLAB_CACHE") or Path.home() / ".cache" / "attrlab")) / "datasets"
    rows = sources.local_rows(info, part, folder, cache) if folder else sources.hub_rows(info, part, cache)
    return Dataset(info=info, part=part, examples=sources.examples(info, part, rows, function))


def _folder(info: DatasetInfo, data_dir: Path | None) -> Path | None:
    """Returns the local folder of a data set, or None if it is to be had from the hub."""
    given = data_dir or (Path(os.environ["ATTRLAB_DATA"]) if os.environ.get("ATTRLAB_DATA") else None)
    if given and not given.is_dir():
        raise UserError(f"no such data folder: {str(given)!r}; give the folder that holds one sub-folder per data set")
    if given and (given / info.name).is_dir():
        return given / info.name
    if info.source == "hub":
        return None
    wanted = info.file.format(part=info.evaluation)
    where = f"no folder {str(given / info.name)!r}" if given else "no data folder was given"
    raise UserError(
        f"{where}: data set {info.name!r} is read from local files; put {info.name}/{wanted} (columns "
        f"{', '.join(info.columns)}) under a folder and name it with data_dir or ATTRLAB_DATA"
    )


def _marked_share(example: "Example") -> float | None:
    """Returns the share of an example's words marked by more than half of its annotators; None without words."""
    from attrlab.bench.types import words

    total = marked = 0
    for number, text in enumerate(example.texts):
        for start, end in words(text):
            total += 1
            votes = sum(
                any(
                    any(char.isalnum() for char in text[max(start, first) : min(end, last)])
                    for first, last in annotator[number]
                )
                for annotator in example.rationales or ()
            )
            marked += 2 * votes > len(example.rationales or ())
    return marked / total if total else None
