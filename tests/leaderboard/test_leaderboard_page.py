import base64
import hashlib
import re

import numpy as np
import pytest
from strictpage import Page

from attrlab.leaderboard import read, records, render
from attrlab.leaderboard.heatmap import rationale_share, remark, shades

HOSTILE = "<script>alert(1)</script>|&_\"'"


def page(folder, **options):
    return Page(render(read(folder.write()), "html", **options))


def test_the_page_is_one_file_that_asks_for_nothing(small):
    text = render(read(small.write()), "html")
    found = Page(text)
    assert not re.search(r"https?://|//cdn|@import|url\(", text)
    assert not [tag for tag, attrs in found.tags if "src" in attrs or tag == "link"]
    assert all(a["href"].startswith("#") for a in found.named("a"))
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in found.named("a")} <= set(ids)


def test_only_the_own_script_may_run(small):
    text = render(read(small.write()), "html")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(a["content"] for a in Page(text).named("meta") if "http-equiv" in a)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_hostile_text_is_shown_and_never_run(small):
    small.run["suite"] |= {"title": HOSTILE, "description": HOSTILE}
    small.run["datasets"][0] |= {"notes": [HOSTILE], "labels": [HOSTILE, HOSTILE], "summary": HOSTILE}
    small.run["metrics"][0]["summary"] = HOSTILE
    small.run["methods"][1] |= {"name": HOSTILE, "summary": HOSTILE, "origin": HOSTILE}
    for model in small.run["models"]:
        model |= {"name": model["name"] + HOSTILE, "hash": HOSTILE}
    for cell in small.run["cells"]:
        cell["model"] += HOSTILE
        cell["method"] = HOSTILE if cell["method"] == "shap" else cell["method"]
    small.run["cells"][2] |= {"reason": HOSTILE, "scores": []}

    small.change(
        "predictions",
        "lexicon_test-bert-tiny-0",
        lambda c: c["rows"][0].update(words=[HOSTILE] * len(c["rows"][0]["words"])),
    )
    for path in small.folder.rglob("lexicon_test-bert-tiny*-0.json"):
        small.change(path.parent.name, path.stem, lambda chunk: chunk["rows"][0].update(example=HOSTILE))
    text = render(read(small.write()), "html")
    assert text.count("<script") == 1
    assert text.count("alert(1)") > 50
    found = Page(text)
    assert not [attrs for _, attrs in found.tags if any(name.startswith("on") for name in attrs)]
    assert HOSTILE in found.shown()
    assert [a for a in found.named("th") if (a.get("title") or "").startswith(HOSTILE)]


def test_header_says_what_was_run_and_with_what(small):
    small.run["datasets"][0]["notes"] = ["GPT-2 may have seen these sentences."]
    shown = page(small).shown()
    for part in (
        "Quick suite",
        "at most 12",
        "Seed",
        "delete, replace",
        "target predicted, scalar contrast, operator replace",
        "8 examples, 3 seeds, 5 draws",
        "lime:samples=200",
        "0123456789ab with uncommitted changes",
        "torch 2.13.0",
        "60 s per example and method",
        "GPT-2 may have seen these sentences.",
        "never compared across models",
        "held-out accuracy 93.4 %",
        "4,386,178",
        "c0ffeec0ffee",
        "Most frequent label 50 %",
        "1 of 12, 3 words dropped",
        "Correct 10 of 12",
        "2026-01-02",
    ):
        assert part in shown
    assert "not finished" not in shown


def test_tables_can_be_sorted_by_keyboard(small):
    found = page(small)
    heads = [a for a in found.named("th") if "aria-sort" in a]
    assert len(heads) == 2 * (13 + 11)  # means, and ranks without costs
    assert {a["aria-sort"] for a in heads} == {"none"}
    assert [a.get("data-best") for a in heads[1:5]] == ["descending"] * 2 + ["ascending"] * 2
    assert sum(tag == "button" for tag, _ in found.tags) == 2 * (13 + 11) + 1
    assert len(found.named("details", "model")) == 2
    assert ["open" in a for a in found.named("details", "model")] == [True, False]


def test_marks_and_values_agree_with_the_records(small):
    found = page(small)
    expected = {"better": 0, "worse": 0}
    table = records(read(small.folder))
    higher = {metric["name"]: metric["higher_is_better"] for metric in small.run["metrics"]}
    floor = {(r["model"], r["metric"], r["operator"]): r for r in table if r["method"] == "random"}
    for one in table:
        other = floor[one["model"], one["metric"], one["operator"]]
        above, below = one["ci_low"] > other["ci_high"], one["ci_high"] < other["ci_low"]
        if one["metric"] not in ("seconds", "forwards") and (above or below):
            expected["better" if above == higher[one["metric"]] else "worse"] += 1
    assert expected["better"] > 10
    assert len(found.named("td", "better")) == expected["better"]
    assert len(found.named("td", "worse")) == expected["worse"]
    values = [float(a["data-v"]) for a in found.named("td") if "data-v" in a]
    np.testing.assert_allclose(values[:12], [one["mean"] for one in table[:12]], rtol=1e-5)
    assert len(found.named("tr", "floor")) == 3  # overview and two tables


