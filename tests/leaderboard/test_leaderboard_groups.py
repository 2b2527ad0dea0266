"""Rank groups against brute force: letters, ranges of ranks, many sign-flip tests at once, ranks over blocks."""

import io
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations, permutations, product
from math import erfc, isnan, nan, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console
from strictpage import Page

from attrlab.leaderboard import flips, read, records, render, terminal
from attrlab.leaderboard.board import Column
from attrlab.leaderboard.comparisons import compare_all, detectable, holm, separated
from attrlab.leaderboard.flips import sign_flips, tail
from attrlab.leaderboard.groups import Contest, contests, letters, ranked, replications, standings
from attrlab.leaderboard.judged import trusted
from attrlab.leaderboard.overall import overall, overalls
from attrlab.leaderboard.paired import FLIPS, sign_flip
from attrlab.leaderboard.ranks import block_ranks, borda, strengths


@st.composite
def graphs(draw, largest=9):
    """Returns a symmetric matrix without a diagonal: who is told apart from whom."""
    m = draw(st.integers(1, largest))
    upper = np.triu(draw(arrays(bool, (m, m))), 1)
    return upper | upper.T


@st.composite
def orders(draw, largest=6):
    """Returns a strict partial order: row better than column."""
    m = draw(st.integers(1, largest))
    better = np.triu(draw(arrays(bool, (m, m))), 1)
    for _ in range(m):
        better = better | (better.astype(int) @ better.astype(int) > 0)
    shuffled = draw(st.permutations(range(m)))
    return better[np.ix_(shuffled, shuffled)]


def insert_and_absorb(apart):
    """Piepho's own algorithm, sweeping left out: a set of letters as sets of methods."""
    m = len(apart)
    sets = {frozenset(range(m))}
    for i, j in combinations(range(m), 2):
        if apart[i, j]:
            split = {one - {drop} for one in sets if {i, j} <= one for drop in (i, j)}
            sets = {one for one in sets if not {i, j} <= one} | split
            sets = {one for one in sets if not any(one < other for other in sets)}
    return sets


def members(names):
    """Returns the set of methods of each letter."""
    return [{i for i, own in enumerate(names) if letter in own} for letter in sorted(set("".join(names)))]


@given(graphs())
@settings(max_examples=200, deadline=None)
def test_two_methods_share_a_letter_exactly_if_they_are_not_told_apart(apart):
    names = letters(apart)
    for i, j in combinations(range(len(apart)), 2):
        assert bool(set(names[i]) & set(names[j])) != apart[i, j]
    assert all(names)
    sets = members(names)
    assert {frozenset(one) for one in sets} <= insert_and_absorb(apart)  # each as large as it can be
    for left_out in range(len(sets)):  # none is needless
        rest = sets[:left_out] + sets[left_out + 1 :]
        alone = set(range(len(apart))) - set().union(*rest)
        pairs = [pair for pair in combinations(range(len(apart)), 2) if not apart[pair]]
        assert alone or any(not any({i, j} <= one for one in rest) for i, j in pairs)


@given(arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 10)), st.floats(0, 5))
def test_methods_that_differ_by_their_means_alone_have_piephos_letters(means, least):
    means = np.sort(means)
    apart = np.abs(means[:, None] - means) > least
    found = members(letters(apart))
    assert {frozenset(one) for one in found} == insert_and_absorb(apart)
    assert found == sorted(found, key=min)
    assert all(one == set(range(min(one), max(one) + 1)) for one in found)


@given(graphs(largest=4))
@settings(max_examples=80, deadline=None)
def test_few_methods_have_the_fewest_letters(apart):
    m = len(apart)
    cliques = [
        set(one)
        for size in range(1, m + 1)
        for one in combinations(range(m), size)
        if not apart[np.ix_(one, one)].any()
    ]
    needed = [{i, j} for i, j in product(range(m), repeat=2) if i <= j and not apart[i, j]]
    fewest = next(
        count
        for count in range(1, len(cliques) + 1)
        for chosen in combinations(cliques, count)
        if all(any(pair <= one for one in chosen) for pair in needed)
    )
    assert len(members(letters(apart))) == fewest


def test_letters_by_hand():
    level = np.zeros((3, 3), dtype=bool)
    assert letters(level) == ["a"] * 3
    assert letters(~level & ~np.eye(3, dtype=bool)) == ["a", "b", "c"]
    path = np.abs(np.subtract.outer(range(4), range(4))) > 1
    assert letters(path) == ["a", "ab", "bc", "c"]
    assert letters(level[:1, :1]) == ["a"]


