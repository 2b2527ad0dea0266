"""The study of lambda as read from its file: shapes of planted curves, what is said of them, figures and page."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console

from attrlab.bench.errors import UserError
from attrlab.leaderboard.study import choice, curve, read, text_curve, verdict, verdicts
from attrlab.leaderboard.study_figures import figures, overview
from attrlab.leaderboard.study_page import page
from attrlab.leaderboard.study_tables import findings, markdown, terminal
from attrlab.leaderboard.study_words import advice, answer, shape_line, unfinished_lines

LAMS = [0.02, 0.1, 0.6, 3.0, 10.0]
RISING = [0.01, 0.02, 0.05, 0.2, 1.5]
CUP = [0.9, 0.4, 0.1, 0.3, 1.2]
DIP = [0.01, 0.1, 0.05, 0.2, 1.5]
FLAT = [0.1] * 5
STEPS = 40
N = 24


def point(unfinished, at, seed, levels, recall, collapsed, rng):
    """One point: M spread by up to a tenth around its level over sentences, the other measures made from the weight."""
    one = np.ones(N)
    values = {
        "damage": levels[at] * (1 + 0.1 * rng.uniform(-1, 1, N)),
        "entropy": (at - 5) * one,
        "capped": one * at / 5,
        "collapsed": one * collapsed[at],
        "kkt": one,
        "moved": one * 0,
        "recall": np.where(np.arange(N) < N * recall[at], 1.0, 0.0),
        "recall_rho": one * 0.5,
        "planted": one * (9 - at),
        "ordinary": one * 3,
        "ordered": np.where(np.arange(N) < N / 4, 0.5, 1.0),
        "floor": one * 3,
        "scale": one * 10,
    }
    lists = {name: list(map(float, column)) for name, column in values.items()}
    return {"unfinished": unfinished, "lam": LAMS[at], "seed": seed, **lists}


def model(name, optimum, stopped, *, recall=(1.0,) * 5, collapsed=(0, 0, 0, 0, 1), text=False):
    rng = np.random.default_rng(0)
    points = [
        point(steps, at, seed, levels, recall, collapsed, rng)
        for steps, levels in ((0, optimum), (STEPS, stopped))
        for seed in (0, 1)
        for at in range(5)
    ]
    alone = [{key: value[:1] if isinstance(value, list) else value for key, value in one.items()} for one in points]
    return {
        "card": {"name": name, "dataset": "and_pair:test", "hash": "abc"},
        "sentences": [
            {"id": f"t-{i}", "text": "a <b> c d", "words": 4, "planted": ["<b>"], "pair": ["<b>", "d"]}
            for i in range(N)
        ],
        "points": points,
        "text_points": alone if text else [],
    }


def content(*models, text=None):
    return {
        "schema": 1,
        "setup": {
            "lams": LAMS,
            "limit": N,
            "seeds": 2,
            "preset": "fast",
            "draws": 1,
            "steps": 200,
            "unfinished": [STEPS],
            "fresh": 64,
            "usual": 0.1,
            "shrink": 0.2,
            "text": text,
            "pair": ["year", "did"] if text else [],
        },
        "dataset": {"name": "and_pair:test", "fingerprint": "f" * 32},
        "models": list(models),
    }


@pytest.fixture
def studied(tmp_path):
    def write(*models, text=None):
        path = tmp_path / "study.json"
        path.write_text(json.dumps(content(*models, text=text)), "utf-8")
        return read(path)

    return write


def test_curve_averages_seeds_first_and_is_bootstrapped_over_sentences(studied):
    stored = model("m", RISING, CUP)
    found = curve(studied(stored).models[0], "damage")
    by_hand = np.array(
        [[p["damage"] for p in stored["points"] if p["unfinished"] == 0 and p["lam"] == lam] for lam in LAMS]
    )
    assert np.allclose(found.values, by_hand.mean(axis=1).T)
    assert found.values.shape == (N, 5)
    assert found.lams.tolist() == LAMS
    rng = np.random.default_rng(1)
    again = found.values[:, 2][rng.integers(N, size=(20_000, N))].mean(axis=1)
    ends = np.quantile(again, [0.025, 0.975])
    assert found.mean[2] == pytest.approx(by_hand[2].mean())
    assert (found.low[2], found.high[2]) == pytest.approx(tuple(ends), abs=0.1 * (ends[1] - ends[0]))


def test_reading_keeps_every_number(studied, tmp_path):
    study = studied(model("m", RISING, CUP, text=True), text="In what year did it end?")
    stored = json.loads((tmp_path / "study.json").read_text("utf-8"))
    for ours, theirs in zip(study.models[0].points, stored["models"][0]["points"], strict=True):
        for name, value in theirs.items():
            found = getattr(ours, name)
            assert (found.tolist() if isinstance(value, list) else found) == value
    assert study.models[0].claimed == pytest.approx(6.0)
    assert study.models[0].chance == 0.25


@pytest.mark.parametrize(
    ("levels", "shape", "lowest", "falls"),
    [
        (RISING, "rises", 0.02, []),
        (CUP, "u", 0.6, [(0.02, 0.1), (0.1, 0.6)]),
        (DIP, "falls", 0.02, [(0.1, 0.6)]),
        (FLAT, "flat", None, []),
        (RISING[::-1], "falls", 10.0, list(pairwise(LAMS))),
    ],
)
def test_shape_of_planted_curves(studied, levels, shape, lowest, falls):
    found = verdict(curve(studied(model("m", levels, CUP)).models[0], "damage"))
    assert found.shape == shape
    assert lowest is None or found.lowest == lowest
    assert [(step.start, step.end) for step in found.falls] == falls


def test_a_fall_within_its_interval_is_no_fall(studied):
    """Sentences that disagree: the mean falls and rises again, but for a few sentences only."""
    stored = model("m", RISING, CUP)
    for one in stored["points"]:
        levels = {0.02: 1.0, 0.1: 1.0, 0.6: 0.97, 3.0: 1.0, 10.0: 1.0}
        one["damage"] = [levels[one["lam"]] + (0.5 * (-1) ** i if one["lam"] == 0.6 else 0.0) for i in range(N)]
    found = verdict(curve(studied(stored).models[0], "damage"))
    assert found.lowest == 0.6
    assert (found.shape, found.falls) == ("flat", ())
    assert "neither a rise nor a fall exceeds its interval" in shape_line(found)


def test_a_planted_u_is_said_to_appear_and_a_planted_rise_not_to(studied):
    yes, no = studied(model("m", CUP, RISING)), studied(model("m", RISING, CUP))
    assert answer(yes).startswith("Yes: at converged optima")
    assert "lowest at lambda = 0.6" in answer(yes)
    assert answer(no) == "No: at converged optima the damage M shows no U-shape against lambda in this model."
    assert unfinished_lines(yes) == [f"Stopped after {STEPS} steps from the most noise, M is U-shaped in no model."]
    assert "U-shaped in m (lowest at 0.6, 89% below the first)" in unfinished_lines(no)[0]
    for study in (yes, no):
        assert answer(study) in page(study, figures(study))
        assert answer(study) in markdown(study)
    both = studied(model("a", CUP, CUP), model("b", RISING, CUP))
    assert answer(both).startswith("In part: at converged optima M is U-shaped against lambda in 1 of 2 models")


def test_where_a_fall_comes_from(studied):
    def said(optimum, stopped):
        return " ".join(next(findings(studied(model("m", optimum, stopped))))[1])

    assert "only where optimisation was stopped early, by 89% at most" in said(RISING, CUP)
    assert "M falls beyond its interval nowhere" in said(RISING, RISING)
    assert "they lose up to 89%" in said(CUP, RISING)
    assert "falling at some step in m (by 50%)" in said(RISING, DIP)
    assert "0.1 to 0.6: \N{MINUS SIGN}0.05" in said(DIP, RISING)


def test_optima_that_are_not_reached_are_named(studied):
    stored = model("m", RISING, CUP)
    assert "at every weight" in " ".join(next(findings(studied(stored)))[1])
    for one in stored["points"]:
        if one["lam"] == 0.6:
            one["kkt"] = [2.0 + 0.1 * (-1) ** i for i in range(N)]
    assert "does not hold 1, its value at an exact optimum, for m at 0.6:" in " ".join(
        next(findings(studied(stored)))[1]
    )


def test_advice_leaves_out_collapse_and_worse_recall(studied):
    study = studied(model("m", RISING, CUP, recall=(0.5, 1.0, 1.0, 0.5, 1.0)))
    found = choice(study.models[0])
    assert found.kept == (0.02, 0.1, 0.6, 3.0)
    assert found.good == (0.1, 0.6)
    assert found.best == (0.1, 1.0)
    assert advice(study)[-1] == "Good for all: lambda = 0.1, 0.6. The default, 0.1, is among them."
    assert "nothing collapsed at 0.02 to 3;" in advice(study)[0]
    lost = studied(model("m", RISING, CUP, collapsed=(1,) * 5), model("n", RISING, CUP))
    assert "some sentence collapsed at every weight" in advice(lost)[0]
    assert "No weight of this grid is good for all" in advice(lost)[-1]


def test_terminal_and_tables_show_means_and_intervals(studied):
    study = studied(model("m", RISING, CUP))
    console = Console(width=120, record=True)
    with console.capture() as shown:
        console.print(terminal(study))
    found = curve(study.models[0], "damage")
    for mean, low, high in zip(found.mean, found.low, found.high, strict=True):
        assert f"{mean:.3g}" in shown.get()
        assert f"| {mean:.3g} [{low:.3g}, {high:.3g}] |" in markdown(study)
    assert [one.shape for one in verdicts(study, STEPS)] == ["u"]


def test_text_curve_ranges_over_seeds(studied):
    stored = model("m", RISING, CUP, text=True)
    for one in stored["text_points"]:
        one["planted"] = [5.0 + one["seed"]]
    study = studied(stored, text="In what year did it end?")
    found = text_curve(study.models[0], "planted")
    assert (found.mean[0], found.low[0], found.high[0]) == (5.5, 5.0, 6.0)
    drawings = figures(study)
    assert "text" in drawings
    assert "In what year did it end?" in page(study, drawings)


def test_figures_are_the_same_twice_and_share_no_id(studied):
    study = studied(*(model(f"m{i}", RISING, CUP) for i in range(2)))
    drawings = figures(study)
    assert drawings == figures(study)
    assert overview(study) == overview(study)
    assert overview(study).startswith(b"\x89PNG")
    assert list(drawings) == ["interest", "damage", "recall", "entropy", "optimality"]
    names = {name: set(re.findall(r'\bid="([^"]+)"', drawing)) for name, drawing in drawings.items()}
    for name, drawing in drawings.items():
        assert "<dc:date>" not in drawing
        used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', drawing))
        assert used
        assert used <= names[name]
        assert all(not names[name] & names[other] for other in names if other != name)


def test_page_stands_alone_and_escapes(studied):
    study = studied(model("<i>m</i>", RISING, CUP))
    html = page(study, figures(study))
    assert "<i>m</i>" not in html
    assert "a &lt;b&gt; c d" in html
    assert not re.findall(r'(?:src|href)="(?!#|https?://www\.w3\.org)[^"]', html)
    assert html.count("<svg") == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.update(schema=99), "has schema 99"),
        (lambda stored: stored["models"][0]["points"][0].pop("damage"), "'damage' is missing"),
        (lambda stored: stored["setup"].update(lams="many"), "'many' is not a list"),
    ],
)
def test_broken_file_is_refused_in_one_line(tmp_path, change, message):
    stored = content(model("m", RISING, CUP))
    change(stored)
    (tmp_path / "study.json").write_text(json.dumps(stored), "utf-8")
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        read(tmp_path / "study.json")
    assert "\n" not in str(refused.value)
