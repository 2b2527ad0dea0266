"""Neighbours of a text: what is changed, what is not, and which words still stand for the same words."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from replicatoys import filler

from attrlab.bench import neighbours
from attrlab.bench.inputs import Example, Word
from attrlab.bench.testing import FAMILIES, TEXTS, tiny


def read(text, *more, model="bert-base-mini", unit="word"):
    return tiny(model).encode(Example(id="x", texts=(text, *more), label=0), unit)


def at(encoded, word):
    return encoded.example.texts[word.text][word.start : word.end]


def test_only_words_of_one_run_of_letters_can_be_changed():
    encoded = read("(Good), don't re-run 3 times! été", "a b")
    assert [at(encoded, word) for word in neighbours.letters(encoded)] == ["Good", "times", "été", "a", "b"]


def test_misspellings_swap_neighbouring_inner_letters():
    encoded = read("'Fooled' cat bookish aabb.")
    found = {at(encoded, word): list(wrong) for word, wrong in neighbours.misspellings(encoded).items()}
    # First and last letters stay, equal letters make no new word: "cat" allows none.
    assert found == {"Fooled": ["Foloed", "Fooeld"], "bookish": ["bokoish", "booiksh", "booksih"], "aabb": ["abab"]}


@given(st.text(alphabet="abcdefg", min_size=4, max_size=12))
def test_a_misspelling_keeps_first_letter_last_letter_and_all_letters(word):
    encoded = read(f"so {word}!")
    for wrong in neighbours.misspellings(encoded).get(Word(0, 3, 3 + len(word)), ()):
        assert (wrong[0], wrong[-1], sorted(wrong)) == (word[0], word[-1], sorted(word))
        assert sum(a != b for a, b in zip(wrong, word, strict=True)) == 2


def test_letters_are_changed_and_nothing_else():
    example = Example(id="x", texts=("a good, good film", "so good"), label=1)
    changed = neighbours.changed(example, {Word(0, 2, 6): "fine", Word(0, 13, 17): "plot", Word(1, 3, 7): "dull"})
    assert changed.texts == ("a fine, good plot", "so dull")
    assert (changed.id, changed.label) == ("x", 1)


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_substitutes_are_the_most_probable_other_words(kind, monkeypatch):
    monkeypatch.setattr(neighbours, "ALIKE", -1.0)
    model, encoded = filler(kind), read("The plot was (wonderful) Watch")
    found = neighbours.substitutes(encoded, model)
    assert [at(encoded, word) for word in found] == ["The", "plot", "was", "wonderful", "Watch"]
    text = f"The plot was ({model.tokenizer.mask_token}) Watch"
    inputs = model.tokenizer(text, return_tensors="pt")
    place = inputs["input_ids"][0].tolist().index(model.tokenizer.mask_token_id)
    with torch.inference_mode():
        logits = model.network(**inputs).logits[0, place]
    words = [model.tokenizer.convert_ids_to_tokens(int(i)) for i in logits.argsort(descending=True)]
    expected = [word for word in words if word.isalpha() and word != "wonderful"][:5]
    assert found[Word(0, 14, 23)] == expected
    assert all(word[0].isupper() for word in found[Word(0, 25, 30)])


def test_substitutes_are_alike_where_the_text_allows_it(monkeypatch):
    model, encoded = filler(), read("the acting was dull and the film is long")
    every = {}
    for alike in (-1.0, 0.0, 0.9999):
        monkeypatch.setattr(neighbours, "ALIKE", alike)
        every[alike] = neighbours.substitutes(encoded, model)
    weights = torch.nn.functional.normalize(model.network.get_input_embeddings().weight, dim=-1)

    def cosine(first, second):
        (a,), (b,) = model.tokenizer([first, second], add_special_tokens=False)["input_ids"]
        return float(weights[a] @ weights[b])

    expected = {
        word: [other for other in others if cosine(at(encoded, word), other) >= 0]
        for word, others in every[-1.0].items()
    }
    assert every[0.0] == {word: others for word, others in expected.items() if others} != every[-1.0]
    assert every[0.9999] == every[-1.0], "no word has one: rather all of them than no paraphrase"


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("unit", ["word", "token"])
@pytest.mark.parametrize("texts", [(TEXTS[4], TEXTS[0]), (" ".join(TEXTS) * 2,), (TEXTS[3],)])
def test_units_stand_for_the_same_piece_of_the_same_word(name, unit, texts):
    model, encoded = tiny(name), read(*texts, model=name, unit=unit)
    options = neighbours.misspellings(encoded)
    found = neighbours.proposals(model, encoded, options, "typo")
    assert found
    assert len({one.encoded.example.texts for one in found}) == len(found)
    for one in found:
        gone = {
            (text, number)
            for text, (old, new) in enumerate(zip(texts, one.encoded.example.texts, strict=True))
            for number, (a, b) in enumerate(zip(old.split(), new.split(), strict=True))
            if a != b
        }
        n_words = len(set(encoded.words))
        assert 1 <= len(gone) <= max(1, 0.1 * n_words)
        assert len(one.units) == one.encoded.n_units
        matched = one.units[one.units >= 0]
        assert len(set(matched.tolist())) == len(matched)
        cut = one.encoded.n_units - 1 if one.encoded.dropped else -1  # a word that may have lost its end
        for place, other in enumerate(one.units):
            word = one.encoded.words[place]
            number = len(one.encoded.example.texts[word.text][: word.start].split())
            if not one.encoded.dropped:
                assert (other == -1) == ((word.text, number) in gone)
            if other >= 0 and place != cut:
                ids = [e.ids[e.units == unit_] for e, unit_ in ((encoded, other), (one.encoded, place))]
                assert np.array_equal(*ids)


def test_proposals_depend_on_the_text_alone_and_come_in_a_fixed_order():
    model, encoded = tiny(), read(TEXTS[4])
    options = neighbours.misspellings(encoded)
    first, second = (
        [one.encoded.example.texts for one in neighbours.proposals(model, encoded, options, "typo")] for _ in range(2)
    )
    assert first == second
    assert neighbours.proposals(model, encoded, {}, "typo") == []


def test_noise_is_uniform_on_words_and_in_proportion_to_the_embeddings():
    model, encoded = tiny(), read(TEXTS[4])
    noise = neighbours.input_noise(model, encoded, ("seed", 1))
    radius = 0.4 * float(model.embedding.std())
    assert not noise[encoded.special].any()
    inner = noise[~encoded.special]
    assert np.abs(inner).max() <= radius
    assert np.abs(inner).mean() == pytest.approx(radius / 2, rel=0.05)
    assert inner.std() == pytest.approx(radius / np.sqrt(3), rel=0.05)
    assert np.array_equal(noise, neighbours.input_noise(model, encoded, ("seed", 1)))
    assert not np.array_equal(noise, neighbours.input_noise(model, encoded, ("seed", 2)))
