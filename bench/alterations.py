"""Models altered on purpose, so that an explanation of the altered one can be compared with that of the real one.

* ``rewrite``: the same function by other weights, see ``bench.rewrites`` (metrics spec 5.7).
* ``layers``: weights drawn anew from the head down: 1 the head, 2 the last block too, ... L + 2 everything
  (Adebayo et al. 2018, "Sanity Checks for Saliency Maps", cascading randomisation; metrics spec 8).
* ``layer``: only one of these L + 2 parts, in the same order (independent randomisation).
* ``redrawn``: two models of which everything is drawn anew, each from its own draws.
* ``constant``: the matrices of the head are zero, so that the logits are its bias, whatever the input.

Weights are drawn as the architecture itself initialises them. All kinds are functions of model, kind and index
alone. Every index has draws of its own: a new head turns the sign of explanations round or does not, and with one head
for all depths that coin would be tossed once for the whole curve.
"""

import re
from collections.abc import Callable, Collection
from copy import deepcopy
from typing import Any

import torch

from attrlab.bench import rewrites
from attrlab.bench.errors import UserError, unknown
from attrlab.bench.model import TextModel
from attrlab.bench.seeds import digest
from attrlab.bench.states import depth

REDRAWN = 2
"""Models that are drawn anew as a whole, to compare with each other."""

_BELOW = re.compile(r"(^|\.)(embed|wte|wpe|project_in)")
"""Weights of a base model that come before its blocks; what is in no block and not here comes after them."""


def count(kind: str, model: TextModel) -> int:
    """Returns how many altered models of a kind there are.

    Raises:
        UserError: If there is no such kind, or hidden states of the model cannot be told apart (``layers``, ``layer``).
    """
    if kind not in _COUNTS:
        raise unknown("kind of alteration", kind, _COUNTS)
    return _COUNTS[kind](model)


def altered(model: TextModel, kind: str, index: int) -> TextModel:
    """Returns an altered copy of a model, with its name, calibration set and fillers; the model stays as it is.

    Args:
        model: The model.
        kind: What is changed, see the module.
        index: Which alteration of that kind, from 1.

    Raises:
        UserError: If there is no such alteration.
    """
    number = count(kind, model)
    if not 1 <= index <= number:
        raise UserError(f"alteration {kind!r} {index} of model {model.name!r}; allowed: 1 to {number}")
    copy = type(model)(_NETWORKS[kind](model, index), model.tokenizer, model.name)
    copy.calibration, copy.fillers = model.calibration, model.fillers
    return copy


def _rewritten(model: TextModel, index: int) -> Any:
    network = _drawn(model, kept=model.network.state_dict())
    rewrites.rewrite(network, rewrites.rewrites(network)[index - 1])
    return network


def _cascaded(model: TextModel, index: int) -> Any:
    return _drawn(model, "layers", index, kept=_outside(model, range(index)))


def _one_by_one(model: TextModel, index: int) -> Any:
    return _drawn(model, "layer", index, kept=_outside(model, [index - 1]))


def _redrawn(model: TextModel, index: int) -> Any:
    return _drawn(model, "redrawn", index, kept={})


def _constant(model: TextModel, index: int) -> Any:
    network = _drawn(model, kept=model.network.state_dict())
    for name, weight in network.named_parameters():
        if not name.startswith(f"{network.base_model_prefix}.") and weight.ndim > 1:
            weight.zero_()
    return network


_COUNTS: dict[str, Callable[[TextModel], int]] = {
    "rewrite": lambda model: len(rewrites.rewrites(model.network)),
    "layers": lambda model: depth(model) + 2,
    "layer": lambda model: depth(model) + 2,
    "redrawn": lambda model: REDRAWN,
    "constant": lambda model: 1,
}
_NETWORKS: dict[str, Callable[[TextModel, int], Any]] = {
    "rewrite": _rewritten,
    "layers": _cascaded,
    "layer": _one_by_one,
    "redrawn": _redrawn,
    "constant": _constant,
}


def _drawn(model: TextModel, *seed: str | int, kept: dict[str, Any]) -> Any:
    """Returns a new network of the same kind, weights drawn under ``seed`` save those that are kept."""
    network = model.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(digest(["alterations", *seed], size=4), 16))
        drawn = type(network)(deepcopy(network.config))
    drawn = drawn.to(device=network.device, dtype=network.dtype).requires_grad_(requires_grad=False).eval()
    drawn.load_state_dict(kept, strict=False)
    return drawn


def _outside(model: TextModel, parts: Collection[int]) -> dict[str, Any]:
    """Returns the weights that are in none of these parts: 0 the head, 1 the last block, ... L + 1 the embeddings."""
    weights = model.network.state_dict()
    return {name: weight for name, weight in weights.items() if _part(model, name) not in parts}


def _part(model: TextModel, name: str) -> int:
    inner = name.removeprefix(f"{model.network.base_model_prefix}.")
    block = re.search(r"\.(\d+)\.", inner)
    if block:
        return depth(model) - int(block[1])
    return depth(model) + 1 if _BELOW.search(inner) else 0
