"""What is stored is not computed again, and the tables do not tell whether a run was interrupted."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cliruns import chunks

from attrlab.bench import command

SUITE = """
datasets = ["lexicon"]
methods = ["random", "leave_one_out", "shapley_sampling:permutations=2", "saliency"]
metrics = ["comprehensiveness", "tau_loo", "seed_consistency", "noise_stability", "planted_recall", "seconds"]
limit = 6
chunk = 2
[re_explain]
examples = 3
seeds = 2
draws = 2
"""

MINE = "class Mine:\n    def ask(self, game, rng):\n        full = yield from game.values([[True] * game.n_units])\n"


@pytest.fixture
def go(attrlab, model, tmp_path):
    """Runs the suite into a folder."""
    (tmp_path / "small.toml").write_text(SUITE)
    arguments = ("run", tmp_path / "small.toml", "--model", model, "--workers", 1)
    return lambda out, *more: attrlab(*arguments, "--out", out, *more)


@pytest.fixture(scope="module")
def reference():
    """Table and number of chunks of the uninterrupted run, filled in by the first test that needs it."""
    return {}


@pytest.fixture
def whole(go, attrlab, tmp_path, reference):
    """The table of an uninterrupted run, and the names of its chunks."""
    if not reference:
        assert go("whole").code == 0
        reference["table"] = attrlab.table("whole")
        reference["chunks"] = set(chunks(tmp_path / "whole"))
    return reference["table"], reference["chunks"]


def interrupt_after(patch, k):
    """Lets Ctrl-C come when ``k`` chunks are done."""
    seen = []

    def done(_bar, _chunks=1):
        seen.append(1)
        if len(seen) == k:
            raise KeyboardInterrupt

    patch.setattr(command.Bar, "done", done)


def test_second_run_computes_nothing_and_changes_no_table(go, attrlab, tmp_path):
    go("o")
    before, table = chunks(tmp_path / "o"), attrlab.table("o")
    called = go("o")
    assert f"0 chunks computed, {len(before)} found whole" in called.out
    assert chunks(tmp_path / "o") == before
    assert attrlab.table("o") == table


def test_two_folders_hold_the_same_table(go, attrlab, whole):
    assert go("other").code == 0
    assert attrlab.table("other") == whole[0]
    assert json.loads(whole[0])


@pytest.mark.parametrize("k", [1, 2, 5, 9, 17])
def test_interrupted_run_is_finished_to_the_same_table(go, attrlab, tmp_path, whole, k):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, k)
        assert go("o").code == 130
    kept = chunks(tmp_path / "o")
    assert k - 1 <= len(kept) < len(whole[1])
    called = go("o")
    assert f"{len(whole[1]) - len(kept)} chunks computed, {len(kept)} found whole" in called.out
    assert kept.items() <= chunks(tmp_path / "o").items()
    assert set(chunks(tmp_path / "o")) == whole[1]
    assert attrlab.table("o") == whole[0]


def test_killed_run_is_finished_to_the_same_table(go, attrlab, model, tmp_path, whole):
    go("unused", "--dry-run")
    arguments = ["run", tmp_path / "small.toml", "--model", model, "--workers", "1", "--out", "o"]
    process = subprocess.Popen(
        [Path(sys.executable).parent / "attrlab", *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "o").glob("attributions/*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (tmp_path / "o" / "scores" / ".writing-of-a-killed-run").write_text("half a chu")
    kept = chunks(tmp_path / "o")
    assert f"{len(kept)} found whole" in go("o").out
    assert kept.items() <= chunks(tmp_path / "o").items()
    assert attrlab.table("o") == whole[0]
    assert not list((tmp_path / "o").rglob(".writing-*"))


def test_full_disk_is_one_line_and_finished_chunks_are_kept(go, attrlab, tmp_path, whole):
    replace, written = Path.replace, []

    def full(self, target):
        written.append(target)
        if len(written) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert "the disk is full; free some space and run again, finished chunks are kept" in go("o").message
    kept = chunks(tmp_path / "o")
    assert len(kept) == 11  # the twelfth file is run.json
    assert not list((tmp_path / "o").rglob(".writing-*"))
    assert "11 found whole" in go("o").out
    assert attrlab.table("o") == whole[0]


def test_larger_limit_reuses_the_chunks_of_the_smaller(go, tmp_path):
    go("o", "--limit", 4)
    before = chunks(tmp_path / "o")
    called = go("o", "--limit", 6)
    assert f", {len(before)} found whole" in called.out
    assert before.items() <= chunks(tmp_path / "o").items()
    assert len(chunks(tmp_path / "o")) > len(before)


def test_more_methods_and_metrics_reuse_what_is_there(go, tmp_path):
    go("o", "--method", "random", "--metric", "tau_loo")
    before = chunks(tmp_path / "o")
    go("o")
    assert before.items() <= chunks(tmp_path / "o").items()


@pytest.mark.parametrize("option", [("--seed", 1), ("--method", "random", "--method", "lime:samples=9")])
def test_other_settings_are_not_answered_from_the_store(go, tmp_path, option):
    go("o", "--method", "random", "--method", "lime:samples=8", "--metric", "planted_recall:causal=false")
    before = set(chunks(tmp_path / "o"))
    go("o", "--method", "random", "--method", "lime:samples=8", "--metric", "planted_recall:causal=false", *option)
    assert len(set(chunks(tmp_path / "o")) - before) > 0


def test_retry_computes_failed_chunks_and_their_scores_only(go, attrlab, tmp_path):
    switch = tmp_path / "works"
    (tmp_path / "mine.py").write_text(
        MINE
        + f"        import pathlib\n        if not pathlib.Path({str(switch)!r}).exists(): raise ValueError('no')\n"
        "        return [float(full[0])] * game.n_units\n"
    )
    arguments = (
        "--method",
        "random",
        "--method",
        "mine.py:Mine",
        "--metric",
        "planted_recall:causal=false",
        "--metric",
        "forwards",
    )
    called = go("o", *arguments)
    assert called.out.splitlines()[-1].endswith("failed cells: 2")
    before = chunks(tmp_path / "o")
    switch.touch()
    assert "0 chunks computed" in go("o", *arguments).out
    called = go("o", *arguments, "--retry-failed")
    assert called.out.splitlines()[-1].endswith("failed cells: 0")
    after = chunks(tmp_path / "o")
    renewed = {name for name in after if after[name] != before[name]}
    assert set(after) == set(before)
    # Three slices, each with one chunk of attributions and two of scores.
    assert sorted(name.partition("/")[0] for name in renewed) == ["attributions"] * 3 + ["scores"] * 6
    for name in renewed:
        assert "mine.py" in json.dumps(json.loads((tmp_path / "o" / name).read_text())["of"]) or name.startswith("s")
    assert {record["status"] for record in attrlab.records("o")} == {"ok"}
    assert "0 chunks computed" in go("o", *arguments, "--retry-failed").out


def test_interrupted_retry_is_taken_up_by_the_next(go, attrlab, tmp_path):
    switch = tmp_path / "works"
    (tmp_path / "mine.py").write_text(
        MINE
        + f"        import pathlib\n        if not pathlib.Path({str(switch)!r}).exists(): raise ValueError('no')\n"
        "        return [float(full[0])] * game.n_units\n"
    )
    arguments = ("--method", "mine.py:Mine", "--metric", "planted_recall:causal=false")
    go("o", *arguments)
    switch.touch()

    def stop(*_arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attrlab.bench.run.score", stop)
        assert go("o", *arguments, "--retry-failed").code == 130
    go("o", *arguments, "--retry-failed")
    assert "failed" not in attrlab.table("o")


def test_edited_plug_in_is_not_answered_from_the_store(go, attrlab, tmp_path):
    path = tmp_path / "mine.py"
    arguments = ("--method", "mine.py:Mine", "--metric", "planted_recall:causal=false")
    path.write_text(MINE + "        return [float(i) for i in range(game.n_units)]\n")
    go("o", *arguments)
    first = attrlab.table("o")
    path.write_text(MINE + "        return [float(-i) for i in range(game.n_units)]\n")
    # Three slices: their predictions are found, attributions and scores are made anew.
    assert "6 chunks computed, 3 found whole" in go("o", *arguments).out
    assert attrlab.table("o") != first


def test_folder_written_before_graded_marks_is_taken_up(go, attrlab, tmp_path, whole):
    go("o", "--method", "random", "--metric", "planted_recall:causal=false")
    for path in (tmp_path / "o" / "predictions").iterdir():
        content = json.loads(path.read_text())
        for row in content["rows"]:
            del row["weights"]
        path.write_text(json.dumps(content))
    assert go("o").code == 0
    assert attrlab.table("o") == whole[0]
