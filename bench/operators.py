"""What a model can be asked: which units stay, how the others are removed, in which draw. Never imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Operator = Literal["delete", "replace", "attn", "pad", "unk", "random", "mlm"]
"""Name of a removal operator (metrics spec 0.4); what each one does is in ``bench.removal`` and ``bench.masked``."""

OPERATORS: tuple[str, ...] = get_args(Operator)
"""The same as a tuple."""

DRAWS: Mapping[str, int] = MappingProxyType({"random": 5, "mlm": 5})
"""Draws over which the answers of an operator are averaged, where it is random (metrics spec 0.4)."""

FILLER = "masked-mini"
"""Name of the masked language model that the operator ``mlm`` trains for itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ask:
    """A batch of questions about one example.

    Attributes:
        keep: Which units stay, ``(n_questions, n_units)``; False means removed by the operator.
        operator: Removal operator, one of ``OPERATORS``; None is the suite's own.
        draw: Which draw of an operator that is random, one for all or one per question; 0 for the others.
    """

    keep: npt.NDArray[np.bool_]
    operator: str | None = None
    draw: int | npt.NDArray[np.int64] = 0

    @classmethod
    def every_draw(cls, keep: npt.NDArray[np.bool_], operator: str | None) -> "Ask":
        """Returns the questions once per draw of the operator: all of the first draw, all of the second, ..."""
        draws = DRAWS.get(operator or "", 1)
        return cls(keep=np.concatenate([keep] * draws), operator=operator, draw=np.repeat(np.arange(draws), len(keep)))

    def mean(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Returns the mean over the draws of :meth:`every_draw`: ``(n_draws * n_questions,)`` to ``(n_questions,)``."""
        draws = DRAWS.get(self.operator or "", 1)
        return np.asarray(values.reshape(draws, -1).mean(0))

    def mixture(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Returns logits whose softmax is the mean over the draws of the softmax; of a single draw, the logits.

        Args:
            logits: ``(n_draws * n_questions, n_classes)``.
        """
        draws = DRAWS.get(self.operator or "", 1)
        if draws == 1:
            return logits
        logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        by_draw = logprobs.reshape(draws, -1, logits.shape[-1])
        return np.asarray(np.logaddexp.reduce(by_draw, axis=0) - np.log(draws))