def test_many_methods_run_out_of_letters_but_stay_distinct():
    names = letters(~np.eye(110, dtype=bool))
    assert [names[0], names[25], names[26], names[51], names[52], names[109]] == ["a", "z", "A", "Z", "a'", "f''"]
    assert len(set(names)) == 110


def test_letters_of_a_graph_with_too_many_largest_groups_are_found():
    triples = np.kron(np.eye(18, dtype=bool), np.ones((3, 3), dtype=bool)) & ~np.eye(54, dtype=bool)
    names = letters(triples)  # 3^18 groups cannot be made larger
    sets = [set(own.replace("'", "")) for own in names]
    assert all(bool(sets[i] & sets[j]) != triples[i, j] for i, j in combinations(range(54), 2)) or "'" in "".join(names)
    assert len(names) == 54


@given(orders())
@settings(max_examples=100, deadline=None)
def test_the_range_has_just_the_ranks_of_all_orders_that_agree(better):
    """Every order that puts the better one first gives each method a rank; these are the range."""
    m = len(better)
    ranks = [set() for _ in range(m)]
    for order in permutations(range(m)):
        place = {method: rank for rank, method in enumerate(order, 1)}
        if all(place[i] < place[j] for i, j in zip(*np.nonzero(better), strict=True)):
            for method in range(m):
                ranks[method].add(place[method])
    for own, one in zip(ranks, standings(better), strict=True):
        assert own == set(range(one.low, one.high + 1))


def test_groups_are_not_transitive():
    better = np.zeros((3, 3), dtype=bool)
    better[0, 2] = True
    found = standings(better)
    assert [one.range for one in found] == ["1\u20132", "1\u20133", "2\u20133"]
    assert [one.letters for one in found] == ["a", "ab", "b"]
    assert [one.range for one in standings(np.triu(np.ones((3, 3), dtype=bool), 1))] == ["1", "2", "3"]


