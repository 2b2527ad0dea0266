"""Seeded choices, and the marks that builders of embedded data put around the words of a rationale."""

import re
from random import Random

from attrlab.bench import generator_words as vocabulary

Texts = tuple[str, ...]
"""The marked texts of one example: the words of its rationale stand in angle brackets."""

MARK = re.compile(r"<([^>]*)>")

_SLOT = re.compile(r"\{(\+?)(\w+)\}")


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
