"""Metrics judged: made-up metrics whose worth is known, and second computations by plain loops, SciPy or by hand."""

import json
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strictpage import Page

from attrlab import leaderboard
from attrlab.bench import command
from attrlab.leaderboard import board as stored
from attrlab.leaderboard import judged_page
from attrlab.leaderboard.comparisons import compare_all
from attrlab.leaderboard.judged import judge, judged_at_all, trusted
from attrlab.leaderboard.judged_ranks import clustered, gain, kendall, merits, reliability
from attrlab.leaderboard.judged_readings import FEW
from attrlab.leaderboard.judged_scores import _is, cast
from attrlab.leaderboard.judged_verdict import BARRED, OPEN, TRUST, WEAK, Reading, Readings, Verdict, judged
from attrlab.leaderboard.ranks import _outcomes

ORDINAL = ("diagnosticity", "ladder", "ladder_rank", "reliability", "operators", "gain", "cheater")

LOO = {f"degraded:share={share}": {"share": share} for share in (0.25, 0.5, 0.75)} | {"degraded": {}}

METHODS = {
    "random": ("random", {}, "control"),
    "label_leak": ("label_leak", {}, "control"),
    "greedy_oracle": ("greedy_oracle", {}, "control"),
    "leave_one_out": ("leave_one_out", {}, "removal"),
    "lime:samples=99": ("lime", {"samples": 99}, "surrogate"),
    "saliency": ("saliency", {}, "gradient"),
    **{name: ("degraded", params, "control") for name, params in LOO.items()},
}

TRUTH = {
    "greedy_oracle": 9.0,
    "leave_one_out": 8.0,
    "lime:samples=99": 7.0,
    "saliency": 6.0,
    "degraded:share=0.25": 5.0,
    "degraded:share=0.5": 4.0,
    "degraded:share=0.75": 3.0,
    "degraded": 2.0,
    "random": 2.0,
    "label_leak": 2.0,
}
"""What a perfect metric makes of each method: who knows nothing scores alike."""


CELL = partial(stored.Cell, dataset="d", reason=None, predictions=(), attributions=())


def made(values, *, higher=True, operators=(None,), metric="m", family="faithfulness", models=("tiny",)):
    """Returns the board of one metric; ``values(method, operator, model)`` is a number per example, or a reason."""
    columns = tuple(stored.Column(metric=metric, operator=operator, unit="word") for operator in operators)

    def scores(method, operator, model):
        found = values(method, operator, model)
        if isinstance(found, str):
            return stored.ColumnScores(reason=found)
        found = np.asarray(found, dtype=np.float64)
        return stored.ColumnScores(
            examples=tuple(map(str, range(len(found)))), values=found, reasons=("why not",) * len(found)
        )

    def card(name):
        id_, params, kind = METHODS[name]
        return stored.MethodCard(
            name=name, id=id_, params=params, family=kind, needs=("gradients",) * (kind == "gradient")
        )

    names = [name for name in METHODS if values(name, operators[0], models[0]) is not None]
    facts = {"name": metric, "id": metric, "family": family, "comparable": "methods", "asks": True}
    return stored.Board(
        suite=stored.Suite(name="s", explain={"operator": "replace"}),
        provenance=stored.Provenance(),
        methods=tuple(map(card, names)),
        metrics=(stored.MetricCard(higher_is_better=higher, **facts),),
        columns=columns,
        models=tuple(stored.ModelCard(name=model, dataset="d") for model in models),
        datasets=(stored.DatasetCard(name="d"),),
        cells=tuple(
            CELL(model=model, method=name, scores=tuple(scores(name, operator, model) for operator in operators))
            for model in models
            for name in names
        ),
    )


def perfect(n=40):
    rng = np.random.default_rng(0)
    heights = rng.normal(size=n)  # examples differ, and that tells nothing of methods
    return lambda method, *_: TRUTH[method] + heights


def only(board):
    (row,) = judge(board).rows
    return row


