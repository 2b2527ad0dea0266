"""Tokens, words and units, and their removal on ids, for the three tokenizer families."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench import minis
from attrlab.bench.encoding import encode
from attrlab.bench.inputs import Encoded, Example, words
from attrlab.bench.removal import remove, whole
from attrlab.bench.testing import FAMILIES, tiny

TOKENIZERS = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"

real_vocabularies = pytest.mark.skipif(not TOKENIZERS.exists(), reason="the real vocabularies are not here")


@cache
def mini(name: str) -> Any:
    """The tokenizer of a tiny model."""
    return tiny(name).tokenizer


@cache
def real(family: str) -> Any:
    """The family's real vocabulary, as the hub's own tokenizer: OPT starts a text with </s>, GPT-2 adds nothing."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    folder = TOKENIZERS / family
    if family == "bert-base-uncased":
        backend = Tokenizer(models.WordPiece.from_file(str(folder / "vocab.txt"), unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.post_processor = minis.template(backend, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
        names = {"mask_token": "[MASK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    else:
        backend = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        end = "</s>" if family == "opt" else "<|endoftext|>"
        backend.post_processor = processors.ByteLevel(trim_offsets=True)
        if family == "opt":
            backend.post_processor = minis.template(backend, f"{end} $A", f"{end} $A {end} $B")
        names = {"eos_token": end, "unk_token": end}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)


ALL = [
    *(pytest.param(lambda name=name: mini(name), id=name) for name in FAMILIES),
    *(
        pytest.param(lambda family=family: real(family), id=f"real {family}", marks=real_vocabularies)
        for family in ("bert-base-uncased", "gpt2", "opt")
    ),
]
every_tokenizer = pytest.mark.parametrize("make", ALL)
MakeTokenizer = Callable[[], Any]


def encoded(tokenizer: Any, *texts: str, unit: Any = "word", max_length: int = 128) -> Encoded:
    return encode(tokenizer, Example(id="x", texts=texts, label=0), unit, max_length)


def unit_texts(found: Encoded) -> list[str]:
    return [found.example.texts[word.text][word.start : word.end] for word in found.words]


def decoded(tokenizer: Any, found: Encoded) -> list[str]:
    """The text of each unit's tokens, with neither spaces nor the marks of sub-tokens."""
    pieces = [tokenizer.decode(found.ids[found.units == unit]) for unit in range(found.n_units)]
    return [piece.replace(" ", "").replace("##", "").lower() for piece in pieces]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n", []),
        ("not  good", ["not", "good"]),
        (" (well-made,\tthough!) ", ["(well-made,", "though!)"]),
        ("a\u00a0b\u3000c\x1fd", ["a", "b", "c", "d"]),  # no-break, ideographic and control separators are space
        ("zero\u200bwidth", ["zero\u200bwidth"]),
    ],
)
def test_words_are_the_runs_of_characters_that_are_not_space(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in words(text)] == expected == text.split()


@every_tokenizer
def test_each_word_is_made_of_exactly_its_own_tokens(make: MakeTokenizer) -> None:
    tokenizer = make()
    text = "the plot, -truly- wonderful...   moved; on."
    found = encoded(tokenizer, text)
    assert unit_texts(found) == ["the", "plot,", "-truly-", "wonderful...", "moved;", "on."]
    assert decoded(tokenizer, found) == unit_texts(found)
    assert found.dropped == 0
    belonging = found.units[found.units >= 0]
    assert (np.diff(belonging) >= 0).all()


@every_tokenizer
def test_a_character_split_over_tokens_stays_one_word(make: MakeTokenizer) -> None:
    found = encoded(make(), "caf\u00e9 \U0001f9d1\u200d\U0001f680 na\u00efve\u2026 \u4f60\u597d end")
    assert unit_texts(found) == ["caf\u00e9", "\U0001f9d1\u200d\U0001f680", "na\u00efve\u2026", "\u4f60\u597d", "end"]
    assert set(found.units[~found.special]) == set(range(5))


@pytest.mark.parametrize("name", ["gpt2-mini", "opt-350m-mini"])
def test_an_emoji_is_several_tokens_of_one_unit(name: str) -> None:
    tokenizer = mini(name)
    found = encoded(tokenizer, "a \U0001f680 b")
    assert (found.units == 1).sum() >= 4  # its four bytes
    assert tokenizer.decode(found.ids[found.units == 1]).strip() == "\U0001f680"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: mini("gpt2-mini"), id="gpt2-mini"),
        pytest.param(lambda: mini("opt-350m-mini"), id="opt-350m-mini"),
        pytest.param(lambda: real("gpt2"), id="real gpt2", marks=real_vocabularies),
        pytest.param(lambda: real("opt"), id="real opt", marks=real_vocabularies),
    ],
)
def test_a_token_of_white_space_goes_to_the_next_word_and_at_the_end_to_the_last(make: MakeTokenizer) -> None:
    tokenizer = make()
    found = encoded(tokenizer, "\n\nab   cd \n ")
    assert unit_texts(found) == ["ab", "cd"]
    own = [tokenizer.decode(found.ids[found.units == unit]) for unit in range(2)]
    # Two of the three blanks are tokens of their own, and belong to the word they stand before.
    assert own == ["\n\nab", "   cd \n "]


