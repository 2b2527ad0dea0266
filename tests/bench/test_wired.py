"""Wired models: the answer is that of the rule, provably by two words; no other word moves it by a bit."""

import numpy as np
import pytest
import torch

from attrlab.bench import checkpoint, generator, testing
from attrlab.bench import generator_words as vocabulary
from attrlab.bench.attending import Record, attending
from attrlab.bench.data import load
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.registry import METHODS
from attrlab.bench.removal import remove, whole
from attrlab.bench.wired import build
from attrlab.bench.zoo import WIRED

WORDS = [word for words in vocabulary.KEYWORDS for word in words]


@pytest.fixture(scope="module", params=WIRED)
def model(request):
    return build(request.param)


def logits(model, rows):
    with torch.inference_mode():
        return model.forward(model.collate(rows)).logits.numpy()


def row(model, words):
    return whole(model.encode(Example(id="0", texts=(" ".join(words),), label=None)))


def answers(model, sentences):
    """Logits, one sentence at a time: no company in a batch, so equality means equality."""
    return np.stack([logits(model, [row(model, words)])[0] for words in sentences])


def planted(example):
    """The words of an example, and which of them are marked."""
    words = example.texts[0].split()
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
    return words, [starts.index(start) for start, _ in example.rationales[0][0]]


def test_every_example_is_answered_as_the_rule_does(model):
    examples = generator.pointer("test")
    found = logits(model, [whole(model.encode(example)) for example in examples]).argmax(1)
    assert found.tolist() == [example.label for example in examples]


def test_no_other_word_moves_the_logits_by_a_bit(model):
    """Each text with all its other words drawn anew, ten times, from everything the model knows."""
    rng = np.random.default_rng(0)
    known = [*WORDS, *vocabulary.PLACES, "unheard-of"]
    for example in generator.pointer("dev")[:40]:
        words, marked = planted(example)
        changed = [
            [word if i in marked else known[rng.integers(len(known))] for i, word in enumerate(words)]
            for _ in range(10)
        ]
        assert any(other != words for other in changed)
        found = answers(model, [words, *changed])
        assert (found == found[0]).all()


def test_neither_do_embeddings_that_no_word_has(model):
    """The keys do not read words, so noise on the others leaves the answer alone even where LayerNorms notice it."""
    example = generator.pointer("dev")[0]
    words, marked = planted(example)
    encoded = model.encode(example)
    batch = model.collate([whole(encoded)])
    free = torch.from_numpy((encoded.units >= 0) & ~np.isin(encoded.units, marked))
    noise = torch.randn(model.embed(batch).shape, generator=torch.Generator().manual_seed(0)) * free[None, :, None]
    with torch.inference_mode():
        plain = model.forward(batch, model.embed(batch)).logits
        noised = model.forward(batch, model.embed(batch) + noise).logits
    assert len(words) > len(marked)
    assert torch.equal(plain, noised)


def test_the_two_words_of_the_rationale_do(model):
    """Another class word at the place flips the answer; so does the name of a place with a word of the other class."""
    for example in generator.pointer("dev")[:40]:
        words, (_, place) = planted(example)
        flipped = list(words)
        flipped[place] = vocabulary.KEYWORDS[1 - example.label][0]
        elsewhere = [i for i in range(1, len(words)) if words[i] in vocabulary.KEYWORDS[1 - example.label]]
        moved = [[vocabulary.PLACES[i - 1], *words[1:]] for i in elsewhere]
        found = answers(model, [words, flipped, *moved]).argmax(1).tolist()
        assert found == [example.label, *[1 - example.label] * (1 + len(moved))]


def test_without_either_word_the_classes_are_equal(model):
    for example in generator.pointer("dev")[:20]:
        encoded = model.encode(example)
        for unit in planted(example)[1]:
            keep = np.arange(encoded.n_units) != unit
            found = logits(model, [remove(model, encoded, keep, "replace")])[0]
            assert found == pytest.approx([0, 0], abs=1e-6)


def test_attention_shows_the_place_word_below_and_the_word_pointed_to_above(model):
    """All weight of the reading position lies on one word per layer, and is exactly 1."""
    start = 0 if model.decoder else 1
    for example in generator.pointer("dev")[:20]:
        record = Record()
        with torch.inference_mode(), attending(model, record):
            batch = model.collate([whole(model.encode(example))])
            model.forward(batch)
        for layer, unit in zip(record.layers, planted(example)[1], strict=True):
            weights = layer[0, 0, int(model.pool(batch)[0])]
            assert torch.equal(weights, torch.nn.functional.one_hot(torch.tensor(start + unit), len(weights)).float())


@pytest.mark.parametrize(
    ("method", "signs"),
    [("leave_one_out", (1, 1)), ("attention_last", (0, 1)), ("input_x_gradient", (-1, 1))],
)
def test_what_methods_make_of_the_two_words(model, method, signs):
    """Leaving a word out shows both; the last layer of attention does not show what was read in the first.

    Gradients cannot pass a saturated softmax. All that reaches the place word is that a longer copy of it would make
    the LayerNorm shrink the class: as if it spoke against what it decides.
    """
    examples = generator.pointer("dev")[:10]
    component = METHODS.find(method)
    for example, found in zip(examples, testing.explain(component.build(), model, examples), strict=True):
        _, marked = planted(example)
        towards_label = found.scores if example.label == 0 or not component.facts.signed else -found.scores
        assert np.where(abs(towards_label) > 1e-3, np.sign(towards_label), 0)[marked].tolist() == list(signs)
        assert abs(np.delete(towards_label, marked)).max(initial=0.0) < 1e-6


def test_saved_loaded_and_found_by_name(tmp_path, monkeypatch, model):
    monkeypatch.setenv("ATTRLAB_CACHE", str(tmp_path))
    found = checkpoint.find(model.name)
    assert found.card["base"] == model.name
    assert checkpoint.class_of_labels(found, load("pointer:dev")) == (0, 1)
    rows = [row(model, example.texts[0].split()) for example in generator.pointer("dev")[:8]]
    assert np.array_equal(logits(checkpoint.load(found), rows), logits(model, rows))
    assert checkpoint.find(model.name).hash == found.hash
    with pytest.raises(UserError, match="absent from the label names"):
        checkpoint.class_of_labels(found, load("shortcut:dev"))


def test_names_are_offered(tmp_path):
    with pytest.raises(UserError, match="bert-wired"):
        checkpoint.find("bert-wire")
