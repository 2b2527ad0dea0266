import dataclasses
import html
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrlab.leaderboard import read, render
from attrlab.leaderboard.board import AttributionRow, Cell, Column, MetricCard
from attrlab.leaderboard.pareto import PANELS, chosen, front, panels, passes
from attrlab.leaderboard.pareto_drawing import BOTTOM, RIGHT, START, TOP, ZERO, figure, ticks
from attrlab.leaderboard.tables import tables

NAN = float("nan")


@pytest.mark.parametrize(
    ("costs", "values", "higher", "expected"),
    [
        ([0, 1, 3, 9], [0.1, 0.3, 0.2, 0.4], True, [1, 1, 0, 1]),
        ([0, 1, 3, 9], [0.1, 0.3, 0.2, 0.4], False, [1, 0, 0, 0]),
        ([0, 1, 3, 9], [0.4, 0.3, 0.2, 0.4], False, [1, 1, 1, 0]),
        ([5, 5, 5], [0.1, 0.2, 0.2], True, [0, 1, 1]),  # equal in both: they share the front
        ([5, 6, 4], [0.2, 0.2, 0.2], True, [0, 0, 1]),  # as good, but cheaper
        ([1, 2, 3], [0.9, NAN, 1.0], True, [1, 0, 1]),
        ([NAN, 2, 3], [0.9, 0.1, 0.2], True, [0, 1, 1]),  # what is not counted beats nothing
        ([NAN], [NAN], True, [0]),
        ([7], [-3], False, [1]),
        ([], [], True, []),
    ],
)
def test_front_by_hand(costs, values, higher, expected):
    found = front(np.array(costs, dtype=float), np.array(values, dtype=float), higher)
    assert found.tolist() == [bool(one) for one in expected]


# Few different numbers, so that ties are common.
POINTS = st.lists(
    st.tuples(st.sampled_from([NAN, 0.0, 1.0, 2.0, 3.0]), st.sampled_from([NAN, -1.0, 0.0, 0.5, 2.0])), max_size=12
)


def dominates(one, other, higher):
    """Says in so many words what the front is made of; false with NaN."""
    (cost, value), (other_cost, other_value) = one, other
    better = value > other_value if higher else value < other_value
    return (better and cost <= other_cost) or (value == other_value and cost < other_cost)


@given(POINTS, st.booleans())
def test_no_point_of_the_front_is_dominated_and_every_other_is(points, higher):
    costs, values = np.array(points).reshape(-1, 2).T
    on = front(costs, values, higher)
    leaders = [point for point, lead in zip(points, on, strict=True) if lead]
    for point, lead in zip(points, on, strict=True):
        if np.isnan(point).any():
            assert not lead
        elif lead:
            assert not any(dominates(other, point, higher) for other in points)
        else:
            assert any(dominates(other, point, higher) for other in leaders)


@given(POINTS, st.booleans(), st.randoms())
def test_the_front_asks_only_for_order(points, higher, shuffle):
    costs, values = np.array(points).reshape(-1, 2).T
    on = front(costs, values, higher)
    np.testing.assert_array_equal(front(np.log1p(7 * costs), np.exp(values), higher), on)
    np.testing.assert_array_equal(front(costs, -values, not higher), on)
    order = list(range(len(points)))
    shuffle.shuffle(order)
    np.testing.assert_array_equal(front(costs[order], values[order], higher), on[order])


def cell_of(*rows):
    attributions = tuple(AttributionRow(example=str(i), **row) for i, row in enumerate(rows))
    return Cell(model="m", dataset="d", method="x", reason=None, predictions=(), attributions=attributions, scores=())


def test_a_backward_pass_counts_as_two_forwards():
    ok = {"status": "ok", "forwards": 3, "backwards": 2}
    assert passes(cell_of(ok)) == 7.0
    assert passes(cell_of(ok, {"status": "ok", "forwards": 0, "backwards": 0})) == 3.5
    assert passes(cell_of(ok, {"status": "failed", "forwards": 900, "backwards": 0}, {"status": "skipped"})) == 7.0
    assert passes(cell_of(ok, {"status": "ok"})) is None
    assert passes(cell_of({"status": "skipped"})) is None
    assert passes(cell_of()) is None


def first(folder):
    board = read(folder.write())
    table = tables(board)[0]
    return table, [cell for cell in board.cells if (cell.model, cell.dataset) == (table.model.name, table.dataset.name)]


def rescored(folder, method, column, value, keep=None):
    """Gives all examples of a method one value, and those from ``keep`` on none."""

    def edit(chunk):
        for row in chunk["rows"]:
            few = keep is not None and int(row["example"].rsplit("-", 1)[1]) >= keep
            row.update(value=None if few else value, reason="too long" if few else None)

    for start in (0, 6):
        folder.change("scores", f"lexicon_test-bert-tiny-{method}-{column}-{start}", edit)


