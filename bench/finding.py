"""What the contract test finds."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One check: where, what must hold, and what was found instead (None if it holds)."""

    place: str
    check: str
    problem: str | None = None
    skipped: bool = False
