"""Methods and metrics from outside the repository: files and installed packages, good and broken."""

import importlib
import shutil
import sys
from pathlib import Path

import plugins
import pytest

from attrlab.bench import explain, testing


@pytest.fixture
def mine(tmp_path):
    """The plug-ins in a file of the user's, away from the repository."""
    return shutil.copy(Path(plugins.__file__), tmp_path / "mine.py").name


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with an entry point for a method and one for a metric."""
    shutil.copy(Path(plugins.__file__), tmp_path / "their_package.py")
    info = tmp_path / "theirs-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[attrlab.methods]\ntheir_method = their_package:Good\n[attrlab.metrics]\ntheir_words = their_package:Words\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("their_package", None)


def by_method(records, metric):
    """Records of one metric, by method; those under ``replace`` where operators apply."""
    return {r["method"]: r for r in records if r["metric"] == metric and r["operator"] in (None, "replace")}


def test_methods_and_metric_of_a_file(attrlab, mine):
    wanted = ("random", "leave_one_out", f"{mine}:Good", f"{mine}:Good:scale=2", f"{mine}:White")
    options = [part for name in wanted for part in ("--method", name)]
    assert attrlab.run("o", *options, "--metric", "comprehensiveness", "--metric", f"{mine}:Words").code == 0
    found = by_method(attrlab.records("o"), "comprehensiveness")
    assert list(found) == [*wanted[:3], f"{mine}:Good:scale=2.0", wanted[4]]
    assert {record["status"] for record in found.values()} == {"ok"}
    assert found[f"{mine}:Good"]["mean"] == pytest.approx(found["leave_one_out"]["mean"])
    assert {record["mean"] > 2 for record in by_method(attrlab.records("o"), f"{mine}:Words").values()} == {True}


def test_method_and_metric_of_an_installed_package(attrlab, installed):
    options = ("--method", "their_method", "--method", "leave_one_out", "--metric", "their_words")
    assert attrlab.run("o", *options).code == 0
    found = by_method(attrlab.records("o"), "their_words")
    assert found["their_method"]["mean"] == found["leave_one_out"]["mean"]
    assert '"origin":"theirs==1.2 ' in Path("o/run.json").read_text()
    assert attrlab("check", "their_method").code == 0
    assert attrlab("check", "their_words").code == 0
    assert "their_method" in attrlab("list", "methods").out
    assert "Did you mean 'their_method'?" in attrlab.run("o", "--method", "their_methd").message


def test_broken_methods_fail_alone_with_their_reasons(attrlab, mine, monkeypatch):
    monkeypatch.setattr(explain, "WARM_UP_SECONDS", 0.3)
    good = ("random", "leave_one_out", "saliency", f"{mine}:Good")
    names = [*good[:2], *(f"{mine}:{name}" for name in plugins.BROKEN), *good[2:]]
    options = [part for name in names for part in ("--method", name)]
    metrics = ("--metric", "comprehensiveness", "--metric", "planted_recall")
    called = attrlab.run("o", *options, *metrics, "--timeout", 0.3, limit=2)
    assert called.code == 0
    records = attrlab.records("o")
    failed = [record for record in records if record["status"] == "failed"]
    assert {record["method"] for record in failed} == {f"{mine}:{name}" for name in plugins.BROKEN}
    assert called.out.splitlines()[-1].endswith(f"failed cells: {len(failed)}")
    for record in failed:
        assert plugins.BROKEN[record["method"].partition(":")[2]] in record["reason"]
        assert (record["mean"], record["n_scored"]) == (None, 0)
    attrlab.run("alone", *[part for name in good for part in ("--method", name)], *metrics, limit=2)
    assert [record for record in records if record["method"] in good] == attrlab.records("alone")


def test_broken_metrics_fail_alone_with_their_reasons(attrlab, mine):
    metrics = [part for name in ("ScoreRaises", "ScoreText", "Words") for part in ("--metric", f"{mine}:{name}")]
    assert attrlab.run("o", "--method", "random", *metrics).code == 0
    reasons = {record["metric"].partition(":")[2]: record["reason"] for record in attrlab.records("o")}
    assert "ValueError: no score" in reasons["ScoreRaises"]
    assert "the metric returned str, not a number" in reasons["ScoreText"]
    assert reasons["Words"] is None


@pytest.mark.parametrize("name", ["Good", "Good:scale=3", "White", "Words"])
def test_check_passes_what_is_right(attrlab, mine, name):
    called = attrlab("check", f"{mine}:{name}")
    assert (called.code, called.err) == (0, "")
    assert called.out.splitlines()[-1].endswith(" 0 failed")


@pytest.mark.parametrize("name", [*plugins.BROKEN, "Unseeded", "ScoreRaises", "ScoreText"])
def test_check_fails_what_is_broken(attrlab, mine, name, monkeypatch):
    monkeypatch.setattr(explain, "WARM_UP_SECONDS", 0.05)
    monkeypatch.setattr(testing, "PATIENCE", 0.05 if name == "Endless" else 20.0)
    called = attrlab("check", f"{mine}:{name}")
    assert called.code == 1
    assert "FAILED" in called.out
    assert plugins.BROKEN.get(name, "").partition(" after")[0] in called.out


def test_file_that_cannot_be_imported_is_one_line(attrlab, tmp_path):
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    assert "cannot import 'bad.py': ModuleNotFoundError" in attrlab.run("o", "--method", "bad.py:Mine").message
    (tmp_path / "bad.py").write_text("class Mine(:\n")
    assert "cannot import 'bad.py': SyntaxError" in attrlab.run("o", "--method", "bad.py:Mine").message
    (tmp_path / "bad.py").write_text("class Mine: pass\n")
    assert "has no 'Other'; it defines: Mine" in attrlab.run("o", "--method", "bad.py:Other").message
