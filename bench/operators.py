"""What a model can be asked: which units stay, how the others are removed, in which draw. Never imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from attrlab.bench.errors import ContractError

Operator = Literal["delete", "replace", "attn", "pad", "unk", "zero", "mean", "random", "mlm"]
"""Name of a removal operator (metrics spec 0.4); what each one does is in ``bench.removal`` and ``bench.masked``."""

OPERATORS: tuple[str, ...] = get_args(Operator)
"""The same as a tuple."""

EMBEDDED: tuple[str, ...] = ("zero", "mean")
"""Operators that put one vector in place of the word embeddings of removed units: they can also keep a unit in part."""

DRAWS: Mapping[str, int] = MappingProxyType({"random": 5, "mlm": 5})
"""Draws over which the answers of an operator are averaged, where it is random (metrics spec 0.4)."""

FILLER = "masked-mini"
"""Name of the masked language model that the operator ``mlm`` trains for itself."""

Mask = npt.NDArray[np.bool_] | npt.NDArray[np.float64]
"""Which units stay; floats in [0, 1] where some stay in part, see :class:`Ask`."""

Key = tuple[str, int, bytes]
"""What tells a question about an example apart from all others: operator, draw and mask."""

WHOLE: Key = ("", 0, b"")
"""Key of the question about the unperturbed input, the same under every operator."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ask:
    """A batch of questions about one example.

    Attributes:
        keep: Which units stay, ``(n_questions, n_units)``; False means removed by the operator. Under one of
            ``EMBEDDED``, named here, it may hold probabilities in [0, 1]: each embedding coordinate of a unit's tokens
            stays with that probability, by uniform numbers that depend on example and draw alone.
        operator: Removal operator, one of ``OPERATORS``; None is the suite's own.
        draw: Which draw of what is random, one for all or one per question; 0 where nothing is.
    """

    keep: Mask
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


def questions(ask: Ask, operator: str, n_units: int) -> list[tuple[Key, Mask]]:
    """Returns the questions of an ask one by one, ``(n_units,)`` each, with their keys.

    Args:
        ask: What was asked about an example.
        operator: The removal operator, the suite's filled in.
        n_units: Units of the example.

    Raises:
        ContractError: If the masks are no masks of the example's units, or the operator does not exist.
    """
    given = np.asarray(ask.keep)
    keep = np.asarray(given, dtype=np.float64 if given.dtype.kind == "f" else np.bool_)
    if keep.ndim != 2 or keep.shape[1] != n_units or not len(keep):
        raise ContractError(f"asked for keep-masks of shape {keep.shape}; (n_questions, {n_units}) is needed")
    if operator not in OPERATORS:
        raise ContractError(f"asked for removal operator {operator!r}; known: {', '.join(OPERATORS)}")
    asked = zip(np.broadcast_to(ask.draw, len(keep)).tolist(), keep, strict=True)
    if keep.dtype == bool:
        return [(_key(operator, draw, mask), mask) for draw, mask in asked]
    return [_partial(operator, draw, mask) for draw, mask in asked]


def _key(operator: str, draw: int, mask: Mask) -> Key:
    return WHOLE if mask.all() else (operator, draw, mask.tobytes())


def _partial(operator: str, draw: int, chances: npt.NDArray[np.float64]) -> tuple[Key, Mask]:
    """One question of probabilities; where all of them are 0 or 1 it is the question of booleans, and draws nothing."""
    certain = chances == 1
    if np.array_equal(chances, certain):
        return _key(operator, draw if operator in DRAWS else 0, certain), certain
    if operator not in EMBEDDED:
        raise ContractError(f"asked to keep units in part under operator {operator!r}; allowed: {', '.join(EMBEDDED)}")
    if not ((chances >= 0) & (chances <= 1)).all():  # NaN is neither
        raise ContractError("asked to keep units with probabilities outside [0, 1]")
    return (operator, draw, chances.tobytes()), chances
