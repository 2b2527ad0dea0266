"""Questionnaires: what each group is shown, what the key keeps, and what a page must not tell."""

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from questionnaires import CHOICE, METHODS, SIMULATION, fill, pages
from scipy import stats
from strictpage import Page

from attrlab.bench.errors import UserError
from attrlab.leaderboard.questionnaire import Settings, export
from attrlab.leaderboard.questionnaire_key import CONTROL, read_key

HOSTILE = "<script>alert(1)</script>&\"'"


@pytest.fixture
def results(small, tmp_path):
    return fill(type(small)(tmp_path / "results", models=2, methods=4, examples=48, chunk=48))


@pytest.mark.parametrize("settings", [SIMULATION, CHOICE], ids=["simulation", "choice"])
def test_every_group_sees_every_item_once_and_every_item_meets_every_condition_equally_often(
    results, tmp_path, settings
):
    key = export(results.folder, tmp_path / "out", settings)
    names = {item.item for item in key.items}
    seen = Counter()
    for group in key.groups:
        assert sorted(question.item for question in group.questions) == sorted(names)
        seen.update((question.item, question.condition) for question in group.questions)
        spread = Counter(question.condition for question in group.questions)
        assert max(spread.values()) - min(spread.values()) <= 1
    assert set(seen) == {(name, condition) for name in names for condition in key.conditions}
    assert len(set(seen.values())) == 1
    assert len({tuple(q.item for q in group.questions) for group in key.groups}) > 1


@pytest.mark.parametrize("methods", [METHODS, METHODS[1:]], ids=["5 conditions", "4 conditions, as many as strata"])
def test_items_are_balanced_over_answer_and_correctness_within_every_condition(results, tmp_path, methods):
    n = len(methods) + 1
    key = export(results.folder, tmp_path / "out", replace(SIMULATION, methods=methods, items=4 * n))
    correct = {item.item: item.correct for item in key.items}
    assert key.conditions == (CONTROL, *methods)
    for group in key.groups:
        crossed = Counter((q.condition, q.right, correct[q.item]) for q in group.questions)
        assert len(crossed) == 4 * n
        assert set(crossed.values()) == {1}


def test_the_key_says_what_the_model_answered(results, tmp_path):
    key = export(results.folder, tmp_path / "out", SIMULATION)
    rows = json.loads((results.folder / "predictions" / "lexicon_test-bert-tiny-0.json").read_text())["rows"]
    stored = {row["example"]: row for row in rows}
    right = {q.item: q.right for q in key.groups[0].questions}
    for item in key.items:
        row = stored[item.examples[0]]
        assert right[item.item] == ["negative", "positive"][row["target"]]
        assert item.correct == row["correct"]
    assert "lexicon:test-3" not in [item.examples[0] for item in key.items], "lime failed on it"
    assert key.results.run == hashlib.sha256((results.folder / "run.json").read_bytes()).hexdigest()
    assert read_key(tmp_path / "out" / "key.json") == key


def test_classes_in_another_order_than_the_data_sets_are_named_rightly(results, tmp_path):
    plain = export(results.folder, tmp_path / "plain", SIMULATION)
    for card in results.run["models"]:
        card["classes"] = [1, 0]
    results.write()
    turned = export(results.folder, tmp_path / "turned", Settings(kind="simulation", models=("bert-tiny",), items=40))
    targets = {
        row["example"]: row["target"]
        for row in json.loads((results.folder / "predictions" / "lexicon_test-bert-tiny-0.json").read_text())["rows"]
    }
    right = {q.item: q.right for q in turned.groups[0].questions}
    for item in turned.items:
        assert right[item.item] == ["positive", "negative"][targets[item.examples[0]]]
    assert plain.options == turned.options == ("negative", "positive")


@pytest.mark.parametrize("settings", [SIMULATION, CHOICE], ids=["simulation", "choice"])
def test_the_same_settings_give_the_same_files_and_another_seed_others(results, tmp_path, settings):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        export(results.folder, tmp_path / name, replace(settings, seed=seed))
    assert pages(tmp_path / "a") == pages(tmp_path / "b") != pages(tmp_path / "c")
    assert (tmp_path / "a/key.json").read_bytes() == (tmp_path / "b/key.json").read_bytes()
    export(results.folder, tmp_path / "a", settings)  # the same again changes nothing
    with pytest.raises(UserError, match="key of another questionnaire"):
        export(results.folder, tmp_path / "a", replace(settings, seed=1))
    assert pages(tmp_path / "a") == pages(tmp_path / "b")


