"""Attention weights times the gradient of the explained scalar by them (methods spec 6).

``dF/dA^l`` is the change of F when a weight of layer l changes, later layers following. Where attention is impossible
(padding, and in causal models the future) it counts as 0: what a model would do with a weight there is no part of the
text. Unless stated otherwise scores are read at the row of the pooling position q.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.attending import Record, Rule, attending
from attrlab.bench.batch import Batch, Explained, Targets, filled
from attrlab.bench.model import TextModel
from attrlab.bench.states import check_layer, depth, hidden_states
from attrlab.methods.attention import every_query, pooling_query, received
from attrlab.methods.gradients import inputs_of

ROWS = 10
"""Largest number of steps of one example in a forward pass: bounds memory."""

AXES = ("key", "query")
"""Where a weight counts: at the token that is attended to, or at the one that attends."""


def possible(model: TextModel, batch: Batch) -> Tensor:
    """Returns which pairs of query and key exist, (B, 1, n, n)."""
    real = batch.mask.bool()
    pairs = real[:, None, :, None] & real[:, None, None, :]
    return pairs.tril() if model.decoder else pairs


def attention_gradients(
    model: TextModel, batch: Batch, targets: Targets, *, last: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Returns ``A^l`` and ``dF/dA^l`` of every layer, each (B, H, n, n), query by key; one forward, one backward.

    Args:
        model: The model.
        batch: B examples.
        targets: What F is.
        last: The last layer only; the backward pass ends there.
    """
    record, rows = Record(), filled(batch)
    with attending(model, record):
        total = targets.of(model.forward(rows, inputs_of(model, rows)[0]).logits, rows).sum()
    exists, size = possible(model, batch), len(batch)
    layers = record.layers[-1:] if last else record.layers
    gradients = torch.autograd.grad(total, layers)
    return [layer.detach()[:size] for layer in layers], [gradient[:size] * exists for gradient in gradients]


class AttentionTimesGradient:
    """Attributes by ``sum over heads of A * dF/dA`` in the last layer, row q (methods spec 6; signed).

    Summed over keys, it is the change of F per relative change of all weights of the row.
    """

    aggregate = "sum"
    rows = 1

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns attention times gradient of every token, (B, n)."""
        (weights,), (gradient,) = attention_gradients(model, batch, targets, last=True)
        last = (weights * gradient).sum(1)
        return Explained(received(pooling_query(model, batch, last), last))


class GradSam:
    """Attributes by the mean of ``A * ReLU(dF/dA)`` over layers, heads and queries (methods spec 6; unsigned).

    Barkan et al. 2021, "Grad-SAM: Explaining Transformers via Gradient Self-Attention Maps". Which index the paper sums
    over can be read both ways.

    Args:
        axis: ``key``: a weight counts for the token attended to; ``query``: for the token that attends.

    Raises:
        ValueError: If the axis is neither of them.
    """

    rows = 1

    def __init__(self, *, axis: str = "key") -> None:
        if axis not in AXES:
            raise ValueError(f"axis={axis!r}; allowed: {', '.join(AXES)}")
        self.axis = axis

    @property
    def aggregate(self) -> str:
        """Tokens that are attended to add up; of tokens that attend the mean is taken (methods spec 0.5)."""
        return "sum" if self.axis == "key" else "mean"

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the score of every token, (B, n), at least 0."""
        layers = zip(*attention_gradients(model, batch, targets), strict=True)
        mean = torch.stack([(weights * gradient.relu()).mean(1) for weights, gradient in layers]).mean(0)
        return Explained(received(every_query(batch, mean), mean if self.axis == "key" else mean.mT))


class AttentionGradCam:
    """Attributes by the last layer's heads weighed with their mean gradients, row q (methods spec 6; unsigned).

    It is ``ReLU(mean over heads of A * g)``, g the mean of ``dF/dA`` over the queries and keys of a head. Selvaraju et
    al. 2017, "Grad-CAM", with heads for channels, as in Chefer et al. 2021, "Transformer Interpretability Beyond
    Attention Visualization". All scores are 0 where every head that matters has a negative mean gradient.
    """

    aggregate = "sum"
    rows = 1

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the score of every token, (B, n), at least 0."""
        (weights,), (gradient,) = attention_gradients(model, batch, targets, last=True)
        head = gradient.sum((2, 3)) / batch.mask.sum(1).square()[:, None]
        cam = (weights * head[..., None, None]).mean(1).relu()
        return Explained(received(pooling_query(model, batch, cam), cam))


class AttCat:
    """Attributes by state times gradient in every layer, weighed by the attention received (methods spec 6; signed).

    It is ``sum over l of (h_j^l . dF/dh_j^l) * a_j^l``, a the mean of ``A^l[:, j]`` over heads and queries. h^L is the
    state that the head reads, so that in the last layer only the pooling position scores. Qiang et al. 2022, "AttCAT:
    Explaining Transformers via Attentive Class Activation Tokens".

    A state that is read through a LayerNorm alone may be scaled freely, so state times gradient is 0 there. Where the
    norm comes first (GPT-2, most OPT) that is so of every word in layer L - 1: two layers leave nothing but rounding
    and the norm's epsilon. The statistic ``left`` tells: it is how much is left of what was summed up, in [0, 1].
    """

    aggregate = "sum"
    rows = 1

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the score of every token, (B, n)."""
        record, rows = Record(), filled(batch)
        with attending(model, record), hidden_states(model) as found:
            total = targets.of(model.forward(rows, inputs_of(model, rows)[0]).logits, rows).sum()
        gradients = torch.autograd.grad(total, found)
        query = every_query(rows, record.layers[0])
        scores, left, size = (torch.zeros_like(query) for _ in range(3))
        for state, gradient, weights in zip(found, gradients, record.layers, strict=True):
            product, share = (state * gradient).detach(), received(query, weights.detach().mean(1))
            scores += product.sum(-1) * share
            left += product.sum(-1).abs() * share
            size += product.abs().sum(-1) * share
        left, size = ((part * rows.scorable).sum(1)[: len(batch)] for part in (left, size))
        return Explained(scores[: len(batch)], [{"left": value} for value in (left / size).nan_to_num().tolist()])


