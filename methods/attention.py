"""Attention weights as importance (methods spec 6)."""

from collections.abc import Sequence

import numpy as np
import torch

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.model import TextModel


class AttentionLast:
    """Attributes by the attention that the pooling position pays in the last layer (methods spec 6; unsigned).

    The mean over heads of ``A^L[q, :]``. It explains no class: the same for every target.
    """

    aggregate = "sum"
    rows = 1

    @torch.no_grad()
    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the attention paid to every token, (B, L), in [0, 1]; over all positions it sums to 1."""
        with model.eager_attention():
            last = model.forward(batch, model.embed(batch), attentions=True).attentions[-1]
        rows = torch.arange(len(batch), device=last.device)
        return Explained(last.mean(1)[rows, model.pool(batch)])
