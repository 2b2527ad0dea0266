"""Builds opinion sentences, and questions with statements, from a label."""

from attrlab.bench import generator_words as vocabulary
from attrlab.bench.generator_draws import MARK, Draws, Texts

_WORDS = (vocabulary.NEGATIVE, vocabulary.POSITIVE)


def opinion(draws: Draws, label: int, negated: bool) -> str:
    """Returns an opinion with the given polarity, the words that make it so marked."""
    if negated:
        return f"<{draws.pick(vocabulary.NEGATORS)}> <{draws.pick(_WORDS[1 - label])}>"
    loud = f"{draws.pick(vocabulary.INTENSIFIERS)} " if draws.chance(0.15) else ""
    return f"{loud}<{draws.pick(_WORDS[label])}>"


def lexicon(draws: Draws, label: int) -> Texts:
    """One opinion, two that agree, or two that clash, of which the intensified one wins."""
    form, negated = draws.below(20), draws.chance(0.3)
    if form < 14:
        return (draws.grow("{opener}{opinion}{tail}{end}", first=opinion(draws, label, negated)),)
    if form < 17:
        opinions = [opinion(draws, label, negated), opinion(draws, label, negated)]
        joined = "{agree}"
    else:
        winner = f"<{draws.pick(vocabulary.INTENSIFIERS)}> <{draws.pick(_WORDS[label])}>"
        opinions = [winner, draws.pick(_WORDS[1 - label])]
        if draws.chance(0.5):
            opinions.reverse()
        joined = "{clash}"
    return (draws.grow("{first}" + joined + "{second}{tail}{end}", first=opinions[0], second=opinions[1]),)


def neutral_words(draws: Draws) -> list[str]:
    """Returns the words of an opinion sentence of any polarity, unmarked: the opinion is not to count."""
    return MARK.sub(r"\1", lexicon(draws, draws.below(2))[0]).split(" ")


def pairs(draws: Draws, label: int) -> Texts:
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