def test_a_perfect_metric_passes_every_test():
    row = only(made(perfect()))
    found = row.readings
    assert (found.diagnosticity.value, found.diagnosticity.low, found.diagnosticity.high) == (1, 1, 1)
    assert (found.ladder.value, found.ladder.low) == (1, 1)
    assert found.ladder_rank.value == pytest.approx(1)
    assert found.reliability.value == pytest.approx(1)
    assert found.separated.value == found.separated_few.value == 1
    assert found.cheater.value == 0.5
    assert found.place.value == pytest.approx((8 - 2) / (9 - 2))
    assert (row.best, row.oracle) == ("leave_one_out", "greedy_oracle")
    assert row.verdict == Verdict(word=TRUST)
    assert row.null == "its own scores, shuffled, for 1 of 3 methods; else random"


def test_a_metric_in_which_lower_is_better_is_turned_round_and_keeps_its_units():
    ours, theirs = only(made(perfect())), only(made(lambda *at: -perfect()(*at), higher=False))
    for field in fields(Readings):
        one, other = getattr(ours.readings, field.name), getattr(theirs.readings, field.name)
        sign = -1 if field.name in {"floor", "ceiling"} else 1
        assert other.value == (None if one.value is None else pytest.approx(sign * one.value))
    assert ours.verdict == theirs.verdict


def test_a_reversed_metric_is_barred_and_left_out_of_aggregates():
    board = made(lambda *at: -perfect()(*at))
    row = only(board)
    assert (row.readings.diagnosticity.value, row.readings.ladder.value) == (0, 0)
    assert row.readings.ladder_rank.value == pytest.approx(-1)
    assert row.verdict.word == BARRED
    assert len(row.verdict.reasons) == 2
    assert trusted(board) == frozenset()


def test_noise_is_worth_a_coin():
    n, rng = 1500, np.random.default_rng(1)
    row = only(made(lambda *_: rng.normal(size=n)))
    for name in ("diagnosticity", "ladder", "cheater"):
        assert getattr(row.readings, name).value == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(n))
    assert row.readings.ladder_rank.value == pytest.approx(0, abs=4 / np.sqrt(4 * n))
    assert row.verdict.word == BARRED


def test_a_metric_of_two_values_gets_half_a_point_for_ties():
    table = {name: [0.0] * 4 for name in METHODS} | {
        "leave_one_out": [1, 1, 0, 0],
        "degraded:share=0.25": [1, 0, 0, 0],
        "degraded": [0, 0, 1, 0],
    }
    found = only(made(lambda method, *_: table[method])).readings
    # Leave-one-out against its own scores shuffled: 1, 1, 0, 1/2; the other two against random: 1/2 throughout.
    assert found.diagnosticity.value == pytest.approx(np.mean([2 / 3, 2 / 3, 1 / 3, 1 / 2]))
    # Rungs from top to bottom per example: 11000, 10000, 00001, 00000.
    assert found.ladder.value == pytest.approx(np.mean([2.5 / 4, 2.5 / 4, 1.5 / 4, 2 / 4]))
    rungs = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]])
    expected = [stats.spearmanr(row, [5, 4, 3, 2, 1]).statistic for row in rungs] + [0.0]
    assert found.ladder_rank.value == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("gone", "absent"),
    [
        ({"random"}, {"floor", "place", "cheater"}),
        ({"greedy_oracle"}, {"ceiling", "place"}),
        ({"label_leak"}, {"cheater"}),
        ({"degraded:share=0.25", "degraded:share=0.5", "degraded:share=0.75"}, {"ladder", "ladder_rank"}),
        ({"random", *LOO}, {"diagnosticity", "floor", "place", "cheater", "ladder", "ladder_rank"}),
        ({"leave_one_out", "saliency"}, {"reliability", "separated", "separated_few", "ladder", "ladder_rank"}),
    ],
)
def test_what_the_run_lacks_is_said_and_never_made_up(gone, absent):
    values = perfect()
    row = only(made(lambda method, *at: None if method in gone else values(method, *at)))
    assert set(row.readings.absent()) == absent | {"operators", "gain"}
    for name in absent:
        assert getattr(row.readings, name).value is None
        assert getattr(row.readings, name).reason
    needed = absent & {"diagnosticity", "reliability", "ladder"}
    assert row.verdict.word == (OPEN if needed else TRUST)
    assert len(row.verdict.reasons) == len(needed)


