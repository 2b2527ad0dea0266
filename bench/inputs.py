"""Examples, and examples as a tokenizer sees them. NumPy only."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attrlab.bench.errors import UserError
from attrlab.bench.parses import Parse, check_parses

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Span = tuple[int, int]
"""Half-open character range ``[start, end)`` of one text."""

TextSpans = tuple[tuple[Span, ...], ...]
"""Spans of one annotator: one tuple of spans per text of the example."""

Mark = tuple[int, int, float]
"""Half-open character range ``[start, end)`` of one text, and its weight in (0, 1]."""


def words(text: str) -> tuple[Span, ...]:
    r"""Returns the spans of the maximal runs of non-white-space characters (methods spec 0.5).

    >>> words("not  good")
    ((0, 3), (5, 9))
    """
    return tuple(match.span() for match in re.finditer(r"\S+", text))


class Word(NamedTuple):
    """A canonical word: which text of the example it is in, and its span there."""

    text: int
    start: int
    end: int


def coverage(texts: Sequence[str], marks: Sequence[Sequence[Mark]], places: Sequence[Word]) -> Floats:
    """Returns the highest weight of a mark on each word, 0 for words without one, ``(n_words,)``.

    A mark is on a word if it overlaps it in a letter or digit: space and punctuation do not count (metrics spec 4.1).

    Args:
        texts: Texts of the example.
        marks: Per text its marks.
        places: The words.

    >>> coverage(["so, good"], [[(2, 8, 0.5)]], [Word(0, 0, 3), Word(0, 4, 8)]).tolist()
    [0.0, 0.5]
    """
    levels = []
    for text, spans in zip(texts, marks, strict=True):
        level = np.zeros(len(text))
        for start, end, weight in spans:
            level[start:end] = np.maximum(level[start:end], weight)
        levels.append(level * [char.isalnum() for char in text])
    return np.array([levels[text][start:end].max() for text, start, end in places], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One input of a data set.

    Attributes:
        id: Unique and stable inside its data set part.
        texts: One text, or two for a pair task. An empty text is allowed (it is skipped with a reason).
        label: Index into the data set's label names, or None where the source has none.
        rationales: Per annotator, per text, the character spans that justify ``label``; None where nobody
            annotated. An annotator who marked nothing is an annotator with empty tuples.
        weights: Per text, graded marks: the share of annotators who marked a span as justifying ``label``, where the
            source tells no annotators apart (``rationales`` is None then); None without.
        parses: Per text its dependency parse, or None; None where no text has one.

    Raises:
        UserError: If a span lies outside its text, a weight outside (0, 1], or there are not one or two texts.
    """

    id: str
    texts: tuple[str, ...]
    label: int | None
    rationales: tuple[TextSpans, ...] | None = None
    weights: tuple[tuple[Mark, ...], ...] | None = None
    parses: tuple[Parse | None, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.texts) not in (1, 2):
            raise UserError(f"example {self.id!r}: {len(self.texts)} texts; one or two are allowed")
        for per_text in self._marks():
            if len(per_text) != len(self.texts):
                raise UserError(f"example {self.id!r}: a rationale marks {len(per_text)} texts of {len(self.texts)}")
            for text, marks in zip(self.texts, per_text, strict=True):
                self._check_marks(text, marks)
        check_parses(self.texts, self.parses)

    @property
    def words(self) -> tuple[Word, ...]:
        """The canonical words of all texts."""
        return tuple(Word(number, *span) for number, text in enumerate(self.texts) for span in words(text))

    def shares(self) -> Floats:
        """Returns the share of annotators who marked each word, ``(n_words,)``, in [0, 1]; 0 where nobody annotated."""
        places, annotators = self.words, self._marks()
        if self.weights is None:
            votes = [coverage(self.texts, marks, places) for marks in annotators]
            return np.mean(votes, axis=0, dtype=np.float64) if votes else np.zeros(len(places))
        return coverage(self.texts, self.weights, places)

    def _marks(self) -> list[list[list[Mark]]]:
        """Returns the marks of each annotator per text; graded marks are those of one annotator."""
        plain = [[[(*span, 1.0) for span in spans] for spans in per_text] for per_text in self.rationales or ()]
        return plain + ([[list(marks) for marks in self.weights]] if self.weights is not None else [])

    def _check_marks(self, text: str, marks: Sequence[Mark]) -> None:
        for start, end, weight in marks:
            if not 0 <= start < end <= len(text):
                raise UserError(
                    f"example {self.id!r}: rationale span [{start}, {end}) is outside the text "
                    f"of {len(text)} characters; give 0 <= start < end <= {len(text)}"
                )
            if not 0 < weight <= 1:
                raise UserError(f"example {self.id!r}: the weight {weight} of a mark is not in (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """One example as a model's tokenizer sees it.

    Attributes:
        example: The example.
        ids: Token ids with special tokens, ``(n_tokens,)``.
        segments: Segment ids (all 0 where the model has none), ``(n_tokens,)``.
        special: True for tokens added by the tokenizer's template: never attributed, never erased.
        units: Index of the unit each token belongs to, -1 for special tokens, ``(n_tokens,)``.
        words: The canonical word of each unit; at token level the word that holds the token. ``(n_units,)``
        dropped: Number of words lost by truncation to the model's length.
        marks: What the model's head reads beside the ids, ``(K, n_tokens)``; None for classifiers.
    """

    example: Example
    ids: Ints
    segments: Ints
    special: Bools
    units: Ints
    words: tuple[Word, ...]
    dropped: int = 0
    marks: Ints | None = None

    @property
    def n_units(self) -> int:
        """Number of units that can be attributed (m in the specification)."""
        return len(self.words)

    @property
    def readings(self) -> tuple[str, ...]:
        """What each unit reads, ``(n_units,)``; at token level the whole word that holds the token."""
        return tuple(self.example.texts[word.text][word.start : word.end] for word in self.words)

    def rationale(self, spans: TextSpans) -> Bools:
        """Returns which units a rationale covers (:func:`coverage`), ``(n_units,)``."""
        marks = [[(*span, 1.0) for span in per_text] for per_text in spans]
        return np.asarray(coverage(self.example.texts, marks, self.words) > 0)

    @property
    def weights(self) -> Floats | None:
        """The weight of the graded marks on each unit, ``(n_units,)``, in [0, 1]; None where there are none."""
        marks = self.example.weights
        return None if marks is None else coverage(self.example.texts, marks, self.words)

    @property
    def lost(self) -> int:
        """Number of words that some annotator marked and that truncation cut off."""
        if not self.dropped:
            return 0
        kept = set(self.words)
        marked = zip(self.example.words, self.example.shares(), strict=True)
        return sum(bool(share > 0) and word not in kept for word, share in marked)
