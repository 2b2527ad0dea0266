"""Reads real data sets from local files or the Hugging Face hub, through the ``datasets`` package.

That package does the parsing; encoding, columns, labels and spans are checked here, so that a broken file is
reported with its place.
"""

import csv
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from attrlab.bench.data_info import DatasetInfo
from attrlab.bench.errors import UserError, unknown
from attrlab.bench.inputs import Example

HUB_PARTS = {"train": "train", "dev": "validation", "test": "test"}
HUB_SECONDS = 5.0
"""Patience with the hub before it counts as unreachable."""


class Row(NamedTuple):
    """One row of a source: its number from 0, where it stands (for messages) and its columns."""

    number: int
    place: str
    values: Mapping[str, Any]


Convert = Callable[[DatasetInfo, str, Row], Example | None]
"""From a row of a part to its example; None if the row belongs to another part."""


def examples(info: DatasetInfo, part: str, rows: Iterable[Row], convert: Convert) -> tuple[Example, ...]:
    """Returns the examples of a part.

    Raises:
        UserError: If a value is missing, a label or a span is not allowed, an id occurs twice, or there is no row.
    """
    found: dict[str, Example] = {}
    for row in rows:
        empty = [column for column in info.columns if row.values[column] is None]
        if empty:
            raise UserError(f"{row.place}: column {empty[0]!r} has no value; every row must have one")
        try:
            example = convert(info, part, row)
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise UserError(f"{row.place}: not a row of {info.name!r} ({type(error).__name__}: {error})") from error
        except UserError as error:
            raise UserError(f"{row.place}: {error}") from error
        if example is None:
            continue
        if example.id in found:
            raise UserError(f"{row.place}: id {example.id!r} occurs twice; ids must be unique in a part")
        found[example.id] = example
    if not found:
        raise UserError(f"part {part!r} of {info.name!r} has no row")
    return tuple(found.values())


def local_rows(info: DatasetInfo, part: str, folder: Path, cache: Path) -> Iterator[Row]:
    """Yields the rows of a part's file in ``folder``; what was parsed is kept under ``cache`` by content.

    Raises:
        UserError: If the file is missing, not UTF-8, cannot be parsed or lacks a column.
    """
    path = folder / info.file_of(part)
    if not path.is_file():
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise UserError(f"no such file: {str(path)!r}; {info.name}:{part} is read from it (the folder holds: {there})")
    table, beside = _table(path, cache), _table(folder / info.beside, cache) if info.beside else None
    known = [*table.column_names, *(beside.column_names if beside else [])]
    missing = [column for column in info.columns if column not in known]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; it has: {', '.join(table.column_names)}")
    # In a CSV file with quotes a row may take several lines, so only the row is known there.
    unit, first = {".csv": ("row", 1), ".tsv": ("line", 2)}.get(path.suffix, ("line", 1))
    rows = (
        Row(number, f"{path}, {unit} {number + first}", values)
        for number, values in enumerate(_values(table))
        if any(value not in (None, "") for value in values.values())
    )
    if beside:
        return _joined(rows, info.key, beside, folder / info.beside)
    return _grouped(rows, info.key) if info.key else rows


def _table(path: Path, cache: Path) -> Any:
    """Returns a file as a ``datasets.Dataset``."""
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    _check_lines(path, lines)
    return _parse(path, lines[0].rstrip("\r"), cache / hashlib.blake2b(content, digest_size=8).hexdigest())


def _joined(rows: Iterable[Row], key: str, beside: Any, path: Path) -> Iterator[Row]:
    """Yields the rows with the columns of the row of another file that has the same key."""
    others = {values[key]: values for values in _values(beside)}
    for row in rows:
        if row.values[key] not in others:
            raise UserError(f"{row.place}: {path} has no row with {key} {row.values[key]!r}")
        yield row._replace(values={**others[row.values[key]], **row.values})


