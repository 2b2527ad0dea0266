"""The gate: what passes and what fails, in which direction, by which margin; its test; and what it writes."""

import json
import os
import re
import subprocess
from itertools import product
from math import nan
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
import yaml
from boards import KEY, Command, Pair, board
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from typer.main import get_command

from attrlab.bench import cli
from attrlab.bench.errors import UserError
from attrlab.leaderboard import read
from attrlab.leaderboard.comparisons import detectable
from attrlab.leaderboard.gate import ALPHA, MARGIN, POWER, gate, least_p, tolerated
from attrlab.leaderboard.gate_report import junit, summary
from attrlab.leaderboard.paired import sign_flip, sign_flip_above

HOSTILE = 'a|b<script>"&amp;\x00\x1b\ud800\ufffe ]]> _x\n# y'
RNG = np.random.default_rng(0)
SCORES = RNG.random(60)
NOISE = RNG.normal(size=60) * 0.05


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path)


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


def judged(new, old=SCORES, *, given=None, **options):
    """The gate's only verdict on a method with these scores, ``higher``, ``bounds``, ... being those of the metric."""
    card = {key: options.pop(key) for key in ("higher", "bounds", "measured", "failed") if key in options}
    kept = {key: value for key, value in card.items() if key != "failed"}
    found = gate(board({"a": {"m": new}}, **card), board({"a": {"m": old}}, **kept), given or (), **options)
    (verdict,) = found.verdicts
    return verdict


# --- the test -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=10).map(np.array))
def test_one_sided_p_is_brute_force(differences):
    flips = np.array(list(product([1, -1], repeat=len(differences))))
    expected = (flips @ differences >= differences.sum()).mean()
    assert sign_flip_above(differences.astype(float)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_one_sided_p_is_scipy(seed, parity):
    differences = np.random.default_rng(seed).normal(size=9) + 0.3 * seed
    reference = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="greater", vectorized=True
    )
    error = abs(sign_flip_above(differences) - reference.pvalue)
    parity("Q13", "statistics", "scipy permutation_test, one-sided", error, 1e-9)


def test_drawn_one_sided_p_is_half_the_two_sided_one():
    for seed, shift in enumerate((0.1, 0.2, 0.3)):
        differences = np.random.default_rng(seed).normal(size=60) + shift
        half = sign_flip(differences) / 2
        noise = 4 * np.sqrt(2 * half / 10_000) + 2e-4
        assert sign_flip_above(differences) == pytest.approx(half, abs=noise)
        assert sign_flip_above(-differences) == pytest.approx(1 - half, abs=noise)
        assert sign_flip_above(7 * differences[::-1]) == sign_flip_above(differences)
    assert sign_flip_above(np.zeros(40)) == 1
    assert sign_flip_above(np.full(40, 0.1)) == 1 / 10_001


@pytest.mark.parametrize("n", [12, 60])
def test_the_level_is_kept_under_symmetry(n):
    samples = np.random.default_rng(n + 1).laplace(size=(1500, n))
    ps = np.array([sign_flip_above(sample) for sample in samples])
    for level in (0.01, 0.05, 0.2):
        noise = 3 * np.sqrt(level * (1 - level) / 1500) + 3 * np.sqrt(level / 10_000)  # of the samples, of the draws
        assert (ps <= level).mean() <= level + noise
    lower = np.array([sign_flip_above(sample - 0.1) for sample in samples])
    assert (lower >= ps).all()


@pytest.mark.parametrize(("sign", "most"), [(1, 0.01), (-1, 0.035)])
def test_the_level_without_symmetry_is_that_of_students_t(sign, most):
    """A tenth of the texts drops a lot and the rest gains a little, on average nothing; or the other way round."""
    rng = np.random.default_rng(1)
    rare = rng.random((1000, 200)) < 0.1
    samples = sign * (np.where(rare, 0.9, -0.1) + rng.normal(size=rare.shape) * 0.05)
    found = np.mean([sign_flip_above(sample) <= 0.01 for sample in samples])
    students = (stats.ttest_1samp(samples, 0, axis=1, alternative="greater").pvalue <= 0.01).mean()
    assert found == pytest.approx(students, abs=0.006)
    assert found <= most