def test_the_stored_folder_gives_the_front(small):
    for method, value in (("random", 0.1), ("occlusion", 0.5), ("lime_samples_200", 0.4), ("shap", 0.7)):
        rescored(small, method, 0, value)
        rescored(small, method, 2, value)
    table, cells = first(small)
    counted = {cell.method: passes(cell) for cell in cells}
    assert counted == {"random": 0.0, "occlusion": 30.0, "lime:samples=200": 200.0, "shap": 600.0}
    found = panels(table, counted)
    higher, lower = table.columns[0], table.columns[2]
    assert [table.board.metric(column.metric).higher_is_better for column in (higher, lower)] == [True, False]
    assert {p.found.method for p in found[higher] if p.leads} == {"random", "occlusion", "shap"}
    assert {p.found.method for p in found[lower] if p.leads} == {"random"}


@pytest.mark.parametrize(("keep", "compared"), [(11, True), (10, False)])
def test_a_mean_over_fewer_examples_neither_leads_nor_beats(small, keep, compared):
    for method, value in (("random", 0.1), ("occlusion", 0.9), ("lime_samples_200", 0.4), ("shap", 0.7)):
        rescored(small, method, 0, value, keep if method == "occlusion" else None)
    table, cells = first(small)
    found = figure(table, cells)
    assert [dot["method"] for dot in found["panels"][0]["front"]] == (
        ["random", "occlusion"] if compared else ["random", "lime:samples=200", "shap"]
    )
    assert found["few"] == ([] if compared else ["occlusion"])
    hollow = [dot["title"] for dot in found["panels"][0]["dots"] if not dot["compared"]]
    assert hollow == ([] if compared else ["occlusion: 0.900 [0.900, 0.900], 30 passes, on 10 examples only"])


class Facts:
    """As much of a table as the choice of columns asks for."""

    def __init__(self, metrics):
        self.board = self
        self.cards = {name: MetricCard(name=name, id=name, family=f, higher_is_better=True) for name, f in metrics}

    def metric(self, name):
        return self.cards[name]


def test_families_take_turns_and_a_metric_comes_once_before_any_comes_twice():
    many = [(f"f{i}", "faithfulness") for i in range(9)] + [("p", "plausibility"), ("a", "agreement")]
    columns = [Column(metric=name, operator=op, unit="word") for name, _ in many for op in ("delete", "replace")]
    found = [(column.metric, column.operator) for column in chosen(Facts(many), columns)]
    assert found == [(name, "delete") for name in ("f0", "f1", "f2", "f3", "p", "a")]
    few = [("f0", "faithfulness"), ("p", "plausibility")]
    columns = [Column(metric=name, operator=op, unit="word") for name, _ in few for op in ("a", "b", "c", "d")]
    found = [column.metric + column.operator for column in chosen(Facts(few), columns)]
    assert found == ["f0a", "f0b", "f0c", "pa", "pb", "pc"]
    assert len(found) == PANELS


def test_only_families_of_quality_with_a_direction_are_drawn(small):
    table, cells = first(small)
    found = figure(table, cells)
    assert [panel["name"] for panel in found["panels"]] == [
        "comprehensiveness (delete)",
        "comprehensiveness (replace)",
        "sufficiency (delete)",
        "tau_loo (delete)",
        "token_f1",
        "auprc",
    ]
    assert found["hidden"] == "sufficiency (replace), tau_loo (replace)"
    small.run["metrics"][0]["higher_is_better"] = None
    names = [panel["name"] for panel in figure(*first(small))["panels"]]
    assert names == [
        "sufficiency (delete)",
        "sufficiency (replace)",
        "tau_loo (delete)",
        "tau_loo (replace)",
        "token_f1",
        "auprc",
    ]


def test_dots_lie_where_the_axes_say(small):
    table, cells = first(small)
    for panel in figure(table, cells)["panels"]:
        dots = {dot["method"]: dot for dot in (*panel["dots"], *panel["front"])}
        assert set(dots) == {"random", "occlusion", "lime:samples=200", "shap"}
        # The decades from 10 to 1,000 are equally wide, and 0 stands left of all.
        places = {"random": ZERO} | {
            name: START + (RIGHT - START) * (np.log10(cost) - 1) / 2
            for name, cost in (("occlusion", 30), ("lime:samples=200", 200), ("shap", 600))
        }
        assert panel["costs"] == [(ZERO, "0"), (START, "10"), ((START + RIGHT) / 2, "100"), (RIGHT, "1k")]
        column = next(c for c in table.columns if panel["name"] in (c.metric, f"{c.metric} ({c.operator})"))
        means = {name: table.cell(name, column).mean for name in dots}
        rises = table.board.metric(column.metric).higher_is_better
        best_first = sorted(means, key=means.get, reverse=rises)
        assert [name for name, _ in sorted(dots.items(), key=lambda item: item[1]["y"])] == best_first
        # Levels and dots share one linear scale.
        (y0, low), *_, (y1, high) = [(y, float(text.replace("\N{MINUS SIGN}", "-"))) for y, text in panel["levels"]]
        for name, dot in dots.items():
            assert dot["x"] == pytest.approx(places[name], abs=0.06)
            assert dot["y"] == pytest.approx(y0 + (means[name] - low) / (high - low) * (y1 - y0), abs=0.3)
            upper, lower = dot["interval"]
            assert TOP <= upper <= dot["y"] <= lower <= BOTTOM
        assert panel["band"] == dots["random"]["interval"]


