"""Lets libraries that call the model ask like everybody else: the callback becomes a ``yield``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from greenlet import GreenletExit, getcurrent, greenlet

from attrlab.bench.types import Asker, Bools, Floats, Game

T = TypeVar("T")


def ask_through(function: "Callable[[Callable[[Bools], Floats]], T]", game: Game, rng: np.random.Generator) -> Asker[T]:
    """Returns what ``function(values)`` returns, where each call of ``values`` is asked of the game.

    The function runs in a greenlet, with global NumPy and torch generators of its own, seeded from ``rng``, and
    with a gradient mode of its own. The caller's are put back before every question and at the end, so that
    what the function draws or switches off touches nobody else in flight. An exception thrown into the asker
    is raised by ``values``; closing the asker early unwinds the function with ``GreenletExit``.

    Args:
        function: Takes ``values``, which maps keep-masks ``(q, m)`` to the explained scalar ``(q,)``.
        game: The example.
        rng: Seeds the two global generators that the function sees.
    """
    inside = _Globals.seeded(rng)

    def values(keep: Bools) -> Any:
        return worker.parent.switch(keep)

    worker = greenlet(lambda: function(values))

    def resume(enter: Callable[..., Any], *args: Any) -> Any:
        nonlocal inside
        outside = _Globals.current()
        # The engine may itself run in another greenlet from one question to the next.
        worker.parent = getcurrent()
        inside.install()
        try:
            return enter(*args)
        finally:
            inside = _Globals.current()
            outside.install()

    try:
        result = resume(worker.switch)
        while not worker.dead:
            try:
                answers = yield from game.values(result)
            except Exception as error:
                result = resume(worker.throw, error)
            else:
                result = resume(worker.switch, answers)
        return result  # type: ignore[no-any-return]
    finally:
        if not worker.dead:
            resume(worker.throw, GreenletExit)


@dataclass(frozen=True, slots=True)
class _Globals:
    """The state of this thread that libraries change behind the caller's back."""

    numpy: Any
    torch: torch.Tensor
    gradients: bool

    @classmethod
    def current(cls) -> "_Globals":
        return cls(np.random.get_state(), torch.get_rng_state(), torch.is_grad_enabled())

    @classmethod
    def seeded(cls, rng: np.random.Generator) -> "_Globals":
        one, two = (int(seed) for seed in rng.integers(2**32, size=2))
        generator = torch.Generator().manual_seed(two)
        return cls(np.random.RandomState(one).get_state(), generator.get_state(), gradients=True)

    def install(self) -> None:
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        torch.set_grad_enabled(self.gradients)
