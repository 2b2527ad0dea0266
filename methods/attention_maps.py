"""Maps of attention from word to word (methods spec 0.5)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from attrlab.bench.attending import Record, attending
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.types import Floats


class WordMap(NamedTuple):
    """How much every word attends to every other.

    Attributes:
        weights: (m, m) attention of the row's word to the column's, in [0, 1].
        special: (m,) share of each word's attention that goes to tokens of no word, in [0, 1].
    """

    weights: Floats
    special: Floats


def word_map(attention: npt.ArrayLike, encoded: Encoded, *, normalised: bool = True) -> WordMap:
    """Returns attention between words: summed over the tokens attended to, mean over the attending ones.

    Special tokens are no words: what they attend to is left out, and what they are paid is reported beside the map.
    By default it is shared out among the words in proportion, so that every row sums to 1 (a row whose words get
    nothing at all stays 0); ``weights * (1 - special)[:, None]`` takes that back.

    Args:
        attention: (H, n, n), of which the mean over heads is taken, or (n, n); query by key, rows with sum 1. It may be
            larger than the text for padding on the right.
        encoded: The text of n tokens; its units are the words.
        normalised: Share out what special tokens are paid; without it, the rows of ``weights`` sum to
            ``1 - special``.

    Raises:
        ValueError: If the attention is no square matrix per head, or smaller than the text.
    """
    matrix, n = np.asarray(attention, dtype=np.float64), len(encoded.ids)
    if matrix.ndim not in (2, 3) or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] < n:
        raise ValueError(f"attention of shape {matrix.shape}; allowed: (heads, {n}, {n}) or ({n}, {n}), or padded")
    matrix = matrix[..., :n, :n].reshape(-1, n, n).mean(0)
    member = (encoded.units == np.arange(encoded.n_units)[:, None]).astype(np.float64)
    rows = member @ matrix / member.sum(1, keepdims=True)
    weights, special = rows @ member.T, rows @ (encoded.units < 0)
    if normalised:
        total = weights.sum(1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return WordMap(weights, special)


@torch.no_grad()
def word_maps(model: TextModel, encoded: Encoded, *, normalised: bool = True) -> list[WordMap]:
    """Returns the map of every layer, mean over heads, first layer first; see :func:`word_map`. One forward pass."""
    record = Record()
    with attending(model, record):
        model.forward(model.collate([whole(encoded)]))
    return [word_map(layer[0].double().cpu().numpy(), encoded, normalised=normalised) for layer in record.layers]
