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
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError
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
        total, nodes = ray.cluster_resources(), ray.nodes()  # type: ignore[no-untyped-call]
        cores, devices = int(total.get("CPU", 0)), int(total.get("GPU", 0))
        if not cores or (gpu and not devices):
            raise UserError(f"the Ray cluster has {cores} cores and {devices} GPUs; start a node that has some")
        self.workers = workers or (devices if gpu else cores if small else sum(node["Alive"] for node in nodes))
        own = 1 if small else max(1, cores // self.workers)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # what can be imported here can be there
        self._actor = ray.remote(_Actor).options(
            num_cpus=min(own, cores / self.workers),
            num_gpus=int(gpu),
            runtime_env={"env_vars": path},
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
        self._desk: Any = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()

    def share(self, store: Store) -> Store:
        """Returns the store as actors reach it: through the desk."""
        return DeskStore(store.folder.absolute(), self._desk)

    def each(self, work: Work[T], items: Sequence[Any], progress: Progress) -> list[T]:
        """See :meth:`attrlab.bench.executor.Executor.each`."""
        shared, count = ray.put(work), min(self.workers, len(items))
        actors: list[Any] = [self._actor.remote(shared, self._desk) for _ in range(count)]
        pool, found = ActorPool(actors), dict[int, T]()
        for numbered in enumerate(items):
            pool.submit(lambda actor, numbered: actor.do.remote(*numbered), numbered)
        try:
            while pool.has_next():  # type: ignore[no-untyped-call]
                with suppress(TimeoutError):
                    index, result = pool.get_next_unordered(POLL)
                    found[index] = result
                for kind, value in ray.get(self._desk.news.remote()):
                    getattr(progress, kind)(value)
        except RayActorError as error:
            raise UserError(
                f"a Ray worker cannot start: {_cause(error)}" if error.actor_init_failed else LOST
            ) from error
        except RayTaskError as error:
            raise error.cause from None
        finally:
            for actor in actors:
                ray.kill(actor)
        return [found[index] for index in range(len(items))]


def _cause(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]


def _join(address: str) -> None:
    """Connects to a cluster, or starts one here; what is connected already is used."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = {"address": address} if address else {"include_dashboard": False}
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

    def __init__(self, work: Any, desk: Any) -> None:
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
