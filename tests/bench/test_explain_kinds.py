"""``attrlab explain`` for language models and extractive question answering."""

import pytest
import torch
from otherheads import batch_of, continuations, prompt, questions

CHEAP = ("--method", "leave_one_out", "--method", "saliency", "--method", "attrlab.methods.tdd:TddForward")


def saved(model, folder):
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def language(tmp_path):
    return saved(continuations("gpt2-mini", torch.float32), tmp_path / "language")


@pytest.fixture
def extractive(tmp_path):
    return saved(questions("bert-base-mini", torch.float32), tmp_path / "extractive")


def test_a_continuation_against_foils(attrlab, language):
    foils = ("--foil", " plot", "--foil", " story")
    called = attrlab("explain", language, "Not [good] at all", "--target", " film", *foils, *CHEAP)
    assert (called.code, called.err) == (0, "")
    ours = continuations("gpt2-mini", torch.float32)
    coded = ours.encode(prompt("Not [good] at all", " film", (" plot", " story")))
    row = ours.forward(batch_of(ours, [coded])).logits[0].tolist()
    value = row[0] - (row[1] + row[2]) / 2
    assert f"{language}: ' film' rather than ' plot' or ' story' ({value:.3f})" in called.out.replace("\n", "")
    assert called.out.count("Not [good] at all") == 3


def test_a_continuation_alone(attrlab, language):
    called = attrlab("explain", language, "Not good", "--target", " film", *CHEAP)
    assert called.code == 0
    assert "rather than" not in called.out
    assert called.out.count("Not good") == 2
    assert "does not apply: TDD compares with a foil and there is none; give one, or full=true" in called.out


def test_an_extractive_answer(attrlab, extractive):
    called = attrlab("explain", extractive, "the film was dull", "--question", "what was it", *CHEAP)
    assert (called.code, called.err) == (0, "")
    model = questions("bert-base-mini", torch.float32)
    answer = model.answer(model.encode(prompt("what was it", "the film was dull")))
    assert f"{answer!r} (" in called.out
    assert called.out.count("the film was dull ") == 2  # words, each followed by a blank; the title has none
    assert "what was it" not in called.out
    assert "does not apply: TDD needs a causal model" in called.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", " a", "--question", "b"), "--target and --question do not go together"),
        (("--pair", "x", "--target", " a"), "--pair and --target do not go together"),
        (("--foil", " a"), "--foil needs --target"),
        (("--question", " "), "the text is empty"),
        (("--target", " film"), "was saved as BertForSequenceClassification, not as a causal language model"),
        (("--question", "what"), "has no trained head for answers"),
    ],
)
def test_options_that_do_not_fit(attrlab, options, message):
    assert message in attrlab("explain", attrlab.model, "not good", *options, *CHEAP).message


def test_minis_are_classifiers(attrlab):
    called = attrlab("explain", "gpt2-mini", "not good", "--target", " film", *CHEAP)
    assert "the mini 'gpt2-mini' is a text classifier; --target needs a causal language model" in called.message
