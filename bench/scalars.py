"""The scalars of a model's answer that can be explained (methods spec 0.2)."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from attrlab.bench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SCALARS = ("contrast", "logit", "prob", "logprob", "logodds")
"""Names of the scalars that can be explained (methods spec 0.2)."""


def scalar(name: str, logits: npt.NDArray[np.float64], target: int) -> npt.NDArray[np.float64]:
    """Returns the explained scalar of each row of logits (methods spec 0.2).

    Args:
        name: ``contrast`` (z_c minus mean of the others), ``logit``, ``prob``, ``logprob`` or ``logodds``.
        logits: ``(..., n_classes)``.
        target: The class c.

    Returns:
        float64 of shape ``(...)``.

    >>> float(scalar("contrast", np.array([1.0, 4.0]), 1))
    3.0
    """
    chosen = logits[..., target]
    others = np.delete(logits, target, axis=-1)
    if name == "contrast":
        return np.asarray(chosen - others.mean(-1))
    if name == "logit":
        return np.asarray(chosen)
    if name == "logprob":
        return np.asarray(chosen - np.logaddexp.reduce(logits, axis=-1))
    if name == "prob":
        return np.asarray(np.exp(chosen - np.logaddexp.reduce(logits, axis=-1)))
    if name == "logodds":
        return np.asarray(chosen - np.logaddexp.reduce(others, axis=-1))
    raise UserError(f"unknown scalar {name!r}; known: {', '.join(SCALARS)}")


def explained(name: str, logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Returns the explained scalar of each row, (R,), differentiable; twin of :func:`scalar`.

    Args:
        name: One of ``SCALARS``.
        logits: (R, C).
        targets: (R,) class of each row.
    """
    chosen = logits.gather(1, targets[:, None])[:, 0]
    if name == "contrast":
        return chosen - (logits.sum(1) - chosen) / (logits.shape[1] - 1)
    if name == "logit":
        return chosen
    if name in ("prob", "logprob"):
        logprob = chosen - logits.logsumexp(1)
        return logprob.exp() if name == "prob" else logprob
    if name == "logodds":
        return chosen - logits.scatter(1, targets[:, None], -np.inf).logsumexp(1)
    raise UserError(f"unknown scalar {name!r}; known: {', '.join(SCALARS)}")