def skeleton(form):
    """A question without the words, highlights and numbers that differ between texts."""
    form = re.sub(r'<p class="(text|sr)">.*?</p>', "", form, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"q\d\d|(Text|Question) \d+|Next|Finish", "", form))


def test_a_page_holds_no_answer(results, tmp_path):
    key = export(results.folder, tmp_path / "out", SIMULATION)
    for text in pages(tmp_path / "out").values():
        forms = re.findall(r'<form class="step question".*?</form>', text, flags=re.S)
        assert len(forms) == 20
        assert len({skeleton(form) for form in forms}) == 1
        body = text.partition("<body")[2]
        for secret in (*METHODS, "lexicon", "bert-tiny", CONTROL, "correct", 'right"', "seed"):
            assert secret not in body
        assert not re.findall(r'class="[pnrq]\d?"', body), "a second hue would tell the class"
    # The number of an item must not tell its stratum, by which the items are sorted.
    firsts = []
    for seed in range(10):
        key = export(results.folder, tmp_path / f"s{seed}", replace(SIMULATION, seed=seed))
        right = {q.item: q.right for q in key.groups[0].questions}
        firsts += [right[name] == "negative" for name in sorted(right)[:10]]
    assert stats.binomtest(sum(firsts), len(firsts)).pvalue > 1e-3


@pytest.mark.parametrize("settings", [SIMULATION, CHOICE], ids=["simulation", "choice"])
def test_the_sign_of_scores_is_not_shown(results, tmp_path, settings):
    export(results.folder, tmp_path / "plain", settings)

    def negate(chunk):
        for row in chunk["rows"]:
            row["scores"] = None if row["scores"] is None else [-score for score in row["scores"]]

    for path in (results.folder / "attributions").iterdir():
        results.change("attributions", path.stem, negate)
    export(results.folder, tmp_path / "negated", settings)
    assert pages(tmp_path / "plain") == pages(tmp_path / "negated")


def test_highlights_are_those_of_the_condition(results, tmp_path):
    def only_first(chunk):
        for row in chunk["rows"]:
            row["scores"] = [-2.0, 1.0] + [0.0] * (len(row["scores"]) - 2)

    results.change("attributions", "lexicon_test-bert-tiny-shap-0", only_first)
    key = export(results.folder, tmp_path / "out", SIMULATION)
    found = Counter()
    for group in key.groups:
        text = (tmp_path / "out" / "pages" / f"group-{group.group}.html").read_text(encoding="utf-8")
        for question in group.questions:
            form = re.search(rf'data-item="{question.item}".*?</form>', text, flags=re.S)[0]
            marks = re.findall(r'<i class="(u\d)">', form)
            found[question.condition] += len(marks)
            if question.condition == "shap":
                assert marks == ["u9", "u5"]
    assert found[CONTROL] == 0
    assert found["shap"] == 2 * 20


@pytest.mark.parametrize("settings", [SIMULATION, CHOICE], ids=["simulation", "choice"])
def test_pages_are_valid_closed_and_hostile_text_is_only_shown(results, tmp_path, settings):
    results.run["datasets"][0]["labels"] = ["negative", HOSTILE]

    def edit(chunk):
        for row in chunk["rows"]:
            row["words"] = [f"{row['example']}{HOSTILE}", *row["words"][1:]]
            row["texts"] = [0, *[1] * (len(row["texts"]) - 1)]

    for model in ("bert-tiny", "gpt2-small"):
        results.change("predictions", f"lexicon_test-{model}-0", edit)
    results.write()
    export(results.folder, tmp_path / "out", settings)
    for text in pages(tmp_path / "out").values():
        found = Page(text)
        scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
        assert len(scripts) == 2
        assert text.count("<script") == 2
        policy = next(attrs["content"] for _, attrs in found.tags if "http-equiv" in attrs)
        for script in scripts:
            assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
        assert "default-src 'none'" in policy
        assert "http" not in text.replace("http-equiv", "")
        assert not [attrs for _, attrs in found.tags if any(name.startswith("on") for name in attrs)]
        assert HOSTILE in found.shown()
        ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        labels = {attrs["aria-labelledby"] for _, attrs in found.tags if "aria-labelledby" in attrs}
        assert labels <= set(ids)
        assert len([1 for tag, attrs in found.tags if tag == "input" and "required" in attrs]) == 1 + 2 * (
            settings.items
        )
        shown = text.partition("<main")[2]
        assert shown.count('<p class="text">') == 2 * settings.items * (1 if settings is SIMULATION else 4)


