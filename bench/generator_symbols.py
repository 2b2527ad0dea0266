"""Builds texts that are no sentences: words to be counted, brackets, and a word that points to another one."""

from attrlab.bench import generator_words as vocabulary
from attrlab.bench.generator_draws import Draws, Texts


def histogram(draws: Draws, label: int) -> Texts:
    """Words of which the first one occurs ``label + 1`` times; its occurrences decide."""
    first = draws.pick(vocabulary.COUNTED)
    others = tuple(word for word in vocabulary.COUNTED if word != first)
    words = [draws.pick(others) for _ in range(4 + draws.below(5))]
    for _ in range(label):
        words.insert(draws.below(len(words) + 1), f"<{first}>")
    return (" ".join([f"<{first}>", *words]),)


def dyck(draws: Draws, label: int) -> Texts:
    """The beginning of a balanced text of two kinds of brackets; the last open one decides which closes next.

    Three in four end with a closing bracket, so that the one that decides has to be looked for.
    """
    while True:
        words, still_open = _brackets(draws)
        if not still_open or words[still_open[-1]] != vocabulary.BRACKETS[label][0]:
            continue
        if words[-1] in (closing for _, closing in vocabulary.BRACKETS) or draws.chance(0.25):
            words[still_open[-1]] = f"<{words[still_open[-1]]}>"
            return (" ".join(words),)


def _brackets(draws: Draws) -> tuple[list[str], list[int]]:
    """Returns brackets, nested up to ``DEPTH`` deep, and the places of those that are still open."""
    words: list[str] = []
    still_open: list[int] = []
    for place in range(4 + draws.below(9)):
        if not still_open or (len(still_open) < vocabulary.DEPTH and draws.chance(0.5)):
            still_open.append(place)
            words.append(vocabulary.BRACKETS[draws.below(2)][0])
        else:
            words.append(dict(vocabulary.BRACKETS)[words[still_open.pop()]])
    return words, still_open


def pointer(draws: Draws, label: int) -> Texts:
    """A number word, and class words: the one at that place decides."""
    words = [draws.pick(vocabulary.KEYWORDS[draws.below(2)]) for _ in range(4 + draws.below(5))]
    place = draws.below(len(words))
    words[place] = f"<{draws.pick(vocabulary.KEYWORDS[label])}>"
    return (" ".join([f"<{vocabulary.PLACES[place]}>", *words]),)
