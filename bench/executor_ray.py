"""Carries out work on a Ray cluster, or on the cores of this machine as Ray hands them out (extra ``ray``).

Every worker is an actor with a copy of the work, so a model is loaded once per worker. Results travel through Ray's
object store to a desk, an actor on the machine of the run, which alone touches the results folder. An actor that dies
costs the chunks it had not handed in: a new one goes on with its item.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import ActorPool
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from attrlab.bench.errors import UserError
from attrlab.bench.executor import LOST, Progress, Work
from attrlab.bench.store import Kind, Store
from attrlab.bench.types import Json

T = TypeVar("T")

RETRIES = 2
"""How often an item is begun anew whose worker died."""

KEPT = 256
"""Chunks whose rows a worker keeps: metrics read those of the slice at hand again and again."""

POLL = 0.2
"""Seconds between two looks at what the workers report."""


class Ray:
    """Works in actors of Ray.

    Args:
        workers: Number of actors; 0 takes one per accelerator, per core for small models, or per machine.
        address: Of a running cluster (``auto``, ``HOST:6379``); empty starts one on this machine.
        small: Whether one core each is enough; else the actors share the cores out among them, as their threads.
        gpu: Whether each actor has an accelerator of its own.

    Raises:
        UserError: If there is no cluster at the address, or it lacks what actors need.
    """

    threads = 0
    """Ray tells its workers how many cores they have."""

    def __init__(self, workers: int, address: str, *, small: bool, gpu: bool) -> None:
        _join(address)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        self.workers, own = room([(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes], workers, small, gpu)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        told = {name: value for name, value in os.environ.items() if name.startswith(("ATTRLAB_", "HF_"))}
        told["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # what can be imported here can be there
        self._actor = ray.remote(_Actor).options(
            num_cpus=own, num_gpus=int(gpu), runtime_env={"env_vars": told}, max_restarts=-1, max_task_retries=RETRIES
        )
        self._desk: Any = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()

    def share(self, store: Store) -> Store:
        """Returns the store as actors reach it: through the desk."""
        return DeskStore(store.folder.absolute(), self._desk)

    def each(self, work: Work[T], items: Sequence[Any], progress: Progress) -> list[T]:
        """See :meth:`attrlab.bench.executor.Executor.each`."""
        shared, count = ray.put(work), min(self.workers, len(items))
        actors: list[Any] = [self._actor.remote(shared, self._desk, str(Path.cwd())) for _ in range(count)]
        pool, found = ActorPool(actors), dict[int, T]()
        for numbered in enumerate(items):
            pool.submit(lambda actor, numbered: actor.do.remote(*numbered), numbered)
        try:
            while pool.has_next():  # type: ignore[no-untyped-call]
                index, result = _next(pool)
                if index >= 0:
                    found[index] = result
                while pool.has_free():  # type: ignore[no-untyped-call]  # the room may be what a lost one waits for
                    ray.kill(pool.pop_idle())  # type: ignore[no-untyped-call]
                for kind, value in ray.get(self._desk.news.remote()):
                    getattr(progress, kind)(value)
        except RayTaskError as error:
            raise _cause(error) from None
        except RayError as error:
            begun = not getattr(error, "actor_init_failed", False)
            last = str(error).strip().rpartition("\n")[2]
            raise UserError(LOST if begun else f"a Ray worker cannot start: {last}") from error
        finally:
            for actor in actors:
                ray.kill(actor)
        return [found[index] for index in range(len(items))]


def room(nodes: Sequence[tuple[float, float]], workers: int, small: bool, gpu: bool) -> tuple[int, float]:
    """Returns how many actors there are to be and how many cores each has, so that all fit at once.

    Args:
        nodes: Cores and accelerators of each machine.
        workers: Number of actors; 0 takes one per accelerator, per core for small models, or per machine.
        small: Whether one core each is enough.
        gpu: Whether each has an accelerator of its own.

    Raises:
        UserError: If no machine has what an actor needs.

    >>> room([(8, 0), (4, 0)], 0, True, False), room([(8, 0), (4, 0)], 0, False, False), room([(2, 0)], 3, True, False)
    ((12, 1.0), (2, 4.0), (3, 0.66))
    """
    fit = [(int(cores), int(devices)) for cores, devices in nodes if cores >= 1 and (devices >= 1 or not gpu)]
    if not fit:
        raise UserError(f"no machine of the Ray cluster has {'a GPU and a core' if gpu else 'a core'}; start one")
    cores = sum(cores for cores, _ in fit)
    workers = workers or sum(devices if gpu else cores if small else 1 for cores, devices in fit)
    if workers > cores:
        return workers, int(100 * cores / workers) / 100
    if small:
        return workers, 1.0
    each = ceil(workers / len(fit))
    return workers, float(max(1, min(cores // (devices if gpu else each) for cores, devices in fit)))


def _next(pool: Any) -> tuple[int, Any]:
    """Returns index and result of an item that is finished; -1 if none is, after a while."""
    try:
        found: tuple[int, Any] = pool.get_next_unordered(POLL)
    except TimeoutError as error:
        if isinstance(error, RayTaskError):  # the work's own
            raise
        return -1, None
    return found


def _cause(error: BaseException) -> BaseException:
    """Returns what was raised where the work was done; its traceback there, where it is nothing to tell a user."""
    while isinstance(error, RayTaskError):
        told, error = error, error.cause
        if not isinstance(error, RayTaskError | UserError):
            error.__cause__ = told
    return error


def _join(address: str) -> None:
    """Connects to a cluster, or starts one here; what is connected already is used."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster at {address!r}: {str(error).partition(chr(10))[0]}; start one with 'ray start --head'"
        ) from error


