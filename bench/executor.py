"""Carries work out in this process, or in several on this machine: the same functions, the same files.

Workers die with the process that started them, so a run that is killed leaves nothing behind that still writes.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from attrlab.bench.errors import UserError
from attrlab.bench.store import Store

T = TypeVar("T")


class Progress(Protocol):
    """Told what is being done, and when a chunk is done."""

    def now(self, what: str) -> None:
        """What is being worked on."""

    def done(self, chunks: int = 1) -> None:
        """So many chunks are finished, computed or found."""


Work = Callable[[Any, Progress], T]
"""Something to be done for one item, told where to report progress: a module-level function, or an object that can be
pickled. Every worker has a copy of its own, which keeps from item to item what it loaded."""

LOST = "a worker process was killed, for want of memory perhaps; the same command goes on where this one ended"

_events: Any = None
_work: Any = None


class Executor(Protocol):
    """Who carries out work.

    Attributes:
        threads: Of each worker; 0 leaves it to torch.
    """

    @property
    def threads(self) -> int: ...  # noqa: D102

    def share(self, store: Store) -> Store:
        """Returns a store as its workers reach it."""

    def each(self, work: Work[T], items: Sequence[Any], progress: Progress) -> list[T]:
        """Returns ``work(item, progress)`` for every item, in the order of the items.

        Args:
            work: What to do.
            items: Largest first, so that no worker is left with the largest at the end.
            progress: Told of the progress of all.

        Raises:
            UserError: If a worker died, for want of memory perhaps.
        """


@dataclass(frozen=True)
class Local:
    """Works in so many processes on this machine; one is this process itself."""

    workers: int

    @property
    def threads(self) -> int:
        """Every worker's share of the cores."""
        return max(1, (os.cpu_count() or 1) // self.workers) if self.workers > 1 else 0

    def share(self, store: Store) -> Store:
        """Returns another store of the same folder, which counts for itself."""
        return Store(store.folder)

    def each(self, work: Work[T], items: Sequence[Any], progress: Progress) -> list[T]:
        """See :meth:`Executor.each`."""
        if self.workers <= 1 or len(items) <= 1:
            return [work(item, progress) for item in items]
        context = multiprocessing.get_context("spawn")
        events = context.SimpleQueue()  # its put returns when the parent can read it
        entry = (events, os.getpid(), work)
        pool = ProcessPoolExecutor(min(self.workers, len(items)), context, initializer=_enter, initargs=entry)
        try:
            futures = [pool.submit(_do, item) for item in items]
            for _ in _until_done(futures):
                _drain(events, progress)
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise UserError(LOST) from error
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _until_done(futures: Sequence[Future[Any]]) -> Iterator[None]:
    """Yields a few times a second until all are done, or one has failed."""
    while any(not future.done() for future in futures):
        done, _ = wait(futures, timeout=0.2, return_when="FIRST_EXCEPTION")
        yield
        if any(future.exception() for future in done):
            return
    yield


def _drain(events: Any, progress: Progress) -> None:
    while not events.empty():
        kind, value = events.get()
        getattr(progress, kind)(value)


def _enter(events: Any, parent: int, work: Any) -> None:
    """Prepares a worker: reports to ``events``, leaves Ctrl-C to the parent, dies with it."""
    global _events, _work
    _events, _work = events, work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


class _Remote:
    """Sends progress to the process that shows it."""

    def now(self, what: str) -> None:
        _events.put(("now", what))

    def done(self, chunks: int = 1) -> None:
        _events.put(("done", chunks))


def _do(item: Any) -> Any:
    return _work(item, _Remote())
