"""The same model answering in another numeric precision; what that does to scores is shown by ``attrlab precision``."""

import copy

import torch

from attrlab.bench.model import TextModel


def answering(model: TextModel, precision: str) -> TextModel:
    """Returns who answers questions about a model: itself, or a copy with weights and states in ``bfloat16``.

    White-box methods stay with the model: small gradients and small steps of an optimiser do not survive eight bits.

    Args:
        model: The model, in float32.
        precision: ``float32`` or ``bfloat16``.
    """
    if precision == "float32":
        return model
    found = copy.copy(model)
    known = {id(model): found}  # hooks of the network lead to the model it belongs to
    found.network = copy.deepcopy(model.network, known).to(torch.bfloat16)
    return found