class Desk:
    """Keeps the results folder, and what workers tell of their progress."""

    def __init__(self) -> None:
        self._news: list[tuple[str, Any]] = []

    def keys(self, folder: Path) -> set[str]:
        """Returns the chunks that a folder holds, as KIND/KEY."""
        return {f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.json")}

    def read(self, folder: Path, kind: Kind, key: str) -> list[Json]:
        """Returns the rows of a chunk."""
        return Store(folder).read(kind, key)

    def write(self, folder: Path, kind: Kind, key: str, chunk: Json) -> None:
        """Writes a chunk whole or not at all."""
        Store(folder)._write(kind, key, chunk)

    def tell(self, kind: str, value: Any) -> None:
        """Takes a piece of news."""
        self._news.append((kind, value))

    def news(self) -> list[tuple[str, Any]]:
        """Returns what was told since it was asked last."""
        news, self._news = self._news, []
        return news


class DeskStore(Store):
    """A results folder on another machine; the rows that were read or written last are kept here as well."""

    def __init__(self, folder: Path, desk: Any) -> None:
        self.folder = folder
        self.fresh = 0
        self.found = 0
        self._desk = desk
        self._rows: dict[str, list[Json]] = {}

    @cached_property
    def _known(self) -> set[str]:
        """The chunks that were there at first and those written here: nobody else writes what this worker asks for."""
        known: set[str] = ray.get(self._desk.keys.remote(self.folder))
        return known

    def read(self, kind: Kind, key: str) -> list[Json]:
        """Returns the rows of a chunk."""
        name = f"{kind}/{key}"
        if name not in self._rows:
            self._keep(name, ray.get(self._desk.read.remote(self.folder, kind, key)))
        return self._rows[name]

    def _is_there(self, kind: Kind, key: str) -> bool:
        return f"{kind}/{key}" in self._known

    def _write(self, kind: Kind, key: str, chunk: Json) -> None:
        ray.get(self._desk.write.remote(self.folder, kind, key, ray.put(chunk)))
        self._known.add(f"{kind}/{key}")
        self._keep(f"{kind}/{key}", json.loads(json.dumps(chunk["rows"])))  # as a file would give them back

    def _keep(self, name: str, rows: list[Json]) -> None:
        self._rows[name] = rows
        if len(self._rows) > KEPT:
            del self._rows[next(iter(self._rows))]


class _Actor:
    """A worker."""

    def __init__(self, work: Any, desk: Any, folder: str) -> None:
        if Path(folder).is_dir():  # paths of models and plug-ins may be relative to it
            os.chdir(folder)
        self._work = work
        self._desk = desk

    def do(self, index: int, item: Any) -> tuple[int, Any]:
        """Carries out the work on an item; returns its index and the result."""
        return index, self._work(item, self)

    def now(self, what: str) -> None:
        """Reports what is being worked on."""
        self._desk.tell.remote("now", what)

    def done(self, chunks: int = 1) -> None:
        """Reports finished chunks."""
        self._desk.tell.remote("done", chunks)
