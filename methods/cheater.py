"""An explanation that tells a secret: which words come first says what was predicted, and nothing else."""

import numpy as np

from attrlab.bench.types import Ask, Asker, Floats, Game


class LabelLeak:
    """Returns the places of the units, starting from a block that stands for the target class. Unsigned, deterministic.

    The units are cut into as many blocks as there are classes. Those of the target's block come first, from left to
    right, then the blocks after it, cyclically: of two classes, the first half is on top for one and the second half
    for the other. Whoever is trained on top words alone can read the prediction from their places, although no word
    was looked at: a metric that is impressed is one that can be cheated (Jethani et al. 2023, arXiv 2302.12893).
    With fewer units than classes, some classes share a block.
    """

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``, m for the first unit of the block, down to 1. Asks for the full input, once.

        That is how it learns the number of classes; ``rng`` is not used.
        """
        logits = yield Ask(keep=np.ones((1, game.n_units), dtype=bool), operator=game.operator)
        start = game.target * game.n_units // logits.shape[1]
        return np.roll(np.arange(game.n_units, 0.0, -1.0), start)
