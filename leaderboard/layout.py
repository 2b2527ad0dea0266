"""How the files of a results folder are laid out: what ``run.json`` and the chunks hold, as far as it is read."""

from dataclasses import dataclass

from attrlab.leaderboard.board import AttributionRow, Prediction, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScores:
    """Where the scores of one column of a cell are, or why there are none."""

    reason: str | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCell:
    """Where everything about one method on one model and data set is."""

    model: str
    dataset: str
    method: str
    reason: str | None = None
    predictions: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()
    scores: tuple[StoredScores, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredShift:
    """Where one operator's shift is."""

    model: str
    dataset: str
    operator: str
    reason: str | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredRun(Settings):
    """``run.json``."""

    cells: tuple[StoredCell, ...]
    shifts: tuple[StoredShift, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScore:
    """One row of a chunk of scores."""

    example: str
    value: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftRow:
    """The only row of a chunk of a shift."""

    share: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """A chunk of predictions."""

    rows: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributions:
    """A chunk of attributions."""

    rows: tuple[AttributionRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A chunk of scores."""

    rows: tuple[StoredScore, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """A chunk of a shift."""

    rows: tuple[ShiftRow, ...]


CHUNKS: dict[str, type[Predictions | Attributions | Scores | Shifts]] = {
    "predictions": Predictions,
    "attributions": Attributions,
    "scores": Scores,
    "shifts": Shifts,
}
"""What a chunk of each kind holds."""
