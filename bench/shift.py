"""How many of the inputs that erasure metrics ask about lie off the training distribution (metrics spec 0.4)."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Row
from attrlab.bench.engine import TOKEN_BUDGET, padded_length
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.removal import removals, whole
from attrlab.bench.seeds import generator
from attrlab.bench.types import Bools, Floats, Ints

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the units that are removed (or kept): those of comprehensiveness (and sufficiency)."""

NEIGHBOURS = 10
"""Nearest reference inputs over which the distance is averaged."""

PERCENTILE = 99.0
"""Share of clean inputs, in percent, that count as inside the distribution."""


def shift(
    model: TextModel,
    encoded: Sequence[Encoded],
    operator: str,
    *,
    reference: Sequence[Encoded] | None = None,
    token_budget: int = TOKEN_BUDGET,
) -> float:
    """Returns the share of perturbed inputs that the model represents far from its training data.

    An input is as far as the mean Euclidean distance of its pooled representation (``Output.readout``) from the
    nearest ``NEIGHBOURS`` reference inputs, and far where that is more than the 99th percentile over the clean
    examples. The examples are perturbed at every bin of comprehensiveness and of sufficiency, with a random order of
    their units in place of an explanation: the share tells of model, data and operator, not of methods.

    Args:
        model: The classifier.
        encoded: Held-out examples.
        operator: Removal operator; of one that is random the first draw.
        reference: Training examples; by default the calibration set of the model. Texts that are also among the
            examples are left out: they would be their own neighbours.
        token_budget: Padded tokens per forward pass.

    Returns:
        In [0, 1]; lower is better, and 0.01 is what clean inputs have. NaN if there is nothing to remove.

    Raises:
        UserError: If there are too few reference inputs.
    """
    seen = {one.example.texts for one in encoded}
    known = [whole(one) for one in reference or model.calibration if one.example.texts not in seen]
    if len(known) < NEIGHBOURS:
        raise UserError(f"{len(known)} reference inputs besides the examples; distances need {NEIGHBOURS} or more")
    rows: list[Row] = []
    weights: list[int] = []
    for one in encoded:
        masks, counts = _masks(one)
        rows += removals(model, one, [(mask, 0) for mask in masks], operator)
        weights += counts.tolist()
    if not rows:
        return math.nan
    near = readouts(model, known, token_budget)
    clean = _distances(readouts(model, [whole(one) for one in encoded], token_budget), near)
    found = _distances(readouts(model, rows, token_budget), near)
    return float(np.average(found > np.percentile(clean, PERCENTILE), weights=weights))


def _masks(encoded: Encoded) -> tuple[Bools, Ints]:
    """The different keep-masks of the bins on one example, and how many bins share each; those that keep all left out.

    Returns:
        ``(n_masks, n_units)`` and ``(n_masks,)``.
    """
    m = encoded.n_units
    rank = generator("shift", encoded.example.id).permutation(m)
    counts = np.array([[max(1, math.ceil(share * m - 1e-9))] for share in SHARES])
    top = rank < counts
    masks = np.vstack([top, ~top])
    found: tuple[Bools, Ints] = np.unique(masks[~masks.all(1)], axis=0, return_counts=True)
    return found


def readouts(model: TextModel, rows: Sequence[Row], token_budget: int = TOKEN_BUDGET) -> Tensor:
    """Returns the pooled representation of each input, float64 ``(n_rows, D)``, in their order."""
    lengths = np.array([padded_length(len(row.ids), model.max_length) for row in rows])
    parts, places = [], []
    for length in np.unique(lengths).tolist():
        indices = np.flatnonzero(lengths == length)
        size = max(1, token_budget // length)
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            chosen = [rows[index] for index in part]
            filled = chosen + chosen[:1] * (size - len(chosen))  # batches of few shapes, as in the engine
            with torch.inference_mode():
                output = model.forward(model.collate(filled, length=length))
            parts.append(output.readout[: len(chosen)].double().cpu())
            places.append(part)
    order = np.argsort(np.concatenate(places))
    return torch.cat(parts)[torch.from_numpy(order)]


def _distances(points: Tensor, reference: Tensor) -> Floats:
    """Mean distance of each point from its nearest reference points, ``(n_points,)``."""
    apart = torch.cdist(points, reference, compute_mode="donot_use_mm_for_euclid_dist")
    return np.asarray(apart.topk(NEIGHBOURS, largest=False).values.mean(1).numpy())
