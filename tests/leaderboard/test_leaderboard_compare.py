"""Two folders compared: equal ones, planted differences, other directions, gaps, and what cannot be compared."""

import csv
import io
import json
import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from boards import DATASET, KEY, MODEL, Command, Pair, board
from hypothesis import given, settings
from hypothesis import strategies as st

from attrlab.bench.errors import UserError
from attrlab.leaderboard import read
from attrlab.leaderboard.compare import compare, paired_methods
from attrlab.leaderboard.compare_tables import FIELDS, records, render

VALUES = st.lists(st.integers(-5, 5), min_size=8, max_size=8)


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path)


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


def compared(pair, *arguments):
    new, old = pair.write()
    return compare(read(new), read(old), *arguments)


def one(found, method, metric, operator=None):
    (match,) = (
        each
        for each in found
        if (each.match.methods[0], each.match.column.metric) == (method, metric)
        and operator in (None, each.match.column.operator)
    )
    return match


def test_equal_folders_differ_nowhere(pair):
    found = compared(pair)
    assert len(found) == 4 * 12
    for each in found:
        assert each.found.mean == each.found.low == each.found.high == each.found.d_z == 0
        assert each.new == each.old
        if each.match.metric.measured:
            assert (each.found.p, each.found.adjusted, each.verdict) == (None, None, "measured")
        else:
            assert (each.found.p, each.found.adjusted, each.verdict) == (1, 1, "not separable")


def test_a_planted_difference_is_found_where_it_is_and_nowhere_else(pair):
    pair.edit("shap", "comprehensiveness", lambda i, value: value + (0.3 if i % 2 else 0.1))
    pair.edit("shap", "sufficiency", lambda i, value: value + (0.3 if i % 2 else 0.1))
    found = compared(pair)
    better, worse = one(found, "shap", "comprehensiveness", "delete"), one(found, "shap", "sufficiency", "delete")
    assert [each.verdict for each in found if each not in (better, worse)].count("not separable") == 46 - 4
    assert (better.verdict, worse.verdict) == ("better", "worse")
    for each in (better, worse):
        assert each.found.mean == pytest.approx(0.2)
        assert each.found.d_z == pytest.approx(0.2 / np.std([0.1, 0.3] * 20, ddof=1))
        assert each.found.low == pytest.approx(0.2, abs=0.04)
        assert each.found.p <= 1 / 10_001
        assert each.found.adjusted == pytest.approx(4 * each.found.p)  # four methods in the family


def test_a_metric_without_direction_only_changes(pair):
    for folder in (pair.new, pair.old):
        folder.run["metrics"][0]["higher_is_better"] = None
    pair.edit("shap", "comprehensiveness", lambda i, value: value - 0.2)
    assert one(compared(pair), "shap", "comprehensiveness", "delete").verdict == "changed"


def test_measured_time_is_shown_and_never_judged(pair):
    pair.edit("shap", "seconds", lambda i, value: value + 100)
    slower = one(compared(pair), "shap", "seconds")
    assert slower.verdict == "measured"
    assert slower.found.p is None
    assert slower.found.mean == pytest.approx(100)


def test_p_is_brute_force_and_holm_over_the_methods():
    rng = np.random.default_rng(0)
    old = {name: {"m": rng.normal(size=9).tolist()} for name in "abc"}
    shifts = {"a": 0.9, "b": 0.5, "c": 0.0}
    new = {name: {"m": (rng.normal(size=9) * 0.5 + row["m"] + shifts[name]).tolist()} for name, row in old.items()}
    found = compare(board(new), board(old))
    flips = np.array(list(product([1, -1], repeat=9)))
    expected = []
    for name in "abc":
        d = np.subtract(new[name]["m"], old[name]["m"])
        expected.append((np.abs(flips @ d) >= abs(d.sum()) - 1e-9).mean())
    assert [each.found.p for each in found] == pytest.approx(expected)
    ranked = sorted(expected)
    holm = np.minimum(1, np.maximum.accumulate([3 * ranked[0], 2 * ranked[1], ranked[2]]))
    assert [each.found.adjusted for each in found] == pytest.approx([holm[ranked.index(p)] for p in expected])


@given(VALUES, VALUES)
@settings(max_examples=20)
def test_turning_the_folders_round_turns_the_sign(first, second):
    opposite = {"better": "worse", "worse": "better", "not separable": "not separable"}
    forth, back = (
        compare(board({"a": {"m": x}}), board({"a": {"m": y}}))[0] for x, y in ((first, second), (second, first))
    )
    assert forth.found.mean == -back.found.mean
    assert forth.found.p == back.found.p
    assert opposite[forth.verdict] == back.verdict
    flipped = compare(board({"a": {"m": first}}, higher=False), board({"a": {"m": second}}, higher=False))[0]
    assert flipped.verdict == back.verdict


