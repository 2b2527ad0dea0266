"""Executors: same results in this process, in several and on Ray; what a worker that is killed costs."""

import os
import signal

import pytest
import ray

from attrlab.bench.errors import UserError
from attrlab.bench.executor import Local
from attrlab.bench.executor_ray import RETRIES, DeskStore, Ray, room
from attrlab.bench.store import Store


class Squares:
    """Writes the square of each item; remembers what it has done, and may kill its own process."""

    def __init__(self, store, killer=None, kills=1):
        self.store, self.killer, self.kills = store, killer, kills
        self.done = []

    def __call__(self, item, progress):
        progress.now(f"item {item}")
        if not self.store.find("scores", f"first-{item}"):
            self.store.write("scores", f"first-{item}", {"item": item}, [{"value": item**2}])
        if self.killer is not None and item == 2 and len(list(self.killer.iterdir())) < self.kills:
            (self.killer / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        value = self.store.read("scores", f"first-{item}")[0]["value"]
        self.store.write("scores", f"second-{item}", {"item": item}, [{"value": value + 1, "pair": (1, 2.5)}])
        progress.done(2)
        self.done.append(item)
        return value, self.done[0], self.store.read("scores", f"second-{item}")


class Heard:
    """What a progress was told."""

    def __init__(self):
        self.chunks, self.last = 0, ""

    def now(self, what):
        self.last = what

    def done(self, chunks=1):
        self.chunks += chunks


@pytest.fixture(scope="module")
def cluster():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=["here", "processes", "ray"])
def executor(request):
    if request.param == "ray":
        request.getfixturevalue("cluster")
        return Ray(2, "", small=True, gpu=False)
    return Local(1 if request.param == "here" else 2)


def values(folder):
    return {path.stem: path.read_text("utf-8") for path in (folder / "scores").glob("*.json")}


def test_all_carry_out_the_same(executor, tmp_path):
    heard = Heard()
    found = executor.each(Squares(executor.share(Store(tmp_path / "o"))), range(6), heard)
    assert [value for value, _, _ in found] == [0, 1, 4, 9, 16, 25]
    assert all(rows == [{"value": value + 1, "pair": [1, 2.5]}] for value, _, rows in found)
    assert len({first for _, first, _ in found}) <= 2  # a worker keeps what it is from item to item
    assert (heard.chunks, heard.last[:4]) == (12, "item")
    here = tmp_path / "here"
    Local(1).each(Squares(Store(here)), range(6), Heard())
    assert values(tmp_path / "o") == values(here)


def test_errors_come_back_as_they_are(executor):
    with pytest.raises(UserError, match="no such thing: 3"):
        executor.each(refuse, range(6), Heard())


def refuse(item, _progress):
    """Refuses one item."""
    if item == 3:
        raise UserError(f"no such thing: {item}")


@pytest.mark.parametrize("kind", [TimeoutError, ValueError, UserError])
def test_what_the_work_raises_is_what_is_raised(executor, kind):
    with pytest.raises(kind, match="item 3 is wrong") as told:
        executor.each(Raises(kind), range(6), Heard())
    assert type(told.value) is kind


class Raises:
    """Raises an error on one item."""

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, item, _progress):
        if item == 3:
            raise self.kind(f"item {item} is wrong")


@pytest.mark.usefixtures("cluster")
def test_a_full_disk_is_one_line_on_ray_as_well(tmp_path):
    executor = Ray(2, "", small=True, gpu=False)
    store = executor.share(Store(tmp_path / "o"))
    (tmp_path / "o" / "scores").rmdir()
    (tmp_path / "o" / "scores").write_text("in the way")
    with pytest.raises(UserError) as told:
        executor.each(Squares(store), range(2), Heard())
    assert "\n" not in str(told.value)
    assert str(tmp_path) in str(told.value)


@pytest.mark.parametrize(
    ("nodes", "workers", "small", "gpu", "expected"),
    [
        ([(0, 0), (32, 0), (32, 0)], 0, False, False, (2, 32)),  # a head that lends nothing
        ([(64, 0), (8, 0)], 0, False, False, (2, 8)),
        ([(64, 0), (8, 2)], 0, False, True, (2, 4)),  # the cores beside the accelerators
        ([(8, 0)], 3, False, False, (3, 2)),
        ([(8, 0), (8, 0)], 3, False, False, (3, 4)),
        ([(2, 0)], 3, True, False, (3, 0.66)),
        ([(2, 0)], 0, True, False, (2, 1)),
    ],
)
def test_all_actors_find_room_at_once(nodes, workers, small, gpu, expected):
    assert room(nodes, workers, small, gpu) == expected


def double(item, _progress):
    """Doubles an item."""
    return 2 * item


def test_a_killed_process_is_one_line(tmp_path):
    (tmp_path / "killed").mkdir()
    with pytest.raises(UserError, match="the same command goes on"):
        Local(2).each(Squares(Store(tmp_path / "o"), tmp_path / "killed"), range(6), Heard())


@pytest.mark.usefixtures("cluster")
def test_a_killed_actor_costs_what_it_had_not_handed_in(tmp_path):
    (tmp_path / "killed").mkdir()
    executor = Ray(2, "", small=True, gpu=False)
    store = executor.share(Store(tmp_path / "o"))
    found = executor.each(Squares(store, tmp_path / "killed"), range(6), Heard())
    assert [value for value, _, _ in found] == [0, 1, 4, 9, 16, 25]
    assert len(list((tmp_path / "killed").iterdir())) == 1
    Local(1).each(Squares(Store(tmp_path / "here")), range(6), Heard())
    assert values(tmp_path / "o") == values(tmp_path / "here")


@pytest.mark.usefixtures("cluster")
def test_an_item_that_kills_every_actor_ends_the_run(tmp_path):
    (tmp_path / "killed").mkdir()
    executor = Ray(2, "", small=True, gpu=False)
    work = Squares(executor.share(Store(tmp_path / "o")), tmp_path / "killed", kills=9)
    with pytest.raises(UserError, match="the same command goes on"):
        executor.each(work, range(6), Heard())
    assert len(list((tmp_path / "killed").iterdir())) == 1 + RETRIES


@pytest.mark.usefixtures("cluster")
def test_rows_are_forgotten_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("attrlab.bench.executor_ray.KEPT", 2)
    Store(tmp_path / "o").write("scores", "old", {}, [{"reason": "failed: so"}])
    store = Ray(1, "", small=True, gpu=False).share(Store(tmp_path / "o"))
    assert isinstance(store, DeskStore)
    assert store.failed("scores", "old")
    for name in "abc":
        store.write("scores", name, {}, [{"value": name}])
    assert [store.find("scores", name) for name in ("old", "c", "d")] == [True, True, False]
    assert (store.fresh, store.found) == (3, 2)
    assert [store.read("scores", name) for name in "abc"] == [[{"value": name}] for name in "abc"]


def test_cores_are_shared_out(cluster):
    assert Ray(0, "", small=True, gpu=False).workers == 2
    assert Ray(0, "", small=False, gpu=False).workers == 1
    assert Ray(5, "", small=True, gpu=False).each(double, range(6), Heard()) == [0, 2, 4, 6, 8, 10]  # more than cores
    with pytest.raises(UserError, match="no machine of the Ray cluster has a GPU and a core"):
        Ray(0, "", small=True, gpu=True)