def test_a_drop_of_the_detectable_size_is_found_four_times_in_five():
    rng = np.random.default_rng(2)
    d = detectable(50, 0.01, POWER, sides=1)
    found = [sign_flip_above(rng.normal(loc=d, size=50)) < 0.01 for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.8, abs=3 * 0.02)


def test_least_p_is_reached_when_all_drop_alike():
    for n in (3, 8, 13):
        assert sign_flip_above(np.ones(n)) == least_p(n) == 0.5**n
    assert least_p(15) == 1 / 10_001
    assert 0.5**60 < least_p(60) < 1e-10


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_equal_scores_pass_with_no_drop():
    found = judged(SCORES)
    assert (found.status, found.drop, found.p, found.adjusted, found.n) == ("passed", 0, 1, 1, 60)
    assert found.margin == found.detectable == 0.01


@pytest.mark.parametrize(("higher", "shift", "status"), [(True, -1, "dropped"), (True, 1, "passed"), (False, 1, "dropped"), (False, -1, "passed")])  # fmt: skip # noqa: E501
def test_worse_depends_on_the_direction(higher, shift, status):
    found = judged(SCORES + shift * 0.1 + NOISE, higher=higher)
    assert found.status == status
    assert found.drop == pytest.approx((shift * 0.1 + NOISE.mean()) * (-1 if higher else 1))


def test_a_drop_within_the_margin_passes_and_beyond_fails():
    worse = SCORES - 0.1 + NOISE - NOISE.mean()
    assert [judged(worse, margin=margin).status for margin in (0, 0.05, 0.1, 0.2)] == ["dropped"] * 2 + ["passed"] * 2
    assert judged(worse, margin=0.1).p == pytest.approx(0.5, abs=0.05)


@given(
    st.lists(st.floats(-1, 0.2), min_size=12, max_size=30),
    st.lists(st.floats(-1, 0.2), min_size=12, max_size=30),
    st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)).map(sorted),
)
@settings(max_examples=50)
def test_a_larger_margin_never_turns_a_pass_into_a_fail(first, second, margins):
    n = min(len(first), len(second))
    old = board({"a": {"m": np.zeros(n)}, "b": {"m": np.zeros(n)}})
    new = board({"a": {"m": first[:n]}, "b": {"m": second[:n]}})
    smaller, larger = (
        {one.match.methods[0] for one in gate(new, old, margin=margin, alpha=0.05).failing} for margin in margins
    )
    assert larger <= smaller


def test_margins_are_shares_where_the_range_is_wide():
    (metric,) = board({"a": {"m": [0]}}, bounds=(-1.0, 1.0)).metrics
    assert tolerated(metric, np.array([3.0, -5.0]), 0.01) == 0.01
    for bounds in ((0.0, None), (None, None), (-28.0, 28.0)):
        (metric,) = board({"a": {"m": [0]}}, bounds=bounds).metrics
        assert tolerated(metric, np.array([3.0, -5.0]), 0.01) == pytest.approx(0.04)
    slower = judged(np.full(60, 102.0), np.full(60, 100.0), higher=False, bounds=(0.0, None))
    assert (slower.status, slower.margin) == ("dropped", 1)
    assert judged(np.full(60, 100.9), np.full(60, 100.0), higher=False, bounds=(0.0, None)).status == "passed"


def test_holm_runs_over_all_cells():
    old = {"a": {"m": SCORES, "k": SCORES}, "b": {"m": SCORES, "k": SCORES}}
    worse = SCORES - 0.045 + 2 * (NOISE - NOISE.mean())
    found = gate(board(old | {"a": {"m": worse, "k": SCORES}}), board(old)).verdicts
    assert [one.p for one in found[1:]] == [1, 1, 1]
    assert 0.0025 < found[0].p < 0.01
    assert found[0].adjusted == pytest.approx(4 * found[0].p)
    assert found[0].status == "passed"
    assert judged(worse).status == "dropped"  # alone


def test_large_families_can_still_fail():
    names = [f"m{i}" for i in range(400)]
    old = board({name: {"m": SCORES} for name in names})
    new = board({name: {"m": SCORES - 0.3 + NOISE if name == "m7" else SCORES} for name in names})
    assert [one.match.methods[0] for one in gate(new, old).failing] == ["m7"]


