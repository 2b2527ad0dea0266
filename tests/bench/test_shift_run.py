"""Shares of inputs off the training distribution in a run: stored once, found again, shown; a reason where unknown."""

import dataclasses
import json

import pytest
from cliruns import chunks

from attrlab import leaderboard
from attrlab.bench import checkpoint, data, plan, run, shifts, suite
from attrlab.bench.shift import shift
from attrlab.leaderboard.board import Shift
from attrlab.leaderboard.tables import shifts as words
from attrlab.leaderboard.tables import tables

ASKS = ("--method", "random", "--metric", "comprehensiveness")
TEXTS = ["a good film", "bad and dull", "a very good film", "dull", "a bad film and a dull one"]


def told(folder):
    """Share or reason by operator, as the leaderboard reads them."""
    return {one.operator: one.reason or one.share for one in leaderboard.read(folder).shifts}


def stored(folder):
    """Row by operator of every stored chunk."""
    rows = [json.loads(path.read_text())["rows"] for path in (folder / "shifts").glob("*.json")]
    assert all(len(chunk) == 1 for chunk in rows)
    return {row["operator"]: row for (row,) in rows}


def write_sst2(folder, **parts):
    """A data folder whose SST-2 has these parts."""
    (folder / "sst2").mkdir(parents=True, exist_ok=True)
    for part, texts in parts.items():
        lines = [f"{text}\t{index % 2}" for index, text in enumerate(texts)]
        (folder / "sst2" / f"{part}.tsv").write_text("sentence\tlabel\n" + "\n".join(lines) + "\n")
    return folder


def test_a_run_stores_what_the_function_finds_on_64_texts_against_256_training_texts(attrlab, model, tmp_path):
    assert attrlab.run("o", *ASKS).code == 0
    loaded = checkpoint.load(checkpoint.find(str(model)))
    reference = [loaded.encode(one) for one in data.load("lexicon:train").take(256)]
    encoded = [loaded.encode(one) for one in data.load("lexicon:test").take(64)]
    expected = {name: shift(loaded, encoded, name, reference=reference) for name in ("delete", "replace")}
    assert told(tmp_path / "o") == pytest.approx(expected, abs=1e-12)
    assert len(set(expected.values())) == 2
    page = (tmp_path / "o" / "index.html").read_text("utf-8")
    shown = ", ".join(f"{name} {100 * share:.0f} %" for name, share in expected.items())
    assert f"<span>Out of distribution</span> {shown}</div>" in page


@pytest.mark.parametrize(
    ("changed", "anew"),
    [
        ({}, set()),
        ({"seed": 1}, set()),
        ({"limit": 6}, set()),
        ({"methods": ["random", "leave_one_out"]}, set()),
        ({"metrics": ["sufficiency", "tau_loo"]}, set()),
        ({"operators": ["delete", "attn"]}, {"attn"}),
        ({"unit": "token"}, {"delete", "replace"}),
    ],
)
def test_what_does_not_shape_a_share_leaves_it_alone(attrlab, model, tmp_path, changed, anew):
    settings = {"limit": 2, "methods": ["random"], "metrics": ["comprehensiveness"], "operators": ["delete", "replace"]}

    def go(settings):
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
        (tmp_path / "s.toml").write_text('datasets = ["lexicon"]\n' + "".join(lines))
        assert attrlab("run", tmp_path / "s.toml", "--workers", 1, "--model", model, "--out", "o").code == 0
        return {name: entry for name, entry in chunks(tmp_path / "o").items() if name.startswith("shifts")}

    before, after = go(settings), go(settings | changed)
    assert len(before) == 2
    assert before.items() <= after.items()
    made = [json.loads((tmp_path / "o" / name).read_text())["of"]["operator"] for name in set(after) - set(before)]
    assert sorted(made) == sorted(anew)


def test_a_key_names_model_data_and_training_texts(attrlab, model, tmp_path):
    assert attrlab.run("o", *ASKS).code == 0
    keys = [json.loads(path.read_text())["of"] for path in (tmp_path / "o" / "shifts").glob("*.json")]
    train, test = (data.load(f"lexicon:{part}").fingerprint for part in ("train", "test"))
    for of in keys:
        assert of["model"] == checkpoint.find(str(model)).hash
        assert (of["dataset"], of["calibration"], of["unit"]) == (test, train, "word")
    assert {of["operator"] for of in keys} == {"delete", "replace"}


def test_random_removal_names_what_it_draws_from(model):
    settings = {"models": [str(model)], "datasets": ["lexicon"], "methods": ["random"]}
    settings |= {"metrics": ["comprehensiveness"], "operators": ["random", "delete"]}
    ready = plan.make(suite.override(suite.load("adhoc"), **settings), None, lambda *_: None)
    (block,) = ready.blocks
    assert shifts.operators(ready) == ("random", "delete")
    found = {name: shifts.shift_of(ready, block, name).get("filling") for name in shifts.operators(ready)}
    assert found == {"random": block.calibration[1], "delete": None}


