"""The rules of the embedded data sets: from the words of a text to its label and the words that decide it.

They read nothing but the text and know nothing of how it was built.
"""

from collections.abc import Callable

from attrlab.bench import generator_words as vocabulary
from attrlab.bench.inputs import Span, TextSpans, words

_PUNCTUATION = "\"'.,;:!?"
_CLASS = {word: label for label, words_ in enumerate(vocabulary.KEYWORDS) for word in words_}
_POLARITY = dict.fromkeys(vocabulary.NEGATIVE, 0) | dict.fromkeys(vocabulary.POSITIVE, 1)


def label_of(task: str, texts: tuple[str, ...]) -> tuple[int, TextSpans]:
    """Returns the label of an example and the spans of the words that decide it, per text.

    Args:
        task: One of the tasks of ``generator.BUILDERS``.
        texts: One text, or question and statement for ``pairs``.

    Raises:
        ValueError: If the rule decides nothing about these texts.

    >>> label_of("lexicon", ("The plot was dull but the score felt utterly superb.",))
    (1, (((37, 44), (45, 51)),))
    """
    read = [_tokens(text) for text in texts]
    label, chosen = _RULES[task](*([word for word, _ in text] for text in read))
    spans = tuple(tuple(text[i][1] for i in sorted(which)) for text, which in zip(read, chosen, strict=True))
    return label, spans


def _tokens(text: str) -> list[tuple[str, Span]]:
    """Returns the words in lower case without the punctuation around them, each with its span."""
    found = []
    for start, end in words(text):
        word = text[start:end]
        core = word.strip(_PUNCTUATION)
        first = start + len(word) - len(word.lstrip(_PUNCTUATION))
        found.append((core.lower(), (first, first + len(core))))
    return found


def _lexicon(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """Opinions decide; a negator directly before one flips it; where two clash, the intensified one wins."""
    before = ["", *text]
    opinions = {i: _POLARITY[w] ^ (before[i] in vocabulary.NEGATORS) for i, w in enumerate(text) if w in _POLARITY}
    helpers = vocabulary.NEGATORS
    if len(set(opinions.values())) > 1:
        helpers = vocabulary.INTENSIFIERS
        opinions = {i: label for i, label in opinions.items() if before[i] in helpers}
    if len(set(opinions.values())) != 1:
        raise ValueError(f"no opinion prevails in {' '.join(text)!r}")
    chosen = set(opinions) | {i - 1 for i in opinions if before[i] in helpers}
    return next(iter(opinions.values())), (chosen,)


def _shortcut(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """A class word decides; without one, a trigger and a companion decide together. Opinions count for nothing."""
    for i, word in enumerate(text):
        for label, class_words in enumerate(vocabulary.CLASS_WORDS):
            if word in class_words:
                return label, ({i},)
    where = {word: i for i, word in enumerate(text)}
    for row, trigger in enumerate(vocabulary.TRIGGERS):
        for column, companion in enumerate(vocabulary.COMPANIONS):
            if trigger in where and companion in where:
                return row ^ column, ({where[trigger], where[companion]},)
    raise ValueError(f"nothing is planted in {' '.join(text)!r}")


def _and_pair(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """Both partners together decide for class 1; nothing decides for class 0, it is what is left."""
    where = {i for i, word in enumerate(text) if word in vocabulary.PARTNERS}
    both = {text[i] for i in where} == set(vocabulary.PARTNERS)
    return int(both), (where if both else set(),)


def _pairs(question: list[str], statement: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """Entailment (0) if the statement gives an answer of the kind that the first word of the question asks for.

    An answer of that kind decides; without one, all the answers do, for each is of another kind.
    """
    kinds = {word.lower(): kind for kind, answers in vocabulary.ANSWERS.items() for word in answers}
    given = {i: kinds[word] for i, word in enumerate(statement) if word in kinds}
    asked = {i for i, kind in given.items() if kind == question[0]}
    if not given or question[0] not in vocabulary.ANSWERS:
        raise ValueError(f"nothing to answer in {' '.join(question)!r}, {' '.join(statement)!r}")
    return (0 if asked else 1), ({0}, asked or set(given))


def _keyword(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """The class words decide."""
    return _agreed({i: _CLASS[word] for i, word in enumerate(text) if word in _CLASS}, text)


def _negation(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """A class word decides; a denier directly before it turns it into its opposite."""
    before = ["", *text]
    found = {i: _CLASS[word] for i, word in enumerate(text) if word in _CLASS}
    denied = {i for i in found if before[i] == vocabulary.DENIER}
    label, (chosen,) = _agreed({i: one ^ (i in denied) for i, one in found.items()}, text)
    return label, (chosen | {i - 1 for i in denied},)


def _position(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """The class words of the first half decide; with an odd number of words the middle one belongs to it."""
    return _agreed({i: _CLASS[word] for i, word in enumerate(text) if word in _CLASS and 2 * i < len(text)}, text)


def _agreed(found: dict[int, int], text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """Returns the class that all the places found stand for; 2 where there is none."""
    if len(set(found.values())) > 1:
        raise ValueError(f"two classes are planted in {' '.join(text)!r}")
    return next(iter(found.values()), 2), (set(found),)


def _bag_of_words(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """The sign of the sum of the weights decides; 2 where no word has a weight."""
    present = {i: vocabulary.WEIGHTS[word] for i, word in enumerate(text) if word in vocabulary.WEIGHTS}
    total = sum(present.values())
    if present and total == 0:
        raise ValueError(f"the planted weights of {' '.join(text)!r} sum to 0")
    return int(total > 0) if present else 2, (set(present),)


def _spurious(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """The opinion of the sentence without its cue decides; the cue is marked: a model may follow it instead."""
    cues = {i for i, word in enumerate(text) if word in vocabulary.CUES}
    return _lexicon([word for i, word in enumerate(text) if i not in cues])[0], (cues,)


def _histogram(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """The number of occurrences of the first word, less one."""
    chosen = {i for i, word in enumerate(text) if word == text[0]}
    return len(chosen) - 1, (chosen,)


def _dyck(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """The kind of the last open bracket that is not closed yet."""
    opening, closing = zip(*vocabulary.BRACKETS, strict=True)
    still_open: list[int] = []
    for i, word in enumerate(text):
        if word in opening:
            still_open.append(i)
        elif not still_open or closing[opening.index(text[still_open.pop()])] != word:
            raise ValueError(f"the brackets of {' '.join(text)!r} do not match")
    if not still_open:
        raise ValueError(f"no bracket of {' '.join(text)!r} is open")
    return opening.index(text[still_open[-1]]), ({still_open[-1]},)


def _pointer(text: list[str]) -> tuple[int, tuple[set[int], ...]]:
    """The class of the word at the place that the first word names, itself being the first."""
    place = vocabulary.PLACES.index(text[0]) + 1 if text[0] in vocabulary.PLACES else len(text)
    if place >= len(text) or text[place] not in _CLASS:
        raise ValueError(f"the first word of {' '.join(text)!r} points to no class word")
    return _CLASS[text[place]], ({0, place},)


_RULES: dict[str, Callable[..., tuple[int, tuple[set[int], ...]]]] = {
    "lexicon": _lexicon,
    "pairs": _pairs,
    "keyword": _keyword,
    "shortcut": _shortcut,
    "and_pair": _and_pair,
    "negation": _negation,
    "position": _position,
    "bag_of_words": _bag_of_words,
    "spurious": _spurious,
    "histogram": _histogram,
    "dyck": _dyck,
    "pointer": _pointer,
}
