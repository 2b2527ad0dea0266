"""Means by predicted class and correctness, and intervals of examples in groups, against plain sums."""

import csv
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from strictpage import Page

from attrlab.leaderboard import read, records, render
from attrlab.leaderboard.comparisons import compare_all
from attrlab.leaderboard.statistics import intervals, resamples
from attrlab.leaderboard.strata import Part, Strata, macro, means, stratified
from attrlab.leaderboard.tables import numbers

VALUES = arrays(np.float64, st.integers(1, 20), elements=st.floats(-5, 5) | st.just(np.nan))


@given(VALUES, st.data())
def test_strata_are_plain_means(values, data):
    labels = data.draw(st.lists(st.sampled_from(["a", "b", None]), min_size=len(values), max_size=len(values)))
    found = means(values, labels, ["a", "b", "c"])
    for name, part in found.items():
        own = [value for value, label in zip(values, labels, strict=True) if label == name and not np.isnan(value)]
        assert part.n == len(own)
        assert part.mean == (pytest.approx(sum(own) / len(own)) if own else None)
    both = [found[name].mean for name in "ab"]
    assert macro({name: found[name] for name in "ab"}) == (None if None in both else pytest.approx(sum(both) / 2))


def test_the_macro_average_counts_every_class_the_same():
    parts = means(np.array([1.0] * 9 + [0.0]), ["a"] * 9 + ["b"], ["a", "b"])
    assert parts == {"a": Part(1.0, 9), "b": Part(0.0, 1)}
    assert macro(parts) == 0.5
    assert macro({}) is None


def test_parts_keep_classes_that_are_called_like_outcomes():
    one = Strata(classes={"wrong": Part(0.1, 3), "macro": Part(0.3, 1)}, outcomes={"wrong": Part(0.2, 4)}, macro=0.2)
    assert one.parts() == [
        ("wrong", Part(0.1, 3)),
        ("macro", Part(0.3, 1)),
        ("macro", Part(0.2, 4)),
        ("wrong", Part(0.2, 4)),
    ]
    assert Strata().parts() == []


def stored(small, method, column, model="bert-tiny"):
    """Returns the stored values of one column by example."""
    rows = []
    for start in (0, 6):
        path = small.folder / "scores" / f"lexicon_test-{model}-{method}-{column}-{start}.json"
        rows += json.loads(path.read_text())["rows"]
    return {row["example"]: row["value"] for row in rows if row["value"] is not None}


def predictions(small, model="bert-tiny"):
    return [
        row
        for start in (0, 6)
        for row in json.loads((small.folder / "predictions" / f"lexicon_test-{model}-{start}.json").read_text())["rows"]
    ]


def test_records_have_means_by_class_and_by_correctness(small):
    board = read(small.write())
    rows = predictions(small)
    found = [row for row in records(board) if row["model"] == "bert-tiny"]
    for method in ("shap", "lime"):
        name = "lime:samples=200" if method == "lime" else method
        values = stored(small, "lime_samples_200" if method == "lime" else method, 2)
        record = next(row for row in found if (row["method"], row["metric"]) == (name, "sufficiency"))
        for key, expected in (("correct", True), ("wrong", False)):
            own = [values[row["example"]] for row in rows if row["correct"] is expected and row["example"] in values]
            assert record[key] == pytest.approx(np.mean(own))
        classes = {
            label: np.mean([values[row["example"]] for row in rows if row["target"] == k and row["example"] in values])
            for k, label in enumerate(("negative", "positive"))
        }
        assert record["classes"] == pytest.approx(classes)
        assert record["macro"] == pytest.approx(np.mean(list(classes.values())))


def test_classes_go_by_the_names_of_the_model(small):
    small.run["models"][0]["classes"] = [1, 0]
    board = read(small.write())
    found = stratified(board)
    first, second = (
        found[model, "lexicon:test", "shap", board.columns[0]].classes for model in ("bert-tiny", "gpt2-small")
    )
    assert set(first) == set(second) == {"negative", "positive"}
    values = stored(small, "shap", 0)
    own = [values[row["example"]] for row in predictions(small) if row["target"] == 1]
    assert first["negative"].mean == pytest.approx(np.mean(own))


def test_a_class_that_a_method_has_no_value_of_leaves_no_macro_average(small):
    for start in (0, 6):
        small.change(
            "scores",
            f"lexicon_test-bert-tiny-shap-0-{start}",
            lambda chunk: [
                row.update(value=None, reason="no") for row in chunk["rows"][::2]
            ],  # every other is negative
        )
    board = read(small.write())
    one = stratified(board)["bert-tiny", "lexicon:test", "shap", board.columns[0]]
    assert one.classes["negative"] == Part(None, 0)
    assert one.classes["positive"].n == 6
    assert one.macro is None
    record = next(row for row in records(board) if row["method"] == "shap")
    assert record["macro"] is None
    assert record["classes"]["negative"] is None
    assert f"\N{EN DASH} / {numbers([one.classes['positive'].mean])[0]} / \N{EN DASH} / " in render(board, "md")