def test_the_steps_join_the_front_from_cheap_to_dear(small):
    for method, value in (("random", 0.1), ("occlusion", 0.5), ("lime_samples_200", 0.4), ("shap", 0.7)):
        rescored(small, method, 0, value)
    panel = figure(*first(small))["panels"][0]
    a, b, c = panel["front"]
    assert [dot["method"] for dot in (a, b, c)] == ["random", "occlusion", "shap"]
    assert [dot["number"] for dot in (a, b, c)] == [1, 2, 3]
    assert panel["path"] == f"M{a['x']} {a['y']}H{b['x']}V{b['y']}H{c['x']}V{c['y']}H{RIGHT}"
    assert panel["label"].endswith("on the front, cheapest first: random, occlusion, shap")


def test_numbers_never_lie_on_each_other(small):
    """Three methods of nearly one cost and quality, each a little better and dearer than the last."""

    def dear(cost):
        return lambda chunk: [row.update(forwards=cost) for row in chunk["rows"]]

    for i, method in enumerate(("random", "occlusion", "lime_samples_200", "shap")):
        rescored(small, method, 0, 0.5 + i / 1e4)
        for start in (0, 6):
            small.change("attributions", f"lexicon_test-bert-tiny-{method}-{start}", dear(100 + i))
    rescored(small, "random", 0, 0.0)
    worst, *best = figure(*first(small))["panels"][0]["front"]
    assert len(best) == 3
    for dot in (worst, best[0]):  # nothing is in the way
        assert dot["at"] == pytest.approx((dot["x"] - 5, dot["y"] - 5))
    for (_, y), (_, above) in pairwise(dot["at"] for dot in best):
        assert y - above == pytest.approx(10)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_inside_and_evenly_spaced(low, span):
    found = ticks(low, low + span)
    slack = 1e-5 * (abs(low) + span)  # six digits are shown
    assert 3 <= len(found) <= 8
    assert all(low - slack <= tick <= low + span + slack for tick in found)
    assert np.ptp(np.diff(found)) <= 4 * slack


def test_the_page_draws_every_model(small):
    text = render(read(small.write()), "html")
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    assert len(drawings) == 2 * PANELS
    for drawing in drawings:
        assert drawing.count("<circle") == 4
        assert 'role="img" aria-label="' in drawing
        named = re.search(r'cheapest first: (.*?)"', drawing)[1].split(", ")
        assert drawing.count('<circle class="f"') == len(named)
    listed = [html.unescape(name) for name in re.findall(r"<li title=.*?<b>\d+</b> <span>(.*?)</span>", text)]
    assert listed == [n for d in drawings for n in re.search(r'cheapest first: (.*?)"', d)[1].split(", ")]
    assert "Not drawn: sufficiency (replace), tau_loo (replace)." in text
    assert "passes were not counted" not in text
    assert text.count('class="key b"') == 2


def test_what_was_not_counted_is_left_out_and_said(small):
    def forget(chunk):
        for row in chunk["rows"]:
            del row["forwards"]

    for model in ("bert-tiny", "gpt2-small"):
        small.change("attributions", f"lexicon_test-{model}-shap-0", forget)
    text = render(read(small.write()), "html")
    assert text.count("Left out, passes were not counted: shap.") == 2
    assert re.search(r"<svg.*?</svg>", text, flags=re.S)[0].count("<circle") == 3
    for path in (small.folder / "attributions").iterdir():
        if "shap" not in path.stem:
            small.change("attributions", path.stem, forget)
    assert "Quality against cost" not in render(read(small.folder), "html")


def test_a_board_without_random_has_no_band(small):
    board = read(small.write())
    board = dataclasses.replace(
        board,
        methods=tuple(method for method in board.methods if method.id != "random"),
        cells=tuple(cell for cell in board.cells if cell.method != "random"),
    )
    found = figure(tables(board)[0], board.cells[:3])
    assert {panel["band"] for panel in found["panels"]} == {None}
    assert 'class="key b"' not in render(board, "html")
