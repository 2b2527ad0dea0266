"""One model on one data set while a run works on it: loads the model and the engine only when something is missing."""

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import masked
from attrlab.bench.engine import TOKEN_BUDGET, Engine
from attrlab.bench.executor import Progress
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.plan import Block, Chunk, Plan
from attrlab.bench.precision import answering
from attrlab.bench.removal import Unigram
from attrlab.bench.shortcuts import Shortcuts
from attrlab.bench.store import Store

SMALL = 5_000_000
"""Parameters under which one thread is faster than several, which get in each other's way on small products."""

ALL_THREADS = torch.get_num_threads()

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a run is carried out; none of it changes a score beyond rounding.

    Attributes:
        device: Torch device.
        token_budget: Padded tokens per forward pass.
        timeout: Seconds per method and example, or None.
        retry_failed: Compute chunks again that hold failed rows.
        workers: Processes; 0 takes one per core for small models and one for others.
        shortcuts: What forward passes leave out; ``prefix`` only on a CPU, and not for small models, which are faster
            without.
        threads: Of models that are not small; 0 takes as many as torch does.
        executor: ``local``, or ``ray``.
        address: Of a running Ray cluster; empty starts one on this machine.
    """

    device: str = "cpu"
    token_budget: int = TOKEN_BUDGET
    timeout: float | None = None
    retry_failed: bool = False
    workers: int = 0
    shortcuts: Shortcuts = field(default_factory=Shortcuts)
    threads: int = 0
    executor: str = "local"
    address: str = ""


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
    _answers: tuple[TextModel, TextModel] | None = None
    _start: int = -1
    _made: dict[Hashable, Any] = field(default_factory=dict)

    def model(self) -> TextModel:
        """Returns the model, loaded at the first call."""
        if self._model is None:
            self._model = load_model(self.block, self.options, self.plan.operators)
        return self._model

    def engine(self, chunk: Chunk) -> Engine:
        """Returns the engine of a slice."""
        return self.once(chunk, "engine", lambda: self.new_engine(self.model(), chunk.examples))

    def new_engine(self, model: TextModel, examples: Sequence[Example]) -> Engine:
        """Returns an engine that asks a model about examples."""
        encoded = [model.encode(example, self.plan.suite.unit) for example in examples]
        wanted = self.options.shortcuts
        large = self.block.checkpoint is not None and self.block.checkpoint.parameters >= SMALL
        return Engine(
            model,
            encoded,
            token_budget=self.options.token_budget,
            timeout=self.options.timeout,
            answering=self._answering(model),
            shortcuts=wanted._replace(prefix=wanted.prefix and large and model.device.type == "cpu"),
        )

    def _answering(self, model: TextModel) -> TextModel:
        if self._answers is None or self._answers[0] is not model:
            self._answers = model, answering(model, self.plan.suite.precision)
        return self._answers[1]

    def once(self, chunk: Chunk, name: Hashable, make: Callable[[], T]) -> T:
        """Returns what ``make`` returned at the first call of this name for a slice; drops what other slices made."""
        if self._start != chunk.start:
            self._start, self._made = chunk.start, {}
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made


def load_model(block: Block, options: Options, operators: Collection[str] = ()) -> TextModel:
    """Returns the model of a block with its calibration set and what it needs for the removal operators.

    Sets the number of threads that suits its size.
    """
    assert block.checkpoint is not None
    model: TextModel = checkpoints.load(block.checkpoint, options.device)
    torch.set_num_threads(1 if block.checkpoint.parameters < SMALL else options.threads or ALL_THREADS)
    model.calibration = [model.encode(example) for example in block.calibration[0]]
    if "random" in operators:
        model.fillers["random"] = Unigram(model.calibration)
    if block.filler is not None:
        model.fillers["mlm"] = masked.load(block.filler, options.device)
    return model