def test_highlights_of_a_choice_stand_under_the_model_that_the_key_says(results, tmp_path):
    marks = {"bert-tiny": [1.0, 0.0], "gpt2-small": [0.0, 1.0]}  # which of the first two words is dark
    for model, first in marks.items():

        def edit(chunk, first=first):
            for row in chunk["rows"]:
                row["scores"] = first + [0.0] * (len(row["scores"]) - 2)

        results.change("attributions", f"lexicon_test-{model}-shap-0", edit)
    key = export(results.folder, tmp_path, Settings(kind="choice", items=6, texts=1, methods=("shap",)))
    for group in key.groups:
        text = (tmp_path / "pages" / f"group-{group.group}.html").read_text(encoding="utf-8")
        for question in group.questions:
            form = re.search(rf'data-item="{question.item}".*?</form>', text, flags=re.S)[0]
            views = dict(re.findall(r'<h4>Model (.)</h4>\s*<p class="text">(.*?)</p>', form, flags=re.S))
            second_is_dark = {name for name, view in views.items() if not view.startswith("<i")}
            assert second_is_dark == {question.right}


def test_texts_of_a_choice_are_answered_alike(results, tmp_path):
    def flip(chunk):
        for row in chunk["rows"][:20]:
            row["target"] = 1 - row["target"]

    results.change("predictions", "lexicon_test-gpt2-small-0", flip)
    key = export(results.folder, tmp_path, Settings(kind="choice", items=9, texts=3))
    shown = [int(example.rpartition("-")[2]) for item in key.items for example in item.examples]
    assert len(set(shown)) == 27
    assert min(shown) >= 20
    with pytest.raises(UserError, match=r"10 questions of 3 texts need 30 different texts .* both models answer alike"):
        export(results.folder, tmp_path / "more", Settings(kind="choice", items=10, texts=3))


def test_equal_texts_are_shown_once(results, tmp_path):
    def same(chunk):
        for row in chunk["rows"]:
            if len(row["words"]) == len(chunk["rows"][0]["words"]):
                row["words"] = chunk["rows"][0]["words"]

    results.change("predictions", "lexicon_test-bert-tiny-0", same)
    # Texts 0, 17 and 34 are equal now, and lime failed on text 3.
    with pytest.raises(UserError, match="the folder has 45"):
        export(results.folder, tmp_path / "out", replace(SIMULATION, items=46))
    assert len(export(results.folder, tmp_path / "out", replace(SIMULATION, items=45)).items) == 45


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "choise"}, "unknown kind of questionnaire 'choise'. Did you mean 'choice'?"),
        ({"models": ()}, "about 1 model, not 2; give --model NAME, of: bert-tiny, gpt2-small"),
        ({"models": ("bert-tny",)}, "Did you mean 'bert-tiny'?"),
        ({"kind": "choice", "models": ("bert-tiny",)}, "about 2 models, not 1; give --model NAME twice"),
        ({"methods": ("shp",)}, "Did you mean 'shap'?"),
        ({"dataset": "lexicon:tst"}, "Did you mean 'lexicon:test'?"),
        ({"items": 48}, "48 questions of 1 text need 48 different texts that all methods explained; the folder has 47"),
    ],
)
def test_what_cannot_be_asked(results, tmp_path, settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        export(results.folder, tmp_path / "out", replace(SIMULATION, **settings))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("suite", {"explain": {"target": "gold"}}, "explains the gold class"),
        ("suite", {"unit": "token"}, "explains tokens"),
        ("dataset", {"labels": ["same", "same"]}, "cannot be told apart: same, same"),
    ],
)
def test_folders_that_cannot_be_asked(results, tmp_path, part, change, message):
    (results.run["suite"] if part == "suite" else results.run["datasets"][0]).update(change)
    results.write()
    with pytest.raises(UserError, match=message):
        export(results.folder, tmp_path / "out", SIMULATION)


def test_neither_model_is_better(small, tmp_path):
    folder = type(small)(tmp_path / "even", models=2, methods=2, examples=12).add("lexicon:test")
    with pytest.raises(UserError, match="right on 10 of 12 texts each, so neither is the better one"):
        export(folder.write(), tmp_path / "out", CHOICE)