class GenericRelevance:
    """Attributes by relevance gathered layer by layer along ``A * dF/dA``, row q (methods spec 6; unsigned).

    ``R = I``, then ``R <- R + (mean over heads of ReLU(A * dF/dA)) R`` for each layer from the first. Where the pooling
    position is itself a word (decoders without a readout token), its score has the 1 of the identity in it. Chefer et
    al. 2021, "Generic Attention-model Explainability"; their code sets the entry of the pooling position to 0.
    """

    aggregate = "sum"
    rows = 1

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the relevance of every token, (B, n), at least 0."""
        weights, gradients = attention_gradients(model, batch, targets)
        row = pooling_query(model, batch, weights[0])
        # Row q of (I + M^L) ... (I + M^1): from the left, a vector is enough.
        for layer, gradient in zip(reversed(weights), reversed(gradients), strict=True):
            row = row + received(row, (layer * gradient).relu().mean(1))
        return Explained(row)


class AttentionAttribution:
    """Attributes by the integrated gradient along the attention weights of one layer, row q (methods spec 6; signed).

    It is ``sum over heads of A * (integral over a in [0, 1] of dF/dA at a A)``; all weights of the layer are scaled
    together, the other layers follow. Over all entries it adds up to ``F - F(no attention in that layer)``. Hao et al.
    2021, "Self-Attention Attribution"; they take the right-hand ends of equal steps, we Gauss-Legendre nodes, which
    come closer to the integral with as many.

    Args:
        steps: Nodes on the path.
        layer: The layer, 1 to L; 0 is the last one.

    Raises:
        ValueError: If ``steps`` is not positive or ``layer`` is negative.
    """

    aggregate = "sum"

    def __init__(self, *, steps: int = 20, layer: int = 0) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}; must be at least 1")
        if layer < 0:
            raise ValueError(f"layer={layer}; must be 0 (the last one) or the number of a layer")
        self.steps = steps
        self.layer = layer

    @property
    def rows(self) -> int:
        """Rows per example in one forward pass."""
        return min(ROWS, self.steps)

    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns the score of every token, (B, n).

        Raises:
            UserError: If the model has no such layer.
        """
        matrix = self.edges(model, batch, targets).sum(1)
        return Explained(received(pooling_query(model, batch, matrix), matrix))

    def edges(self, model: TextModel, batch: Batch, targets: Targets) -> Tensor:
        """Returns the share of every weight of the layer in F, (B, H, n, n), query by key.

        Raises:
            UserError: If the model has no such layer.
        """
        layer = check_layer(model, self.layer or depth(model)) - 1
        nodes, shares = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(self.steps))
        rows = torch.arange(len(batch), device=batch.ids.device)
        found: list[Tensor] = []
        for alphas, sizes in zip(torch.split((nodes + 1) / 2, ROWS), torch.split(shares / 2, ROWS), strict=True):
            taken = batch.take(rows.repeat(len(alphas)))
            rule = _Scaled(layer, alphas.repeat_interleave(len(batch)))
            with attending(model, rule):
                total = targets.of(model.forward(taken).logits, taken).sum()
            (gradient,) = torch.autograd.grad(total, rule.scaled)
            steps = gradient.view(len(alphas), len(batch), *gradient.shape[1:])
            found.append((steps * sizes.to(gradient)[:, None, None, None, None]).sum(0))
        return rule.whole[: len(batch)] * torch.stack(found).sum(0) * possible(model, batch)


class _Scaled(Rule):
    """Scales the weights of one layer, another factor for every row; below it nothing needs a gradient.

    Attributes:
        whole: (R, H, n, n) the weights.
        scaled: (R, H, n, n) the scaled weights, a leaf of the graph.
    """

    whole: Tensor
    scaled: Tensor

    def __init__(self, layer: int, factors: Tensor) -> None:
        self._layer = layer
        self._factors = factors

    def weights(self, layer: int, weights: Tensor) -> Tensor:
        if layer != self._layer:
            return weights
        self.whole = weights.detach()
        self.scaled = (self.whole * self._factors.to(weights)[:, None, None, None]).requires_grad_()
        return self.scaled