@every_tokenizer
@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_a_text_without_words_has_no_units(make: MakeTokenizer, text: str) -> None:
    found = encoded(make(), text)
    assert found.n_units == 0
    assert found.dropped == 0
    assert (found.units == -1).all()


@every_tokenizer
def test_one_word_is_one_unit(make: MakeTokenizer) -> None:
    found = encoded(make(), "unforgettable")
    assert unit_texts(found) == ["unforgettable"]
    assert set(found.units[~found.special]) == {0}


@every_tokenizer
def test_units_of_a_pair_continue_over_both_texts(make: MakeTokenizer) -> None:
    tokenizer = make()
    found = encoded(tokenizer, "is it good.", "it is small;")
    assert unit_texts(found) == ["is", "it", "good.", "it", "is", "small;"]
    assert [word.text for word in found.words] == [0, 0, 0, 1, 1, 1]
    assert decoded(tokenizer, found) == unit_texts(found)
    assert (found.units[found.special] == -1).all()
    assert (found.units[~found.special] >= 0).all()


def test_separators_of_a_pair_are_special_and_bert_marks_the_second_text() -> None:
    bert, gpt2, opt = (encoded(mini(name), "good", "bad") for name in FAMILIES)
    names = [
        mini(name).convert_ids_to_tokens(one.ids[one.special])
        for name, one in zip(FAMILIES, (bert, gpt2, opt), strict=True)
    ]
    assert names == [["[CLS]", "[SEP]", "[SEP]"], ["<|endoftext|>"] * 2, ["</s>"] * 3]
    assert bert.segments.tolist() == [0] * (bert.segments == 0).sum() + [1] * (bert.segments == 1).sum()
    assert bert.segments[bert.units == 1].all()
    assert not bert.segments[bert.units == 0].any()
    assert not gpt2.segments.any()
    assert not opt.segments.any()


def test_a_special_token_spelled_out_in_the_text_is_a_word() -> None:
    found = encoded(mini("bert-base-mini"), "good [SEP] bad")
    assert unit_texts(found) == ["good", "[SEP]", "bad"]
    assert found.special.sum() == 2


@every_tokenizer
def test_truncation_counts_the_words_it_drops(make: MakeTokenizer) -> None:
    tokenizer = make()
    text = "the film is good and the plot is bad"
    full = encoded(tokenizer, text)
    cut = encoded(tokenizer, text, max_length=len(full.ids) - (full.units == 8).sum() - (full.units == 7).sum())
    assert cut.dropped == 2
    assert unit_texts(cut) == unit_texts(full)[:7]
    assert np.array_equal(cut.special[[0, -1]], full.special[[0, -1]])


def test_truncation_of_a_pair_takes_from_the_longer_text() -> None:
    found = encoded(mini("bert-base-mini"), "good " * 40, "bad", max_length=16)
    assert len(found.ids) == 16
    kept = sum(word.text == 0 for word in found.words)
    assert [word.text for word in found.words] == [0] * kept + [1]
    assert found.dropped == 40 - kept > 0


def test_a_word_cut_in_two_is_kept() -> None:
    tokenizer = mini("gpt2-mini")
    full = encoded(tokenizer, "good zqxjk")
    cut = encoded(tokenizer, "good zqxjk", max_length=len(full.ids) - 1)
    assert (full.units == 1).sum() > 1
    assert (cut.n_units, cut.dropped) == (2, 0)


