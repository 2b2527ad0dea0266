"""Carries work out in this process, or in several on this machine: the same functions, the same files.

Workers die with the process that started them, so a run that is killed leaves nothing behind that still writes.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

from attrlab.bench.session import Progress

T = TypeVar("T")
Work = Callable[[Any, Progress], T]
"""Something to be done for one item; a module-level function, told where to report progress."""

_events: Any = None


def each(work: Work[T], items: Sequence[Any], workers: int, progress: Progress) -> list[T]:
    """Returns ``work(item, progress)`` for every item, in the order of the items.

    Args:
        work: A module-level function.
        items: Largest first, so that no worker is left with the largest at the end.
        workers: Processes; 1 works in this one.
        progress: Told of the progress of all.
    """
    if workers <= 1 or len(items) <= 1:
        return [work(item, progress) for item in items]
    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    pool = ProcessPoolExecutor(min(workers, len(items)), context, initializer=_enter, initargs=(events, os.getpid()))
    try:
        futures = [pool.submit(_work, work, item) for item in items]
        for _ in _until_done(futures):
            _drain(events, progress)
        return [future.result() for future in futures]
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
    with contextlib.suppress(queue.Empty):
        while True:
            kind, value = events.get_nowait()
            getattr(progress, kind)(value)


def _enter(events: Any, parent: int) -> None:
    """Prepares a worker: reports to ``events``, leaves Ctrl-C to the parent, dies with it."""
    global _events  # noqa: PLW0603 - a worker has one parent to report to
    _events = events
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


def _work(work: Work[T], item: Any) -> T:
    return work(item, _Remote())
