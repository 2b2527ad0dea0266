"""DeepLift as Captum has it, and the first-order score that it comes down to on some models (methods spec 5.4)."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from captum.attr import DeepLift as CaptumDeepLift
from torch import Tensor, nn

from attrlab.bench.batch import Batch, Explained, Targets, filled
from attrlab.bench.model import TextModel
from attrlab.methods.gradients import gradient, inputs_of, scalar_at
from attrlab.methods.noise import in_blocks
from attrlab.methods.paths import TINY, baseline_of, check_baseline

GATE = 0.1
"""Largest share of the change of F by which scores may miss it (spec 5.4)."""

FLAT = 1e-7
"""Change of an activation's input below which its slope is its gradient."""


class GradientTimesDelta:
    """Attributes by ``(e_j - b_j) . dF/de_j``, integrated gradients of one node at the text (spec 5.4; signed).

    Args:
        baseline: b: ``replace``, ``zero``, ``mean``, ``pad`` or ``unk``, see ``paths.baseline_of``.

    Raises:
        ValueError: If the baseline is unknown.
    """

    aggregate = "sum"
    rows = 1

    def __init__(self, *, baseline: str = "replace") -> None:
        self.baseline = check_baseline(baseline)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the product summed over dimensions, (B, L).

        Raises:
            NotApplicableError: If the model has no token for the baseline.
        """
        full = filled(batch)
        slope = gradient(scalar_at(model, full, targets), *inputs_of(model, full))[: len(batch)]
        return Explained(((model.embed(batch) - baseline_of(model, batch, self.baseline)) * slope).sum(-1))


class DeepLift:
    """Attributes by the rescale rule at the activations that Captum knows, gradients elsewhere (spec 5.4; signed).

    Shrikumar et al. 2017, "Learning Important Features Through Propagating Activation Differences". Captum has rules
    for registered activations of ``torch.nn`` only: none on GPT-2 (where the score is :class:`GradientTimesDelta`),
    the pooler's tanh on BERT, ReLU on OPT; softmax, LayerNorm and products of attention have none. So the scores need
    not sum to the change of F; by how much they miss it is in the stats, for tables to leave out what is far off.

    Args:
        baseline: What the text is compared with: ``replace``, ``zero``, ``mean``, ``pad`` or ``unk``, see
            ``paths.baseline_of``.

    Raises:
        ValueError: If the baseline is unknown.
    """

    aggregate = "sum"
    rows = 2

    def __init__(self, *, baseline: str = "replace") -> None:
        self.baseline = check_baseline(baseline)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the contributions summed over dimensions, (B, L), and how complete they are.

        Stats: ``completeness_gap`` (their sum minus the change of F), ``completeness_ratio`` (its size as a share of
        the change) and ``gate_failed`` (1 if the share is above 0.1: the scores should not be ranked).

        Raises:
            NotApplicableError: If the model has no token for the baseline.
        """
        start, end = baseline_of(model, batch, self.baseline), model.embed(batch).detach()

        def run(part: Batch, at: Tensor) -> tuple[Tensor, Tensor]:
            watched = _Watched(model, part, targets)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
                parts = CaptumDeepLift(watched, eps=FLAT).attribute(
                    end[at].requires_grad_(), start[at], additional_forward_args=torch.arange(len(at), device=at.device)
                )
            of_end, of_start = watched.values.double().chunk(2)
            return parts.detach().sum(-1), of_end - of_start

        scores, change = in_blocks(batch, torch.arange(len(batch), device=end.device), run)
        gap = (scores.double() * batch.scorable).sum(1) - change
        ratio = gap.abs() / change.abs().clamp(min=TINY)
        stats = torch.stack([gap, ratio, (ratio > GATE).double()], 1).tolist()
        keys = ("completeness_gap", "completeness_ratio", "gate_failed")
        return Explained(scores, [dict(zip(keys, row, strict=True)) for row in stats])


class _Watched(nn.Module):
    """The explained scalar as a module, so that Captum finds the network's activations; keeps what it returned."""

    def __init__(self, model: TextModel, batch: Batch, targets: Targets) -> None:
        super().__init__()
        self.network = model.network
        self._scalar = scalar_at(model, batch, targets)
        self.values = torch.empty(0)

    def forward(self, embeds: Tensor, rows: Tensor) -> Tensor:
        """Returns F of every row, (R,)."""
        found = self._scalar(embeds, rows)
        self.values = found.detach()
        return found
