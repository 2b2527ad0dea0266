"""Results on disk: chunks written once and atomically, found by a key that hashes everything that shapes them."""

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import filelock

from attrlab.bench.errors import UserError
from attrlab.bench.seeds import digest
from attrlab.bench.types import SCHEMA, Json

Kind = Literal["predictions", "attributions", "scores", "shifts", "trainings", "studies"]
KINDS: tuple[Kind, ...] = get_args(Kind)


FAILED = "failed: "
"""Start of the reason why there is no score where the attribution or the metric failed."""


class Store:
    """The chunks of one results folder.

    Args:
        folder: Created if it does not exist.

    Attributes:
        fresh: Chunks written so far.
        found: Chunks that were there already.

    Raises:
        UserError: If the folder cannot be created or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fresh = 0
        self.found = 0
        with writing(folder):
            for kind in KINDS:
                (folder / kind).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for one process.

        Raises:
            UserError: If another process is writing to it.
        """
        lock = filelock.FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(
                f"another process is writing to {str(self.folder)!r}; wait for it or use another --out"
            ) from None
        try:
            for leftover in self.folder.rglob(".writing-*"):  # of a run that was killed
                leftover.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def find(self, kind: Kind, key: str) -> bool:
        """Whether a chunk is there (whole or not at all); counts those that were found."""
        there = self._is_there(kind, key)
        self.found += there
        return there

    def read(self, kind: Kind, key: str) -> list[Json]:
        """Returns the rows of a chunk."""
        rows: list[Json] = json.loads(self._path(kind, key).read_text("utf-8"))["rows"]
        return rows

    def write(self, kind: Kind, key: str, of: Json, rows: list[Json]) -> None:
        """Writes a chunk: its key, what the key was made of, and its rows."""
        self.fresh += 1
        self._write(kind, key, {"schema": SCHEMA, "key": key, "of": of, "rows": rows})

    def failed(self, kind: Kind, key: str) -> bool:
        """Whether a chunk is there and holds a failed attribution, or a score that is missing because of one."""
        return self._is_there(kind, key) and any(
            row.get("status") == "failed" or (row["reason"] or "").startswith(FAILED) for row in self.read(kind, key)
        )

    def _is_there(self, kind: Kind, key: str) -> bool:
        return self._path(kind, key).is_file()

    def _write(self, kind: Kind, key: str, chunk: Json) -> None:
        write_json(self._path(kind, key), chunk)

    def _path(self, kind: Kind, key: str) -> Path:
        return self.folder / kind / f"{key}.json"


def key_of(of: Json) -> str:
    """Returns the key of a chunk: the hash of what shapes it, schema included."""
    return digest({"schema": SCHEMA, **of})


def number(value: float) -> float | None:
    """Returns a number as JSON can hold it: None for NaN or an infinity."""
    return float(value) if math.isfinite(value) else None


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically: other processes see the old file or the new one, whole.

    Raises:
        UserError: If the disk is full or the place cannot be written; what was there stays.
    """
    write_text(path, json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically (UTF-8); raises as :func:`write_json`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what can go wrong when writing to ``path`` into a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "the disk is full; free some space and run again, finished chunks are kept"
        else:
            advice = f"{error.strerror or error}; choose another --out"
        raise UserError(f"cannot write {str(path)!r}: {advice}") from error
