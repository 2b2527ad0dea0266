"""The data sets: facts that need no import, and the loaded examples with their order and fingerprint.

A data set is named ``NAME`` or ``NAME:PART`` (``sst2``, ``sst2:test``). Embedded sets are generated; the others are
read from ``DATA_DIR/NAME/`` or, for the GLUE sets, from the Hugging Face hub. Importing this module loads neither
NumPy nor the ``datasets`` package.
"""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrlab.bench.data_catalogue import DATASETS
from attrlab.bench.data_info import DatasetInfo
from attrlab.bench.data_rationales import UNFIT
from attrlab.bench.errors import UserError, unknown

if TYPE_CHECKING:
    from attrlab.bench.inputs import Example

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "load"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """The examples of one part.

    Attributes:
        info: Facts about the data set.
        part: Which part.
        examples: The examples in the order of the source.
        parses: Hash of the file that their dependency parses come from; empty without one.
    """

    info: DatasetInfo
    part: str
    examples: "tuple[Example, ...]"
    parses: str = ""

    @property
    def name(self) -> str:
        """``NAME:PART``."""
        return f"{self.info.name}:{self.part}"

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2 hash (32 hexadecimal digits) of everything a score can depend on: ids, texts, labels, rationales."""
        digest = hashlib.blake2b(json.dumps(self.info.labels).encode() + self.parses.encode(), digest_size=16)
        for example in self.examples:
            content: tuple[Any, ...] = (example.id, example.texts, example.label, example.rationales)
            content += (example.weights,) if example.weights else ()
            digest.update(json.dumps(content, ensure_ascii=True).encode() + b"\n")
        return digest.hexdigest()

    @cached_property
    def rationale_share(self) -> float | None:
        """Mean share of words that more than half of the annotators marked, in [0, 1] (metrics spec 4.2, ``avg_k``).

        The mean is over the examples with such a word, the only ones that are scored: where annotators marked nothing,
        or nothing together, is no rationale whose length could count. None if there is none.
        """
        marked = [example.shares() > 0.5 for example in self.examples if example.rationales or example.weights]
        shares = [float(words.mean()) for words in marked if words.any()]
        return sum(shares) / len(shares) if shares else None

    @cached_property
    def order(self) -> tuple[int, ...]:
        """A fixed order of the examples of which every prefix has the label shares of the whole.

        Within a label the order is by hash of the id; labels are interleaved by how much of each is used up: with two
        labels the shares are exact to one example. A longer prefix starts with every shorter one, on every machine.
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
    if base in UNFIT:
        raise UserError(f"data set {base!r} is for no classifier: {UNFIT[base]}")
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
    from attrlab.bench import checkpoint, sources

    folder = _folder(info, data_dir)
    cache = (cache_dir or checkpoint.cache_dir()) / "datasets"
    rows = sources.local_rows(info, part, folder, cache) if folder else sources.hub_rows(info, part, cache)
    found = Dataset(info=info, part=part, examples=sources.examples(info, part, rows, function))
    return _parsed(found, folder / f"{info.stem(part)}.conllu") if folder else found


def _parsed(dataset: Dataset, file: Path) -> Dataset:
    """Returns the data set with the dependency parses of a CoNLL-U file beside it, if there is one."""
    if not file.is_file():
        return dataset
    from attrlab.bench.parses import attach, load_conllu

    examples = attach(dataset.examples, load_conllu(file))
    return replace(dataset, examples=examples, parses=hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest())


def _folder(info: DatasetInfo, data_dir: Path | None) -> Path | None:
    """Returns the local folder of a data set, or None if it is to be had from the hub."""
    given = data_dir or (Path(os.environ["ATTRLAB_DATA"]) if os.environ.get("ATTRLAB_DATA") else None)
    if given and not given.is_dir():
        raise UserError(f"no such data folder: {str(given)!r}; give the folder that holds one sub-folder per data set")
    if given and (given / info.name).is_dir():
        return given / info.name
    if info.source == "hub":
        return None
    wanted = info.file_of(info.evaluation)
    where = f"no folder {str(given / info.name)!r}" if given else "no data folder was given"
    raise UserError(
        f"{where}: data set {info.name!r} is read from local files; put {info.name}/{wanted} (columns "
        f"{', '.join(info.columns)}) under a folder and name it with --data-dir or $ATTRLAB_DATA"
    )
