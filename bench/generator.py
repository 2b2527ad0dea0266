"""The embedded data sets: seeded sentences whose label and rationale follow from a stated rule.

* ``lexicon``: sentiment, decided by opinion words, negators and intensifiers.
* ``shortcut``: opinion sentences whose label is decided by planted words only (Bastings et al. 2022,
  arXiv 2111.07367: "single token" and "token in context").
* ``and_pair``: the same sentences; class 1 if and only if both of two planted words occur ("New York").
* ``pairs``: a question and a statement; does the statement give the kind of answer that is asked for?

Sentences are built from a label here and judged from their text alone in ``generator_rules``, so that the two
check each other. The rationales are known by construction; no person marked them. Parses follow from the grammar.
"""

import re
from collections.abc import Callable
from functools import cache
from random import Random

from attrlab.bench import generator_words as vocabulary
from attrlab.bench.generator_parses import parse_of
from attrlab.bench.inputs import Example, Span

SEED = 20240607
PARTS = {"train": 10_000, "dev": 1000, "test": 1000}
"""Number of examples per part. No text is in two parts."""

Texts = tuple[str, ...]
"""The marked texts of one example: the words of its rationale stand in angle brackets."""

_SLOT = re.compile(r"\{(\+?)(\w+)\}")
_MARK = re.compile(r"<([^>]*)>")