def test_few_examples_are_no_equal_budget_and_none_make_no_row():
    found = only(made(perfect(FEW))).readings
    assert found.separated_few.reason == f"the run has no more than {FEW} examples"
    assert judge(made(lambda *_: [np.nan, np.nan])).rows == ()
    assert judge(made(lambda *_: "does not apply")).rows == ()
    assert judge(made(perfect(), family="stability")).rows == ()


def test_why_a_method_has_no_score_is_told():
    values = perfect()
    board = made(lambda method, *at: "unsigned scores" if method == "random" else values(method, *at))
    assert only(board).readings.floor.reason == "random: unsigned scores"
    board = made(lambda method, *at: [np.nan] * 40 if method == "random" else values(method, *at))
    assert only(board).readings.floor.reason == "random: why not"
    assert only(board).null == "its own scores, shuffled"


def brute_diagnosticity(table):
    """Returns mean over examples of the share of real methods above their null, by loops."""
    nulls = {"leave_one_out": "degraded", "lime:samples=99": "random", "saliency": "random"}
    means = []
    for example in range(len(table["random"])):
        points = []
        for name, null in nulls.items():
            a, b = table[name][example], table[null][example]
            if not np.isnan(a) and not np.isnan(b):
                points.append(1.0 if a > b else 0.5 if a == b else 0.0)
        if points:
            means.append(sum(points) / len(points))
    return sum(means) / len(means)


@st.composite
def tables(draw, operators=1):
    """Draws whole scores with ties and gaps: exact under the transformations below."""
    n = draw(st.integers(5, 9))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = (operators, len(METHODS), n)
    values = rng.integers(-4, 5, size=shape).astype(np.float64)
    values[rng.random(shape) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    values[:, :, 0] = 0.0  # every method has some score
    return values


def boarded(values, **options):
    place = {name: i for i, name in enumerate(METHODS)}
    operators = ("delete", "replace")[: len(values)]
    return made(
        lambda method, operator, _: values[operators.index(operator), place[method]], operators=operators, **options
    )


@settings(max_examples=30, deadline=None)
@given(tables())
def test_diagnosticity_is_what_loops_find(values):
    table = dict(zip(METHODS, values[0], strict=True))
    found = only(boarded(values)).readings.diagnosticity
    assert found.value == pytest.approx(brute_diagnosticity(table))
    assert found.low <= found.value <= found.high


@settings(max_examples=25, deadline=None)
@given(tables(operators=2), st.sampled_from([lambda x: 7 * x + 3, lambda x: x**3, np.exp, lambda x: -np.exp(-x)]))
def test_increasing_transformations_change_nothing_that_is_ordinal(values, transform):
    one, other = judge(boarded(values)), judge(boarded(transform(values)))
    for ours, theirs in zip(one.rows, other.rows, strict=True):
        for name in ORDINAL:
            assert getattr(ours.readings, name) == getattr(theirs.readings, name)
    assert np.array_equal(one.agreements[0].taus, other.agreements[0].taus, equal_nan=True)
    flipped = judge(boarded(-transform(values), higher=False))
    for ours, theirs in zip(one.rows, flipped.rows, strict=True):
        for name in ORDINAL:
            assert getattr(ours.readings, name) == getattr(theirs.readings, name)


@settings(max_examples=25, deadline=None)
@given(tables(), st.integers(0, 1000))
def test_the_order_of_examples_does_not_matter(values, seed):
    order = np.random.default_rng(seed).permutation(values.shape[2])
    one, other = only(boarded(values)).readings, only(boarded(values[:, :, order])).readings
    for name in ("diagnosticity", "ladder", "ladder_rank", "cheater", "floor", "separated"):
        assert getattr(one, name).value == pytest.approx(getattr(other, name).value)


def test_merits_are_average_ranks_where_all_met():
    values = np.random.default_rng(3).integers(0, 4, size=(20, 6)).astype(np.float64)
    found = merits(_outcomes(values, higher_is_better=True), np.ones((1, 20)))[0]
    ranks = stats.rankdata(-values, axis=1).mean(axis=0)
    assert 1 + 5 * (1 - found) == pytest.approx(ranks)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(3, 8))
