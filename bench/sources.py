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

from attrlab.bench.data_catalogue import DatasetInfo
from attrlab.bench.errors import UserError, unknown
from attrlab.bench.inputs import Example, Span, words

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
    path = folder / info.file.format(part=part)
    if not path.is_file():
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise UserError(f"no such file: {str(path)!r}; {info.name}:{part} is read from it (the folder holds: {there})")
    content = path.read_bytes()
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    _check_lines(path, lines)
    table = _parse(path, lines[0].rstrip("\r"), cache / hashlib.blake2b(content, digest_size=8).hexdigest())
    missing = [column for column in info.columns if column not in table.column_names]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; it has: {', '.join(table.column_names)}")
    # In a CSV file with quotes a row may take several lines, so only the row is known there.
    unit, first = {".tsv": ("line", 2), ".jsonl": ("line", 1), ".csv": ("row", 1)}[path.suffix]
    for number, values in enumerate(_values(table)):
        if any(value not in (None, "") for value in values.values()):
            yield Row(number, f"{path}, {unit} {number + first}", values)


def hub_rows(info: DatasetInfo, part: str, cache: Path) -> Iterator[Row]:
    """Yields the rows of a part from the Hugging Face hub, labels as names (-1 where unpublished).

    Raises:
        UserError: If the hub has no such part or cannot be reached.
    """
    if part not in HUB_PARTS:
        raise unknown(f"part of {info.name} on the hub", part, HUB_PARTS)
    import datasets
    import huggingface_hub

    remedy = f"connect, or put {info.name}/{info.file.format(part=part)} under the data folder"
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
    label = None if str(row.values["label"]) == "-1" else _label(info, row.values["label"])
    return Example(id=f"{part}-{row.number}", texts=texts, label=label)


def fair_rationales(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns a sentence with the rationales of those annotators who chose its original label.

    A rationale belongs to its annotator's label, so those given for another label or for "no sentiment" say
    nothing about this one. Where nobody chose the original label there are no rationales.
    """
    values = row.values
    agreeing = [given for given in values["annotations"] if given["label"] == values["original_label"]]
    text, spans = _join(values["tokens"])
    return Example(
        id=f"{part}-{values['text_id']}",
        texts=(text,),
        label=_label(info, values["original_label"]),
        rationales=tuple((_marked(spans, given["rationale"]),) for given in agreeing) or None,
    )


def eraser_movies(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns a review; its rationale spans are half-open ranges of the words of the text (empty ones are dropped)."""
    text = row.values["text"]
    places = words(text)
    spans = []
    for first, last in row.values["rationale_spans"]:
        if not 0 <= first <= last <= len(places):
            raise UserError(f"rationale span [{first}, {last}) is outside the text of {len(places)} words")
        if first < last:
            spans.append((places[first][0], places[last - 1][1]))
    label = _label(info, row.values["label"])
    return Example(id=row.values["id"], texts=(text,), label=label, rationales=((tuple(spans),),))


def hatexplain(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns a post with the rationale of every annotator who gave one."""
    text, spans = _join(row.values["tokens"])
    return Example(
        id=row.values["id"],
        texts=(text,),
        label=_label(info, row.values["label"]),
        rationales=tuple((_marked(spans, marks),) for marks in row.values["rationales"]) or None,
    )


def tweet_sentiment_extraction(info: DatasetInfo, part: str, row: Row) -> Example | None:
    """Returns a tweet with its selected part; None if it belongs to the other part.

    There is one file. A tenth of it is ``test``, chosen by a hash of the letters and digits of the text, so that
    copies of a tweet stay together.
    """
    text = row.values["text"]
    key = "".join(char for char in text.lower() if char.isalnum())
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    if (int.from_bytes(digest, "big") % 10 == 0) != (part == "test"):
        return None
    span = (int(row.values["start"]), int(row.values["end"]))
    label = _label(info, row.values["sentiment"])
    return Example(id=row.values["textID"], texts=(text,), label=label, rationales=(((span,),),))


def _label(info: DatasetInfo, value: str | int) -> int:
    """Returns the index of a label given by name or as a number."""
    if value in info.labels:
        return info.labels.index(str(value))
    if str(value).isascii() and str(value).isdigit() and int(value) < len(info.labels):
        return int(value)
    allowed = ", ".join(f"{index} or {name}" for index, name in enumerate(info.labels))
    raise UserError(f"label {value!r} is not one of {info.name!r}; allowed: {allowed}")


def _join(tokens: list[str]) -> tuple[str, list[Span]]:
    """Returns the tokens joined by blanks, and the span of each."""
    spans, start = [], 0
    for token in tokens:
        spans.append((start, start + len(token)))
        start += len(token) + 1
    return " ".join(tokens), spans


def _marked(spans: list[Span], marks: list[int]) -> tuple[Span, ...]:
    """Returns the spans of the tokens marked with 1."""
    if len(marks) != len(spans):
        raise UserError(f"a rationale has {len(marks)} marks for {len(spans)} tokens; give one per token")
    return tuple(span for span, mark in zip(spans, marks, strict=True) if mark)


def _check_lines(path: Path, lines: list[str]) -> None:
    """Refuses a file without rows, and lines of a TSV file with too few or too many fields (parsers mend those)."""
    if sum(map(bool, map(str.strip, lines))) < (1 if path.suffix == ".jsonl" else 2):
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
