"""A method that fails, or takes too long, harms nobody but itself: its error becomes a reason, its time has a limit."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from attrlab.bench.errors import BudgetExceededError, ContractError, NotApplicableError

TIMED_OUT = "timed out after {:g} s"

Failure = (Exception, SystemExit)
"""What a method may raise that costs only its own example; an interrupt by the user is none of them."""


@contextmanager
def time_limit(seconds: float | None, message: str = "timed out") -> Iterator[None]:
    """Raises :class:`BudgetExceededError` in the block when it takes longer than ``seconds`` (main thread only)."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise BudgetExceededError(message)

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe(error: BaseException) -> str:
    """Returns an error as a reason of one line; our own are already worded for the reader."""
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, ContractError | NotApplicableError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