@every_tokenizer
def test_at_token_level_every_token_of_a_word_is_a_unit(make: MakeTokenizer) -> None:
    tokenizer = make()
    by_word, by_token = (encoded(tokenizer, "unforgettable, is it?", "no!", unit=unit) for unit in ("word", "token"))
    assert np.array_equal(by_word.ids, by_token.ids)
    assert by_token.units[~by_token.special].tolist() == list(range((~by_token.special).sum()))
    assert [by_word.words[unit] for unit in by_word.units if unit >= 0] == list(by_token.words)


def _property(tokenizer: Any, texts: list[str], max_length: int) -> None:
    found = encoded(tokenizer, *texts, max_length=max_length)
    assert len(found.ids) <= max_length
    assert (found.units[found.special] == -1).all()
    assert sorted({*found.units[found.units >= 0].tolist()}) == list(range(found.n_units))
    all_words = [(number, *span) for number, text in enumerate(texts) for span in words(text)]
    assert found.n_units + found.dropped == len(all_words)
    known = iter(all_words)
    assert all(tuple(word) in known for word in found.words)  # in order, none invented
    for number, text in enumerate(texts):
        if not text.split():
            assert not any(word.text == number for word in found.words)


@pytest.mark.parametrize("name", FAMILIES)
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=2), max_length=st.sampled_from([12, 128]))
def test_any_unicode_text_is_cut_into_words_that_have_tokens_or_are_dropped(
    name: str, texts: list[str], max_length: int
) -> None:
    _property(mini(name), texts, max_length)


@real_vocabularies
@pytest.mark.parametrize("family", ["bert-base-uncased", "gpt2", "opt"])
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=2))
def test_any_unicode_text_under_a_real_vocabulary(family: str, texts: list[str]) -> None:
    _property(real(family), texts, 128)


@given(text=st.text(st.characters(min_codepoint=33, blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12))
def test_byte_level_tokenizers_lose_no_word_to_normalisation(text: str) -> None:
    assert encoded(mini("gpt2-mini"), f"a {text} b", max_length=1000).dropped == 0


PAIRS = [("Not a good film.",), ("is it good?", "a dull, lifeless end")]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("texts", PAIRS)
@pytest.mark.parametrize("operator", ["delete", "replace"])
@given(data=st.data())
def test_the_ids_seen_are_the_ids_intended(name: str, texts: tuple[str, ...], operator: str, data: Any) -> None:
    model = tiny(name)
    found = model.encode(Example(id="x", texts=texts, label=0))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=found.n_units, max_size=found.n_units)))
    row = remove(model, found, keep, operator)
    ids, segments = [], []
    for token, segment, unit in zip(found.ids.tolist(), found.segments.tolist(), found.units.tolist(), strict=True):
        stays = unit < 0 or keep[unit]
        if stays or operator == "replace":
            ids.append(token if stays else model.replace_id)
            segments.append(segment)
    assert row.ids.tolist() == ids
    assert row.segments.tolist() == segments
    assert row.attend.all()
    assert len(row.attend) == len(ids)
    special = found.ids[found.special].tolist()
    assert [token for token in row.ids.tolist() if token in special] == special


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("texts", PAIRS)
def test_deleting_all_leaves_the_special_tokens_and_keeping_all_leaves_everything(
    name: str, texts: tuple[str, ...]
) -> None:
    model = tiny(name)
    found = model.encode(Example(id="x", texts=texts, label=0))
    empty = remove(model, found, np.zeros(found.n_units, dtype=bool), "delete")
    assert empty.ids.tolist() == found.ids[found.special].tolist()
    for operator in ("delete", "replace"):
        kept = remove(model, found, np.ones(found.n_units, dtype=bool), operator)
        assert all(np.array_equal(ours, full) for ours, full in zip(kept, whole(found), strict=True))


@real_vocabularies
def test_deleting_all_without_any_special_token_leaves_one_end_of_text() -> None:
    model = tiny("gpt2-mini")
    found = encoded(real("gpt2"), "Not good")
    assert not found.special.any()
    row = remove(model, found, np.zeros(2, dtype=bool), "delete")
    assert row.ids.tolist() == [model.tokenizer.eos_token_id]
    assert [len(part) for part in row[:3]] == [1, 1, 1]