def test_kendall_is_scipys_over_the_methods_that_both_have(seed, rows, methods):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 4, size=(rows, methods)).astype(np.float64)
    table[rng.random(table.shape) < 0.2] = np.nan
    found = kendall(table)
    for i in range(rows):
        for j in range(rows):
            both = ~np.isnan(table[[i, j]]).any(axis=0)
            expected = stats.kendalltau(*table[[i, j]][:, both]).statistic if both.sum() > 2 else np.nan
            assert found[i, j] == pytest.approx(expected, nan_ok=True)


def test_reliability_is_the_mean_over_halves_stepped_up():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(12, 5)) + np.arange(5) * 0.4
    order = np.argsort(np.random.default_rng(12).random((200, 12)), axis=1)
    ranks = stats.rankdata(values, axis=1)
    found = [
        stats.spearmanr(np.round(ranks[one[:6]].mean(0), 9), np.round(ranks[one[6:]].mean(0), 9)).statistic
        for one in order
    ]
    r = float(np.mean(found))
    assert 0.2 < r < 0.98
    assert reliability(_outcomes(values, higher_is_better=True)) == pytest.approx(2 * r / (1 + r), abs=1e-9)


def test_reliability_rises_with_examples_and_is_nothing_for_ties():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(200, 6)) + np.arange(6) * 0.3
    few, many = (reliability(_outcomes(values[:n], higher_is_better=True)) for n in (8, 200))
    assert few < many
    assert many > 0.95
    assert reliability(np.where(np.eye(4, dtype=bool), 0.0, np.full((10, 4, 4), 0.5))) == 0
    assert np.isnan(reliability(_outcomes(values[:3], higher_is_better=True)))
    assert np.isnan(reliability(_outcomes(values[:, :2], higher_is_better=True)))


def test_gain_counts_ranks_by_hand():
    own = np.tile([3.0, 2.0, 1.0], (8, 1))  # first comes first
    other = np.tile([1.0, 2.0, 3.0], (8, 1))  # first comes last
    won = [_outcomes(values, higher_is_better=True) for values in (own, other)]
    assert gain(won[0], won[1:], np.array([True, False, False])) == (2, 2, 2)
    assert gain(won[0], won[1:], np.array([False, False, True])) == (-2, -2, -2)
    assert gain(won[0], won[:1], np.array([True, False, False])) == (0, 0, 0)
    assert gain(won[0], [won[0], won[1]], np.array([True, False, False])) == (1, 1, 1)


def test_methods_that_ask_under_the_metrics_operator_gain_there():
    values = perfect()
    better = {"saliency": 10.0}  # ahead under delete, where leave-one-out and LIME do not ask

    def scores(method, operator, model):
        return [
            one + (better.get(method, 0.0) if operator == "delete" else 0.0) for one in values(method, operator, model)
        ]

    rows = {row.column.operator: row.readings for row in judge(made(scores, operators=("delete", "replace"))).rows}
    # Ranks of the two that ask: 1 and 2 under replace, 2 and 3 under delete.
    assert rows["replace"].gain.value == pytest.approx(1)
    assert rows["delete"].gain.reason == "no real method of the run asks under delete"
    assert rows["delete"].operators.value == pytest.approx(stats.kendalltau([1, 2, 3], [2, 3, 1]).statistic)


