"""What the metrics that train models measured: accuracy by share of removed words, as stored, and the table of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attrlab.bench.types import Floats
from attrlab.leaderboard.board import Board
from attrlab.leaderboard.decode import decode, load_json
from attrlab.leaderboard.statistics import Aggregate, aggregate

CLOCK = 60
"""Seconds above which a time is shown in minutes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Accuracy of every training: one row per share of removed words, one number per seed.

    Attributes:
        method: Words removed that the explanation ranks first.
        random: As many words removed at random.
        none: All words removed; one row.
        whole: No word removed; one row.
    """

    method: tuple[Floats, ...]
    random: tuple[Floats, ...]
    none: tuple[Floats, ...]
    whole: tuple[Floats, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Details:
    """What one metric that trains found for one method.

    Attributes:
        shares: Shares of words removed, per cent.
        seeds: Of the trainings.
        seconds: Time that all trainings took, those shared with other methods included.
        accuracy: Accuracy after ROAR, else None.
        macro_f1: The same as macro-F1.
        racu: RACU of each seed; empty or None where undefined.
        pattern: Accuracy when only the pattern of removal is shown (the leak control), else None.
        majority: Accuracy of the most frequent label.
    """

    shares: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    seconds: float = 0.0
    accuracy: Curves | None = None
    macro_f1: Curves | None = None
    racu: tuple[float | None, ...] = ()
    pattern: tuple[Floats, ...] | None = None
    majority: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A study of the run, by its key."""

    model: str
    dataset: str
    method: str
    metric: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A study with what it found."""

    entry: Entry
    details: Details


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """One metric on one model and data set: what stands in one set of axes."""

    model: str
    dataset: str
    metric: str
    found: tuple[Found, ...]

    @property
    def leak(self) -> bool:
        """Whether this is the leak control."""
        return self.found[0].details.pattern is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One method in the table of a panel.

    Attributes:
        method: Its name.
        value: Mean with its 95 % interval over texts, or why there is none.
        low: Least value over seeds, None where there is one per text only.
        high: Greatest.
        seconds: Time that the trainings took.
    """

    method: str
    value: Aggregate
    low: float | None
    high: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stored:
    studies: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Chunk:
    rows: tuple[Details, ...]


def panels(folder: Path) -> list[Panel]:
    """Returns what is stored of ROAR and its leak control, by data set and model; empty where neither ran.

    Raises:
        UserError: If a file is broken or of another schema.
    """
    path = folder / "run.json"
    run = decode(_Stored, load_json(path), str(path))
    groups: dict[tuple[str, str, str], list[Found]] = {}
    for entry in run.studies:
        details = _details(folder, entry)
        if details is not None and (details.accuracy or details.pattern):
            group = groups.setdefault((entry.dataset, entry.model, entry.metric), [])
            group.append(Found(entry=entry, details=details))
    return [
        Panel(model=model, dataset=dataset, metric=metric, found=tuple(found))
        for (dataset, model, metric), found in groups.items()
    ]


def _details(folder: Path, entry: Entry) -> Details | None:
    if not entry.key.isalnum():  # a results folder may come from someone else: a key must not lead out of it
        return None
    path = folder / "studies" / f"{entry.key}.json"
    return decode(_Chunk, load_json(path), str(path)).rows[0] if path.is_file() else None


def lines(board: Board, panel: Panel) -> Iterator[Line]:
    """Yields the table of a panel, one line per method, in the order of the run."""
    values = {
        one.method: one
        for one in aggregate(board)
        if (one.model, one.dataset, one.column.metric) == (panel.model, panel.dataset, panel.metric)
    }
    for found in panel.found:
        known = [value for value in found.details.racu if value is not None]
        yield Line(
            method=found.entry.method,
            value=values[found.entry.method],
            low=min(known, default=None),
            high=max(known, default=None),
            seconds=found.details.seconds,
        )


def clock(seconds: float) -> str:
    """Returns a time in words.

    >>> clock(12.3), clock(150)
    ('12 s', '2.5 min')
    """
    return f"{seconds:.0f} s" if seconds < CLOCK else f"{seconds / 60:.1f} min"


def curve(rows: Sequence[Floats]) -> tuple[list[float], list[float], list[float]]:
    """Returns the mean over seeds of each row, the least and the greatest."""
    return [float(r.mean()) for r in rows], [float(r.min()) for r in rows], [float(r.max()) for r in rows]
