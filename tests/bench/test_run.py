"""Runs on an untrained model: tables, what is skipped and why, several workers."""

import json

import pytest
from cliruns import chunks

from attrlab.bench import command
from attrlab.leaderboard.formats import FIELDS

QUICK = ("--method", "random", "--method", "leave_one_out", "--metric", "comprehensiveness")

KEYS = ["model", "dataset", "method", "metric", "operator", "unit", "mean", "ci_low", "ci_high"]
KEYS += ["n_scored", "n_total", "status", "reason", "rank", "rank_low", "rank_high", "letters", "detectable"]
KEYS += ["macro", "correct", "wrong", "classes"]


@pytest.fixture
def sentences(tmp_path):
    """A local data folder whose SST-2 has an empty, a blank, a one-word and an over-long text."""
    texts = ["a good film", "", "  ", "Good", "bad and dull", "very good and " * 150]
    folder = tmp_path / "data" / "sst2"
    folder.mkdir(parents=True)
    rows = [f"{text}\t{index % 2}\n" for index, text in enumerate(texts)]
    (folder / "dev.tsv").write_text("sentence\tlabel\n" + "".join(rows))
    return folder.parent


def stored(folder, kind):
    """All rows of one kind of chunk."""
    return [row for path in sorted((folder / kind).glob("*.json")) for row in json.loads(path.read_text())["rows"]]


def test_json_table_has_the_documented_keys_and_no_nan(attrlab):
    assert attrlab.run("o", *QUICK, "--metric", "noise_stability", "--method", "lime:samples=20").code == 0
    records = attrlab.records("o")
    assert all(list(record) == KEYS for record in records)
    assert list(FIELDS) == KEYS
    assert "NaN" not in attrlab.table("o")
    assert {record["method"] for record in records} == {"random", "leave_one_out", "lime:samples=20"}
    operators = {(record["metric"], record["operator"]) for record in records}
    assert operators == {
        ("comprehensiveness", "delete"),
        ("comprehensiveness", "replace"),
        ("noise_stability", None),
    }
    skipped = [record for record in records if record["metric"] == "noise_stability"]
    assert all(record["status"] == "skipped" and record["mean"] is None for record in skipped)
    assert all("noise on the embeddings does not reach it" in record["reason"] for record in skipped)


TAU = ("--metric", "tau_loo:absolute=true")


def test_leave_one_out_agrees_with_itself_and_beats_random(attrlab):
    attrlab.run("o", *QUICK, *TAU, limit=16)
    mean = {(record["method"], record["metric"], record["operator"]): record["mean"] for record in attrlab.records("o")}
    assert mean["leave_one_out", "tau_loo:absolute=true", "replace"] == pytest.approx(1)
    assert abs(mean["random", "tau_loo:absolute=true", "replace"]) < 0.5
    for operator in ("delete", "replace"):
        assert mean["leave_one_out", "comprehensiveness", operator] > mean["random", "comprehensiveness", operator]


def test_empty_text_is_skipped_one_word_is_scored_long_text_is_cut(attrlab, sentences, tmp_path):
    called = attrlab.run("o", *QUICK, *TAU, "--data-dir", sentences, dataset="sst2", limit=100)
    assert called.code == 0
    assert called.out.splitlines()[-1].endswith("failed cells: 0")
    rows = {row["example"]: row for row in stored(tmp_path / "o", "predictions")}
    skipped = {name for name, row in rows.items() if row["status"] == "skipped"}
    assert skipped == {"dev-1", "dev-2"}
    assert {rows[name]["reason"] for name in skipped} == {"the text has no words"}
    assert (rows["dev-5"]["tokens"], rows["dev-5"]["dropped"]) == (128, 450 - len(rows["dev-5"]["words"]))
    assert rows["dev-5"]["dropped"] > 300
    one_word = [row for row in stored(tmp_path / "o", "attributions") if row["example"] == "dev-3"]
    assert [len(row["scores"]) for row in one_word] == [1, 1]
    for record in attrlab.records("o"):
        # A correlation over one word is undefined; all else is scored on all texts that have words.
        missing = 3 if record["metric"] == TAU[1] else 2
        assert (record["n_scored"], record["n_total"], record["status"]) == (6 - missing, 6, "ok")
        assert "the text has no words" in record["reason"]
    for format_ in ("md", "csv", "latex", "html"):
        assert attrlab("table", "o", "--format", format_).code == 0


def test_two_workers_write_what_one_writes(attrlab, model, tmp_path):
    suite = tmp_path / "two.toml"
    suite.write_text('datasets = ["lexicon", "lexicon:dev"]\nlimit = 4\nchunk = 2\n')
    arguments = ("run", suite, *QUICK, "--model", model)
    assert attrlab(*arguments, "--out", "one", "--workers", 1).code == 0
    assert attrlab(*arguments, "--out", "two", "--workers", 2).code == 0
    assert attrlab.table("one") == attrlab.table("two")
    assert set(chunks(tmp_path / "one")) == set(chunks(tmp_path / "two"))


def test_last_line_counts_failed_cells_and_the_exit_code_stays_0(attrlab, tmp_path):
    (tmp_path / "mine.py").write_text(
        "class Broken:\n    def ask(self, game, rng):\n        raise ValueError('no')\n        yield\n"
    )
    called = attrlab.run("o", *QUICK, "--method", "mine.py:Broken")
    assert called.code == 0
    failed = [record for record in attrlab.records("o") if record["status"] == "failed"]
    assert {record["method"] for record in failed} == {"mine.py:Broken"}
    assert called.out.splitlines()[-1].endswith(f"failed cells: {len(failed)}")


def test_tables_and_page_stand_in_the_folder(attrlab, tmp_path):
    attrlab.run("o", *QUICK)
    for file, format_ in (("table.md", "md"), ("table.csv", "csv"), ("table.tex", "latex"), ("index.html", "html")):
        assert (tmp_path / "o" / file).read_text("utf-8") == attrlab("table", "o", "--format", format_).out


def test_device_is_checked_before_anything_is_written(attrlab, tmp_path):
    assert attrlab.run("o", *QUICK, "--device", "cuda:99").code == 2
    assert not (tmp_path / "o").exists()
    command.check_device("cpu")


def test_a_wrong_name_is_refused_before_a_mini_is_trained(attrlab, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(command.trainer, "mini", lambda *args: trained.append(args))
    called = attrlab(
        *("run", "adhoc", "--model", "bert-base-mini", "--dataset", "lexicon", "--workers", "1"),
        *("--method", "lyme", "--out", tmp_path / "out"),
    )
    assert "Did you mean 'lime'" in called.message
    assert not trained