def test_a_metric_that_passes_under_operators_that_disagree_is_weak_under_each():
    real = ("leave_one_out", "lime:samples=99", "saliency")
    turned = dict(zip(real, (6.0, 7.0, 8.0), strict=True))

    def scores(method, operator, _):
        value = turned.get(method, TRUTH[method]) if operator == "delete" else TRUTH[method]
        return [value] * 40

    found = judge(made(scores, operators=("delete", "replace"))).rows
    assert [row.readings.operators.value for row in found] == [-1, -1]
    assert {row.verdict.word for row in found} == {WEAK}


def test_pairs_told_apart_are_the_wins_of_all_comparisons():
    rng = np.random.default_rng(6)
    values = rng.normal(size=(len(METHODS), 60)) + np.array([[TRUTH[name] * 0.15] for name in METHODS])
    row = only(boarded(values[None]))
    real = np.stack(
        [values[list(METHODS).index(name)] for name in ("leave_one_out", "lime:samples=99", "saliency")], axis=1
    )
    assert row.readings.separated.value == pytest.approx(np.mean([one.win for one in compare_all(real)]))


@pytest.mark.parametrize(
    ("text", "params", "same"),
    [
        ("lime", {}, True),
        ("lime:samples=200", {"samples": 200}, True),
        ("lime:samples=200;kernel_width=9", {"kernel_width": 9.0, "samples": 200}, True),
        ("lime:absolute=true", {"absolute": True}, True),
        ("lime:samples=200", {"samples": 20}, False),
        ("lime:samples=200", {}, False),
        ("shap", {}, False),
        ("", {}, False),
    ],
)
def test_the_method_inside_a_degraded_one_is_found(text, params, same):
    shown = ",".join(f"{key}={value}" for key, value in params.items())
    assert _is(stored.MethodCard(name=f"lime:{shown}".rstrip(":"), id="lime", params=params), text) is same


def test_a_ladder_under_the_metrics_operator_goes_before_others():
    values = perfect()
    board = made(values, operators=("delete",))
    other = tuple(
        stored.MethodCard(
            name=f"x{share}", id="degraded", params={"of": "leave_one_out:operator=delete", "share": share}
        )
        for share in (0.5, 1.0)
    )
    own = stored.MethodCard(name="own", id="leave_one_out", params={"operator": "delete"}, family="removal", needs=())
    heights = {"own": 9.0, "x0.5": 1.0, "x1.0": 5.0}  # the second step is out of order
    cells = tuple(
        replace(board.cells[0], method=name, scores=(replace(board.cells[0].scores[0], values=np.full(40, height)),))
        for name, height in heights.items()
    )
    board = replace(board, methods=(*board.methods, own, *other), cells=(*board.cells, *cells))
    assert [rungs.operator for rungs in cast(board).ladders] == ["replace", "delete"]
    assert only(board).readings.ladder.value == 0.5


def test_like_metrics_stand_together():
    rng = np.random.default_rng(7)
    first, second = rng.normal(size=(2, 12))
    table = np.stack([first, second, first + 0.01 * rng.normal(size=12), second + 0.01 * rng.normal(size=12), first])
    places = {row: place for place, row in enumerate(clustered(kendall(table)))}
    assert {abs(places[1] - places[3])} == {1}
    assert sorted(places[row] for row in (0, 2, 4)) in ([0, 1, 2], [2, 3, 4])
    assert sorted(clustered(np.full((4, 4), np.nan))) == [0, 1, 2, 3]


@pytest.mark.parametrize(("reversed_", "kept"), [((), True), (("a",), True), (("a", "b"), False)])
def test_trusted_pools_models(reversed_, kept):
    values = perfect()
    board = made(lambda at, _, model: values(at) * (-1 if model in reversed_ else 1), models=("a", "b", "c"))
    assert trusted(board) == (frozenset(board.columns) if kept else frozenset())