@given(VALUES, VALUES)
@settings(max_examples=20)
def test_neither_scale_nor_order_of_examples_changes_a_test(first, second):
    plain = compare(board({"a": {"m": first}}), board({"a": {"m": second}}))[0]
    for x, y in (([7 * v for v in first], [7 * v for v in second]), (first[::-1], second[::-1])):
        other = compare(board({"a": {"m": x}}), board({"a": {"m": y}}))[0]
        assert other.found.p == plain.found.p
        assert other.found.d_z == pytest.approx(plain.found.d_z)
        assert other.verdict == plain.verdict


def test_only_examples_that_both_scored_count(pair):
    pair.edit("shap", "auprc", lambda i, value: None if i < 10 else value + 1)
    pair.edit("shap", "auprc", lambda i, value: None if i >= 35 else value, side="old")
    found = one(compared(pair), "shap", "auprc")
    assert (found.found.n, found.n_total) == (25, 40)
    assert found.found.mean == pytest.approx(1)
    assert found.new - found.old == pytest.approx(1)


def test_what_has_no_value_says_why(pair):
    pair.new.run["cells"][1] |= {"reason": "needs attention weights", "scores": []}
    pair.edit("random", "auprc", lambda i, value: None)
    (pair.old.folder / "scores" / f"{KEY}-occlusion-7-0.json").unlink()
    found = compared(pair)
    assert [each.verdict for each in found if each.match.methods[0] == "shap"] == ["no value"] * 12
    assert one(found, "shap", "auprc").reason == "new: needs attention weights"
    assert one(found, "random", "auprc").reason == "new: taken away"
    assert one(found, "occlusion", "auprc").reason == "old: not computed yet: run again to finish"
    assert one(found, "lime:samples=200", "auprc").verdict == "not separable"


def test_fewer_examples_of_the_same_kind_are_compared_on_those(pair):
    for chunk in (pair.new.folder).rglob("*.json"):
        content = json.loads(chunk.read_text())
        chunk.write_text(json.dumps(content | {"rows": content["rows"][:12]}))
    found = compared(pair)
    assert {(each.found.n, each.n_total) for each in found if each.match.column.metric == "auprc"} == {
        (12, 12),
        (11, 11 + 1),
    }


def test_differently_named_methods_of_one_folder(pair):
    folder = read(pair.new.write())
    (found,) = (e for e in compare(folder, folder, ["lime:samples=200=shap"], ["auprc"]))
    values = dict.fromkeys(("lime:samples=200", "shap"))
    for cell in folder.cells:
        if cell.method in values:
            values[cell.method] = cell.scores[7].values
    differences = (values["lime:samples=200"] - values["shap"])[~np.isnan(values["lime:samples=200"])]
    assert found.match.method == "lime:samples=200 = shap"
    assert found.found.n == 39
    assert found.found.mean == pytest.approx(differences.mean())


def test_pairs_are_read_with_equal_signs_in_names():
    new, old = (board({name: {"m": [0, 1]} for name in names}) for names in (("a:x=1", "b"), ("a:x=1", "c:y=2")))
    assert paired_methods(new, old, ["a:x=1", "b=c:y=2", "a:x=1=c:y=2", "b=a:x=1", "a:x=1=a:x=1"]) == [
        ("a:x=1", "a:x=1"),
        ("b", "c:y=2"),
        ("a:x=1", "c:y=2"),
        ("b", "a:x=1"),
        ("a:x=1", "a:x=1"),
    ]
    for text, message in (
        ("b=c:y=3", r"unknown method of the old results 'c:y=3'\. Did you mean 'c:y=2'"),
        ("bb=c:y=2", r"unknown method of the new results 'bb'\. Did you mean 'b'"),
        ("b", r"unknown method of both results 'b'.* Known: a:x=1"),
    ):
        with pytest.raises(UserError, match=message):
            paired_methods(new, old, [text])


def change(board_, part, **values):
    return replace(board_, **{part: tuple(replace(card, **values) for card in getattr(board_, part))})


def setting(board_, **values):
    return replace(board_, suite=replace(board_.suite, **values))


