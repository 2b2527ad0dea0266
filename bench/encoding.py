"""From text to tokens and units: the same words for every tokenizer (methods spec 0.5)."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from attrlab.bench.inputs import Encoded, Example, Word, words

Unit = Literal["word", "token"]


def encode(tokenizer: Any, example: Example, unit: Unit, max_length: int) -> Encoded:
    """Returns the example as tokens, each assigned to its unit; truncated to ``max_length`` tokens.

    Args:
        tokenizer: A fast tokenizer of transformers.
        example: The example; an empty text gives no units.
        unit: ``word`` for canonical words, ``token`` for one unit per token that belongs to a word.
        max_length: Longest input in tokens, special tokens included.
    """
    coded = tokenizer(*example.texts, truncation=True, max_length=max_length, return_offsets_mapping=True)
    ids = np.array(coded["input_ids"], dtype=np.int64)
    texts = coded.sequence_ids()
    per_text = [words(text) for text in example.texts]
    first = np.cumsum([0, *(len(spans) for spans in per_text)])
    canonical = [Word(text, *span) for text, spans in enumerate(per_text) for span in spans]
    owner = np.array(
        [
            -1
            if text is None or not per_text[text]
            else first[text] + _word_at(example.texts[text], span, per_text[text])
            for text, span in zip(texts, coded["offset_mapping"], strict=True)
        ],
        dtype=np.int64,
    )
    present = np.unique(owner[owner >= 0])
    if unit == "word":
        units, of_unit = np.where(owner >= 0, np.searchsorted(present, owner), -1), present
    else:
        units, of_unit = np.where(owner >= 0, np.cumsum(owner >= 0) - 1, -1), owner[owner >= 0]
    return Encoded(
        example=example,
        ids=ids,
        segments=np.array(coded.get("token_type_ids", np.zeros(len(ids))), dtype=np.int64),
        special=np.array([text is None for text in texts], dtype=bool),
        units=units.astype(np.int64),
        words=tuple(canonical[index] for index in of_unit),
        dropped=len(canonical) - len(present),
    )


def _word_at(text: str, span: tuple[int, int], spans: Sequence[tuple[int, int]]) -> int:
    """Index of the word of a token's first non-space character; white space goes to the next word (or the last)."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    return min(bisect_right([stop for _, stop in spans], start), len(spans) - 1)