def test_failed_examples_fail_however_good_the_rest_is():
    found = judged(SCORES + 1, failed=[3])
    assert (found.status, found.reason, found.ok) == ("failed", "1 of 60: only one word", False)
    both = judged(SCORES, np.where(np.arange(60) == 3, nan, SCORES), failed=[3])
    assert (both.status, both.n) == ("passed", 59)


def test_few_lost_values_pass_and_many_fail():
    few, many = (np.where(np.arange(60) < n, nan, SCORES) for n in (3, 4))
    assert judged(few).status == "passed"
    assert judged(few).n == 57
    assert (judged(many).status, judged(many).reason) == ("lost", "4 of 60: only one word")
    assert judged(np.full(60, nan)).status == "lost"
    assert judged(SCORES, many).status == "passed"


def test_what_cannot_be_judged_is_refused():
    for card in ({"higher": None}, {"measured": True}):
        with pytest.raises(UserError, match="nothing to judge: of 0 cells"):
            gate(board({"a": {"m": SCORES}}, **card), board({"a": {"m": SCORES}}, **card))
    with pytest.raises(UserError, match=r"of 1 cells .* none has examples enough .* larger --limit"):
        judged(SCORES[:5], SCORES[:5])
    with pytest.raises(
        UserError, match=r"asked about 50 of the baseline's 60 examples; run both with the same --limit"
    ):
        judged(SCORES[:50])
    with pytest.raises(UserError, match="no method in common"):
        gate(board({"a": {"m": SCORES}}), board({"b": {"m": SCORES}}))
    for wrong in ({"margin": -0.1}, {"margin": nan}, {"alpha": 0.0}, {"alpha": 0.5}, {"margin": float("inf")}):
        with pytest.raises(UserError, match="give a margin from 0 and an alpha above 0"):
            judged(SCORES, **wrong)


def test_small_cells_are_left_out_of_the_correction_but_not_of_failing():
    thin = np.where(np.arange(60) < 4, SCORES, nan)
    old = {"a": {"m": SCORES, "k": thin}}
    found = gate(board({"a": {"m": SCORES - 0.1 + NOISE, "k": thin - 1}}), board(old)).verdicts
    assert [one.status for one in found] == ["dropped", "blind"]
    assert found[0].adjusted == found[0].p
    assert found[1].p is None
    crashed = gate(board({"a": {"m": SCORES, "k": thin}}, failed=[0]), board(old)).verdicts
    assert [one.status for one in crashed] == ["failed", "failed"]


# --- folders and the command ----------------------------------------------------------------------------------------


def cases(path):
    """The test cases of a JUnit file, by suite and name; its counts agree with what is in it."""
    root = Xml.parse(path).getroot()
    for suite in [root, *root]:
        inside = list(suite.iter("testcase"))
        assert int(suite.get("tests")) == len(inside)
        assert int(suite.get("failures")) == sum(case.find("failure") is not None for case in inside)
        assert int(suite.get("skipped")) == sum(case.find("skipped") is not None for case in inside)
    return {case.get("name"): case.find("failure") for case in root.iter("testcase")}


def test_equal_folders_pass(pair, command, tmp_path):
    new, old = pair.write()
    code, out, _ = command(
        "gate", new, "--baseline", old, "--junit", tmp_path / "x.xml", "--summary", tmp_path / "x.md"
    )
    assert code == 0
    assert "passed: none of 36 cells dropped by more than the margin" in out
    assert "36 one-sided sign-flip tests of drop > margin, Holm over all of them, alpha 0.01; margin 0.01" in out
    assert "35 to 40 examples per cell" in out  # less a failure and what has one word
    assert "8 cells have too few examples" in out  # what explains again has eight
    found = cases(tmp_path / "x.xml")
    assert len(found) == 4 * 11  # not the seconds
    assert set(found.values()) == {None}
    assert (tmp_path / "x.md").read_text().startswith("### attrlab gate: passed")
    assert "|" not in (tmp_path / "x.md").read_text()


