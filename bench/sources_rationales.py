"""From a row of a data set with rationales to its example."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from attrlab.bench.data_info import DatasetInfo
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example, Span, words
from attrlab.bench.sources import Row, label_index


def fair_rationales(info: DatasetInfo, part: str, row: Row) -> Example | None:
    """Returns a sentence with the rationales of those annotators who chose its original label.

    A rationale belongs to its annotator's label, so those given for another label or for "no sentiment" say
    nothing about this one. Where nobody chose the original label there are no rationales. The part ``sst_unseen`` is
    without the sentences of SST-2's training part.
    """
    values = row.values
    if part == "sst_unseen" and values["sst2_split"] == "train":
        return None
    agreeing = [given for given in values["annotations"] if given["label"] == values["original_label"]]
    text, spans = _join(values["tokens"])
    return Example(
        id=f"{info.stem(part)}-{values['text_id']}",
        texts=(text,),
        label=label_index(info, values["original_label"]),
        rationales=tuple((_marked(spans, given["rationale"]),) for given in agreeing) or None,
    )


def eraser_movies(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns a review; its rationale spans are half-open ranges of the words of the text (empty ones are dropped)."""
    text = row.values["text"]
    spans = _of_words(text, row.values["rationale_spans"])
    label = label_index(info, row.values["label"])
    return Example(id=row.values["id"], texts=(text,), label=label, rationales=((spans,),))


