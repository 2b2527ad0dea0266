"""Gradients accumulated along a path from a baseline to the text (methods spec 5), computed by Captum."""

from collections.abc import Sequence

import numpy as np
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel
from attrlab.methods.gradients import inputs_of, scalar_at

ROWS = 10
"""Largest number of path points of one example in a forward pass: bounds memory, and steps vary little in speed."""


class IntegratedGradients:
    """Attributes ``F(text) - F(baseline)`` along the straight line between them (methods spec 5.1; signed).

    The baseline is the replacement token's embedding at every token that can be attributed; input noise is part of
    the text, not of the baseline. Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks".

    Args:
        steps: Gauss-Legendre nodes on the path.

    Raises:
        ValueError: If ``steps`` is not positive.
    """

    aggregate = "sum"

    def __init__(self, *, steps: int = 50) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}; must be at least 1")
        self.steps = steps

    @property
    def rows(self) -> int:
        """Rows per example in one forward pass."""
        return min(ROWS, self.steps)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the integral summed over dimensions, (B, L), and by how much the scores miss their total."""
        forward = scalar_at(model, batch, targets)
        embeds, rows = inputs_of(model, batch)
        baseline = model.baseline(batch).detach()
        parts = CaptumIntegratedGradients(forward).attribute(
            embeds,
            baselines=baseline,
            additional_forward_args=rows,
            n_steps=self.steps,
            method="gausslegendre",
            internal_batch_size=self.rows * len(batch),
        )
        scores = parts.sum(-1).detach()
        with torch.no_grad():
            total = forward(embeds, rows) - forward(baseline, rows)
        gap = torch.where(batch.scorable, scores, 0).sum(1) - total
        return Explained(scores, [{"completeness_gap": value} for value in gap.tolist()])