@pytest.mark.parametrize("gone", [{"random", *LOO}, METHODS.keys() - {"random", "label_leak"}])
def test_what_is_not_known_is_kept_and_not_judged(gone):
    board = made(lambda method, *_: None if method in gone else perfect()(method))
    assert (trusted(board), judged_at_all(board)) == (frozenset(board.columns), False)


GOOD = Readings(
    **{field.name: Reading(value=0.9, low=0.8, high=0.95, n=50) for field in fields(Readings)}
    | {"cheater": Reading(value=0.5, low=0.4, high=0.6, n=50)}
)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, TRUST),
        ({"diagnosticity": Reading(value=0.59, low=0.55, high=0.7)}, BARRED),
        ({"ladder": Reading(value=0.45, low=0.4, high=0.5)}, BARRED),
        ({"diagnosticity": Reading(value=0.65, low=0.59, high=0.7)}, WEAK),
        ({"ladder": Reading(value=0.55, low=0.5, high=0.6)}, WEAK),
        ({"reliability": Reading(value=0.69)}, WEAK),
        ({"separated": Reading(value=0.0)}, WEAK),
        ({"cheater": Reading(value=0.6, low=0.51, high=0.7)}, WEAK),
        ({"cheater": Reading(value=0.6, low=0.5, high=0.7)}, TRUST),
        ({"cheater": Reading(reason="absent")}, TRUST),
        ({"ladder": Reading(reason="absent")}, OPEN),
        ({"ladder": Reading(reason="absent"), "reliability": Reading(value=0.1)}, WEAK),
    ],
)
def test_verdicts_follow_the_stated_rules(changed, word):
    found = judged(replace(GOOD, **changed))
    assert found.word == word
    assert bool(found.reasons) == (word != TRUST)


def test_the_page_says_which_metric_to_trust_first():
    board = made(perfect(), metric="m<b>", operators=("delete", "replace"), models=("a", "c&d"))
    text = judged_page.page(board)
    page = Page(text)
    assert "Trust m<b> (delete, replace): here they pass every test on every model and data set." in page.shown()
    assert "m<b>" not in text
    assert not any(
        a.get("src") or (a.get("href") or "#").partition("#")[0] not in ("", "index.html") for _, a in page.tags
    )
    assert len(page.named("span", "trust")) == 2 * 4  # in the overview and in the tables
    assert len(page.named("svg")) == 2
    assert "told apart at n=32" not in page.shown()  # it was measured
    assert "own operator not measured: no real method of the run asks under delete" in page.shown()


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [(set(LOO), "This run cannot say which metric to trust"), (set(), "No metric passes every test.")],
)
def test_the_page_says_when_nothing_can_be_trusted(gone, sentence):
    rng = np.random.default_rng(8)
    values = perfect() if gone else lambda *_: rng.normal(size=20)
    page = Page(judged_page.page(made(lambda method, *at: None if method in gone else values(method, *at))))
    assert sentence in page.shown()


def test_a_run_writes_the_page_where_something_is_judged(small, tmp_path):
    board = leaderboard.read(small.write())
    assert "judged.html" in command._write_judged(board, tmp_path)
    shown = Page((tmp_path / "judged.html").read_text("utf-8")).shown()
    assert "This run cannot say which metric to trust" in shown or "No metric passes every test" in shown
    without = [cell for cell in board.cells if cell.method != "random"]
    bare = replace(board, cells=tuple(without), methods=tuple(one for one in board.methods if one.id != "random"))
    assert command._write_judged(bare, tmp_path / "none") == ""


def test_needs_and_formulas_are_read_from_the_folder(small):
    path = small.write()
    run = json.loads((path / "run.json").read_text("utf-8"))
    run["methods"][0]["needs"], run["metrics"][0]["forwards"] = ["gradients"], "m + 1"
    (path / "run.json").write_text(json.dumps(run), "utf-8")
    board = leaderboard.read(path)
    assert (board.methods[0].needs, board.methods[1].needs) == (("gradients",), None)
    assert {row.forwards for row in judge(board).rows if row.column.metric == board.metrics[0].name} == {"m + 1"}
