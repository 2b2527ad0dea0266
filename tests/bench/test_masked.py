"""Fillings are samples of the masked model's conditionals, put in for the removed words and for nothing else."""

import itertools
import json
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cliruns import chunks, save_model
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import data, masked, masked_mini, minis, plan, suite
from attrlab.bench.errors import NotApplicableError, UserError
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.masked import MaskedWords
from attrlab.bench.model import TextModel
from attrlab.bench.removal import remove
from attrlab.bench.testing import FAMILIES, TEXTS, examples, tiny
from attrlab.bench.train import save
from attrlab.bench.zoo import BY_MINI

BERT = BY_MINI["bert-base-mini"]
PAIRS = [("Not a good film.",), ("is it  good?\n", " a dull, lifeless end")]


@cache
def filler(kind: str = "words", texts: tuple[str, ...] = TEXTS, sharpness: float = 4.0) -> MaskedWords:
    """An untrained masked language model of words or of word pieces, with an opinion of its own on every text."""
    vocabulary = minis.word_tokenizer(texts) if kind == "words" else minis.tokenizer(BERT, texts)
    network = minis.masked_network(BERT, vocabulary, 0).requires_grad_(requires_grad=False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.mul_(sharpness)
    return MaskedWords(network, vocabulary, kind)


def encoded(model: TextModel, *texts: str, name: str = "x") -> Encoded:
    return model.encode(Example(id=name, texts=texts, label=0))


def with_filler(name: str, fills: Any) -> TextModel:
    model = deepcopy(tiny(name))
    model.fillers["mlm"] = fills
    return model


# What comes out


class Same(MaskedWords):
    """Fills every hole with the word that was there."""

    def fillings(self, encoded: Encoded, questions: Any) -> list[dict[int, str]]:
        """The words that were there."""
        return [{unit: encoded.readings[unit] for unit in np.flatnonzero(~keep)} for keep, _ in questions]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("texts", PAIRS)
@given(rng=st.randoms(use_true_random=False))
def test_a_word_filled_with_itself_has_its_own_ids(name: str, texts: tuple[str, ...], rng: Any) -> None:
    words = filler()
    model = with_filler(name, Same(words.network, words.tokenizer, "same"))
    found = encoded(model, *(text.rstrip() for text in texts))
    keep = np.array([rng.random() < 0.5 for _ in range(found.n_units)])
    row = remove(model, found, keep, "mlm")
    assert row.ids.tolist() == found.ids.tolist()
    assert row.segments.tolist() == found.segments.tolist()
    assert row.attend.tolist() == [True] * len(found.ids)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("texts", PAIRS)
@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_kept_ids_stay_and_filled_words_are_tokenized_alone(name: str, texts: Any, kind: str) -> None:
    model = with_filler(name, filler(kind))
    found = encoded(model, *texts)
    for seed in range(12):
        keep = np.random.default_rng(seed).random(found.n_units) < 0.5
        (texts_in,) = filler(kind).fillings(found, [(keep, seed)])
        assert sorted(texts_in) == np.flatnonzero(~keep).tolist()
        expected, before = [], -1
        for token, unit in zip(found.ids.tolist(), found.units.tolist(), strict=True):
            if unit < 0 or keep[unit]:
                expected.append(token)
            elif unit != before:
                word = found.words[unit]
                start = word.start
                while start and found.example.texts[word.text][start - 1].isspace():
                    start -= 1
                space = found.example.texts[word.text][start : word.start]
                expected += model.tokenizer(space + texts_in[unit], add_special_tokens=False)["input_ids"]
            before = unit
        row = remove(model, found, keep, "mlm", seed)
        assert row.ids.tolist() == expected
        assert len(row.segments) == len(row.attend) == len(expected)


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_what_is_drawn_depends_on_the_question_alone(kind: str) -> None:
    model, fills = tiny("gpt2-mini"), filler(kind)
    found = encoded(model, TEXTS[0])
    rng = np.random.default_rng(0)
    questions = [(rng.random(found.n_units) < 0.4, draw) for draw in range(5) for _ in range(20)]
    together = fills.fillings(found, questions)
    assert len({json.dumps(one, default=str) for one in together}) > 90
    for question, one in list(zip(questions, together, strict=True))[::7]:
        torch.manual_seed(int(question[1]))  # the global generators have no part in it
        assert fills.fillings(encoded(tiny("opt-125m-mini"), TEXTS[0]), [question]) == [one]
    keep = np.zeros(found.n_units, dtype=bool)
    other = encoded(model, TEXTS[0], name="y")
    assert fills.fillings(found, [(keep, 0)]) != fills.fillings(other, [(keep, 0)])


def test_special_tokens_are_never_drawn_and_no_word_begins_in_its_middle() -> None:
    pieces = filler("pieces", sharpness=1.0)  # nearly uniform: anything that is allowed comes up
    found = encoded(tiny("gpt2-mini"), TEXTS[4])
    keep = np.zeros(found.n_units, dtype=bool)
    drawn = pieces.fillings(found, [(keep, draw) for draw in range(60)])
    words = [text for one in drawn for text in one.values()]
    assert not any("[" in text or text.startswith("##") or not text for text in words)
    continued = {piece[2:] for piece in pieces.tokenizer.get_vocab() if piece.startswith("##") and len(piece) > 4}
    assert any(text[-len(end) :] == end for text in words for end in continued), "further pieces do come up"


def test_a_hole_has_as_many_masks_as_the_word_has_pieces() -> None:
    pieces = filler("pieces")
    found = encoded(tiny("gpt2-mini"), "a heart-warming end")
    own = pieces._own(found)
    holes = pieces._holes(found, own)
    assert [len(hole) for hole in holes] == [
        len(pieces.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("a", "heart-warming", "end")
    ]
    seen: list[list[int]] = []
    logits = pieces.logits

    class Spy(MaskedWords):
        """Notes the first row of every pass."""

        def logits(self, rows: Any, *more: Any) -> Any:
            """Those of the model."""
            seen.append((rows[0].ids == self.tokenizer.mask_token_id).tolist())
            return logits(rows, *more)

    keep = np.array([True, False, True])
    Spy(pieces.network, pieces.tokenizer, "spy").fillings(found, [(keep, 0)])
    assert seen[0] == [position in holes[1] for position in range(len(own.ids))]
    assert [sum(masks) for masks in seen] == list(range(len(holes[1]), 0, -1))  # one after the other, left to right
    assert [masks.index(True) for masks in seen] == holes[1].tolist()


# Samples of the model's own conditional

SMALL = ("good bad film plot very",)


def conditional(fills: MaskedWords, text: str, which: int = 0) -> dict[str, float]:
    """Probabilities of the words at one of the masks of a text, asked of the network as anybody would."""
    coded = fills.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        logits = fills.network(**coded).logits[0]
    place = int((coded["input_ids"][0] == fills.tokenizer.mask_token_id).nonzero()[which])
    words = SMALL[0].split()
    chosen = logits[place, fills.tokenizer.convert_tokens_to_ids(words)].double().softmax(0)
    return dict(zip(words, chosen.tolist(), strict=True))


def joint(fills: MaskedWords) -> dict[tuple[str, str], float]:
    """Joint probability of the two holes in "very [MASK] film [MASK]", each order as likely."""
    words = SMALL[0].split()
    left, right = (conditional(fills, "very [MASK] film [MASK]", which) for which in (0, 1))
    found = {}
    for a, b in itertools.product(words, words):
        from_left = left[a] * conditional(fills, f"very {a} film [MASK]")[b]
        from_right = right[b] * conditional(fills, f"very [MASK] film {b}")[a]
        found[a, b] = (from_left + from_right) / 2
    return found


def test_fillings_are_drawn_from_the_conditionals_of_the_masked_model() -> None:
    fills = filler("words", SMALL, 12.0)
    found = encoded(tiny("bert-base-mini"), "very good film plot")
    keep, draws = np.array([True, False, True, False]), 16000
    drawn = [(one[1], one[3]) for one in fills.fillings(found, [(keep, draw) for draw in range(draws)])]
    expected = joint(fills)
    assert sum(expected.values()) == pytest.approx(1, abs=1e-6)
    counts = np.array([drawn.count(pair) for pair in expected])
    assert counts.sum() == draws
    share = np.array(list(expected.values()))
    assert (share * draws).min() > 5
    assert chisquare(counts, share / share.sum() * draws).pvalue > 1e-3
    independent = np.array([sum(p for (a, _), p in expected.items() if a == x) for x, _ in expected])
    independent *= [sum(p for (_, b), p in expected.items() if b == y) for _, y in expected]
    assert np.abs(independent - share).sum() > 0.1, "holes hang together in this model: a joint sample is needed"


# What does not apply


def test_a_filling_that_makes_the_text_too_long_is_cut() -> None:
    class Long(Same):
        """Fills every hole with eighty words, the second one with a hundred."""

        def fillings(self, encoded: Encoded, questions: Any) -> list[dict[int, str]]:
            """Long ones."""
            return [{0: "good " * 80, 1: "bad " * 100} for _ in questions]

    model = with_filler("gpt2-mini", Long(filler().network, filler().tokenizer, "long"))
    found = encoded(model, "not good film")
    row = remove(model, found, np.array([False, False, True]), "mlm")
    assert len(row.ids) == model.max_length == len(row.segments)
    kept = found.ids[(found.units < 0) | (found.units == 2)].tolist()
    assert row.ids[-len(kept) :].tolist() == kept


def test_tokens_as_units_and_unread_words_do_not_apply() -> None:
    model, fills = tiny("gpt2-mini"), deepcopy(filler())
    text = Example(id="x", texts=(TEXTS[4],), label=0)
    by_token = model.encode(text, "token")
    with pytest.raises(NotApplicableError, match="'mlm' fills whole words: units must be words"):
        fills.fillings(by_token, [(np.zeros(by_token.n_units, dtype=bool), 0)])
    fills.max_length = 6
    found = model.encode(text)
    with pytest.raises(NotApplicableError, match="'words' does not read the word 'soundtrack'"):
        fills.fillings(found, [(np.zeros(found.n_units, dtype=bool), 0)])


def test_every_text_a_mini_reads_is_read_by_the_filler() -> None:
    fills = filler()
    for name in ("bert-base-mini", "gpt2-mini", "opt-125m-mini"):
        found = encoded(tiny(name), "a " * 300, "a " * 300)
        assert found.n_units >= tiny(name).max_length - 3
        assert len(fills.fillings(found, [(np.arange(found.n_units) > 0, 0)])[0]) == 1


def test_what_is_no_masked_language_model_is_refused(tmp_path: Path) -> None:
    classifier = save_model(tmp_path / "c")
    with pytest.raises(UserError, match="weights are missing from the file, 'cls"):
        masked.load(checkpoints.find(str(classifier)))
    gpt2 = save_model(tmp_path / "g", mini="gpt2-mini")
    with pytest.raises(UserError, match="cannot be loaded as a masked language model"):
        masked.load(checkpoints.find(str(gpt2)))
    with pytest.raises(UserError, match="'m' has no fast tokenizer with a mask token"):
        MaskedWords(filler().network, tiny("gpt2-mini").tokenizer, "m")


# The mini that is trained for it


@pytest.fixture(scope="module")
def parts() -> tuple[data.Dataset, data.Dataset]:
    """The first 3000 training examples of the lexicon, and 200 of its evaluation part."""
    learn, test = data.load("lexicon:train"), data.load("lexicon")
    return replace(learn, examples=learn.examples[:3000]), replace(test, examples=test.examples[:200])


def test_the_mini_learns_more_than_how_often_words_occur(
    parts: tuple[data.Dataset, data.Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTRLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(masked_mini, "RECIPE", replace(masked_mini.RECIPE, steps=150, evaluate_every=50))
    first = masked_mini.mini("masked-mini", *parts)
    assert first.card is not None
    assert first.card["heldout_loss"] < first.card["unigram_loss"] - 0.5
    monkeypatch.setattr(masked_mini, "fit", lambda *_: 1 / 0)
    again = masked_mini.mini("masked-mini", *parts)
    assert (again.hash, again.folder) == (first.hash, first.folder)
    loaded = masked.load(again)
    readable = masked_mini._readable(loaded, parts[1].take())
    assert masked_mini.held_out(loaded, readable)[0] == pytest.approx(first.card["heldout_loss"], abs=1e-6)
    found = encoded(tiny(), "the film was very good")
    drawn = loaded.fillings(found, [(np.zeros(5, dtype=bool), draw) for draw in range(9)])
    known = {word for example in parts[0].examples for text in example.texts for word in text.split()}
    assert {word for one in drawn for word in one.values()} <= known


def test_the_losses_are_those_of_the_masked_words() -> None:
    fills = filler()
    rows = masked_mini._readable(fills, examples())
    counts = np.arange(1.0, len(fills.drawable) + 1)
    found, unigram = masked_mini.held_out(fills, rows, counts)
    rng = np.random.default_rng(0)
    losses, flat, sizes = [], [], []
    for row in rows:
        hidden = masked_mini._hide(fills, row, rng)
        sizes.append(len(hidden.positions))
        with torch.inference_mode():
            logits = fills.network(torch.from_numpy(hidden.row.ids)[None]).logits[0].double().log_softmax(-1)
        for position, word in zip(hidden.positions, hidden.words, strict=True):
            assert row.ids[position] == word
            assert hidden.row.ids[position] == fills.tokenizer.mask_token_id
            losses.append(-float(logits[position, word]))
            flat.append(-np.log(counts[word] / counts.sum()))
    assert found == pytest.approx(np.mean(losses), rel=1e-5)
    assert unigram == pytest.approx(np.mean(flat), rel=1e-12)
    assert len(set(sizes)) > 1


# Runs

SUITE = """
operators = ["mlm", "random", "attn"]
datasets = ["lexicon"]
methods = ["leave_one_out", "random"]
metrics = ["comprehensiveness"]
limit = 3
filler = "{filler}"
[explain]
operator = "{operator}"
"""


def write(folder: Path, sharpness: float, *, operator: str = "replace") -> Path:
    fills = filler("words", TEXTS, sharpness)
    save(fills, {}, folder / "filler")
    path = folder / "mine.toml"
    path.write_text(SUITE.format(filler=folder / "filler", operator=operator))
    return path


def test_a_run_under_drawing_operators_is_resumed(attrlab: Any, model: Path, tmp_path: Path) -> None:
    path = write(tmp_path, 2.0, operator="mlm")
    arguments = ("run", path, "--model", model, "--workers", 1, "--out", "o")
    assert attrlab(*arguments).code == 0
    table = attrlab.table("o")
    cells = {(row["method"], row["operator"]): row for row in json.loads(table)}
    assert {operator for _, operator in cells} == {"mlm", "random", "attn"}
    assert all(row["status"] == "ok" and row["n_scored"] == 3 for row in cells.values())
    assert len({row["mean"] for row in cells.values()}) == len(cells)
    (stored,) = [p for p in (tmp_path / "o" / "attributions").glob("*.json") if "leave_one_out" in p.read_text()]
    for row in json.loads(stored.read_text())["rows"]:
        assert row["forwards"] == 5 * (len(row["scores"]) + 1)
    before = chunks(tmp_path / "o")
    assert "0 chunks computed" in attrlab(*arguments).out
    assert chunks(tmp_path / "o") == before
    assert attrlab.table("o") == table
    write(tmp_path, 3.0, operator="mlm")  # another filler: what it had no part in is kept
    called = attrlab(*arguments)
    assert "9 chunks computed, 3 found whole" in called.out


def test_only_keys_of_drawing_operators_name_what_they_draw_from(model: Path, tmp_path: Path) -> None:
    def made(sharpness: float) -> plan.Plan:
        chosen = suite.override(suite.load(str(write(tmp_path, sharpness))), models=[str(model)])
        return plan.make(chosen, None, lambda _name, _dataset: None)

    for one in (made(2.0), made(3.0)):
        block = one.blocks[0]
        (chunk,) = one.chunks(block)
        keys = {c.operator: one.scores(block, chunk, one.methods[0], c).get("filling") for c in one.columns}
        assert block.filler is not None
        assert keys == {"mlm": block.filler.hash, "random": block.calibration[1], "attn": None}
        assert "filling" not in one.attributions(block, chunk, one.methods[0])
    assert made(2.0).blocks[0].filler != made(3.0).blocks[0].filler


def test_the_filler_is_trained_where_none_is_named(model: Path) -> None:
    asked = []
    chosen = suite.override(
        suite.load("adhoc"),
        models=[str(model)],
        datasets=["lexicon"],
        methods=["random"],
        metrics=["comprehensiveness"],
        operators=["mlm"],
    )
    plan.make(chosen, None, lambda name, dataset: asked.append((name, dataset.name)))
    assert asked == [("masked-mini", "lexicon:test")]
    with pytest.raises(UserError, match="operator 'mlm' fills whole words: unit='token'; allowed: 'word'"):
        plan.make(suite.override(chosen, unit="token"), None, lambda *_: None)