def test_gaps_are_visible(small):
    small.run["cells"][1] |= {"reason": "needs attention weights", "scores": []}
    folder = small.write()
    (folder / "scores" / "lexicon_test-bert-tiny-occlusion-0-0.json").unlink()
    found = page(small)
    shown = found.shown()
    assert "This run is not finished. 1 cell has no result yet" in shown
    assert "all columns: skipped, needs attention weights (shap)" in shown
    assert "comprehensiveness (delete): missing, not computed yet: run again to finish (occlusion)" in shown
    assert "1 of 12: ContractError: 61 s spent, 60 s allowed" in shown
    assert [a["title"] for a in found.named("span", "missing")] == ["not computed yet: run again to finish"]


def test_a_run_of_which_nothing_is_computed_yet(small):
    for kind in ("predictions", "attributions", "scores"):
        for path in (small.folder / kind).iterdir():
            path.unlink()
    found = page(small)
    assert f"{2 * 4 * 12} cells have no result yet" in found.shown()
    assert not found.named("div", "heat")


def test_a_model_that_could_not_be_run(small):
    small.run["models"][1] |= {"hash": None, "parameters": None, "trained": None}
    for cell in small.run["cells"][4:]:
        cell |= {"reason": "no checkpoint: train it first", "predictions": [], "attributions": [], "scores": []}
    shown = page(small).shown()
    assert shown.count("skipped no checkpoint: train it first") == 4
    assert "not finished" not in shown


def test_heatmaps_show_the_first_examples_scores_and_rationales(small):
    def edit(chunk):
        n = len(chunk["rows"][0]["scores"])
        chunk["rows"][0]["scores"] = [2.0, -1.0] + [0.0] * (n - 2)
        chunk["rows"][1]["scores"] = [0.0] * len(chunk["rows"][1]["scores"])
        chunk["rows"][2]["scores"] = [0.5] * len(chunk["rows"][2]["scores"])

    def mark(chunk):
        n = len(chunk["rows"][0]["words"])
        chunk["rows"][0]["rationale"] = [[1, 1] + [0] * (n - 2), [1] + [0] * (n - 1), [0] * n]

    small.change("attributions", "lexicon_test-bert-tiny-shap-0", edit)
    small.change("predictions", "lexicon_test-bert-tiny-0", mark)
    text = render(read(small.write()), "html")
    found = Page(text)
    assert len(found.named("div", "heat")) == 2 * 4
    shap = re.search(r'<b title="shap">shap</b><div>(.*?)</div>', text)[1]
    words = small.words[0]
    assert re.findall(r"<i.*?</i>", shap) == [
        f'<i class="p9 r" title="2">{words[0]}</i>',
        f'<i class="n5 q" title="-1">{words[1]}</i>',
        *(f'<i title="0">{word}</i>' for word in words[2:]),
    ]
    assert text.count(">all zero</span>") == 1
    assert text.count(">all equal</span>") == 1
    assert ">failed: ContractError: 61 s spent, 60 s allowed</span>" in text


def test_pair_texts_are_separated_and_long_texts_cut(small):
    def edit(chunk):
        row = chunk["rows"][0]
        row["words"] = [f"w{i}" for i in range(500)]
        row["texts"] = [0] * 2 + [1] * 498
        row["rationale"] = None

    small.change("predictions", "lexicon_test-bert-tiny-0", edit)
    for path in small.folder.glob("attributions/lexicon_test-bert-tiny-*-0.json"):
        small.change("attributions", path.stem, lambda chunk: chunk["rows"][0].update(scores=[0.5] * 500))
    text = render(read(small.write()), "html")
    assert text.count('<span class="cut">') == 4
    assert "340 more words are not shown" in Page(text).shown()


def test_without_timings(small):
    shown = page(small, timings=False).shown()
    assert "2026-01-02" not in shown
    assert "seconds" not in shown


def test_a_large_board_stays_small(large):
    assert len(render(read(large.write()), "html").encode()) < 1_000_000
    for path in (large.folder / "predictions").iterdir():
        large.change("predictions", path.stem, lambda c: [r.update(words=["extraordinary"] * 200) for r in c["rows"]])
    for path in (large.folder / "attributions").iterdir():
        large.change(
            "attributions", path.stem, lambda c: [r.update(scores=[0.123456] * 200) for r in c["rows"] if r["scores"]]
        )
    text = render(read(large.folder), "html")
    assert len(text.encode()) < 2_000_000
    assert Page(text).shown().count("more words are not shown") == 9 * 4
    assert "Over 9 models" in text


@pytest.mark.parametrize(
    ("scores", "signed", "expected"),
    [
        ([0.0, 0.0], True, ["", ""]),
        ([1.0, -1.0, 0.04], True, ["p9", "n9", ""]),
        ([0.5, 1.0, 0.0], False, ["u5", "u9", ""]),
        ([1e-300, -5e-301], True, ["p9", "n5"]),
        ([], True, []),
    ],
)
def test_shades(scores, signed, expected):
    assert shades(np.array(scores), signed) == expected


def test_remarks():
    assert remark(np.array([1.0])) == ""
    assert remark(np.array([1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])) == ""
    assert remark(np.array([1.0, 1.0, 1.0, 3.0])) == "75 % tied"


def test_rationale_share_is_over_correct_examples_with_a_majority_word(small):
    rows = read(small.write()).cells[0].predictions
    shares = []
    for row in rows:
        votes = np.array(row.rationale).sum(axis=0) >= 2
        if row.correct and votes.any():
            shares.append(votes.mean())
    assert 0 < len(shares) < len(rows)
    assert rationale_share(rows) == pytest.approx(np.mean(shares))
    assert rationale_share([]) is None


def test_the_page_is_a_function_of_the_folder(small):
    folder = small.write()
    assert render(read(folder), "html") == render(read(folder), "html")
