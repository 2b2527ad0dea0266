"""Neighbours of an example: its text with noise on the embeddings, with a few words substituted, or with typos.

They depend on the example, the model and the masked language model alone, so all methods are compared on the same.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from attrlab.bench.encoding import Unit, encode
from attrlab.bench.inputs import Encoded, Example, Word, words
from attrlab.bench.masked import TOKENS, MaskedWords
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.seeds import generator
from attrlab.bench.types import Floats, Ints

SHARE = 0.1
"""Largest share of the words that is changed; but one is changed in any text (metrics spec 5.6)."""

CHOICES = 5
"""Substitutes of a word: the most probable in its place."""

ALIKE = 0.7
"""Least cosine of the masked language model's embeddings of a word and its substitute, where a text allows it."""

PROPOSALS = 24
"""Changed texts that are tried for an example."""

DRIFT = 0.05
"""Largest change of the target's probability by a paraphrase."""

_LETTERS = re.compile(r"\W*?([^\W\d_]+)\W*")

Options = Mapping[Word, Sequence[str]]
"""By where the letters of a word are, what may stand there instead."""


class Neighbour(NamedTuple):
    """A changed text.

    Attributes:
        encoded: As the model reads it.
        units: Per unit, the unit of the original that it stands for, -1 for a changed word. ``(n_units,)``
    """

    encoded: Encoded
    units: Ints


def input_noise(model: TextModel, encoded: Encoded, seed: tuple[int | str, ...]) -> Floats:
    """Returns uniform noise on the embeddings of scorable tokens, ``(n_tokens, d)`` (metrics spec 5.1).

    The radius is 0.02 for embeddings of standard deviation 0.05 and in proportion for others: families compare.
    """
    weight = model.embedding
    radius = 0.02 * float(weight.std()) / 0.05
    noise = generator(*seed).uniform(-radius, radius, (len(encoded.ids), weight.shape[1]))
    return np.where(encoded.units[:, None] >= 0, noise, 0.0)


def letters(encoded: Encoded) -> Iterator[Word]:
    """Yields where the letters are of each word that is one run of letters, punctuation around it aside."""
    for word in dict.fromkeys(encoded.words):
        found = _LETTERS.fullmatch(encoded.example.texts[word.text], word.start, word.end)
        if found:
            yield Word(word.text, *found.span(1))


def misspellings(encoded: Encoded) -> Options:
    """Returns, by word, the spellings with two neighbouring inner letters swapped (Pruthi et al. 2019)."""
    found: dict[Word, list[str]] = {}
    for word in letters(encoded):
        right = encoded.example.texts[word.text][word.start : word.end]
        wrong = [right[:i] + right[i + 1] + right[i] + right[i + 2 :] for i in range(1, len(right) - 2)]
        wrong = [one for one in dict.fromkeys(wrong) if one != right]
        if wrong:
            found[word] = wrong
    return found


def substitutes(encoded: Encoded, filler: MaskedWords) -> Options:
    """Returns, by word, the most probable other words in its place given all others, best first.

    Those of another meaning are left out (cosine of the embeddings under ``ALIKE``), and with them words for which
    none is left; save in a text in which no word has a substitute that is alike.
    """
    rows, places, masked = [], [], []
    for word in letters(encoded):
        hidden = changed(encoded.example, {word: filler.tokenizer.mask_token})
        own = encode(filler.tokenizer, hidden, "word", filler.max_length)
        at = np.flatnonzero(own.ids == filler.tokenizer.mask_token_id)
        if len(at) == 1:  # else the word lies beyond what the filler reads
            rows.append(whole(own))
            places.append(int(at[0]))
            masked.append(word)
    size = max(1, TOKENS // max([len(row.ids) for row in rows], default=1))
    found: dict[Word, list[str]] = {}
    near: dict[Word, list[str]] = {}
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        for word, logits in zip(masked[part], filler.logits(rows[part], places[part]), strict=True):
            text = encoded.example.texts[word.text][word.start : word.end]
            others = list(islice(_others(text, logits, filler), CHOICES))
            alike = [other for other in others if _cosine(filler, text, other) >= ALIKE]
            found |= {word: others} if others else {}
            near |= {word: alike} if alike else {}
    return near or found


def _others(word: str, logits: Floats, filler: MaskedWords) -> Iterator[str]:
    ranked = np.argsort(-np.where(filler.begins, logits, -np.inf), kind="stable")
    for index in ranked[: filler.begins.sum()]:
        other = filler.tokenizer.decode([int(index)]).strip()
        if other.isalpha() and other.casefold() != word.casefold():
            yield other[0].upper() + other[1:] if word[0].isupper() else other


def _cosine(filler: MaskedWords, first: str, second: str) -> float:
    """Cosine of the mean input embeddings of two words, in [-1, 1]."""
    read = filler.tokenizer([first, second], add_special_tokens=False)["input_ids"]
    embedding = filler.network.get_input_embeddings().weight
    a, b = (embedding[ids].double().mean(0) for ids in read)
    return float(a @ b / (a.norm() * b.norm()))


def changed(example: Example, instead: Mapping[Word, str]) -> Example:
    """Returns the example with other letters in some places; it keeps its id, so that draws stay what they were."""
    texts = list(example.texts)
    for place in sorted(instead, reverse=True):
        text = texts[place.text]
        texts[place.text] = text[: place.start] + instead[place] + text[place.end :]
    return replace(example, texts=tuple(texts), rationales=None, parses=None)


def proposals(model: TextModel, encoded: Encoded, options: Options, kind: str) -> list[Neighbour]:
    """Returns different changed texts, each with a tenth of the words changed at random, at least one."""
    unit: Unit = "word" if len(set(encoded.words)) == encoded.n_units else "token"
    rng = generator("neighbours", kind, encoded.example.id)
    count = min(len(options), max(1, int(SHARE * len(set(encoded.words)))))
    places = list(options)
    found: dict[tuple[str, ...], Neighbour] = {}
    for _ in range(PROPOSALS if options else 0):
        chosen = [places[index] for index in sorted(rng.choice(len(places), size=count, replace=False))]
        example = changed(encoded.example, {place: str(rng.choice(options[place])) for place in chosen})
        read = model.encode(example, unit)
        if not np.array_equal(read.ids, encoded.ids):
            found[example.texts] = Neighbour(read, _aligned(read, encoded, chosen))
    return list(found.values())


def _aligned(read: Encoded, original: Encoded, places: Sequence[Word]) -> Ints:
    """Units of the original that those of a changed text stand for: the same piece of the same word."""
    gone = {
        (place.text, start)
        for place in places
        for start, (begin, end) in enumerate(words(original.example.texts[place.text]))
        if begin <= place.start < end
    }
    known = {piece: unit for unit, piece in enumerate(_pieces(original))}
    return np.array([-1 if piece[:2] in gone else known.get(piece, -1) for piece in _pieces(read)], dtype=np.int64)


def _pieces(encoded: Encoded) -> list[tuple[int, int, int]]:
    """Per unit: its text, which word of that text it is in, and which of that word's units it is."""
    numbers = {
        Word(text, *span): number
        for text, whole_text in enumerate(encoded.example.texts)
        for number, span in enumerate(words(whole_text))
    }
    seen: dict[Word, int] = {}
    found = []
    for word in encoded.words:
        seen[word] = seen.get(word, -1) + 1
        found.append((word.text, numbers[word], seen[word]))
    return found
