"""One model on one data set while a run works on it: loads the model and the engine only when something is missing."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import torch

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import masked
from attrlab.bench.engine import TOKEN_BUDGET, Engine
from attrlab.bench.model import TextModel
from attrlab.bench.plan import Block, Chunk, Plan
from attrlab.bench.removal import Unigram
from attrlab.bench.store import Store

SMALL = 5_000_000
"""Parameters under which one thread is faster than several, which get in each other's way on small products."""

ALL_THREADS = torch.get_num_threads()


class Progress(Protocol):
    """Told what is being done, and when a chunk is done."""

    def now(self, what: str) -> None:
        """What is being worked on."""

    def done(self, chunks: int = 1) -> None:
        """So many chunks are finished, computed or found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a run is carried out; none of it changes a score beyond rounding.

    Attributes:
        device: Torch device.
        token_budget: Padded tokens per forward pass.
        timeout: Seconds per method and example, or None.
        retry_failed: Compute chunks again that hold failed rows.
        workers: Processes; 0 takes one per core for small models and one for others.
    """

    device: str = "cpu"
    token_budget: int = TOKEN_BUDGET
    timeout: float | None = None
    retry_failed: bool = False
    workers: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """What the three stages share.

    Attributes:
        plan: The plan.
        block: The model and data set.
        store: Where results go.
        options: How to carry it out.
        progress: Told what is done.
    """

    plan: Plan
    block: Block
    store: Store
    options: Options
    progress: Progress
    _model: TextModel | None = None
    _engine: tuple[int, Engine] | None = None

    def model(self) -> TextModel:
        """Returns the model, loaded at the first call."""
        if self._model is None:
            self._model = load_model(self.block, self.options.device, self.plan.operators)
        return self._model

    def engine(self, chunk: Chunk) -> Engine:
        """Returns the engine of a slice; the answers of the slice before are dropped."""
        if self._engine is None or self._engine[0] != chunk.start:
            model = self.model()
            encoded = [model.encode(example, self.plan.suite.unit) for example in chunk.examples]
            options = self.options
            engine = Engine(model, encoded, token_budget=options.token_budget, timeout=options.timeout)
            self._engine = (chunk.start, engine)
        return self._engine[1]


def load_model(block: Block, device: str, operators: Collection[str] = ()) -> TextModel:
    """Returns the model of a block with its calibration set and what it needs for the removal operators.

    Sets the number of threads that suits its size.
    """
    assert block.checkpoint is not None
    model: TextModel = checkpoints.load(block.checkpoint, device)
    torch.set_num_threads(1 if block.checkpoint.parameters < SMALL else ALL_THREADS)
    model.calibration = [model.encode(example) for example in block.calibration[0]]
    if "random" in operators:
        model.fillers["random"] = Unigram(model.calibration)
    if "mlm" in operators:
        assert block.filler is not None
        model.fillers["mlm"] = masked.load(block.filler, device)
    return model