def _grouped(rows: Iterable[Row], key: str) -> Iterator[Row]:
    """Yields one row for each value of a column, in order of appearance: the values of its rows as lists."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.values[key], []).append(row)
    for first, *others in groups.values():
        lists = {column: [row.values[column] for row in (first, *others)] for column in first.values}
        yield first._replace(values=lists)


def hub_rows(info: DatasetInfo, part: str, cache: Path) -> Iterator[Row]:
    """Yields the rows of a part from the Hugging Face hub, labels as names (-1 where unpublished).

    Raises:
        UserError: If the hub has no such part or cannot be reached.
    """
    if part not in HUB_PARTS:
        raise unknown(f"part of {info.name} on the hub", part, HUB_PARTS)
    import datasets
    import huggingface_hub

    remedy = f"connect, or put {info.name}/{info.file_of(part)} under the data folder"
    with _quiet():
        try:
            # Downloads retry for minutes; this one question does not. Offline mode answers from earlier downloads.
            if not huggingface_hub.constants.HF_HUB_OFFLINE:
                huggingface_hub.HfApi().dataset_info(str(info.hub_id), timeout=HUB_SECONDS)
            table = datasets.load_dataset(
                str(info.hub_id), info.name, split=HUB_PARTS[part], cache_dir=str(cache / "hub")
            )
        except Exception as error:
            raise UserError(
                f"cannot get {info.name}:{part} from the hub ({info.hub_id}): {_reason(error)}; {remedy}"
            ) from error
    names = table.features["label"].names
    for number, values in enumerate(_values(table)):
        label = names[values["label"]] if values["label"] >= 0 else -1
        yield Row(number, f"{info.hub_id}, {info.name}, row {number + 1} of {part}", values | {"label": label})


def plain(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns the example of a row with one or two texts and a label; -1 is GLUE's sign for an unpublished label."""
    texts = tuple(row.values[column] for column in info.columns[: info.texts])
    label = None if str(row.values["label"]) == "-1" else label_index(info, row.values["label"])
    return Example(id=f"{part}-{row.number}", texts=texts, label=label)


def label_index(info: DatasetInfo, value: str | int) -> int:
    """Returns the index of a label given by name or as a number.

    Raises:
        UserError: If the data set has no such label.
    """
    if value in info.labels:
        return info.labels.index(str(value))
    if str(value).isascii() and str(value).isdigit() and int(value) < len(info.labels):
        return int(value)
    allowed = ", ".join(f"{index} or {name}" for index, name in enumerate(info.labels))
    raise UserError(f"label {value!r} is not one of {info.name!r}; allowed: {allowed}")


def _check_lines(path: Path, lines: list[str]) -> None:
    """Refuses a file without rows, and lines of a TSV file with too few or too many fields (parsers mend those)."""
    if sum(map(bool, map(str.strip, lines))) < (2 if path.suffix in {".csv", ".tsv"} else 1):
        raise UserError(f"{path} has no row; give a file with at least one")
    tabs = lines[0].count("\t")
    for number, line in enumerate(lines, start=1):
        if path.suffix == ".tsv" and line.strip("\r\n") and line.count("\t") != tabs:
            raise UserError(f"{path}, line {number}: {line.count(chr(9)) + 1} fields; the header has {tabs + 1}")


def _parse(path: Path, header: str, cache: Path) -> Any:
    """Returns the file as a ``datasets.Dataset``; every value of a CSV or TSV file stays a string."""
    import datasets

    form: dict[str, dict[str, Any]] = {".tsv": {"sep": "\t", "quoting": csv.QUOTE_NONE}, ".csv": {}}
    with _quiet():
        try:
            # Not load_dataset: that reports each use of a local file to a server.
            if path.suffix == ".txt":
                return datasets.Dataset.from_text(str(path), cache_dir=str(cache))
            if path.suffix not in form:
                return datasets.Dataset.from_json(str(path), cache_dir=str(cache))
            delimiter = form[path.suffix].get("sep", ",")
            names = next(csv.reader([header], delimiter=delimiter, quoting=form[path.suffix].get("quoting", 0)), [])
            return datasets.Dataset.from_csv(
                str(path),
                features=datasets.Features({name: datasets.Value("string") for name in names}),
                cache_dir=str(cache),
                keep_default_na=False,
                skip_blank_lines=False,
                encoding="utf-8",
                **form[path.suffix],
            )
        except Exception as error:
            raise UserError(f"cannot read {path}: {_reason(error)}") from error


def _values(table: Any) -> Iterator[dict[str, Any]]:
    """Yields the rows of a ``datasets.Dataset`` (a batch at a time: row by row it takes far longer)."""
    for batch in table.iter(batch_size=1000):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _reason(error: BaseException) -> str:
    """Returns the first line of the innermost cause."""
    while error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the progress bars and loggers of the two packages, then restores them."""
    import datasets
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown, hub_shown = not datasets.are_progress_bars_disabled(), not are_progress_bars_disabled()
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub", "httpx")]
    levels = [logger.level for logger in loggers]
    datasets.disable_progress_bars()
    disable_progress_bars()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()
        if hub_shown:
            enable_progress_bars()
