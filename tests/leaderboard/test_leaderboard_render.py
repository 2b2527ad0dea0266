import csv
import io
import json
import re

import pytest
from rich.console import Console

from attrlab.bench.errors import UserError
from attrlab.leaderboard import read, records, render, terminal
from attrlab.leaderboard.formats import latex, markdown
from attrlab.leaderboard.tables import numbers

KEYS = "model dataset method metric operator unit mean ci_low ci_high n_scored n_total status reason".split()  # noqa: SIM905
KEYS += "rank rank_low rank_high letters detectable macro correct wrong classes".split()  # noqa: SIM905
HOSTILE = "a|b<script>alert(1)</script>&amp;_x\n# [y](z) \\ 50%"


def rename(folder, old, new):
    """Gives a method, model or data set another name everywhere."""
    for part in (*folder.run["methods"], *folder.run["models"], *folder.run["datasets"], *folder.run["cells"]):
        for key in ("name", "method", "model", "dataset"):
            if part.get(key) == old:
                part[key] = new


def text_of(renderable, width=100):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_records_have_the_documented_keys_in_order(small):
    found = records(read(small.write()))
    assert len(found) == 2 * 4 * 12
    assert all(list(record) == KEYS for record in found)
    assert [record["method"] for record in found[::12]] == ["random", "lime:samples=200", "shap", "occlusion"] * 2
    assert found[0]["operator"] == "delete"
    assert found[-1]["operator"] is None
    assert {record["unit"] for record in found} == {"word"}


def test_records_are_json_without_nan(small):
    small.change(
        "scores", "lexicon_test-bert-tiny-random-0-0", lambda chunk: [r.update(value=None) for r in chunk["rows"]]
    )
    small.change(
        "scores", "lexicon_test-bert-tiny-random-0-6", lambda chunk: [r.update(value=None) for r in chunk["rows"]]
    )
    board = read(small.write())
    assert json.loads(render(board, "json")) == records(board)
    assert json.dumps(records(board), allow_nan=False)
    assert records(board)[0]["mean"] is None
    assert records(board)[0]["reason"] == "12 of 12: no reason was recorded"


@pytest.mark.parametrize("format", ["md", "csv", "latex", "json", "html"])
def test_without_timings_nothing_measured_is_left(small, format):
    folder = small.write()
    before = render(read(folder), format, timings=False)
    assert "seconds" in render(read(folder), format)
    for path in (folder / "scores").glob("*-10-*.json"):  # the column of seconds
        path.write_text(re.sub(r'"value": [\d.]+', '"value": 9.5', path.read_text()))
    small.run["provenance"]["started"] = "2031-01-01T00:00:00+00:00"
    after = render(read(small.write()), format, timings=False)
    assert before == after
    assert "seconds" not in after.replace("SECONDS", "")


def test_csv_is_the_records_in_long_form(small):
    board = read(small.write())
    rows = list(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert list(rows[0]) == KEYS
    for row, record in zip(rows, records(board), strict=True):
        record["classes"] = json.dumps(record["classes"])
        assert row == {key: "" if value is None else str(value) for key, value in record.items()}


def md_rows(text):
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]


def widths(text):
    """Returns the numbers of cells that the rows of each table have."""
    blocks = re.split(r"\n(?!\|)", text)
    return [{len(row) for row in md_rows(block)} for block in blocks if "|---" in block]


def test_markdown_tables(small):
    board = read(small.write())
    text = render(board, "md")
    assert [line for line in text.splitlines() if line.startswith("## ") and "ranks over" not in line] == [
        "## lexicon:test, bert-tiny",
        "## lexicon:test, gpt2-small",
    ]
    table = md_rows(text)[:6]
    assert {len(row) for row in table} == {13}
    assert table[0][1].strip() == "comprehensiveness (delete) ↑"
    assert table[0][3].strip() == "sufficiency (delete) ↓"
    assert [row[0].strip() for row in table[2:]] == ["random", "lime:samples=200", "shap", "occlusion"]
    by_place = {(r["method"], r["metric"], r["operator"]): r for r in records(board) if r["model"] == "bert-tiny"}
    lime = by_place["lime:samples=200", "comprehensiveness", "delete"]
    shown = f"{lime['mean']:.3f} [{lime['ci_low']:.3f}, {lime['ci_high']:.3f}] (n=11)"
    assert table[3][1].strip() == shown
    assert "(n=" not in table[4][1]
    assert "1 of 12: ContractError: 61 s spent, 60 s allowed (lime:samples=200)" in text


def test_a_column_that_nobody_has_is_left_out_and_explained(small):
    small.add("plain:test", rationales="")
    text = render(read(small.write()), "md")
    plain = text[text.index("plain:test, bert-tiny") :]
    assert widths(plain)[:2] == [{11}, {9}]  # means, and strata without costs
    assert "- token_f1, auprc: the data set has no rationales" in plain