@pytest.mark.parametrize("kind", ["normal", "ties", "binary"])
@pytest.mark.parametrize("grouped", [False, True])
def test_many_tests_at_once_are_the_single_tests(kind, grouped, parity):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 40)) + rng.normal(size=40) * 0.15
    if kind != "normal":
        values = np.rint(values) if kind == "ties" else np.sign(values) * (rng.random(values.shape) < 0.6)
    values = values.astype(float)
    values[rng.random(values.shape) < 0.1] = nan
    values[:, 0] = nan
    values[:, 1] = 0.0
    values[8:, 2] = nan  # few enough to try every flip
    groups = (np.arange(60) // 3).tolist() if grouped else None
    found = sign_flips(values, groups)
    assert isnan(found[0])
    worst = 0.0
    for column in range(1, 40):
        valid = np.flatnonzero(~np.isnan(values[:, column])).tolist()
        expected = sign_flip(values[valid, column], [groups[place] for place in valid] if groups else None)
        floor = expected == 1 / (1 + FLIPS)
        assert found[column] <= expected if floor else True
        worst = max(worst, 0.0 if floor else abs(found[column] - expected))
    parity("Q13", "statistics", "sign_flips against sign_flip", worst, 1e-12)


@given(arrays(np.float64, st.integers(1, 11), elements=st.integers(-6, 6)))
@settings(deadline=None)
def test_the_tail_bounds_the_test_that_tries_every_flip(differences):
    assume(differences.any())
    signs = np.array(list(product([1, -1], repeat=len(differences))))
    exact = (np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9).mean()
    assert exact <= tail(abs(differences.sum()) / sqrt((differences**2).sum())) + 1e-12


def test_the_factor_of_the_tail_is_needed():
    """Of two flips of equal size a quarter reaches sqrt 2 on one side: there the bound is met."""
    assert tail(sqrt(2)) == pytest.approx(2 * 0.25)
    assert tail(3.0) == pytest.approx(erfc(3 / sqrt(2)) * 3.178, rel=1e-3)
    assert tail(0.0) == 1.0


def test_draws_alone_tell_nothing_apart_among_many_methods(monkeypatch):
    """Metrics spec 12.3: 10,000 flips and Holm over all pairs have no power from 33 methods on; the tail mends it."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(100, 40)) * 0.1 + np.arange(40) / 10  # every pair is many standard errors apart
    found = separated(values, higher_is_better=True)
    assert found[np.tril_indices(40, -1)].mean() > 0.99
    assert not found[np.triu_indices(40)].any()
    monkeypatch.setattr(flips, "tail", lambda z: 1.0)
    assert not separated(values, higher_is_better=True).any()
    assert 33 * 32 / 2 / (1 + FLIPS) > 0.05 > 32 * 31 / 2 / (1 + FLIPS)


@pytest.mark.parametrize("higher", [True, False])
def test_separated_are_the_wins_of_all_comparisons(higher):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(70, 7)) + np.array([0, 0.1, 0.3, 0.5, 0.6, 0.6, 1.5])
    values[rng.random(values.shape) < 0.1] = nan
    expected = np.zeros((7, 7), dtype=bool)
    for one in compare_all(values):
        if one.win:
            first = (one.mean > 0) == higher
            expected[(one.first, one.second) if first else (one.second, one.first)] = True
    assert 3 < expected.sum() < 20
    found = separated(values, higher_is_better=higher)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(separated(7 * values + 2, higher_is_better=higher), expected)
    np.testing.assert_array_equal(separated(-values, higher_is_better=not higher), expected)
    order = rng.permutation(7)
    np.testing.assert_array_equal(separated(values[:, order], higher_is_better=higher), expected[np.ix_(order, order)])


def test_equal_methods_are_level():
    assert not separated(np.ones((30, 4)), higher_is_better=True).any()
    assert not separated(np.ones((30, 1)), higher_is_better=True).any()
    assert not separated(np.zeros((0, 3)), higher_is_better=True).any()


def test_blocks_of_columns_change_nothing(monkeypatch):
    values = np.random.default_rng(3).normal(size=(40, 11))
    whole = sign_flips(values)
    monkeypatch.setattr(flips, "_COLUMNS", 3)
    np.testing.assert_array_equal(sign_flips(values), whole)
    assert holm(whole).max() <= 1


COLUMN = Column(metric="a", operator=None, unit="word")


def contest(values, model="m", dataset="d", column=COLUMN, higher=True, names="wxyz"):
    """Returns a contest of methods that are called by letters."""
    return Contest(
        model=model,
        dataset=dataset,
        column=column,
        higher_is_better=higher,
        methods=tuple(names[: values.shape[1]]),
        examples=tuple(f"e{i}" for i in range(len(values))),
        values=values,
        better=separated(values, higher_is_better=higher),
        unranked=(),
    )


def test_replications_count_blocks_per_pair():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(40, 3)) * 0.1
    first = contest(values + np.array([1.0, 0.0, 0.0]))
    found = replications(
        [first, first, contest(values + np.array([0.0, 1.0, 0.0])), contest(values)], ["x", "w", "absent"]
    )
    assert found.tolist() == [[0, 1, 0], [2, 0, 0], [0, 0, 0]]


def blocks(n, seed=5, methods=4):
    """Returns contests of methods of growing quality on two data sets and several models."""
    rng = np.random.default_rng(seed)
    return [
        contest(rng.normal(size=(25, methods)) + np.arange(methods) * 0.9, model=f"m{i}", dataset=f"d{i % 2}")
        for i in range(n)
    ]


def test_overall_is_its_parts():
    found = blocks(6)
    one = overall("family", found)
    means = np.stack([each.values.mean(axis=0) for each in found])
    ranks = block_ranks(means, higher_is_better=True)
    order = np.argsort(ranks.mean(axis=0))
    assert one.methods == tuple("wxyz"[i] for i in order)
    np.testing.assert_allclose(one.average, ranks.mean(axis=0)[order])
    np.testing.assert_allclose(one.borda, borda(ranks)[order])
    merits = strengths(np.concatenate([each.values for each in found]), higher_is_better=True, count=10)[:, 0]
    np.testing.assert_allclose(one.strengths[:, 0], merits[order])
    assert (one.strengths[:, 1] <= one.strengths[:, 0]).all()
    assert (one.strengths[:, 0] <= one.strengths[:, 2]).all()
    assert one.p < 0.05
    assert one.blocks == 6
    assert one.robust[0]
    np.testing.assert_array_equal(one.wins, replications(found, one.methods))


def test_scores_are_ranked_within_blocks_only():
    """Another scale in one block, as of raw erasure scores of another model, changes nothing; nor does a direction."""
    found = blocks(4)
    one = overall("family", found)
    scaled = [found[0], replace(found[1], values=7 * found[1].values + 100), *found[2:]]
    scaled[2] = replace(found[2], values=-found[2].values, higher_is_better=False)
    for part in ("average", "borda", "strengths", "robust", "wins"):
        np.testing.assert_allclose(getattr(overall("family", scaled), part), getattr(one, part), rtol=1e-9)


def test_overall_leaves_out_methods_that_are_not_ranked_everywhere():
    found = blocks(3)
    found[1] = contest(found[1].values[:, [0, 2, 3]], model="m1", dataset="d1", names="wyz")
    one = overall("family", found)
    assert set(one.methods) == set("wyz")
    assert one.left_out == ("x",)
    assert isnan(one.p)
    assert isnan(one.difference)
    assert overall("family", found[:1]) is None
    assert overall("family", [found[0], replace(found[0], column=replace(COLUMN, metric="b"))]) is None
    assert overall("family", [found[0], contest(found[0].values[:, :1], model="other")]) is None


def test_one_data_set_that_decides_is_not_robust():
    rng = np.random.default_rng(6)
    near = [
        contest(rng.normal(size=(30, 2)) * 0.1 + np.array([0.1, 0.0]), model=f"m{i}", dataset="d0") for i in range(2)
    ]
    far = [
        contest(rng.normal(size=(30, 2)) * 0.1 + np.array([0.0, 0.1]), model=f"m{i}", dataset=f"d{1 + i}")
        for i in range(1)
    ]
    assert not overall("family", [*near, *far]).robust.any()
    assert overall("family", near).robust.all()


def test_intervals_of_strengths_take_an_example_under_several_models_as_one():
    """Four copies of the same block know no more than one."""
    rng = np.random.default_rng(7)
    values = rng.normal(size=(30, 3)) + np.array([0, 0.3, 0.5])
    labels = [f"e{i}" for i in range(30)] * 4
    once = strengths(values, higher_is_better=True, count=200)
    copies = strengths(np.tile(values, (4, 1)), higher_is_better=True, groups=labels, count=200)
    np.testing.assert_allclose(copies, once, rtol=1e-7)
    narrow = strengths(np.tile(values, (4, 1)), higher_is_better=True, count=200)
    assert (np.ptp(narrow[:, 1:], axis=1) < np.ptp(once[:, 1:], axis=1)).all()


def test_only_complete_rows_of_comparable_columns_are_ranked(small):
    board = read(small.write())
    found = {(one.model, one.column): one for one in contests(board)}
    assert {board.metric(column.metric).family for _, column in found} == {
        "faithfulness",
        "agreement",
        "plausibility",
        "stability",
    }
    for one in found.values():
        full = len(one.examples) == (8 if board.metric(one.column.metric).family == "stability" else 12)
        assert full or one.column.metric == "tau_loo"  # undefined for every method on the same examples
        assert ("lime:samples=200" in one.unranked) == (len(one.examples) > 3)
        assert set(one.methods) == {"random", "shap", "occlusion"}
        means = one.values.mean(axis=0) * (1 if one.higher_is_better else -1)
        assert (np.diff(means) <= 0).all()


def test_a_missing_chunk_or_one_lost_example_costs_the_rank(small):
    folder = small.write()
    (folder / "scores" / "lexicon_test-bert-tiny-occlusion-0-6.json").unlink()
    small.change(
        "scores", "lexicon_test-bert-tiny-shap-1-0", lambda chunk: chunk["rows"][2].update(value=None, reason="flat")
    )
    board = read(folder)
    first, second = board.columns[:2]
    place = ("bert-tiny", "lexicon:test")
    assert (*place, "occlusion", first) not in ranked(board)
    assert (*place, "shap", first) in ranked(board)
    assert (*place, "shap", second) not in ranked(board)
    assert (*place, "occlusion", second) in ranked(board)


def test_metrics_without_direction_or_of_no_method_rank_nothing(small):
    small.run["metrics"][0]["higher_is_better"] = None
    small.run["metrics"][1]["comparable"] = "models and operators; it is the same for all methods"
    found = {one.column.metric for one in contests(read(small.write()))}
    assert not found & {"comprehensiveness", "sufficiency", "seconds", "forwards"}
    assert "auprc" in found


def strong(small):
    """Makes shap beat random beyond doubt in the first column of the first model."""
    for method, value in (("shap", 0.9), ("random", 0.1)):
        for start in (0, 6):
            small.change(
                "scores",
                f"lexicon_test-bert-tiny-{method}-0-{start}",
                lambda chunk, value=value: [row.update(value=value + i / 100) for i, row in enumerate(chunk["rows"])],
            )
    return small


def test_ranks_stand_in_every_export(small):
    board = read(strong(small).write())
    by_method = {row["method"]: row for row in records(board) if row["model"] == "bert-tiny" and row["rank"]}
    assert by_method.keys() == {"random", "shap", "occlusion"}
    first = [row for row in records(board) if row["model"] == "bert-tiny" and row["metric"] == "comprehensiveness"]
    rows = {row["method"]: row for row in first if row["operator"] == "delete"}
    assert [rows["shap"][key] for key in ("rank", "rank_low")] == [1, 1]
    assert rows["random"]["rank"] == rows["random"]["rank_low"] > 1
    assert rows["random"]["rank_high"] == 3
    assert not set(rows["shap"]["letters"]) & set(rows["random"]["letters"])
    assert [rows["lime:samples=200"][key] for key in ("rank", "rank_low", "rank_high", "letters")] == [None] * 4
    assert rows["shap"]["detectable"] == pytest.approx(0.88, abs=0.02)
    text = render(board, "md")
    standing = ranked(board)["bert-tiny", "lexicon:test", "shap", board.columns[0]]
    assert f"]; {standing.range} {standing.letters} |" in text
    assert f"Smallest d_z that one test finds with probability 0.8: {detectable(12):.3g} at n = 12" in text
    assert f"]; {standing.range.replace(chr(8211), '--')} {standing.letters} &" in render(board, "latex")
    page = render(board, "html")
    assert f'>shap</th><td data-v="1">{standing.range}<span class="ci">{standing.letters}</span></td>' in page
    assert f"<small>n 12</small><small>d {detectable(12):.2f}</small>" in page


def test_ranks_over_blocks_stay_within_families_and_are_shown(large):
    board = read(large.write())
    found = list(overalls(board))
    kept = [column for column in board.columns if column in trusted(board)]
    several = Counter(board.metric(column.metric).family for column in kept)
    ranked_by = [column for column in kept if board.metric(column.metric).family != "cost"]
    assert len(found) == len(ranked_by) + sum(count > 1 for family, count in several.items() if family != "cost")
    for one in found:
        assert {board.metric(column.metric).family for column in one.columns} == {one.name}
        assert one.blocks == 9 * len(one.columns)
    text, page = render(board, "md"), Page(render(board, "html")).shown()
    title = "comprehensiveness (delete, replace), sufficiency (delete, replace): ranks over 36 blocks"
    assert f"## {title}" in text
    assert title in page
    assert "they are not independent" in text
    assert "they are not independent" in page
    assert "Nemenyi critical difference" in page
    assert "Not ranked in every block: lime:samples=200" in page


def test_a_column_that_does_not_tell_methods_from_chance_is_left_out_and_named(large):
    for path in large.folder.glob("scores/*-0-0.json"):  # comprehensiveness under delete: the same for all
        large.change("scores", path.stem, lambda chunk: [row.update(value=0.5) for row in chunk["rows"]])
    board = read(large.write())
    columns = {column for found in overalls(board) for column in found.columns}
    assert board.columns[0] not in columns
    assert board.columns[1] in columns
    told = "Left out, as they hardly tell methods from chance (diagnosticity below 0.6): comprehensiveness (delete)"
    assert told in Page(render(board, "html")).shown()
    assert told.partition("(")[0] in render(board, "md")


def test_one_model_has_no_ranks_over_blocks(small):
    small.run["models"] = small.run["models"][:1]
    small.run["cells"] = [cell for cell in small.run["cells"] if cell["model"] == "bert-tiny"]
    board = read(small.write())
    assert not list(overalls(board))
    assert "ranks over" not in render(board, "html")
    assert '<section id="overall"' not in render(board, "html")


def test_the_terminal_shows_ranks_beside_intervals(small):
    small.run["models"] = small.run["models"][:1]
    small.run["cells"] = [cell for cell in small.run["cells"] if cell["model"] == "bert-tiny"]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(terminal(read(strong(small).write())))
    shown = console.export_text()
    assert re.search(r"shap +0\.925 . \[0\.\d+, 0\.\d+\] 1 ", shown)
    assert re.search(r"lime:samples=200 +-?0\.\d+ . \[-?0\.\d+, -?0\.\d+\]  +", shown)
    assert "the ranks that a method may have" in " ".join(shown.split())
