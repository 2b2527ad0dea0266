"""The page of ROAR: read from a stored folder, every number from the files, self-contained."""

import json
import re

import numpy as np
import pytest

from attrlab import leaderboard
from attrlab.bench.errors import UserError
from attrlab.leaderboard import roar, roar_page

SHARES, SEEDS = [10, 50, 90], [1, 2]
METRICS = {"roar": True, "roar_leak": False}
VALUES = {"random": 0.0, "lime": 0.5}


def details(metric, method):
    low = 0.5 + 0.1 * (method == "random")
    base = {"shares": SHARES, "seeds": SEEDS, "seconds": 90.0}
    if metric == "roar_leak":
        return base | {"pattern": [[0.5, 0.6]] * 3, "majority": 0.55}
    curves = {
        "method": [[low, low + 0.1]] * 3,
        "random": [[0.7, 0.8]] * 3,
        "none": [[0.5, 0.5]],
        "whole": [[0.96, 0.98]],
    }
    return base | {"accuracy": curves, "macro_f1": curves, "racu": [VALUES[method], None]}


@pytest.fixture
def folder(tmp_path):
    """A run of two methods on one model, with ROAR and its leak control; values of a text lie outside [-1, 1]."""
    facts = {"family": "f", "summary": "What it is", "bounds": [None, None]}
    scores = {("roar", name): [value - 3.0, value + 3.0, value] for name, value in VALUES.items()}
    scores |= {("roar_leak", name): [0.5, -0.5, 0.25] for name in VALUES}
    run = {
        "schema": 1,
        "suite": {"name": "roar", "title": "R"},
        "provenance": {"attrlab": "0.1.0"},
        "methods": [{"name": name, "id": name} for name in VALUES],
        "metrics": [{"name": name, "id": name, "higher_is_better": up, **facts} for name, up in METRICS.items()],
        "columns": [{"metric": name, "operator": None, "unit": "word"} for name in METRICS],
        "models": [{"name": "m<b>", "dataset": "d:test"}],
        "datasets": [{"name": "d:test", "n_total": 3, "n_used": 3}],
        "cells": [
            {
                "model": "m<b>",
                "dataset": "d:test",
                "method": name,
                "reason": None,
                "predictions": [],
                "attributions": [],
                "scores": [{"reason": None, "keys": [f"{metric}{name}"]} for metric in METRICS],
            }
            for name in VALUES
        ],
        "studies": [
            {"model": "m<b>", "dataset": "d:test", "method": name, "metric": metric, "key": f"{metric}{name}"}
            for metric in METRICS
            for name in VALUES
        ],
    }
    for study in run["studies"]:
        study["key"] = study["key"].replace("_", "")
        write(tmp_path / "studies" / f"{study['key']}.json", {"rows": [details(study["metric"], study["method"])]})
    for (metric, name), values in scores.items():
        rows = [{"example": str(i), "value": value, "reason": None} for i, value in enumerate(values)]
        write(tmp_path / "scores" / f"{metric}{name}.json", {"rows": rows})
    write(tmp_path / "run.json", run)
    return tmp_path


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"schema": 1, **content}), "utf-8")


def page(folder):
    return roar_page.page(leaderboard.read(folder), roar.panels(folder))


def test_what_is_stored_is_what_is_read(folder):
    panels = roar.panels(folder)
    assert [(panel.metric, panel.leak, len(panel.found)) for panel in panels] == [
        ("roar", False, 2),
        ("roar_leak", True, 2),
    ]
    mean, low, high = roar.curve(panels[0].found[1].details.accuracy.method)
    assert np.allclose([mean, low, high], [[0.55] * 3, [0.5] * 3, [0.6] * 3])
    board = leaderboard.read(folder)
    (_, line) = roar.lines(board, panels[0])
    assert (line.method, line.low, line.high, line.seconds) == ("lime", 0.5, 0.5, 90.0)
    assert line.value.mean == pytest.approx(0.5)
    (first, _) = roar.lines(board, panels[1])
    assert (first.low, first.high) == (None, None)
    assert first.value.mean == pytest.approx(0.25 / 3)


def test_the_page_shows_means_clipped_intervals_leaks_and_times(folder):
    html = page(folder)
    rows = re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', html, re.DOTALL)
    assert [name for name, _ in rows] == ["random", "lime"]
    cells = [re.sub(r"<[^>]*>", " ", cell).split() for cell in re.findall(r"<td>(.*?)</td>", rows[1][1])]
    assert cells[0][0] == "0.500"
    assert cells[0][1:] == ["[\N{MINUS SIGN}1.000,", "1.000]"]  # the resampled means go beyond
    assert cells[1] == ["[0.500,", "0.500]"]
    assert cells[2] == ["1.5", "min"]
    assert cells[3][0] == "0.083"
    assert html.count("<svg") == 1
    assert "Lower is better" in html


def test_the_page_is_self_contained_escaped_and_the_same_each_time(folder):
    html = page(folder)
    assert html == page(folder)
    assert "m<b>" not in html
    assert "m&lt;b&gt;" in html
    assert not re.findall(r'(?:src|href)="(?!#|index\.html)[^"]*"', html.replace("xlink:href", "href"))
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_what_is_undefined_says_why(folder):
    rows = [{"example": str(i), "value": None, "reason": "nothing <lost>"} for i in range(3)]
    write(folder / "scores" / "roarlime.json", {"rows": rows})
    html = page(folder)
    assert 'title="3 of 3: nothing &lt;lost&gt;"' in html
    assert ">undefined</span>" in html


def test_a_study_that_ended_early_or_is_not_there_yet_has_no_curve(folder):
    write(folder / "studies" / "roarlime.json", {"rows": [{}]})
    (folder / "studies" / "roarleaklime.json").unlink()
    assert [len(panel.found) for panel in roar.panels(folder)] == [1, 1]
    assert "<svg" in page(folder)


def test_a_folder_without_such_a_metric_has_no_panels(folder):
    run = json.loads((folder / "run.json").read_text("utf-8"))
    write(folder / "run.json", {**run, "studies": []})
    assert roar.panels(folder) == []
    del run["studies"]
    write(folder / "run.json", run)
    assert roar.panels(folder) == []


def test_a_broken_study_is_refused_with_its_file(folder):
    write(folder / "studies" / "roarlime.json", {"rows": [{"accuracy": {"method": 3}}]})
    with pytest.raises(UserError, match=r"roarlime\.json.*method"):
        roar.panels(folder)


def test_a_key_does_not_lead_out_of_the_folder(folder):
    run = json.loads((folder / "run.json").read_text("utf-8"))
    for study in run["studies"]:
        study["key"] = "../scores/" + study["key"]
    write(folder / "run.json", run)
    assert roar.panels(folder) == []