def test_status_stands_where_there_is_no_mean(small):
    small.run["cells"][1] |= {"reason": "needs attention weights", "scores": []}
    folder = small.write()
    (folder / "scores" / "lexicon_test-bert-tiny-occlusion-0-0.json").unlink()
    table = md_rows(render(read(folder), "md"))
    assert table[4][1:] == [" skipped "] * 12
    assert table[5][1] == " missing "


@pytest.mark.parametrize("format", ["md", "latex"])
def test_hostile_names_keep_the_shape_of_tables(small, format):
    small.run["cells"][2] |= {"reason": HOSTILE, "scores": []}
    before = render(read(small.write()), format)
    for old in ("shap", "gpt2-small", "lexicon:test"):
        rename(small, old, HOSTILE)
    after = render(read(small.write()), format)
    assert "<script>" not in after
    assert len(after.splitlines()) == len(before.splitlines())
    if format == "md":
        assert widths(after)[:4] == [{13}, {11}] * 2
        assert set(map(len, widths(after))) == {1}
        assert r"a\|b&lt;script&gt;" in after
    else:
        rows = [line for line in after.splitlines() if line.endswith(r"\\")]
        assert [len(re.findall(r"(?<!\\)&", row)) for row in rows[: 2 * (5 + 7)]] == ([12] * 5 + [10] * 7) * 2


def test_csv_with_hostile_names(small):
    rename(small, "shap", HOSTILE)
    board = read(small.write())
    rows = list(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert {row["method"] for row in rows} == {"random", "lime:samples=200", HOSTILE, "occlusion"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token_f1", "token_f1"),
        ("_x_", r"\_x\_"),
        ("a|b", r"a\|b"),
        ("<b>", "&lt;b&gt;"),
        ("R&D &lt;", "R&D &amp;lt;"),
        ("*a* `b` [c](d)", r"\*a\* \`b\` \[c\](d)"),
        ("a\nb", "a b"),
    ],
)
def test_markdown_escapes(text, expected):
    assert markdown(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% of a_b & c#", r"50\% of a\_b \& c\#"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("~^<>|", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"),
        ("-0.5 [-0.6, -0.4] 1.0e-05 gpt-2", "$-$0.5 [$-$0.6, $-$0.4] 1.0e-05 gpt-2"),
        ("[1] a", "{}[1] a"),
        ("*a", "{}*a"),
    ],
)
def test_latex_escapes(text, expected):
    assert latex(text) == expected


def test_latex_is_balanced(small):
    text = render(read(small.write()), "latex")
    bare = re.sub(r"\\[\\{}%&#_$]", "", text)
    assert bare.count("{") == bare.count("}")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == text.count(r"\toprule") > 4
    assert text.isascii() or set(text) - set(map(chr, range(128))) <= {"…"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.99951, "1.000"), (9.9996, "10.0"), (10, "10"), (10.5, "10.5"), (-999.96, "-1,000"), (1e-9, "1.0e-09")],
)
def test_numbers(value, expected):
    assert numbers([value]) == [expected]


def test_unknown_format(small):
    with pytest.raises(UserError, match=r"unknown format 'latx'\. Did you mean 'latex'"):
        render(read(small.write()), "latx")


def test_terminal_gives_an_overview_of_several_models_and_tables_on_request(small):
    board = read(small.write())
    overview, detailed = text_of(terminal(board)), text_of(terminal(board, detailed=True), 80)
    assert "lexicon:test  2 models  faithfulness" in overview
    assert "plain average" in overview
    assert "bert-tiny" not in overview
    means = [r["mean"] for r in records(board) if (r["method"], r["metric"]) == ("random", "auprc")]
    assert f"{sum(means) / 2:.3f}" in overview
    assert "lexicon:test  gpt2-small  stability" in detailed
    assert "..." not in detailed
    assert "…" not in detailed
    shap = next(r for r in records(board) if r["method"] == "shap")
    ends = f"[{shap['ci_low']:.3f}, {shap['ci_high']:.3f}]"
    assert re.search(rf"shap +{shap['mean']:.3f} . {re.escape(ends)}", detailed)


def test_terminal_shows_one_model_in_full(small):
    small.run["models"] = small.run["models"][:1]
    small.run["cells"] = [cell for cell in small.run["cells"] if cell["model"] == "bert-tiny"]
    rename(small, "shap", "[red]x[/red]")  # would be a colour if names were read as markup
    shown = text_of(terminal(read(small.write())))
    assert "lexicon:test  bert-tiny  faithfulness" in shown
    assert "plain average" not in shown
    assert len(re.findall(r"^\[red\]x\[/red\] +\d", shown, flags=re.M)) == 6  # one row per grid
