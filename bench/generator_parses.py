"""The dependency parses of the embedded sentences, in Universal Dependencies.

The grammar is small and unambiguous, so a cascade of reductions parses it. Every word has a class; a rule takes two
neighbours, makes one of them depend on the other and leaves the head. Applied in their order, each as often as it
fits, the rules reduce every sentence to its root. Like ``generator_rules`` they read nothing but the text.

Planted words belong to no construction: they hang on the word before them (``dep``). Punctuation is no word.
"""

import re
from functools import cache
from typing import NamedTuple

from attrlab.bench import generator_words as vocabulary
from attrlab.bench.parses import ROOT, Node, Parse

_WORD = re.compile(r"[\w'-]+|;")
_GRAMMAR = vocabulary.GRAMMAR

_CLASSES: dict[str, tuple[str, ...]] = {
    "planted": (
        *(*sum(vocabulary.KEYWORDS, ()), vocabulary.DENIER, *vocabulary.CUES),
        *(*vocabulary.TRIGGERS, *vocabulary.COMPANIONS, *vocabulary.PARTNERS),
    ),
    "adjective": (
        *(*vocabulary.POSITIVE, *vocabulary.NEGATIVE, *_GRAMMAR["plain"]),
        *("little", "much", "old", "heavy", "red", "nineteenth-century", "bitter", "happy"),
    ),
    "adverb": (*vocabulary.NEGATORS, *vocabulary.INTENSIFIERS, "rather"),
    "longer": ("longer",),
    "no": ("no",),
    "noun": (
        *(*_GRAMMAR["aspect"], *_GRAMMAR["work"], *_GRAMMAR["place"], *_GRAMMAR["thing"], *_GRAMMAR["paper"]),
        *("hour", "time", "hall", "tram", "brother", "crew", "council", "archive", "copy", "price", "joy", "ruins"),
    ),
    "pronoun": (*_GRAMMAR["name"], "everyone", "nobody", "we", "it"),
    "title": ("war", "sunshine", "love", "fear"),
    "compound": ("sorrow",),
    "club": ("club",),
    "answer": sum(vocabulary.ANSWERS.values(), ()),
    "moment": ("yesterday", "tuesday", "march", "dinner", "holidays"),
    "last": ("last",),
    "week": ("week", "year"),
    "determiner": ("the", "an", "a", "some", "that"),
    "my": ("my",),
    "preposition": ("of", "by", "about", "in", "on", "after", "before", "from"),
    "be": ("was", "is"),
    "seem": ("felt", "seemed", "remained"),
    "find": _GRAMMAR["said"],
    "verb": ("fills", "takes", "comes", "sat", "took", "saw", "kept", *_GRAMMAR["states"]),
    "after verb": ("upstairs", "twice", "again"),
    "said": ("said",),
    "well": ("well",),
    "ask": ("where", "when"),
    "done": _GRAMMAR["done"],
    "and": ("and",),
    "but": ("but",),
    ";": (";",),
}
"""The words of each class, any case."""

_CLASS_OF = {word.lower(): name for name, words in _CLASSES.items() for word in words}


class _Rule(NamedTuple):
    """Two neighbours, in the order of the text, of which one depends on the other; the head may change its class."""

    left: str
    right: str
    relation: str
    head: str
    becomes: str


def _rule(text: str) -> _Rule:
    """Reads ``left < right: relation`` (left is the head) or ``left > right`` (right is), and ``= class`` of the head.

    Words of a class of two are written ``after_verb``.
    """
    pair, _, rest = text.partition(": ")
    relation, _, becomes = rest.partition(" = ")
    left, arrow, right = (part.replace("_", " ") for part in pair.split())
    head = "left" if arrow == "<" else "right"
    return _Rule(left, right, relation, head, becomes or (left if head == "left" else right))


_RULES = tuple(
    _rule(line.strip())
    for line in """
    no > longer: advmod = adverb
    adverb > adjective: advmod
    last > week: amod = moment
    determiner > week: det = moment
    and > title: cc
    title < title: conj = noun
    compound > club: compound = noun
    adjective > noun: amod
    determiner > noun: det
    no > noun: det
    determiner > moment: det
    my > noun: nmod:poss
    preposition > noun: case = phrase
    preposition > pronoun: case = phrase
    preposition > moment: case
    noun < phrase: nmod
    adverb > noun: advmod = denied
    but > denied: cc = contrast
    and > answer: cc
    answer < answer: conj
    answer < contrast: conj
    noun > done: nsubj:pass
    be > done: aux:pass
    ask > done: advmod
    done < after_verb: advmod
    done < moment: obl:tmod
    done < phrase: obl:agent
    be > adjective: cop = clause
    seem < adjective: xcomp = clause
    find < noun: obj
    find < pronoun: obj
    find < adjective: xcomp = clause
    verb < noun: obj
    verb < pronoun: obj
    verb < answer: obj
    verb < phrase: obl
    verb < after_verb: advmod
    said < pronoun: nsubj = aside
    noun > clause: nsubj
    pronoun > clause: nsubj
    noun > verb: nsubj = clause
    pronoun > verb: nsubj = clause
    clause < moment: obl:tmod
    moment > clause: obl:tmod
    phrase > clause: obl
    well > clause: discourse
    and > clause: cc
    but > clause: cc
    ; > clause: punct = addition
    clause < clause: conj
    clause < addition: parataxis
    clause < aside: parataxis
    """.strip().splitlines()
)


def parse_of(text: str) -> Parse:
    """Returns the parse of a sentence of any of the embedded data sets.

    Raises:
        ValueError: If the grammar does not hold the sentence.

    >>> [(node.head, node.relation) for node in parse_of("The plot was not dull.").nodes]
    [(1, 'det'), (4, 'nsubj'), (4, 'cop'), (4, 'advmod'), (-1, 'root')]
    """
    found = [(match.span(), _CLASS_OF.get(match[0].lower(), "unknown")) for match in _WORD.finditer(text)]
    kept = [place for place, (_, name) in enumerate(found) if name != "planted"]
    arcs = _reduced(tuple(found[place][1] for place in kept))
    if arcs is None:
        raise ValueError(f"no sentence of the grammar: {text!r}")
    arc_of = dict(zip(kept, arcs, strict=True))
    words = [place for place, (_, name) in enumerate(found) if name != ";"]
    number_of = {place: number for number, place in enumerate(words)}
    nodes = []
    for number, place in enumerate(words):
        if place not in arc_of:
            head, relation = number - 1, "dep"
        else:
            above, relation = arc_of[place]
            head = ROOT if above == ROOT else number_of[kept[above]]
        nodes.append(Node(*found[place][0], head, relation))
    return Parse(tuple(nodes))


class _Arc(NamedTuple):
    """The word that a word depends on, and how."""

    head: int
    relation: str


@cache
def _reduced(classes: tuple[str, ...]) -> tuple[_Arc, ...] | None:
    """Returns the arc of every word by its class; None if the rules do not reduce them to one clause."""
    arcs = [_Arc(ROOT, "root")] * len(classes)
    left = list(enumerate(classes))
    for rule in _RULES:
        place = 0
        while place + 1 < len(left):
            (first, one), (second, two) = left[place : place + 2]
            if (one, two) != (rule.left, rule.right):
                place += 1
                continue
            head, dependent = (first, second) if rule.head == "left" else (second, first)
            arcs[dependent] = _Arc(head, rule.relation)
            left[place : place + 2] = [(head, rule.becomes)]
            place = max(0, place - 1)
    return tuple(arcs) if [name for _, name in left] in (["clause"], ["done"]) else None