def test_a_planted_drop_fails_and_is_named(pair, command, tmp_path):
    pair.edit("shap", "sufficiency", lambda i, value: value + (0.3 if i % 2 else 0.1))
    pair.edit("shap", "comprehensiveness", lambda i, value: value + 0.3)
    pair.edit("shap", "seconds", lambda i, value: value + 1e6)
    new, old = pair.write()
    code, out, _ = command(
        "gate", new, "--baseline", old, "--junit", tmp_path / "x.xml", "--summary", tmp_path / "x.md"
    )
    assert code == 1
    assert "FAILED: 1 dropped, of 44 cells" in out
    assert re.search(
        r"lexicon:test  bert-tiny  shap\s+metric .*\s+sufficiency \(delete\) .* 0\.200 +0\.01 .* dropped", out
    )
    failures = {name: node for name, node in cases(tmp_path / "x.xml").items() if node is not None}
    assert set(failures) == {"shap: sufficiency (delete)"}
    assert failures["shap: sufficiency (delete)"].get("message").startswith("dropped: baseline 0.")
    rows = [line for line in (tmp_path / "x.md").read_text().splitlines() if line.startswith("| bert-tiny")]
    assert len(rows) == 1
    assert "| shap | sufficiency (delete) |" in rows[0]
    assert command("gate", new, "--baseline", old, "--margin", 0.25)[0] == 0
    assert command("gate", new, "--baseline", old, "--method", "random", "--method", "occlusion")[0] == 0
    assert command("gate", new, "--baseline", old, "--metric", "auprc")[0] == 0


def test_pairs_of_other_names_are_judged(pair, command):
    new, old = pair.write()
    assert command("gate", new, "--baseline", old, "--method", "random=shap", "--metric", "auprc")[0] == 1
    assert command("gate", new, "--baseline", old, "--method", "shap=random", "--metric", "auprc")[0] == 0


def test_what_crashed_or_is_missing_fails(pair, command):
    pair.new.change("attributions", f"{KEY}-random-0", lambda c: c["rows"][5].update(status="failed", reason="boom"))
    pair.edit("random", "auprc", lambda i, value: None if i == 5 else value)
    pair.new.run["cells"][1] |= {"reason": "needs attention weights", "scores": []}
    pair.new.run["cells"] = [cell for cell in pair.new.run["cells"] if cell["method"] != "occlusion"]
    (pair.new.folder / "scores" / f"{KEY}-lime_samples_200-7-0.json").unlink()
    new, old = pair.write()
    code, out, _ = command("gate", new, "--baseline", old, "--metric", "auprc", "--metric", "token_f1")
    assert code == 1
    assert "FAILED: 1 failed, 5 missing, of 8 cells" in out
    assert "auprc: 1 of 40: taken away" in out
    for reason in ("needs attention weights", "not run", "not computed yet: run again to finish"):
        assert f"auprc: {reason}" in out


def test_a_metric_that_was_left_out_is_missing(pair):
    pair.new.run["metrics"][0]["name"] = pair.new.run["columns"][0]["metric"] = "other"
    pair.new.run["columns"][1]["metric"] = "other"
    new, old = pair.write()
    found = {one.status for one in gate(read(new), read(old), ["shap"], ["comprehensiveness", "auprc"]).failing}
    assert found == {"missing"}


def test_incomparable_folders_are_refused_and_write_nothing(pair, command, tmp_path):
    pair.new.run["models"][0]["hash"] = "beef"
    new, old = pair.write()
    code, out, err = command("gate", new, "--baseline", old, "--junit", tmp_path / "x.xml")
    assert (code, out) == (2, "")
    assert "bert-tiny on lexicon:test has other weights (beef and c0ffeec0)" in err
    assert "ATTRLAB_CACHE" in err
    assert not (tmp_path / "x.xml").exists()


def test_an_unfinished_baseline_is_refused(pair, command):
    (pair.old.folder / "scores" / f"{KEY}-shap-7-0.json").unlink()
    new, old = pair.write()
    code, _, err = command("gate", new, "--baseline", old)
    assert code == 2
    assert "the baseline is not whole: shap on bert-tiny, lexicon:test, auprc" in err


