"""Scores of questionnaires: participants of known behaviour, answers that are refused, and the command line."""

import json
import re
import sys

import numpy as np
import pytest
from questionnaires import CHOICE, SIMULATION, answer, everybody, fill, other, scored
from scipy import stats

from attrlab.bench import cli
from attrlab.leaderboard.paired import sign_test
from attrlab.leaderboard.questionnaire import Settings, export
from attrlab.leaderboard.questionnaire_key import CONTROL, read_key
from attrlab.leaderboard.questionnaire_score import wilson
from attrlab.leaderboard.questionnaire_tables import render


@pytest.fixture
def results(small, tmp_path):
    return fill(type(small)(tmp_path / "results", models=2, methods=4, examples=48, chunk=48))


def attrlab(patch, capsys, *arguments):
    patch.setattr(sys, "argv", ["attrlab", "questionnaire", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, *capsys.readouterr()


def changed(position, **values):
    def edit(content):
        (content if position is None else content["answers"][position]).update(values)

    return edit


def test_an_oracle_predicts_everything(results, tmp_path):
    key = export(results.folder, tmp_path, SIMULATION)
    for one in scored(key, everybody(tmp_path, key, lambda q, _: q.right)).values():
        assert [part.share.share for part in one.parts] == [1.0] * 3
        assert [part.share.n for part in one.parts] == [20, 10, 10]
        assert one.seconds == 4.5
        assert one.confidence is None
        if one.condition != CONTROL:
            assert [part.difference.mean for part in one.parts] == [0.0] * 3
            assert [part.difference.n for part in one.parts] == [20, 10, 10]
    assert scored(key, [])[CONTROL].parts[0].share.share is None


def test_who_says_what_is_true_agrees_with_the_model_only_where_it_is_right(results, tmp_path):
    key = export(results.folder, tmp_path, SIMULATION)
    found = scored(key, everybody(tmp_path, key, lambda q, item: q.right if item.correct else other(key, q.right)))
    for one in found.values():
        assert [part.share.share for part in one.parts] == [0.5, 1.0, 0.0]
    assert "always the gold label: 10/20" in render(tmp_path / "key.json", [], "text")


def test_what_helps_is_the_difference_to_the_control_by_item(results, tmp_path):
    key = export(results.folder, tmp_path, SIMULATION)

    def choose(q, item):
        helped = q.condition == "shap" or (q.condition == "random" and item.correct)
        return q.right if helped else other(key, q.right)

    found = scored(key, everybody(tmp_path, key, choose))
    assert [part.difference.mean for part in found["shap"].parts] == [1.0, 1.0, 1.0]
    assert [part.difference.mean for part in found["random"].parts] == [0.5, 1.0, 0.0]
    part = found["random"].parts[0].difference
    assert (part.low, part.high) == pytest.approx((0.5 - 1.96 / 4.47 / 2, 0.5 + 1.96 / 4.47 / 2), abs=0.04)
    assert found[CONTROL].parts[0].difference is None


def test_a_single_group_has_no_text_with_and_without_highlights(results, tmp_path):
    key = export(results.folder, tmp_path, SIMULATION)
    found = scored(key, [answer(tmp_path, key, key.groups[0], "p", lambda q, _: q.right)])
    assert found["shap"].parts[0].difference.n == 0
    assert found["shap"].parts[0].difference.mean is None
    assert found["shap"].parts[0].share.n == 4


def test_guessing_is_at_chance(results, tmp_path):
    rng = np.random.default_rng(3)
    for settings, out in ((SIMULATION, tmp_path / "s"), (CHOICE, tmp_path / "c")):
        key = export(results.folder, out, settings)
        for one in scored(key, everybody(out, key, lambda _q, _i: str(rng.choice(key.options)), 10)).values():  # noqa: B023
            share = one.parts[0].share
            assert abs(share.share - 0.5) < 4 * np.sqrt(0.25 / share.n)
            assert share.low < share.share < share.high


def test_the_better_model_stands_equally_often_first(results, tmp_path):
    key = export(results.folder, tmp_path, CHOICE)
    assert key.better.name == "gpt2-small"
    assert [model.n_correct for model in key.models] == [36, 42]
    for one in scored(key, everybody(tmp_path, key, lambda _q, _i: "A")).values():
        assert one.parts[0].share.share == 0.5
        assert one.p == 1.0
    alone = Settings(kind="choice", items=1, texts=2, methods=("shap",))
    key = export(results.folder, tmp_path / "one", alone)
    assert sorted(q.right for group in key.groups for q in group.questions) == ["A", "B"]


def test_who_finds_the_better_model(results, tmp_path):
    key = export(results.folder, tmp_path, CHOICE)
    found = scored(key, everybody(tmp_path, key, lambda q, _: q.right if q.condition == "shap" else "A"))
    assert found["shap"].parts[0].share.share == 1.0
    n = 2 * len(key.groups)
    assert found["shap"].p == pytest.approx(2 * 0.5**n)
    assert (found["shap"].participants_better, found["shap"].participants_decided) == (8, 8)
    assert found["shap"].p_participants == pytest.approx(2 * 0.5**8)
    assert found["random"].parts[0].share.share == 0.5


def test_intervals_and_p_are_those_of_scipy():
    for n in (1, 2, 7, 40, 333):
        for right in range(0, n + 1, max(1, n // 7)):
            reference = stats.binomtest(right, n)
            ends = reference.proportion_ci(0.95, method="wilson")
            assert (wilson(right, n).low, wilson(right, n).high) == pytest.approx((ends.low, ends.high), abs=1e-12)
            assert sign_test(right, n) == pytest.approx(reference.pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (changed(None, questionnaire="beef"), "answers questionnaire 'beef', the key is of"),
        (changed(None, group=9), "there is no group 9; the key has groups 1 to 5"),
        (changed(None, participant="  "), "participant: String should have at least 1 character"),
        (changed(None, version=2), "version: Input should be 1"),
        (changed(None, extra=1), "extra: Extra inputs are not permitted"),
        (changed(3, answer="neutral"), "has answer 'neutral'; allowed: negative, positive"),
        (changed(3, item="q99"), "there is no item 'q99'"),
        (changed(3, confidence=5), "answers.3.confidence: Input should be less than or equal to 4"),
        (changed(3, seconds=-1), "answers.3.seconds: Input should be greater than or equal to 0"),
        (changed(3, seconds="4"), "answers.3.seconds: Input should be a valid number"),
        (lambda content: content["answers"].pop(), "1 of 20 items have no answer: q"),
        (lambda content: content["answers"].append(content["answers"][0]), "is answered twice"),
        (lambda content: content.pop("group"), "group: Field required"),
    ],
)
def test_answers_that_are_refused(results, tmp_path, monkeypatch, capsys, edit, message):
    key = export(results.folder, tmp_path, SIMULATION)
    good = answer(tmp_path, key, key.groups[0], "good", lambda q, _: q.right)
    bad = answer(tmp_path, key, key.groups[1], "bad", lambda q, _: q.right)
    content = json.loads(bad.read_text())
    edit(content)
    bad.write_text(json.dumps(content))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    code, out, err = attrlab(monkeypatch, capsys, "score", tmp_path / "key.json", good, bad)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err
    assert str(bad) in err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.json")}


def test_files_that_are_refused(results, tmp_path, monkeypatch, capsys):
    key = export(results.folder, tmp_path, SIMULATION)
    good = answer(tmp_path, key, key.groups[0], "good", lambda q, _: q.right)
    torn, kept = tmp_path / "torn.json", tmp_path / "key.json"
    torn.write_bytes(good.read_bytes()[:100])
    copy = tmp_path / "copy.json"
    copy.write_bytes(good.read_bytes())
    for paths, message in (
        ([kept, torn], "torn.json: Invalid JSON"),
        ([kept, tmp_path / "nowhere.json"], "cannot read"),
        ([kept, good, copy], "participant 'good' is in"),
        ([good, good], "good.json: key: Field required"),
        ([kept, good, "--format", "jsn"], "Did you mean 'json'?"),
    ):
        code, out, err = attrlab(monkeypatch, capsys, "score", *paths)
        assert (code, out) == (2, "")
        assert message in err
    kept.write_text(
        kept.read_text()
        .replace('"right":"negative"', '"right":"positive"')
        .replace('"right": "negative"', '"right": "positive"')
    )
    code, _, err = attrlab(monkeypatch, capsys, "score", kept, good)
    assert code == 2
    assert "was changed after the export" in err


def test_the_command_line_there_and_back(results, tmp_path, monkeypatch, capsys):
    out = tmp_path / "ask"
    options = ("--kind", "simulation", "--model", "bert-tiny", "--method", "shap", "--items", 8, "--out", out)
    code, printed, err = attrlab(monkeypatch, capsys, "export", results.folder, *options)
    assert (code, err) == (0, "")
    assert "8 questions, 8 texts, 2 groups" in printed
    assert "always the gold label: 4/8" in printed
    key = read_key(out / "key.json")
    paths = everybody(tmp_path, key, lambda q, _: q.right if q.condition == "shap" else other(key, q.right))
    code, printed, err = attrlab(monkeypatch, capsys, "score", out / "key.json", *paths)
    assert (code, err) == (0, "")
    assert re.search(
        r"shap +all +8/8 +1\.000 \[0\.676, 1\.000\] +\+1\.000 \[\+1\.000, \+1\.000\] n 8 +- +4\.5", printed
    )
    assert re.search(r"no highlights +all +0/8 +0\.000 \[0\.000, 0\.324\] +- +4\.5", printed)
    code, printed, err = attrlab(monkeypatch, capsys, "score", out / "key.json", *paths, "--format", "json")
    found = json.loads(printed)
    assert (found["participants"], found["items"], found["answers"]) == (2, 8, 16)
    assert [one["condition"] for one in found["outcomes"]] == [CONTROL, "shap"]
    assert found["outcomes"][1]["parts"][2]["share"] == {
        "right": 4,
        "n": 4,
        "share": 1.0,
        "low": pytest.approx(0.5101, abs=1e-4),
        "high": 1.0,
    }


def test_cautions_are_kept_and_printed(results, tmp_path, monkeypatch, capsys):
    key = export(results.folder, tmp_path / "choice", CHOICE)
    assert key.caution == "", "six texts against none: p = 0.03"

    def right(chunk):
        for row in chunk["rows"]:
            row |= {"correct": True, "label": row["target"]}

    results.change("predictions", "lexicon_test-gpt2-small-0", right)
    export(results.folder, tmp_path / "s", Settings(kind="simulation", models=("gpt2-small",)))
    code, printed, _ = attrlab(
        monkeypatch,
        capsys,
        "score",
        tmp_path / "s" / "key.json",
        *everybody(tmp_path, read_key(tmp_path / "s" / "key.json"), lambda q, _: q.right),
    )
    assert code == 0
    assert "The model is wrong on 0 of these texts" in printed

    def nearly(chunk):
        chunk["rows"][0] |= {"correct": False, "label": 1 - chunk["rows"][0]["target"]}

    results.change("predictions", "lexicon_test-bert-tiny-0", lambda chunk: (right(chunk), nearly(chunk)))
    assert (
        "on 0 texts only the first is right, on 1 only the second (exact McNemar p = 1)"
        in export(results.folder, tmp_path / "close", CHOICE).caution
    )
