"""What the engine may leave out of forward passes: answers are the same but for rounding."""

from typing import NamedTuple


class Shortcuts(NamedTuple):
    """Which shortcuts are taken.

    Attributes:
        prefix: Of a causal model's inputs that begin alike, compute what they share once; see
            :mod:`attrlab.bench.prefix`.
        last_block: Compute the last block only where the model's head reads; see :mod:`attrlab.bench.pooled`.
    """

    prefix: bool = False
    last_block: bool = True
