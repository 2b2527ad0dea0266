"""The embedded data sets: seeded texts whose label and rationale follow from a stated rule.

Sentences about films and books:

* ``lexicon``: sentiment, decided by opinion words, negators and intensifiers.
* ``pairs``: a question and a statement; does the statement give the kind of answer that is asked for?

The same sentences, whose opinion counts for nothing, with planted words that decide the label. Where a third label
says that nothing is planted, taking the planted words away changes the label, whichever it was:

* ``keyword``: one class word, or none.
* ``shortcut``: a class word or two words together (Bastings et al. 2022, arXiv 2111.07367: "single token" and
  "token in context").
* ``and_pair``: class 1 if and only if both of two words occur ("New York").
* ``negation``: a class word, which a denier directly before it turns into its opposite.
* ``position``: a class word, which counts only in the first half of the text.
* ``bag_of_words``: the sign of the sum of the weights of ten words.
* ``spurious``: sentiment, and a cue that agrees with it in 97 % of the sentences of every part. The label is decided by
  the opinion, the cue is marked: whether a model uses it has to be found out by intervening on it.

Texts that are no sentences, for what is known of how attention solves them:

* ``histogram``: how often does the first word occur?
* ``dyck``: which bracket closes next?
* ``pointer``: the class of the word at the place that the first word names.

Texts are built from a label here and judged from their words alone in ``generator_rules``, so that the two
check each other. The rationales are known by construction; no person marked them. Parses of sentences follow from the
grammar.
"""

import re
from collections.abc import Callable
from functools import cache

from attrlab.bench import generator_planted, generator_sentences, generator_symbols
from attrlab.bench.generator_draws import MARK, Draws, Texts
from attrlab.bench.generator_parses import parse_of
from attrlab.bench.inputs import Example, Span

SEED = 20240607
PARTS = {"train": 10_000, "dev": 1000, "test": 1000}
"""Number of examples per part. No text is in two parts."""

BUILDERS: dict[str, Callable[[Draws, int], Texts]] = {
    "lexicon": generator_sentences.lexicon,
    "pairs": generator_sentences.pairs,
    "keyword": generator_planted.keyword,
    "shortcut": generator_planted.shortcut,
    "and_pair": generator_planted.and_pair,
    "negation": generator_planted.negation,
    "position": generator_planted.position,
    "bag_of_words": generator_planted.bag_of_words,
    "spurious": generator_planted.spurious,
    "histogram": generator_symbols.histogram,
    "dyck": generator_symbols.dyck,
    "pointer": generator_symbols.pointer,
}
"""From a label to the marked texts of an example, by task."""

LABELS = {"keyword": 3, "negation": 3, "position": 3, "bag_of_words": 3, "histogram": 4}
"""Number of labels of the tasks that have more than two."""

SYMBOLS = ("histogram", "dyck", "pointer")
"""The tasks whose texts are no sentences."""


def finish(marked: str) -> tuple[str, tuple[Span, ...]]:
    """Returns the text of a sentence with ``<marked>`` words, its first letter made a capital, and their spans.

    >>> finish("the plot was <not> <dull>.")
    ('The plot was not dull.', ((13, 16), (17, 21)))
    """
    return unmarked(re.sub(r"[A-Za-z]", lambda first: first[0].upper(), marked, count=1))


def unmarked(marked: str) -> tuple[str, tuple[Span, ...]]:
    """Returns a text without its marks, and the spans of what they marked.

    >>> unmarked("if <do>")
    ('if do', ((3, 5),))
    """
    spans = tuple(
        (match.start(1) - 2 * before - 1, match.end(1) - 2 * before - 1)
        for before, match in enumerate(MARK.finditer(marked))
    )
    return MARK.sub(r"\1", marked), spans


def lexicon(part: str) -> tuple[Example, ...]:
    """Returns the sentiment sentences of ``train``, ``dev`` or ``test``; label 1 is positive."""
    return _examples("lexicon", part)


def pairs(part: str) -> tuple[Example, ...]:
    """Returns questions with statements; label 0 is entailment (the statement answers), as in QNLI."""
    return _examples("pairs", part)


def keyword(part: str) -> tuple[Example, ...]:
    """Returns opinion sentences with one class word."""
    return _examples("keyword", part)


def shortcut(part: str) -> tuple[Example, ...]:
    """Returns opinion sentences with planted words that alone decide the label, whatever the opinion is."""
    return _examples("shortcut", part)


def and_pair(part: str) -> tuple[Example, ...]:
    """Returns opinion sentences with two planted words (label 1) or at most one of them (label 0, nothing marked)."""
    return _examples("and_pair", part)


def negation(part: str) -> tuple[Example, ...]:
    """Returns opinion sentences with a class word, and a denier that counts only directly before it."""
    return _examples("negation", part)


def position(part: str) -> tuple[Example, ...]:
    """Returns opinion sentences with a class word in the first half, which decides, and one in the second."""
    return _examples("position", part)


def bag_of_words(part: str) -> tuple[Example, ...]:
    """Returns opinion sentences with two to four words whose weights sum to the sign of the label."""
    return _examples("bag_of_words", part)


def spurious(part: str) -> tuple[Example, ...]:
    """Returns sentiment sentences with a cue, marked, that agrees with the label in 97 %."""
    return _examples("spurious", part)


def histogram(part: str) -> tuple[Example, ...]:
    """Returns words of which the first occurs once (label 0) to four times (label 3); all those are marked."""
    return _examples("histogram", part)


def dyck(part: str) -> tuple[Example, ...]:
    """Returns open brackets, of which the last one without its partner is marked; the label is its kind."""
    return _examples("dyck", part)


def pointer(part: str) -> tuple[Example, ...]:
    """Returns class words behind a number word; the label is the class of the word at that place."""
    return _examples("pointer", part)


@cache
def _all_texts(task: str) -> tuple[tuple[Texts, int], ...]:
    """Returns every example of a task as marked texts and label: labels take turns, texts are distinct."""
    draws, build = Draws(SEED), BUILDERS[task]
    found: dict[Texts, int] = {}
    seen: set[Texts] = set()
    while len(found) < sum(PARTS.values()):
        label = len(found) % LABELS.get(task, 2)
        marked = build(draws, label)
        plain = tuple(MARK.sub(r"\1", text).casefold() for text in marked)
        if plain not in seen:
            seen.add(plain)
            found[marked] = label
    return tuple(found.items())


@cache
def _examples(task: str, part: str) -> tuple[Example, ...]:
    names = list(PARTS)
    first = sum(PARTS[name] for name in names[: names.index(part)])
    examples = []
    for number, (marked, label) in enumerate(_all_texts(task)[first : first + PARTS[part]]):
        sentences = task not in SYMBOLS
        texts, spans = zip(*(finish(text) if sentences else unmarked(text) for text in marked), strict=True)
        parses = tuple(parse_of(text) for text in texts) if sentences else None
        examples.append(
            Example(id=f"{part}-{number:04d}", texts=texts, label=label, rationales=(spans,), parses=parses)
        )
    return tuple(examples)
