"""Columnar copies of a results folder's chunks, from which a large board is read fast; the chunks stay what counts.

``scores.parquet`` and ``attributions.parquet`` hold the rows of the chunks one after the other. Chunks that belong
together (those of one column of one cell, say) are a group, known by a fingerprint of the files that it was read from:
names, sizes and times. A group whose files have changed since, or are not there, is not found and read from the chunks.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from os import stat
from pathlib import Path
from typing import Any, overload

import numpy as np

from attrlab.bench.errors import UserError
from attrlab.bench.store import Kind, writing
from attrlab.bench.types import Ints
from attrlab.leaderboard.board import AttributionRow, ColumnScores

_SIZE = 16  # bytes of a fingerprint
_LAYOUT = "1"  # of the files; one of another layout is not read
_PRINTS, _ENDS, _VERSION = b"attrlab.fingerprints", b"attrlab.ends", b"attrlab.layout"


def fingerprint(folder: Path, *groups: tuple[Kind, Sequence[str]]) -> bytes:
    """Returns a hash of the names, sizes and times of chunks; empty if one of them is not there.

    Args:
        folder: The results folder.
        groups: Kind and keys of the chunks.
    """
    told = blake2b(digest_size=_SIZE)
    try:
        for kind, keys in groups:
            for key in keys:
                found = stat(f"{folder}/{kind}/{key}.json")  # noqa: PTH116 - of millions, paths would take longest
                told.update(f"{kind}/{key} {found.st_size} {found.st_mtime_ns}\n".encode())
    except (FileNotFoundError, ValueError):  # a key that is no name of a file is refused where the chunk is read
        return b""
    return told.digest()


class _Pack:
    """One file of groups; empty where there is no file, or one of another layout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[bytes, tuple[int, int]] = {}
        if path.is_file():
            self._find()

    def _find(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            found = parquet.read_schema(self.path).metadata or {}
        except pa.ArrowInvalid as error:
            raise self.broken() from error
        if found.get(_VERSION) == _LAYOUT.encode():
            prints, ends = found[_PRINTS], np.frombuffer(found[_ENDS], dtype="<i8").tolist()
            starts = [0, *ends][: len(ends)]
            for i, place in enumerate(zip(starts, ends, strict=True)):
                self.places[prints[i * _SIZE : (i + 1) * _SIZE]] = place

    def broken(self) -> UserError:
        return UserError(f"{self.path} is broken; delete it, all it holds is in the chunks")

    @cached_property
    def table(self) -> Any:
        """The rows."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return parquet.read_table(self.path, memory_map=True).unify_dictionaries().combine_chunks()
        except (pa.ArrowInvalid, OSError) as error:
            raise self.broken() from error

    def words(self, name: str) -> tuple[Ints, list[str]]:
        """Returns a column of texts as the place of each in a list, -1 for none, and the list."""
        column = self.table.column(name).chunk(0)
        return column.indices.fill_null(-1).to_numpy(), column.dictionary.to_pylist()


class ScorePack:
    """The scores of a folder; see :mod:`attrlab.leaderboard.packed`."""

    def __init__(self, folder: Path) -> None:
        self._pack = _Pack(folder / "scores.parquet")
        self._texts: dict[tuple[str, bytes], tuple[str | None, ...]] = {}

    @cached_property
    def _parts(self) -> tuple[Any, ...]:
        values = self._pack.table.column("value").chunk(0).to_numpy()
        return values, self._pack.words("example"), self._pack.words("reason")

    def find(self, told: bytes) -> ColumnScores | None:
        """Returns the scores that were read from chunks of a fingerprint, or None."""
        place = self._pack.places.get(told)
        if place is None:
            return None
        values, examples, reasons = self._parts
        part = slice(*place)
        return ColumnScores(
            examples=self._shared("example", part, *examples),
            values=values[part],
            reasons=self._shared("reason", part, *reasons),
        )

    def _shared(self, what: str, part: slice, codes: Ints, words: Sequence[str]) -> tuple[Any, ...]:
        """Returns texts; one tuple for all columns that have the same."""
        own = codes[part]
        key = what, own.tobytes()
        if key not in self._texts:
            self._texts[key] = tuple(None if code < 0 else words[code] for code in own.tolist())
        return self._texts[key]


class AttributionPack:
    """The attributions of a folder; read when they are first looked at."""

    def __init__(self, folder: Path) -> None:
        self._pack = _Pack(folder / "attributions.parquet")

    def find(self, told: bytes) -> Sequence[AttributionRow] | None:
        """Returns the rows that were read from chunks of a fingerprint, or None."""
        place = self._pack.places.get(told)
        return None if place is None else _Rows(self._pack, *place)


class _Rows(Sequence[AttributionRow]):
    """Rows of a pack, made anew each time: those of a large board would fill the memory."""

    def __init__(self, pack: _Pack, start: int, end: int) -> None:
        self._pack, self._start, self._end = pack, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[AttributionRow]:
        return map(_row, self._pack.table.slice(self._start, len(self)).to_pylist())

    @overload
    def __getitem__(self, index: int) -> AttributionRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AttributionRow]: ...
    def __getitem__(self, index: int | slice) -> AttributionRow | Sequence[AttributionRow]:
        return tuple(self)[index]


def _row(found: dict[str, Any]) -> AttributionRow:
    scores = found.pop("scores")
    return AttributionRow(**found, scores=None if scores is None else np.array(scores, dtype=np.float64))


def write_scores(folder: Path, groups: Iterable[tuple[bytes, ColumnScores]]) -> None:
    """Writes ``scores.parquet``; groups with an empty fingerprint or one that was there already are left out.

    Raises:
        UserError: If it cannot be written.
    """
    import pyarrow as pa

    known = {told: scores for told, scores in groups if told}
    columns = list(known.values())
    parts = {
        "example": _encoded([one.examples for one in columns]),
        "value": pa.array(np.concatenate([np.zeros(0), *(one.values for one in columns)])),
        "reason": _encoded([one.reasons for one in columns]),
    }
    _write(folder / "scores.parquet", pa.table(parts), list(known), [len(one.values) for one in columns])


def write_attributions(folder: Path, groups: Iterable[tuple[bytes, Sequence[AttributionRow]]]) -> None:
    """Writes ``attributions.parquet``, as :func:`write_scores`."""
    import pyarrow as pa

    known = {told: rows for told, rows in groups if told}
    texts = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [
            *((name, texts) for name in ("example", "status", "reason")),
            ("scores", pa.list_(pa.float64())),
            *((name, pa.int64()) for name in ("forwards", "backwards")),
        ]
    )
    batches = [
        pa.record_batch(
            {name: pa.array([getattr(row, name) for row in rows], schema.field(name).type) for name in schema.names}
        )
        for rows in known.values()
    ]
    table = pa.Table.from_batches(batches, schema).unify_dictionaries().combine_chunks()
    _write(folder / "attributions.parquet", table, list(known), [len(rows) for rows in known.values()])


def _encoded(rows: Sequence[Sequence[str | None]]) -> Any:
    """Returns texts, one group after the other, each stored once."""
    import pyarrow as pa

    codes: dict[str | None, int] = {None: -1}
    same: dict[tuple[str | None, ...], Ints] = {}
    for own in map(tuple, rows):
        if own not in same:
            same[own] = np.array([codes.setdefault(text, len(codes) - 1) for text in own], dtype=np.int32)
    found = np.concatenate([np.zeros(0, dtype=np.int32), *(same[tuple(own)] for own in rows)])
    return pa.DictionaryArray.from_arrays(pa.array(found, mask=found < 0), pa.array(list(codes)[1:], pa.string()))


def _write(path: Path, table: Any, prints: Sequence[bytes], sizes: Sequence[int]) -> None:
    from pyarrow import parquet

    ends = np.cumsum(sizes, dtype="<i8").tobytes()
    told = {_VERSION: _LAYOUT.encode(), _PRINTS: b"".join(prints), _ENDS: ends}
    temporary = path.with_name(f".writing-{path.name}")
    texts = [name for name in ("example", "status", "reason") if name in table.column_names]
    with writing(path):
        parquet.write_table(table.replace_schema_metadata(told), temporary, use_dictionary=texts)
        temporary.replace(path)
