import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from stored import Folder

from attrlab.bench import cli
from attrlab.bench.errors import UserError
from attrlab.leaderboard import pack, read, render, webpage
from attrlab.leaderboard.console import terminal
from attrlab.leaderboard.formats import FORMATS
from attrlab.leaderboard.statistics import LEVEL, aggregate, intervals, resamples

BLOCK = "lexicon_test-bert-tiny"
COPIES = ("scores.parquet", "attributions.parquet")


@pytest.fixture
def folder(tmp_path):
    """Two data sets, one without rationales; one chunk of scores and the attributions of one method are missing."""
    found = Folder(tmp_path / "plain", models=2, methods=4, examples=12, chunk=6)
    path = found.add("lexicon:test").add("reviews:test", rationales="").write()
    (path / "scores" / f"{BLOCK}-shap-1-6.json").unlink()
    for start in (0, 6):
        (path / "attributions" / f"{BLOCK}-occlusion-{start}.json").unlink()
    return path


def packed(folder):
    """A copy of a folder, times kept, whose chunks are packed."""
    copy = folder.with_name("packed")
    shutil.copytree(folder, copy)
    pack(copy)
    return copy


def plainly(board):
    """Everything in a board, in a form that can be compared."""
    return [
        (
            replace(cell, attributions=(), scores=()),
            [(*(getattr(row, name) for name in ("example", "status", "reason", "forwards", "backwards")),
              None if row.scores is None else row.scores.tolist()) for row in cell.attributions],
            [(one.reason, one.complete, one.examples, one.values.tolist(), one.reasons) for one in cell.scores],
        )
        for cell in board.cells
    ]  # fmt: skip


def test_a_packed_folder_gives_the_same_board(folder):
    plain, other = read(folder), read(packed(folder))
    for (cell, rows, columns), (cell_, rows_, columns_) in zip(plainly(plain), plainly(other), strict=True):
        assert (cell.model, cell.dataset, cell.method, cell.predictions) == (
            cell_.model,
            cell_.dataset,
            cell_.method,
            cell_.predictions,
        )
        assert rows == rows_
        np.testing.assert_equal(columns, columns_)
    assert sum(len(columns) for _, _, columns in plainly(plain)) == 2 * 2 * 4 * 12


@pytest.mark.parametrize("name", FORMATS)
def test_a_packed_folder_gives_the_same_tables_byte_for_byte(folder, name):
    assert render(read(folder), name) == render(read(packed(folder)), name)


def test_what_is_packed_is_not_read_again(folder, monkeypatch):
    folder = packed(folder)
    seen = []
    load_json = read.__globals__["load_json"]
    monkeypatch.setitem(read.__globals__, "load_json", lambda path: seen.append(path.parent.name) or load_json(path))
    board = read(folder)
    render(board, "html")
    # The chunk that is left of the column with the missing one is read itself.
    assert seen.count("scores") == 1
    assert seen.count("attributions") == 0
    assert seen.count("predictions") == 2 * 2 * 2


def test_a_chunk_that_changed_is_read_itself(folder):
    folder = packed(folder)
    path = folder / "scores" / f"{BLOCK}-shap-0-0.json"
    content = json.loads(path.read_text("utf-8"))
    content["rows"][0]["value"] = 0.123
    path.write_text(json.dumps(content), "utf-8")
    assert read(folder).cells[1].scores[0].values[0] == 0.123
    assert pack(folder).cells[1].scores[0].values[0] == 0.123  # and packed anew
    assert read(folder).cells[1].scores[0].values[0] == 0.123


def test_a_chunk_that_went_missing_is_missing(folder):
    folder = packed(folder)
    (folder / "scores" / f"{BLOCK}-shap-0-0.json").unlink()
    (folder / "attributions" / f"{BLOCK}-shap-0.json").unlink()
    cell = read(folder).cells[1]
    assert not cell.scores[0].complete
    assert len(cell.scores[0].examples) == 6
    assert len(cell.attributions) == 6


def test_attributions_are_checked_again_where_predictions_changed(folder):
    folder = packed(folder)
    path = folder / "predictions" / f"{BLOCK}-0.json"
    content = json.loads(path.read_text("utf-8"))
    content["rows"][0]["words"].append("more")
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(UserError, match=r"scores for the \d+ words"):
        read(folder)


