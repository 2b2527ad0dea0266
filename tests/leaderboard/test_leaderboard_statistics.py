import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attrlab.leaderboard import read
from attrlab.leaderboard import statistics as module
from attrlab.leaderboard.statistics import Aggregate, aggregate, brief, intervals, resamples, verdict


def naive(values: np.ndarray, count: int) -> tuple[float, float]:
    """Resamples one column in a plain loop over the same indices."""
    means = []
    for block in resamples(len(values), count):
        for indices in block:
            drawn = [values[i] for i in indices if not np.isnan(values[i])]
            if drawn:
                means.append(sum(drawn) / len(drawn))
    return tuple(np.percentile(means, [2.5, 97.5]))


def test_intervals_equal_a_plain_loop():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(17, 5))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:2, 3] = [0.1, 0.2]
    values[2:, 3] = np.nan  # two values left: some resamples draw none of them
    values[1:, 4] = np.nan
    found = intervals(values, 500)
    for column in range(4):
        np.testing.assert_allclose(found[column], naive(values[:, column], 500), rtol=1e-12)
    assert np.isnan(found[4]).all()


def test_intervals_cover_the_true_mean():
    """5 % of the intervals may miss; with 2,000 data sets the share has a standard error of half a percent."""
    rng = np.random.default_rng(2)
    n, simulations = 80, 2000
    values = rng.normal(loc=0.3, size=(n, simulations))
    covered = np.mean([low <= 0.3 <= high for low, high in intervals(values, 2000)])
    assert 0.925 < covered < 0.965
    values[: n // 2] = np.nan  # half the examples have no value: wider, not wrong
    halved = intervals(values, 2000)
    assert 0.915 < np.mean([low <= 0.3 <= high for low, high in halved]) < 0.965


def test_interval_of_a_known_width():
    """For many examples the interval is mean +- 1.96 s / sqrt(n)."""
    values = np.random.default_rng(3).normal(size=(2000, 1))
    low, high = intervals(values)[0]
    half = 1.96 * values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_resamples_depend_on_n_alone_and_memory_is_bounded(monkeypatch):
    first = np.concatenate(list(resamples(7, 50)))
    monkeypatch.setattr(module, "_BLOCK", 7 * 16)
    blocks = list(resamples(7, 50))
    assert [len(block) for block in blocks] == [16, 16, 16, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), first)
    assert first.shape == (50, 7)
    assert set(np.unique(first)) == set(range(7))


