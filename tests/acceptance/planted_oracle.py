"""Two methods to judge metrics by: one that is given the planted words, and one that knows nothing. Signed, both.

attrlab run truth --dataset keyword --method tests/acceptance/planted_oracle.py:Oracle:dataset=keyword
"""

from functools import cache

import numpy as np

from attrlab.bench import data
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.inputs import words
from attrlab.bench.types import Asker, Bools, Floats, Game


class Oracle:
    """Scores the planted words 1 and all others 0, looked up by what the text reads.

    Args:
        dataset: The data set (its evaluation part, or ``NAME:PART``) that the texts come from.
    """

    def __init__(self, *, dataset: str = "shortcut") -> None:
        self.dataset = dataset

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns the marks of the rationale, ``(m,)``.

        Raises:
            NotApplicableError: If the text is not in the data set, or was cut.
        """
        yield from ()
        known = marks(self.dataset)
        if game.words not in known:
            raise NotApplicableError(f"no text of {self.dataset} reads so")
        return known[game.words].astype(np.float64)


class Noise:
    """Scores each word by a draw of its own, N(0, 1)."""

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns the draws, ``(m,)``."""
        yield from ()
        return rng.normal(size=game.n_units)


@cache
def marks(dataset: str) -> dict[tuple[str, ...], Bools]:
    """Returns which words of each text are planted, by the words of the text."""
    found = {}
    for example in data.load(dataset).examples:
        spans = [(text, start, end) for text, value in enumerate(example.texts) for start, end in words(value)]
        planted = (example.rationales or ((),))[0]
        readings = tuple(example.texts[text][start:end] for text, start, end in spans)
        found[readings] = np.array(
            [any(start < stop and begin < end for begin, stop in planted[text]) for text, start, end in spans]
        )
    return found