def test_no_column_asks_nothing_is_loaded_or_stored(attrlab, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "training_part", lambda *_: pytest.fail("the training part was loaded"))
    assert attrlab.run("o", "--method", "random", "--metric", "planted_recall").code == 0
    assert told(tmp_path / "o") == {}
    assert "Out of distribution" not in (tmp_path / "o" / "index.html").read_text("utf-8")


def test_without_the_training_file_there_is_a_reason_and_with_it_a_share(attrlab, tmp_path):
    folder = write_sst2(tmp_path / "data", dev=TEXTS)
    arguments = ("o", *ASKS, "--data-dir", folder)
    assert attrlab.run(*arguments, dataset="sst2").code == 0
    reason = "the training part cannot be read (--dataset sst2:train says why)"
    assert told(tmp_path / "o") == {"delete": reason, "replace": reason}
    assert "train.tsv" in attrlab.run("why", *ASKS, "--data-dir", folder, dataset="sst2:train").message
    assert stored(tmp_path / "o") == {}
    assert {record["status"] for record in attrlab.records("o")} == {"ok"}
    page = (tmp_path / "o" / "index.html").read_text("utf-8")
    assert f"<span>Out of distribution</span> delete, replace: {reason}</div>" in page
    assert str(tmp_path) not in (tmp_path / "o" / "run.json").read_text("utf-8").replace(str(attrlab.model), "")
    write_sst2(folder, train=[f"{text} {word}" for text in TEXTS for word in ("and so on", "again", "too")])
    called = attrlab.run(*arguments, dataset="sst2")
    assert "\n2 chunks computed" in called.out
    assert all(0 <= share <= 1 for share in told(tmp_path / "o").values())


def test_too_few_training_texts_are_a_reason(attrlab, tmp_path):
    folder = write_sst2(tmp_path / "data", dev=TEXTS, train=[*TEXTS, "good", "bad"])
    assert attrlab.run("o", *ASKS, "--data-dir", folder, dataset="sst2").code == 0
    reason = "2 reference inputs besides the examples; distances need 10 or more"
    assert told(tmp_path / "o") == {"delete": reason, "replace": reason}
    assert {row["status"] for row in stored(tmp_path / "o").values()} == {"skipped"}


def test_texts_without_words_are_a_reason(attrlab, tmp_path):
    folder = write_sst2(tmp_path / "data", dev=["", " "], train=[f"text {index}" for index in range(12)])
    assert attrlab.run("o", *ASKS, "--data-dir", folder, dataset="sst2").code == 0
    assert set(told(tmp_path / "o").values()) == {"no text has words"}


def test_a_data_set_that_has_no_training_part_says_so(attrlab, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "training_part", lambda *_: None)
    assert attrlab.run("o", *ASKS).code == 0
    reason = "the data set has no training part"
    assert told(tmp_path / "o") == {"delete": reason, "replace": reason}
    page = (tmp_path / "o" / "index.html").read_text("utf-8")
    assert f"delete, replace: {reason}" in page


def test_a_failure_costs_nothing_else_and_is_retried_on_demand(attrlab, tmp_path):
    def broken(_model, _encoded, operator, **_options):
        if operator == "delete":
            raise RuntimeError("out of memory")
        return 0.25

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shifts, "shift", broken)
        assert attrlab.run("o", *ASKS).code == 0
    assert told(tmp_path / "o")["replace"] == 0.25
    assert "out of memory" in told(tmp_path / "o")["delete"]
    assert {record["status"] for record in attrlab.records("o")} == {"ok"}
    assert "\n0 chunks computed" in attrlab.run("o", *ASKS).out
    assert "\n1 chunks computed" in attrlab.run("o", *ASKS, "--retry-failed").out
    assert 0 <= told(tmp_path / "o")["delete"] <= 1


def test_an_interrupted_run_takes_up_the_shares_that_are_missing(attrlab, tmp_path):
    def stop(_session):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.shifts, "tell", stop)
        assert attrlab.run("o", *ASKS).code == 130
    assert told(tmp_path / "o") == {"delete": None, "replace": None}
    (table,) = tables(leaderboard.read(tmp_path / "o"))
    assert words(table) == ""
    assert "\n2 chunks computed" in attrlab.run("o", *ASKS).out
    assert set(stored(tmp_path / "o")) == {"delete", "replace"}


def test_words_name_shares_first_and_each_reason_once(attrlab, tmp_path):
    assert attrlab.run("o", *ASKS).code == 0
    board = leaderboard.read(tmp_path / "o")
    (table,) = tables(board)
    own = {"model": table.model.name, "dataset": table.dataset.name}
    found = (
        Shift(**own, operator="delete", share=0.0712),
        Shift(**own, operator="zero", reason="no memory"),
        Shift(**own, operator="replace", share=0.0),
        Shift(**own, operator="mean", reason="no memory"),
        Shift(model="another", dataset=own["dataset"], operator="attn", share=1.0),
    )
    (table,) = tables(dataclasses.replace(board, shifts=found))
    assert words(table) == "delete 7 %, replace 0 %; zero, mean: no memory"
