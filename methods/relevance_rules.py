"""The rules of relevance propagation: another backward pass through a model that answers as it always does.

Relevance is gradient times activation under these rules (methods spec 7.1):

* attention: ``HeadRule``, either with constant weights (AH) or with every product split evenly (AttnLRP);
* LayerNorm: its standard deviation is a constant, its mean is not;
* element-wise activations, the tanh of BERT's pooler among them: ``y = f(x)`` hands on ``y / x`` (identity rule);
* everything linear: the gradient.

Ali et al. 2022, arXiv 2202.07304 (AH, LN); Achtibat et al. 2024, arXiv 2402.05602 (AttnLRP, identity rule).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attrlab.bench.attending import Rule, attending
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.model import TextModel

ARCHITECTURES = ("bert", "gpt2", "opt")
"""Model types of transformers whose every operation has a rule here; others call functions that cannot be reached."""

TINY = 1e-12
"""Size of an activation's input below which the identity rule hands on nothing."""

_ACTIVATIONS = ("torch.nn.modules.activation", "transformers.activations")


class _Scaled(torch.autograd.Function):
    """The input itself, its gradient multiplied by a constant factor."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: Tensor | float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


class _Identity(torch.autograd.Function):
    """An element-wise function whose gradient is that of multiplying by the constant ``f(x) / x``."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        result = function(tensor)
        ctx.save_for_backward(torch.where(tensor.abs() < TINY, 0.0, result / tensor))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (ratio,) = ctx.saved_tensors
        return gradients[0] * ratio, None


class _Normalised(torch.autograd.Function):
    """LayerNorm with the gradient it would have if its standard deviation were a constant."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, norm: nn.LayerNorm) -> Tensor:
        ctx.axes = tuple(range(-len(norm.normalized_shape), 0))
        scale = (tensor.var(ctx.axes, correction=0, keepdim=True) + norm.eps).rsqrt()
        ctx.save_for_backward(scale if norm.weight is None else scale * norm.weight)
        return nn.functional.layer_norm(tensor, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        centred = gradients[0] * scale
        return centred - centred.mean(ctx.axes, keepdim=True), None


class HeadRule(Rule):
    """The rule of attention heads, with the option to let relevance pass through some of them only.

    Args:
        split: Split every product of attention evenly between its factors and keep the gradient of the softmax
            (AttnLRP: backward factors 1/4, 1/4, 1/2 on queries, keys, values); else the attention weights are
            constants and relevance flows through the values alone (AH).
        heads: (R, L, H) factor on the relevance that enters each head of each row; None is 1 everywhere.

    Attributes:
        probabilities: With ``split``, the attention weights (R, H, n, n) of every layer of the passes made so far;
            their gradients are not yet multiplied by the layer's own factors, but by those of the layers above.
    """

    def __init__(self, *, split: bool, heads: Tensor | None = None) -> None:
        self.split = split
        self.heads = heads
        self.probabilities: list[Tensor] = []

    def inputs(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Halves what flows back into queries and keys (if ``split``), and weighs what flows back into values."""
        if self.split:
            query, key = _scaled(query, 0.5), _scaled(key, 0.5)
        return query, key, _scaled(value, self._factor(layer))

    def weights(self, layer: int, weights: Tensor) -> Tensor:
        """Makes the weights constants, or weighs (if ``split``) what flows back into the softmax."""
        if not self.split:
            return weights.detach()
        self.probabilities.append(_scaled(weights, self._factor(layer)))
        return self.probabilities[-1]

    def _factor(self, layer: int) -> Tensor | float:
        share = 0.5 if self.split else 1.0
        return share if self.heads is None else share * self.heads[:, layer, :, None, None]


def _scaled(tensor: Tensor, factor: Tensor | float) -> Tensor:
    scaled: Tensor = _Scaled.apply(tensor, factor)  # type: ignore[no-untyped-call]
    return scaled


@contextmanager
def propagating(model: TextModel, heads: Rule, *, identity: bool = True) -> Iterator[None]:
    """Has gradients flow back by the rules through every forward pass made in the block; its values stay the same.

    Args:
        model: The model; left exactly as it was.
        heads: Rule of attention.
        identity: Give activations the identity rule; else they keep their gradient.

    Raises:
        NotApplicableError: If the model is none of ``ARCHITECTURES``.
    """
    kind = str(model.network.config.model_type)
    if kind not in ARCHITECTURES:
        raise NotApplicableError(f"no relevance rules for models of type {kind}; there are: {', '.join(ARCHITECTURES)}")
    with ExitStack() as stack:
        stack.enter_context(attending(model, heads))
        for module in model.network.modules():
            if isinstance(module, nn.LayerNorm):
                stack.enter_context(_replaced(module, partial(_normalise, module)))
            elif identity and type(module).__module__ in _ACTIVATIONS:
                stack.enter_context(_replaced(module, partial(_activate, module.forward)))
        yield


def _normalise(norm: nn.LayerNorm, tensor: Tensor) -> Any:
    return _Normalised.apply(tensor, norm)  # type: ignore[no-untyped-call]


def _activate(function: Callable[[Tensor], Tensor], tensor: Tensor) -> Any:
    return _Identity.apply(tensor, function)  # type: ignore[no-untyped-call]


@contextmanager
def _replaced(module: nn.Module, forward: Callable[[Tensor], Any]) -> Iterator[None]:
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward  # the instance's own: the class's is back
        else:
            module.forward = before