def test_columns_beyond_one_block_share_the_resamples(monkeypatch):
    values = np.random.default_rng(4).normal(size=(9, 7))
    together = intervals(values, 300)
    monkeypatch.setattr(module, "_COLUMNS", 2)
    np.testing.assert_allclose(intervals(values, 300), together, rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.float64, st.tuples(st.integers(2, 12), st.just(1)), elements=st.floats(-100, 100) | st.just(np.nan)),
    st.floats(-50, 50),
    st.floats(0.1, 10),
)
def test_interval_properties(values, shift, scale):
    low, high = intervals(values, 200)[0]
    valid = values[~np.isnan(values)]
    if len(valid) < 2:
        assert np.isnan([low, high]).all()
        return
    assert valid.min() <= low <= high <= valid.max()
    moved = intervals(scale * values + shift, 200)[0]
    np.testing.assert_allclose(moved, [scale * low + shift, scale * high + shift], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(intervals(-values, 200)[0], [-high, -low], rtol=1e-9, atol=1e-9)


@given(st.floats(-1e6, 1e6), st.integers(2, 40))
def test_equal_values_have_an_interval_of_no_width(value, n):
    assert intervals(np.full((n, 1), value), 20)[0].tolist() == [value, value]


def only(board, method="shap", metric="comprehensiveness", model="bert-tiny"):
    return next(
        found
        for found in aggregate(board)
        if (found.method, found.column.metric, found.model) == (method, metric, model)
    )


def rows(*values):
    """Returns an edit that gives the first examples these values, and reasons where they are None."""

    def edit(content):
        content["rows"] = [
            {"example": f"lexicon:test-{i}", "value": value, "reason": None if value is not None else "too short"}
            for i, value in enumerate(values)
        ]

    return edit


def one_chunk(small, *values):
    small.run["cells"][1]["scores"][0]["keys"] = ["lexicon_test-bert-tiny-shap-0-0"]
    small.change("scores", "lexicon_test-bert-tiny-shap-0-0", rows(*values))
    return only(read(small.write()))


def test_mean_interval_and_counts_by_hand(small):
    found = one_chunk(small, 1.0, 0.0, None, 0.5)
    assert (found.mean, found.n_scored, found.n_total, found.status) == (0.5, 3, 4, "ok")
    assert found.reason == "1 of 4: too short"
    low, high = naive(np.array([1.0, 0.0, np.nan, 0.5]), 10_000)
    assert (found.ci_low, found.ci_high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


def test_one_value_has_no_interval(small):
    found = one_chunk(small, None, 0.25)
    assert (found.mean, found.ci_low, found.ci_high, found.n_scored, found.status) == (0.25, None, None, 1, "ok")


def test_no_value_is_undefined_with_the_reasons(small):
    found = one_chunk(small, None, None)
    assert (found.mean, found.ci_low, found.status, found.reason) == (None, None, "undefined", "2 of 2: too short")


def test_no_example_at_all(small):
    found = one_chunk(small)
    assert (found.mean, found.n_scored, found.n_total, found.status) == (None, 0, 0, "undefined")
    assert found.reason == "no examples"


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_status_comes_from_the_attributions_when_none_is_there(small, status):
    def fail(content):
        for row in content["rows"]:
            row |= {"status": status, "scores": None, "reason": "out of\nmemory"}

    def empty(content):
        for row in content["rows"]:
            row |= {"value": None, "reason": None}

    for start in (0, 6):
        small.change("attributions", f"lexicon_test-bert-tiny-shap-{start}", fail)
        small.change("scores", f"lexicon_test-bert-tiny-shap-0-{start}", empty)
    found = only(read(small.write()))
    assert (found.status, found.reason) == (status, "12 of 12: out of memory")


def test_a_missing_chunk_makes_the_cell_missing_and_no_other(small):
    folder = small.write()
    before = aggregate(read(folder))
    (folder / "scores" / "lexicon_test-bert-tiny-shap-0-6.json").unlink()
    after = aggregate(read(folder))
    changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    found = changed[0][1]
    assert (found.status, found.mean, found.n_scored, found.n_total) == ("missing", None, 0, 12)
    assert found.reason == "not computed yet: run again to finish"


def test_a_reason_skips_a_cell_or_a_column(small):
    small.run["cells"][1] |= {"reason": "needs attention weights", "scores": []}
    small.run["cells"][0]["scores"][0] = {"reason": "no rationales", "keys": []}
    board = read(small.write())
    found = [one for one in aggregate(board) if one.method == "shap" and one.model == "bert-tiny"]
    assert len(found) == 12
    assert {(one.status, one.reason, one.n_total > 0) for one in found} == {
        ("skipped", "needs attention weights", True)
    }
    assert only(board, "lime:samples=200").reason == "no rationales"


def test_metrics_on_fewer_examples_have_their_own_total(small):
    board = read(small.write())
    assert only(board, metric="seed_consistency").n_total == 8
    assert only(board).n_total == 12


def test_reasons_are_ranked_cut_and_on_one_line(small):
    def edit(content):
        reasons = ["a", "b", "b", "c", "d", "x" * 900]
        for row, reason in zip(content["rows"], reasons, strict=True):
            row |= {"value": None, "reason": reason}

    small.change("scores", "lexicon_test-bert-tiny-shap-0-0", edit)
    assert only(read(small.write())).reason == "2 of 12: b; 1 of 12: a; 1 of 12: c; and 2 more reasons"
    assert brief("a \n\t b") == "a b"
    assert len(brief("x" * 900)) == 240


def test_order_is_data_set_model_method_column(small):
    board = read(small.write())
    found = aggregate(board)
    assert [one.method for one in found[::12]] == ["random", "lime:samples=200", "shap", "occlusion"] * 2
    assert tuple(one.column for one in found[:12]) == board.columns
    assert found == aggregate(board)


@pytest.mark.parametrize(
    ("ends", "higher", "expected"),
    [
        ((0.6, 0.7), True, "better"),
        ((0.6, 0.7), False, "worse"),
        ((0.1, 0.3), True, "worse"),
        ((0.1, 0.3), False, "better"),
        ((0.5, 0.7), True, "unclear"),
        ((0.1, 0.4), True, "unclear"),
        ((None, None), True, None),
    ],
)
def test_verdict(ends, higher, expected):
    def with_ends(low, high):
        return Aggregate(model="m", dataset="d", method="x", column=None, ci_low=low, ci_high=high)

    assert verdict(with_ends(*ends), with_ends(0.4, 0.5), higher) == expected
    assert verdict(with_ends(0.4, 0.5), with_ends(None, None), higher) is None