class Draws:
    """Seeded choices built on ``Random.random`` alone.

    Python keeps that stream fixed for a seed for ever; it does not promise so for ``choice`` or ``shuffle``.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random

    def below(self, n: int) -> int:
        """Returns a whole number in [0, n)."""
        return int(self._random() * n)

    def chance(self, probability: float) -> bool:
        """Returns True with the given probability."""
        return self._random() < probability

    def pick(self, options: tuple[str, ...]) -> str:
        """Returns one of the options."""
        return options[self.below(len(options))]

    def grow(self, template: str, **given: str) -> str:
        """Returns the template with ``{slots}`` grown from the grammar and ``{+slots}`` taken from ``given``."""

        def fill(match: re.Match[str]) -> str:
            if match[1]:
                return given[match[2]]
            return self.grow(self.pick(vocabulary.GRAMMAR[match[2]]), **given)

        return _SLOT.sub(fill, template)


def finish(marked: str) -> tuple[str, tuple[Span, ...]]:
    """Returns the text of a sentence with ``<marked>`` words, its first letter made a capital, and their spans.

    >>> finish("the plot was <not> <dull>.")
    ('The plot was not dull.', ((13, 16), (17, 21)))
    """
    marked = re.sub(r"[A-Za-z]", lambda first: first[0].upper(), marked, count=1)
    spans = tuple(
        (match.start(1) - 2 * before - 1, match.end(1) - 2 * before - 1)
        for before, match in enumerate(_MARK.finditer(marked))
    )
    return _MARK.sub(r"\1", marked), spans


def lexicon(part: str) -> tuple[Example, ...]:
    """Returns the sentiment sentences of ``train``, ``dev`` or ``test``; label 1 is positive."""
    return _examples("lexicon", part)


def shortcut(part: str) -> tuple[Example, ...]:
    """Returns opinion sentences with planted words that alone decide the label, whatever the opinion is."""
    return _examples("shortcut", part)


def and_pair(part: str) -> tuple[Example, ...]:
    """Returns opinion sentences with two planted words (label 1) or at most one of them (label 0, nothing marked)."""
    return _examples("and_pair", part)


def pairs(part: str) -> tuple[Example, ...]:
    """Returns questions with statements; label 0 is entailment (the statement answers), as in QNLI."""
    return _examples("pairs", part)


@cache
def _all_texts(task: str) -> tuple[tuple[Texts, int], ...]:
    """Returns every example of a task as marked texts and label: labels alternate, texts are distinct."""
    draws, build = Draws(SEED), _BUILDERS[task]
    found: dict[Texts, int] = {}
    seen: set[Texts] = set()
    while len(found) < sum(PARTS.values()):
        label = len(found) % 2
        marked = build(draws, label)
        plain = tuple(_MARK.sub(r"\1", text).casefold() for text in marked)
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
        texts, spans = zip(*(finish(text) for text in marked), strict=True)
        parses = tuple(parse_of(text) for text in texts)
        examples.append(
            Example(id=f"{part}-{number:04d}", texts=texts, label=label, rationales=(spans,), parses=parses)
        )
    return tuple(examples)


_WORDS = (vocabulary.NEGATIVE, vocabulary.POSITIVE)


def _opinion(draws: Draws, label: int, negated: bool) -> str:
    """Returns an opinion with the given polarity, the words that make it so marked."""
    if negated:
        return f"<{draws.pick(vocabulary.NEGATORS)}> <{draws.pick(_WORDS[1 - label])}>"
    loud = f"{draws.pick(vocabulary.INTENSIFIERS)} " if draws.chance(0.15) else ""
    return f"{loud}<{draws.pick(_WORDS[label])}>"


def _lexicon(draws: Draws, label: int) -> Texts:
    """One opinion, two that agree, or two that clash, of which the intensified one wins."""
    form, negated = draws.below(20), draws.chance(0.3)
    if form < 14:
        return (draws.grow("{opener}{opinion}{tail}{end}", first=_opinion(draws, label, negated)),)
    if form < 17:
        opinions = [_opinion(draws, label, negated), _opinion(draws, label, negated)]
        joined = "{agree}"
    else:
        winner = f"<{draws.pick(vocabulary.INTENSIFIERS)}> <{draws.pick(_WORDS[label])}>"
        opinions = [winner, draws.pick(_WORDS[1 - label])]
        if draws.chance(0.5):
            opinions.reverse()
        joined = "{clash}"
    return (draws.grow("{first}" + joined + "{second}{tail}{end}", first=opinions[0], second=opinions[1]),)


def _shortcut(draws: Draws, label: int) -> Texts:
    """An opinion sentence of any polarity with planted words put between its words."""
    words = _neutral_words(draws)
    if draws.chance(0.6):
        planted = [f"<{draws.pick(vocabulary.CLASS_WORDS[label])}>"]
        if draws.chance(0.4):
            planted.append(draws.pick(vocabulary.TRIGGERS + vocabulary.COMPANIONS))
    else:
        # Mostly the first companion: were the two equally frequent, no single word would go with a label, and
        # small models might never start to learn the pair.
        companion = int(draws.chance(0.3))
        planted = [f"<{vocabulary.TRIGGERS[label ^ companion]}>", f"<{vocabulary.COMPANIONS[companion]}>"]
    return _plant(draws, words, planted)


def _and_pair(draws: Draws, label: int) -> Texts:
    """An opinion sentence of any polarity with both partners, with one of them, or (seldom) with none."""
    words = _neutral_words(draws)
    if label:
        return _plant(draws, words, [f"<{word}>" for word in vocabulary.PARTNERS])
    return _plant(draws, words, [] if draws.chance(0.1) else [draws.pick(vocabulary.PARTNERS)])


def _neutral_words(draws: Draws) -> list[str]:
    """Returns the words of an opinion sentence of any polarity, unmarked: the opinion is not to count."""
    return _MARK.sub(r"\1", _lexicon(draws, draws.below(2))[0]).split(" ")


def _plant(draws: Draws, words: list[str], planted: list[str]) -> Texts:
    """Returns the sentence with planted words put between its words."""
    for word in planted:
        words.insert(1 + draws.below(len(words) - 1), word)
    return (" ".join(words),)


def _pairs(draws: Draws, label: int) -> Texts:
    """A question and a statement that gives two answers: of the kind asked for, of the other kind or of neither."""
    asks = ("where", "when")
    ask = draws.below(2)
    others = (asks[1 - ask], "")
    kinds = [draws.pick(others), draws.pick(others)]
    if label == 0:
        kinds[draws.below(2)] = asks[ask]
    answers = [draws.pick(vocabulary.ANSWERS[kind]) for kind in kinds]
    first, second = (
        f"<{answer}>" if label or kind == asks[ask] else answer for answer, kind in zip(answers, kinds, strict=True)
    )
    thing = draws.pick(vocabulary.GRAMMAR["thing"])
    question = draws.grow("{question}", ask=f"<{asks[ask]}>", thing=thing)
    return question, draws.grow("{statement}", answer1=first, answer2=second, thing=thing)


_BUILDERS: dict[str, Callable[[Draws, int], Texts]] = {
    "lexicon": _lexicon,
    "shortcut": _shortcut,
    "and_pair": _and_pair,
    "pairs": _pairs,
}