def hatexplain(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns a post with the rationale of every annotator who gave one."""
    text, spans = _join(row.values["tokens"])
    return Example(
        id=row.values["id"],
        texts=(text,),
        label=label_index(info, row.values["label"]),
        rationales=tuple((_marked(spans, marks),) for marks in row.values["rationales"]) or None,
    )


def tweet_sentiment_extraction(info: DatasetInfo, part: str, row: Row) -> Example | None:
    """Returns a tweet with its selected part; None if it belongs to the other part.

    There is one file. A tenth of it is ``test``, chosen by a hash of the letters and digits of the text, so that
    copies of a tweet stay together.
    """
    text = row.values["text"]
    key = "".join(char for char in text.lower() if char.isalnum())
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    if (int.from_bytes(digest, "big") % 10 == 0) != (part == "test"):
        return None
    span = (int(row.values["start"]), int(row.values["end"]))
    label = label_index(info, row.values["sentiment"])
    return Example(id=row.values["textID"], texts=(text,), label=label, rationales=(((span,),),))


def hummingbird(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns a text with graded marks: the share of annotators who felt its label in a word.

    A score below 0 is the share of those who felt the opposite. Words count for the label's own pole alone. A neutral
    text (0.5) has no label, so its scores justify none.
    """
    text, values = row.values["orig_text"], row.values
    scores = [float(score) for score in values["perception_scores"].split()]
    spans = _find(text, values["processed_text"].split())
    if len(scores) != len(spans):
        raise UserError(f"{len(scores)} perception scores for {len(spans)} words; give one per word")
    poles = {0.0: (1, "positive"), 0.5: (0, None), 1.0: (-1, "negative")}
    sign, pole = poles[float(values["human_label"])]
    marks = tuple((*span, sign * score) for span, score in zip(spans, scores, strict=True) if sign * score > 0)
    return Example(
        id=f"{part}-{row.number}",
        texts=(text,),
        label=None if pole is None else info.labels.index(pole),
        weights=None if pole is None else (marks,),
    )


def imdb_counterfactual(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns a review, or its edited version in the part ``revised``; marked are the words that were edited."""
    side = "revised" if part == "revised" else "original"
    text = row.values[f"{side}_text"]
    spans = _of_words(text, row.values[f"{side}_edited_spans"])
    label = label_index(info, row.values[f"{side}_label"])
    return Example(id=f"{part}-{row.values['pair_id']}", texts=(text,), label=label, rationales=((spans,),))


def eraser_multirc(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns question and answer beside the passage; the rationale is the passage's sentences that are needed."""
    values = row.values
    passage, spans = _join(values["sentences"])
    needed = tuple(spans[index] for index in values["evidence_sentences"])
    return Example(
        id=values["id"],
        texts=(f"{values['question']} {values['answer']}", passage),
        label=label_index(info, values["label"]),
        rationales=(((), needed),),
    )


def livenli(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns an item with the highlights of those annotators who gave its label and no other.

    The label is that of more than half of the item's MultiNLI annotators. Without one, no highlight justifies it.
    """
    values = row.values  # lists, one entry per annotator
    votes = values["mnli_labels"][0]
    name, count = Counter(votes).most_common(1)[0]
    known = 2 * count > len(votes)
    own = {"true": "entailment", "either": "neutral", "false": "contradiction"}
    highlights = zip(values["labels"], values["premise_spans"], values["hypothesis_spans"], strict=True)
    agreeing = [both for given, *both in highlights if known and [own[one] for one in given] == [name]]
    return Example(
        id=values["uid"][0],
        texts=(values["premise"][0], values["hypothesis"][0]),
        label=label_index(info, name) if known else None,
        rationales=tuple(tuple(_spans(spans) for spans in both) for both in agreeing) or None,
    )


def toxic_spans(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns a comment with its toxic spans, of which there may be none; it has no label."""
    spans = _spans(row.values["toxic_char_spans"])
    return Example(id=f"{part}-{row.number}", texts=(row.values["text"],), label=None, rationales=((spans,),))


def sst_trees(info: DatasetInfo, part: str, row: Row) -> Example:
    """Returns a sentence; marked are the words whose own label has the polarity of the sentence.

    Labels 0 and 1 are negative, 3 and 4 positive. A neutral sentence (2) has no label.
    """
    tree = row.values["text"]
    leaves = re.findall(r"\((\d) ([^()\s]+)\)", tree)
    if not re.match(r"\([0-4] ", tree) or not leaves:
        raise UserError(f"not a tree of labelled phrases: {tree[:40]!r}")
    text, spans = _join([word for _, word in leaves])
    poles = {"0": 0, "1": 0, "3": 1, "4": 1}
    label = poles.get(tree[1])
    marked = tuple(span for span, (own, _) in zip(spans, leaves, strict=True) if poles.get(own) == label)
    rationales = None if label is None else ((marked,),)
    return Example(id=f"{part}-{row.number}", texts=(text,), label=label, rationales=rationales)


def _join(tokens: Sequence[str]) -> tuple[str, list[Span]]:
    """Returns the tokens joined by blanks, and the span of each."""
    spans, start = [], 0
    for token in tokens:
        spans.append((start, start + len(token)))
        start += len(token) + 1
    return " ".join(tokens), spans


def _marked(spans: list[Span], marks: list[int]) -> tuple[Span, ...]:
    """Returns the spans of the tokens marked with 1."""
    if len(marks) != len(spans):
        raise UserError(f"a rationale has {len(marks)} marks for {len(spans)} tokens; give one per token")
    return tuple(span for span, mark in zip(spans, marks, strict=True) if mark)


def _spans(pairs: Sequence[Sequence[int]]) -> tuple[Span, ...]:
    return tuple((start, end) for start, end in pairs)


def _of_words(text: str, ranges: Sequence[Sequence[int]]) -> tuple[Span, ...]:
    """Returns half-open ranges of the words of a text as spans of its characters; empty ones are dropped."""
    places = words(text)
    for first, last in ranges:
        if not 0 <= first <= last <= len(places):
            raise UserError(f"rationale span [{first}, {last}) is outside the text of {len(places)} words")
    return tuple((places[first][0], places[last - 1][1]) for first, last in ranges if first < last)


def _find(text: str, tokens: Sequence[str]) -> list[Span]:
    """Returns the spans of the tokens in the text that they were made from: in lower case, less space and punctuation.

    Raises:
        UserError: If a token is not the next thing in the text but punctuation.
    """
    spans, place = [], 0
    for token in tokens:
        found = re.compile(r'[\s.,;"!?]*'.join(map(re.escape, token)), re.IGNORECASE).search(text, place)
        if not found or any(char.isalnum() for char in text[place : found.start()]):
            raise UserError(f"word {token!r} is not the next one in the text after {text[:place][-20:]!r}")
        spans.append(found.span())
        place = found.end()
    return spans