def test_attributions_can_be_indexed(folder):
    rows, other = (read(one).cells[1].attributions for one in (folder, packed(folder)))
    assert len(other) == len(rows) == 12
    assert [row.example for row in other[2:4]] == [rows[2].example, rows[3].example]
    np.testing.assert_array_equal(other[-1].scores, rows[-1].scores)


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("content", [b"", b"PAR1 no such thing PAR1"])
def test_a_broken_copy_is_named(folder, name, content):
    folder = packed(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is broken; delete it"):
        read(folder)


def test_a_copy_of_another_layout_is_not_used(folder):
    from pyarrow import parquet

    path = packed(folder) / "scores.parquet"
    table = parquet.read_table(path)
    table = table.set_column(1, "value", [np.zeros(len(table))])
    parquet.write_table(table.replace_schema_metadata({**table.schema.metadata, b"attrlab.layout": b"2"}), path)
    assert render(read(folder), "csv") == render(read(path.parent), "csv")


def test_an_empty_run_can_be_packed(tmp_path):
    folder = Folder(tmp_path, models=1, methods=2, examples=4).write()
    assert pack(folder).cells == read(folder).cells == ()


def test_times_kept_keep_a_copy_valid(folder):
    path = packed(folder)
    moved = path.with_name("moved")
    shutil.copytree(path, moved)
    target = moved / "scores" / f"{BLOCK}-shap-0-0.json"
    before = target.stat()
    target.write_bytes(b" " * before.st_size)
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(read(moved).cells) == len(read(folder).cells)  # size and time are all that is looked at


def test_one_model_or_data_set_can_be_read_alone(folder):
    whole = read(folder)
    part = read(folder, "gpt2-small", "reviews:test")
    assert {(cell.model, cell.dataset) for cell in part.cells} == {("gpt2-small", "reviews:test")}
    assert [(card.name, card.dataset) for card in part.models] == [("gpt2-small", "reviews:test")]
    assert [card.name for card in part.datasets] == ["reviews:test"]
    assert aggregate(part) == tuple(
        one for one in aggregate(whole) if (one.model, one.dataset) == ("gpt2-small", "reviews:test")
    )
    assert len(read(folder, dataset="lexicon:test").cells) == len(read(folder, "bert-tiny").cells) == 8
    with pytest.raises(UserError, match=r"unknown model 'gpt2'\. Did you mean 'gpt2-small'"):
        read(folder, "gpt2")
    with pytest.raises(UserError, match=r"unknown data set 'lexicon'\. Did you mean 'lexicon:test'"):
        read(folder, dataset="lexicon")


def test_the_command_shows_one_model(folder, monkeypatch, capsys):
    arguments = ["table", folder, "--format", "csv", "--model", "bert-tiny", "--dataset", "lexicon:test"]
    monkeypatch.setattr(sys, "argv", ["attrlab", *map(str, arguments)])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().out == render(read(folder, "bert-tiny", "lexicon:test"), "csv")


def test_a_large_board_shows_overviews_alone(folder, monkeypatch):
    board = read(folder)
    whole = render(board, "html")
    monkeypatch.setattr(webpage, "DETAILED", len(aggregate(board)) - 1)
    small = render(board, "html")
    assert small.count("Over 2 models") == whole.count("Over 2 models") == 2
    assert (small.count('<details class="model"'), whole.count('<details class="model"')) == (0, 4)
    assert "attrlab table DIR --format html --dataset reviews:test --model gpt2-small" in small
    assert "attrlab table DIR" not in whole
    assert terminal(board) is not None


@pytest.mark.parametrize("groups", [None, [i // 3 for i in range(30)]])
def test_intervals_are_the_quantiles_of_each_columns_own_resamples(groups):
    """The second implementation draws, averages and takes quantiles one column after the other."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(30, 7))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:, 0] = rng.normal(size=30)  # no gaps
    values[2:, 1] = np.nan  # most resamples draw no value
    names = np.arange(30) if groups is None else np.array(groups)
    expected = np.full((7, 2), np.nan)
    for column in range(7):
        own = values[:, column]
        means = []
        for rows in resamples(len(set(names.tolist())), 1_000):
            for row in rows:
                drawn = np.concatenate([own[names == name] for name in row]) if groups else own[row]
                if not np.isnan(drawn).all():
                    means.append(np.nanmean(drawn))
        filled = {names[i] for i in np.flatnonzero(~np.isnan(own))}
        if len(filled) > 1:
            expected[column] = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    found = intervals(values, 1_000, groups)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
