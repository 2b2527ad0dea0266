"""Examples, and examples as a tokenizer sees them. NumPy only."""

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attrlab.bench.errors import UserError
from attrlab.bench.parses import Parse, check_parses

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

Span = tuple[int, int]
"""Half-open character range ``[start, end)`` of one text."""

TextSpans = tuple[tuple[Span, ...], ...]
"""Spans of one annotator: one tuple of spans per text of the example."""


def words(text: str) -> tuple[Span, ...]:
    r"""Returns the spans of the maximal runs of non-white-space characters (methods spec 0.5).

    >>> words("not  good")
    ((0, 3), (5, 9))
    """
    return tuple(match.span() for match in re.finditer(r"\S+", text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One input of a data set.

    Attributes:
        id: Unique and stable inside its data set part.
        texts: One text, or two for a pair task. An empty text is allowed (it is skipped with a reason).
        label: Index into the data set's label names, or None where the source has none.
        rationales: Per annotator, per text, the character spans that justify ``label``; None where nobody
            annotated. An annotator who marked nothing is an annotator with empty tuples.
        parses: Per text its dependency parse, or None; None where no text has one.

    Raises:
        UserError: If a rationale span lies outside its text, or there are not one or two texts.
    """

    id: str
    texts: tuple[str, ...]
    label: int | None
    rationales: tuple[TextSpans, ...] | None = None
    parses: tuple[Parse | None, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.texts) not in (1, 2):
            raise UserError(f"example {self.id!r}: {len(self.texts)} texts; one or two are allowed")
        for per_text in self.rationales or ():
            if len(per_text) != len(self.texts):
                raise UserError(f"example {self.id!r}: a rationale marks {len(per_text)} texts of {len(self.texts)}")
            for text, spans in zip(self.texts, per_text, strict=True):
                self._check_spans(text, spans)
        check_parses(self.texts, self.parses)

    def _check_spans(self, text: str, spans: tuple[Span, ...]) -> None:
        for start, end in spans:
            if not 0 <= start < end <= len(text):
                raise UserError(
                    f"example {self.id!r}: rationale span [{start}, {end}) is outside the text "
                    f"of {len(text)} characters; give 0 <= start < end <= {len(text)}"
                )


class Word(NamedTuple):
    """A canonical word: which text of the example it is in, and its span there."""

    text: int
    start: int
    end: int


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
        """Returns which units a rationale covers, ``(n_units,)``.

        A word is covered if the rationale overlaps it in a character but space and punctuation (metrics spec 4.1).
        """
        covered = [
            any(
                char.isalnum()
                for start, end in spans[word.text]
                for char in self.example.texts[word.text][max(start, word.start) : min(end, word.end)]
            )
            for word in self.words
        ]
        return np.array(covered, dtype=bool)