def test_fewer_examples_are_refused(pair, command):
    for chunk in pair.new.folder.rglob("*.json"):
        content = json.loads(chunk.read_text())
        chunk.write_text(json.dumps(content | {"rows": content["rows"][:30]}))
    code, _, err = command("gate", *pair.write()[:1], "--baseline", pair.old.folder)
    assert code == 2
    assert "was asked about 30 of the baseline's 40 examples" in err


def test_hostile_names_stay_inside_their_places(pair, tmp_path):
    for folder in (pair.new, pair.old):
        for part in (*folder.run["methods"], *folder.run["models"], *folder.run["cells"]):
            for key in ("name", "method", "model"):
                if part.get(key) in ("shap", "bert-tiny"):
                    part[key] = HOSTILE
    pair.edit("shap", "auprc", lambda i, value: value - (0.3 if i % 2 else 0.1))
    new, old = pair.write()
    report = gate(read(new), read(old))
    (tmp_path / "x.xml").write_text(junit(report), "utf-8")
    failures = [name for name, node in cases(tmp_path / "x.xml").items() if node is not None]
    assert len(failures) == 1
    assert failures[0].startswith('a|b<script>"&amp;\ufffd\ufffd\ufffd\ufffd ]]> _x')
    text = summary(report)
    assert "<script>" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {14}


def test_close_calls_are_shown_though_they_pass(pair, command):
    pair.edit("shap", "auprc", lambda i, value: value - (0.3 if i < 3 else 0.0))
    code, out, _ = command("gate", *pair.write()[:1], "--baseline", pair.old.folder, "--margin", 0)
    assert code == 0
    assert "auprc" not in out  # three of three: p is 1/8
    pair.edit("shap", "auprc", lambda i, value: value - (0.3 if i < 9 else 0.0))
    code, out, _ = command("gate", *pair.write()[:1], "--baseline", pair.old.folder, "--margin", 0)
    assert code == 0
    assert re.search(r"auprc .* passed", out)


# --- the action -----------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / ".github" / "actions" / "attrlab-gate" / "action.yml").read_text("utf-8"))


def test_the_action_calls_the_commands_with_options_that_exist(tmp_path):
    """Runs the action's script with a stand-in that prints its arguments, then asks the commands about them."""
    (step,) = (step for step in ACTION["runs"]["steps"] if "attrlab gate" in step.get("run", ""))
    stand_in = tmp_path / "attrlab"
    stand_in.write_text('#!/usr/bin/env bash\nprintf "%s\\n" call "$@"\n')
    stand_in.chmod(0o755)
    given = {"METHODS": "my method.py:Mine\n\nlime:samples=5\n", "SUITE": "ci", "BASELINE": "b", "MARGIN": "0.02"}
    environment = {**given, "ALPHA": "0.05", "GITHUB_STEP_SUMMARY": "s.md", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert set(step["env"]) == {*given, "ALPHA", "ATTRLAB_CACHE"}
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    printed = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True).stdout
    run, gated = ([*part.splitlines()] for part in printed.split("call\n")[1:])
    methods = ["--method", "my method.py:Mine", "--method", "lime:samples=5"]
    assert run == ["run", "ci", *methods, "--out", "attrlab-gate/results"]
    assert gated[:6] == ["gate", "attrlab-gate/results", "--baseline", "b", *methods[:2]]
    known = {name: {o for p in c.params for o in p.opts} for name, c in get_command(cli.app).commands.items()}
    for called in (run, gated):
        assert {word for word in called if word.startswith("--")} <= known[called[0]]


def test_the_actions_inputs_are_those_that_it_uses_and_the_example_gives():
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION)))
    assert used == set(ACTION["inputs"])
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "attrlab-gate.yml").read_text("utf-8"))
    steps = workflow["jobs"]["gate"]["steps"]
    (own,) = (step for step in steps if step.get("uses", "").endswith("actions/attrlab-gate"))
    required = {name for name, facts in ACTION["inputs"].items() if facts.get("required")}
    assert required <= set(own["with"]) <= set(ACTION["inputs"])
    assert any(ACTION["inputs"]["baseline"]["default"] in step.get("run", "") for step in steps)
    assert float(ACTION["inputs"]["margin"]["default"]) == MARGIN
    assert float(ACTION["inputs"]["alpha"]["default"]) == ALPHA
