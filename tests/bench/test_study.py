"""``attrlab study lambda``: from the command line to the folder, on an untrained model with a tiny budget."""

import re
from types import SimpleNamespace

import pytest
from cliruns import save_model

from attrlab.bench import session, study
from attrlab.bench.errors import UserError
from attrlab.leaderboard.study import curve, read
from attrlab.methods import co_perturbation, lambda_study

SMALL = ("--limit", 3, "--preset", "fast", "--lambda", 1, "--lambda", 0.1, "--workers", 1)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(lambda_study, "UNFINISHED", (3,))
    monkeypatch.setattr(lambda_study, "FRESH", 8)
    monkeypatch.setitem(co_perturbation.PRESETS, "fast", (1, 30))


def settings(attrlab, limit):
    model = str(attrlab.model)
    return study.Settings(
        models=(model,), dataset="lexicon", limit=limit, seeds=1, preset="fast", lams=(0.1, 1.0), words=None
    )


def planned(chosen):
    (block,) = study.plan.make(study._suite(chosen), None, lambda _name, _dataset: None).blocks
    return block


def call(attrlab, *arguments):
    return attrlab("study", "lambda", "--model", attrlab.model, "--dataset", "lexicon", *SMALL, *arguments)


def test_from_the_command_line_to_the_folder(small, attrlab, tmp_path):
    text = ("--text", "In what year did it end?", "--pair", "Year,did")
    called = call(attrlab, "--seeds", 2, *text, "--out", "out")
    assert called.code == 0, called.err
    out = tmp_path / "out"
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    drawn = ("interest", "damage", "recall", "entropy", "optimality", "text")
    assert found == {"study.json", "index.html", "table.md", "lambda.png", *(f"figures/{name}.svg" for name in drawn)}
    stored = read(out / "study.json")
    assert stored.setup.lams == (0.1, 1.0)
    assert stored.setup.pair == ("year", "did")
    (model,) = stored.models
    assert len(model.sentences) == 3
    assert all(set(one.planted) >= {one.pair[0]} and one.pair[1] not in one.planted for one in model.sentences)
    keys = [(steps, lam, seed) for seed in (0, 1) for steps in (0, 3) for lam in (0.1, 1.0)]
    assert [(one.unfinished, one.lam, one.seed) for one in model.points] == keys
    assert [(one.unfinished, one.lam, one.seed) for one in model.text_points] == keys
    assert f"{curve(model, 'damage').mean[0]:.3g}" in called.out
    assert "at converged optima" in called.out
    assert stored.provenance.versions["matplotlib"]
    assert called.out.splitlines()[-2].startswith("page: out/index.html")


def test_the_same_work_gives_the_same_numbers_and_fewer_sentences_the_first_of_them(small, attrlab):
    few, many = settings(attrlab, limit=2), settings(attrlab, limit=4)
    block = planned(few)
    bar = SimpleNamespace(now=lambda _what: None, done=lambda: None)
    first, again, longer = (study.study_one((one, (0.1, 1.0), block, 0), bar) for one in (few, few, many))
    assert first == again
    for short, long in zip(first["points"], longer["points"], strict=True):
        for name, values in short.items():
            assert long[name][:2] == values if isinstance(values, list) else long[name] == values


def test_sentences_are_those_that_the_model_gets_right(attrlab):
    block = planned(settings(attrlab, limit=5))
    model = session.load_model(block, session.Options())
    chosen = study.chosen_sentences(model, block, 5)
    assert len(chosen) == 5
    ids = [one.encoded.example.id for one in chosen]
    for example in block.dataset.take():
        encoded = model.encode(example)
        right = int(model.forward(model.collate([study.whole(encoded)])).logits.argmax()) == example.label
        marks = encoded.rationale(example.rationales[0])
        assert (example.id in ids) == (right and marks.any() and not marks.all())
        if example.id == ids[-1]:
            break
    assert [one.encoded.example.id for one in study.chosen_sentences(model, block, 3)] == ids[:3]


def test_model_that_is_never_right_is_refused(attrlab, monkeypatch):
    monkeypatch.setattr(study, "_right", lambda _model, _block: iter(()))
    assert "classifies 0 sentences of lexicon:test" in call(attrlab).message


def test_named_words_are_found_whatever_their_case_and_punctuation():
    found = study.named_words('"Did it end?", he asked. Did it?', "END, did")
    assert (found.pair, found.places) == (("end", "did"), (2, 0))
    assert study.named_words(None, None) is None


@pytest.mark.parametrize(
    ("text", "pair", "message"),
    [
        ("what year", None, "--text and --pair go together"),
        (None, "a,b", "--text and --pair go together"),
        ("what year did", "year", "two different words"),
        ("what year did", "year,year", "two different words"),
        ("what year did", "year,", "two different words"),
        ("what year did", "yeer,did", "unknown word of --text 'yeer'. Did you mean 'year'?"),
    ],
)
def test_wrong_words_are_refused(text, pair, message):
    with pytest.raises(UserError, match=re.escape(message)):
        study.named_words(text, pair)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "bert-bas-mini"), "Did you mean 'bert-base-mini'?"),
        (("--lambda", 0), "--lambda 0: give a weight above 0"),
        (("--lambda", "nan"), "--lambda nan: give a weight above 0"),
        (("--lambda", 0.1), "--lambda 0.1 alone is no curve"),
        (("--lambda", "much"), "Invalid value for '--lambda'"),
        (("--preset", "huge"), "preset='huge'; allowed: fast, default, full"),
        (("--limit", 1), "--limit"),
        (("--seeds", 0), "--seeds"),
        (("--dataset", "sst2"), "has no planted words"),
        (("--dataset", "lexikon"), "Did you mean 'lexicon'?"),
        (("--text", "what year", "--pair", "year,what,is"), "two different words"),
        (("--out", "file"), "cannot write 'file'"),
    ],
)
def test_bad_input_is_one_line(attrlab, tmp_path, arguments, message):
    (tmp_path / "file").write_text("x")
    if "--model" not in arguments:
        arguments = ("--model", attrlab.model, *arguments)
    assert message in attrlab("study", "lambda", *arguments).message


def test_word_that_the_model_does_not_reach(small, attrlab):
    text = " ".join(["word"] * 400 + ["year", "did"])
    assert "reads only the first" in call(attrlab, "--text", text, "--pair", "year,did").message


def test_help_names_the_options(attrlab):
    shown = attrlab("study", "lambda", "--help").out
    assert all(name in shown for name in ("--lambda", "--text", "--pair", "--preset", "--seeds", "--out"))
    assert "lambda" in attrlab("study", "--help").out


def test_models_with_other_labels_are_refused(attrlab, tmp_path):
    other = save_model(tmp_path / "other", labels=("cat", "dog"))
    assert "absent from the label names" in attrlab("study", "lambda", "--model", other, "--dataset", "lexicon").message
