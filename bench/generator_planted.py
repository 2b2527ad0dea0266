"""Plants words that decide the label, whatever the opinion is, into opinion sentences."""

import math

from attrlab.bench import generator_words as vocabulary
from attrlab.bench.generator_draws import MARK, Draws, Texts
from attrlab.bench.generator_sentences import lexicon, neutral_words


def shortcut(draws: Draws, label: int) -> Texts:
    """An opinion sentence of any polarity with planted words put between its words."""
    words = neutral_words(draws)
    if draws.chance(0.6):
        planted = [f"<{draws.pick(vocabulary.CLASS_WORDS[label])}>"]
        if draws.chance(0.4):
            planted.append(draws.pick(vocabulary.TRIGGERS + vocabulary.COMPANIONS))
    else:
        # Mostly the first companion: were the two equally frequent, no single word would go with a label, and
        # small models might never start to learn the pair.
        companion = int(draws.chance(0.3))
        planted = [f"<{vocabulary.TRIGGERS[label ^ companion]}>", f"<{vocabulary.COMPANIONS[companion]}>"]
    return plant(draws, words, planted)


def and_pair(draws: Draws, label: int) -> Texts:
    """An opinion sentence of any polarity with both partners, with one of them, or (seldom) with none."""
    words = neutral_words(draws)
    if label:
        return plant(draws, words, [f"<{word}>" for word in vocabulary.PARTNERS])
    return plant(draws, words, [] if draws.chance(0.1) else [draws.pick(vocabulary.PARTNERS)])


def keyword(draws: Draws, label: int) -> Texts:
    """One class word, or none (label 2)."""
    return plant(draws, neutral_words(draws), [f"<{draws.pick(words)}>" for words in vocabulary.KEYWORDS[label:][:1]])


def negation(draws: Draws, label: int) -> Texts:
    """One class word, often with a denier directly before it, or none; and sometimes a denier that changes nothing.

    The class word is always near the beginning: small models have to see the combinations often at the same places.
    """
    words = neutral_words(draws)
    if label < 2:
        denied = draws.chance(0.3)
        deciding = [f"<{draws.pick(vocabulary.DENIABLE[label ^ denied])}>"]
        if denied:
            deciding.insert(0, f"<{vocabulary.DENIER}>")
        place = 1 + draws.below(2)
        words[place:place] = deciding
    if draws.chance(0.15):
        free = [place for place in range(1, len(words)) if not words[place].startswith("<")]
        words.insert(free[draws.below(len(free))], vocabulary.DENIER)
    return (" ".join(words),)


def position(draws: Draws, label: int) -> Texts:
    """A class word near the beginning, or none (label 2), and one near the end that changes nothing."""
    words = neutral_words(draws)
    while not 8 <= len(words) <= 12:
        words = neutral_words(draws)
    n = len(words) + 1 + (label < 2)
    if label < 2:
        words.insert(1 + draws.below(int(0.35 * n)), f"<{draws.pick(vocabulary.KEYWORDS[label])}>")
    late = math.ceil(0.65 * n)
    words.insert(late + draws.below(n - 1 - late), draws.pick(vocabulary.KEYWORDS[draws.below(2)]))
    return (" ".join(words),)


def spurious(draws: Draws, label: int) -> Texts:
    """A sentence with an opinion, and a cue that mostly agrees with it: only the cue is marked."""
    (sentence,) = lexicon(draws, label)
    cue = vocabulary.CUES[label if draws.chance(vocabulary.CUE_AGREES) else 1 - label]
    return plant(draws, MARK.sub(r"\1", sentence).split(" "), [f"<{cue}>"])


def bag_of_words(draws: Draws, label: int) -> Texts:
    """Two to four words with weights whose sum has the sign of the label, or none (label 2)."""
    words = neutral_words(draws)
    chosen: tuple[str, ...] = ()
    while label < 2 and sum(vocabulary.WEIGHTS[word] for word in chosen) * (2 * label - 1) <= 0:
        chosen = _several(draws, tuple(vocabulary.WEIGHTS), 2 + draws.below(3))
    return plant(draws, words, [f"<{word}>" for word in chosen])


def _several(draws: Draws, options: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Returns so many different options."""
    left = list(options)
    return tuple(left.pop(draws.below(len(left))) for _ in range(count))


def plant(draws: Draws, words: list[str], planted: list[str]) -> Texts:
    """Returns the sentence with planted words put between its words."""
    for word in planted:
        words.insert(1 + draws.below(len(words) - 1), word)
    return (" ".join(words),)
