import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attrlab.bench.errors import UserError
from attrlab.leaderboard import read


def test_everything_that_is_stored_is_read(small):
    board = read(small.write())
    assert [method.name for method in board.methods] == ["lime:samples=200", "shap", "occlusion", "random"]
    assert board.ordered_methods()[0].name == board.floor == "random"
    assert len(board.cells) == 2 * 4
    assert len(board.columns) == 12
    cell = board.cells[0]
    assert [row.example for row in cell.predictions] == [f"lexicon:test-{i}" for i in range(12)]
    assert cell.predictions[0].words == tuple(small.words[0])
    assert cell.attributions[3].status == "failed"
    assert cell.attributions[3].scores is None
    assert cell.attributions[0].scores.shape == (len(small.words[0]),)
    scores = cell.scores[0]
    stored = json.loads((small.folder / "scores" / "lexicon_test-bert-tiny-lime_samples_200-0-0.json").read_text())
    assert scores.values[0] == stored["rows"][0]["value"]
    assert np.isnan(scores.values[3])
    assert scores.reasons[3] == "ContractError: 61 s spent, 60 s allowed"
    assert board.metrics[6].bounds == (0.0, None)


def test_chunks_that_are_not_there_yet_are_no_error(small):
    folder = small.write()
    (folder / "scores" / "lexicon_test-bert-tiny-shap-0-6.json").unlink()
    for path in (folder / "attributions").iterdir():
        path.unlink()
    board = read(folder)
    first, second = board.cells[1].scores[:2]
    assert (first.complete, second.complete) == (False, True)
    assert len(first.examples) == 6
    assert all(cell.attributions == () for cell in board.cells)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"no such results folder.*nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no run\.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "holds a list"),
        ('{"schema": 2}', "has schema 2, this version reads 1"),
        ('{"schema": 1}', "'suite' is missing"),
        ('{"schema": 1, "suite": 5}', "suite: 5 is not a dict"),
    ],
)
def test_a_broken_run_names_the_file(tmp_path, content, message):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path)
    assert "run.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"example": "a", "value": NaN, "reason": null}', "NaN is not a JSON number"),
        ('{"example": "a", "value": 1e999, "reason": null}', r"rows\[0\]: value: inf is not a float"),
        ('{"example": "a", "value": "high", "reason": null}', r"rows\[0\]: value: 'high' is not a float"),
        ('{"example": "a", "value": true, "reason": null}', r"rows\[0\]: value: True is not a float"),
        ('{"value": 0.5, "reason": null}', "'example' is missing"),
    ],
)
def test_a_broken_chunk_names_the_file_and_the_field(small, row, message):
    folder = small.write()
    name = "lexicon_test-bert-tiny-shap-0-0.json"
    (folder / "scores" / name).write_text(f'{{"schema": 1, "key": "k", "rows": [{row}]}}')
    with pytest.raises(UserError, match=message) as caught:
        read(folder)
    assert name in str(caught.value)


@pytest.mark.parametrize("key", ["../../secret", "/etc/passwd", "a/b", "..", ""])
def test_a_key_cannot_lead_out_of_the_folder(small, key):
    small.run["cells"][0]["attributions"] = [key]
    with pytest.raises(UserError, match="is not the key of a chunk"):
        read(small.write())


def test_names_that_are_not_described(small):
    small.run["cells"][0]["method"] = "unheard"
    with pytest.raises(UserError, match="method 'unheard' is used but not described"):
        read(small.write())


def test_a_cell_with_too_few_columns(small):
    small.run["cells"][0]["scores"].pop()
    with pytest.raises(UserError, match="has 11 score columns, the run has 12"):
        read(small.write())


def test_importing_is_light_and_rendering_needs_no_model_library(small):
    code = (
        "import sys, attrlab.leaderboard as board; from pathlib import Path\n"
        "assert not {'numpy', 'jinja2', 'rich', 'torch'} & set(sys.modules)\n"
        f"found = board.read(Path({str(small.write())!r}))\n"
        "[board.render(found, name) for name in ('md', 'csv', 'latex', 'html', 'json')]; board.terminal(found)\n"
        "assert not {'torch', 'transformers', 'datasets', 'sklearn', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