def test_unknown_labels_and_skipped_cells_have_no_strata(small):
    for model in small.models:
        for start in (0, 6):
            small.change(
                "predictions",
                f"lexicon_test-{model}-{start}",
                lambda c: [row.update(correct=None) for row in c["rows"]],
            )
    small.run["cells"][1] |= {"reason": "needs attention weights", "scores": []}
    board = read(small.write())
    found = records(board)
    assert all(row["correct"] is row["wrong"] is None for row in found)
    skipped = [row for row in found if row["status"] == "skipped"]
    assert skipped
    assert all(row["classes"] == {} and row["macro"] is None for row in skipped)
    assert "negative / positive / macro." in render(board, "md")


def test_strata_stand_in_every_export(small):
    board = read(small.write())
    one = stratified(board)["bert-tiny", "lexicon:test", "shap", board.columns[0]]
    cell = " / ".join(numbers([part.mean for _, part in one.parts()]))
    names = "negative / positive / macro / correct / wrong"
    assert f"Means by predicted class and by whether the model is right: {names}." in render(board, "md")
    assert f"| shap | {cell} |" in render(board, "md")
    assert "| n | 6 / 6 / 12 / 10 / 2 |" in render(board, "md")
    assert f"shap & {cell} &" in render(board, "latex")
    shown = Page(render(board, "html")).shown()
    assert names in shown
    assert cell in shown
    assert "n 6 / 6 / 12 / 10 / 2" in shown
    row = next(row for row in csv.DictReader(io.StringIO(render(board, "csv"))) if row["method"] == "shap")
    assert json.loads(row["classes"]) == {name: part.mean for name, part in one.classes.items()}
    small.run["suite"]["explain"]["target"] = "gold"
    assert "Means by explained class" in render(read(small.write()), "md")


def test_rows_of_strata_align_with_their_names(small):
    text = render(read(small.write()), "md")
    for line in re.findall(r"^\| (?:n|d\\?_z|shap|occlusion) \| [^|]* / .*$", text, flags=re.M):
        assert {cell.count("/") for cell in line.split("|")[2:-1]} == {4}


def naive(values, groups, count):
    """Resamples groups in a plain loop over the same indices."""
    names = list(dict.fromkeys(groups))
    found = []
    for block in resamples(len(names), count):
        for indices in block:
            drawn = [v for i in indices for v, label in zip(values, groups, strict=True) if label == names[i]]
            drawn = [value for value in drawn if not np.isnan(value)]
            if drawn:
                found.append(sum(drawn) / len(drawn))
    return np.percentile(found, [2.5, 97.5])


def test_intervals_by_group_equal_a_plain_loop():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(20, 4))
    values[rng.random(values.shape) < 0.2] = np.nan
    groups = rng.integers(0, 7, size=20).tolist()
    values[[label != groups[0] for label in groups], 3] = np.nan  # one group alone
    values[0, 3] = 1.0
    found = intervals(values, 300, groups)
    for column in range(3):
        np.testing.assert_allclose(found[column], naive(values[:, column], groups, 300), rtol=1e-12)
    assert np.isnan(found[3]).all()


@given(arrays(np.float64, st.tuples(st.integers(2, 15), st.just(2)), elements=st.floats(-9, 9) | st.just(np.nan)))
@settings(deadline=None, max_examples=30)
def test_examples_that_are_their_own_groups_are_no_groups(values):
    np.testing.assert_allclose(intervals(values, 100, range(len(values))), intervals(values, 100), rtol=1e-12)


def test_groups_of_equal_examples_are_as_few_as_they_are():
    """Five copies of each of 40 examples know what 40 examples know."""
    values = np.random.default_rng(2).normal(size=(40, 3))
    copies = np.repeat(values, 5, axis=0)
    groups = np.repeat(np.arange(40), 5).tolist()
    np.testing.assert_allclose(intervals(copies, groups=groups), intervals(values), rtol=1e-9, atol=1e-12)
    assert (np.ptp(intervals(copies), axis=1) < 0.6 * np.ptp(intervals(values), axis=1)).all()


def test_comparisons_resample_groups_together():
    values = np.random.default_rng(3).normal(size=(30, 2))
    copies, groups = np.repeat(values, 2, axis=0), np.repeat(np.arange(30), 2).tolist()
    once, twice = compare_all(values)[0], compare_all(copies, groups)[0]
    assert (twice.low, twice.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert twice.p == once.p
    alone = compare_all(values, [0] * 30)[0]
    assert (alone.low, alone.high, alone.p) == (None, None, 1.0)