BASE = board({"a": {"m": [0.0, 1, 2]}}, version="1", family="stability")
GOLD, PROB = {"target": "gold", "scalar": "contrast"}, {"target": "predicted", "scalar": "prob"}
OTHER = {
    "unit is 'token' in the new and 'word'": setting(BASE, unit="token"),
    "explain.target is 'gold' in the new": setting(BASE, explain=GOLD),
    "explain.scalar is 'prob' in the new": setting(BASE, explain=PROB),
    "re_explain.seeds = 2 in the new and 3": setting(BASE, re_explain={"seeds": 2, "examples": 9}),
    "other texts (cd34 and ab12); run both on the same data": change(BASE, "datasets", fingerprint="cd34"),
    "other weights (beef and c0ffee): use the same files": change(BASE, "models", hash="beef"),
    "metric m has version '2' in the new and '1' in the old": change(BASE, "metrics", version="2"),
    "metric m has another source": change(BASE, "metrics", origin="f00"),
    "metric m has parameters {'k': 1} in the new and {}": change(BASE, "metrics", params={"k": 1}),
    "no model on a data set in common: new has x on": change(change(BASE, "models", name="x"), "cells", model="x"),
    "no method in common: new has z, old has a": change(change(BASE, "methods", name="z"), "cells", method="z"),
    "no metric and operator in common: new has n": change(change(BASE, "metrics", name="n"), "columns", metric="n"),
}


@pytest.mark.parametrize("message", OTHER)
def test_what_cannot_be_compared_says_what_differs_and_what_to_do(message):
    old = replace(BASE, suite=replace(BASE.suite, re_explain={"seeds": 3, "examples": 4}))
    assert len(compare(BASE, old)) == 1
    with pytest.raises(UserError, match=re.escape(message)):
        compare(OTHER[message], old)


def test_many_differences_are_counted():
    other = change(
        change(OTHER["explain.target is 'gold' in the new"], "models", hash="beef"), "datasets", fingerprint="cd"
    )
    with pytest.raises(UserError, match=r"and 1 more$"):
        compare(change(other, "metrics", version="7"), BASE)


def test_other_examples_cannot_be_compared(pair, command):
    for path in pair.new.folder.rglob("*.json"):
        path.write_text(re.sub(r"lexicon:test-(3\d)\b", r"else-\1", path.read_text()))
    code, out, err = command("compare", *pair.write())
    assert (code, out) == (2, "")
    assert "bert-tiny on lexicon:test was asked about other examples (30 of 40 in common)" in err


def test_a_metric_that_differs_may_be_left_out(pair):
    pair.new.run["metrics"][0]["version"] = "2"
    with pytest.raises(UserError, match="metric comprehensiveness has version '2'"):
        compared(pair)
    assert {each.match.column.metric for each in compared(pair, (), ["auprc", "tau_loo"])} == {"auprc", "tau_loo"}
    with pytest.raises(UserError, match=r"unknown metric of the old results 'auprcc'\. Did you mean 'auprc'"):
        compared(pair, (), ["auprcc"])


def test_formats_agree(pair, command):
    pair.edit("shap", "auprc", lambda i, value: value + (0.3 if i % 2 else 0.1))
    pair.new.run["cells"][2] |= {"reason": "a|b <script>", "scores": []}
    new, old = pair.write()
    found = compare(read(new), read(old))
    rows = records(found)
    assert all(tuple(row) == FIELDS for row in rows)
    assert json.loads(command("compare", new, old, "--format", "json")[1]) == rows
    listed = list(csv.DictReader(io.StringIO(command("compare", new, old, "--format", "csv")[1])))
    assert listed == [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    code, text, _ = command("compare", new, old, "--format", "md")
    assert code == 0
    table = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith("|")]
    assert {len(row) for row in table} == {10}
    assert text.count("\n## ") + text.startswith("## ") == 12
    assert r"no value: new: a\|b &lt;script&gt;" in text
    assert "| shap | " in text
    with pytest.raises(UserError, match=r"unknown format 'htm'"):
        render(found, "htm")


def test_terminal_shows_tables_and_what_they_mean(pair, command):
    pair.edit("shap", "auprc", lambda i, value: value + (0.3 if i % 2 else 0.1))
    code, out, _ = command("compare", *pair.write(), "--metric", "auprc")
    assert code == 0
    assert f"{DATASET}  {MODEL}  auprc ↑" in out
    assert re.search(r"^shap .* 0\.200 \[0\.1\d\d, 0\.2\d\d\] +2e-07 +1\.97 +40 +better", out, re.MULTILINE)
    assert re.search(r"^random .* 0\.000 \[0\.000, 0\.000\] +1 +0\.00 +40 +not separable", out, re.MULTILINE)
    assert "corrected by Holm" in out


def test_constant_differences_are_written_without_infinity(pair):
    pair.edit("shap", "forwards", lambda i, value: value * 2)
    (row,) = records(compared(pair, ["shap"], ["forwards"]))
    assert (row["difference"], row["d_z"], row["verdict"]) == (200.0, None, "worse")
