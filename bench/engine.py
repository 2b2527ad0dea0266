"""Answers questions and runs white-box methods in well-filled batches; the only place that batches and counts.

Askers of all methods, metrics and examples are in flight at once. A question that was asked before, by whomever, is
not asked of the model again. Batches come from a fixed ladder of shapes (length bucket x rows, the last one of a bucket
filled up with copies of its first row), so the logits of a row do not depend, bit for bit, on what else is in its
batch: on a CPU the ladder has fewer rows for the last batch, as long as matrix libraries round as they do with all.
"""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from attrlab.bench.batch import LEAST_ROWS, LEAST_TOKENS, Row
from attrlab.bench.errors import BudgetExceededError, NotApplicableError
from attrlab.bench.failures import TIMED_OUT, Failure, describe, time_limit
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.operators import WHOLE, Key, Mask, questions
from attrlab.bench.pooled import pooled
from attrlab.bench.prefix import Prefixes
from attrlab.bench.removal import removals, whole
from attrlab.bench.shortcuts import Shortcuts
from attrlab.bench.types import Ask, Asker, Cost, Floats

LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""Length buckets; a row is padded to the next one."""

SHARED = 0
"""In place of a length: the bucket of rows whose common beginnings are computed once."""

TOKEN_BUDGET = 2048
"""Padded tokens of one forward pass."""


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """An asker on one example, and what became of it.

    Attributes:
        slot: Index of the example in the engine.
        asker: The computation.
        operator: Removal operator where the asker names none.
        result: What it returned; None if it failed.
        error: Why it failed, or None.
        skipped: The method does not apply to the example, rather than failing on it.
        ended: Whether it has returned or failed.
        seconds: Own time plus the share, by tokens, of the batches that answered it.
        forwards: Questions asked.
        unique: Questions that nobody had asked before.
    """

    slot: int
    asker: Asker[Any]
    operator: str
    result: Any = None
    error: str | None = None
    skipped: bool = False
    ended: bool = False
    seconds: float = 0.0
    forwards: int = 0
    unique: int = 0
    _keys: list[Key] = field(default_factory=list)
    _missing: int = 0

    def cost(self) -> Cost:
        """Returns what the job cost."""
        return Cost(
            seconds=self.seconds, forwards=self.forwards, unique_forwards=self.unique, peak_memory=peak_memory()
        )


def padded_length(tokens: int, longest: int) -> int:
    """Returns the padded length of a row of ``tokens`` tokens for a model that reads at most ``longest``."""
    bucket = next((length for length in LENGTHS if length >= tokens), tokens)
    return max(tokens, min(bucket, longest))


class Engine:
    """Answers questions about a fixed set of encoded examples.

    Args:
        model: The classifier.
        encoded: The examples; jobs name them by index.
        token_budget: Padded tokens per forward pass; 0 runs one example at a time, alone in every batch.
        timeout: Seconds each asker or white-box call may take per example; None for no limit.
        progress: Called with the number of questions answered by each batch.
        answering: Who answers questions; by default the model. See :mod:`attrlab.bench.precision`.
        shortcuts: What need not be computed, since nobody's answer depends on it.
    """

    def __init__(
        self,
        model: TextModel,
        encoded: Sequence[Encoded],
        *,
        token_budget: int = TOKEN_BUDGET,
        timeout: float | None = None,
        progress: Callable[[int], None] = lambda _rows: None,
        answering: TextModel | None = None,
        shortcuts: Shortcuts = Shortcuts(),  # noqa: B008 - immutable
    ) -> None:
        self.model = model
        self.answering = answering or model
        self.encoded = list(encoded)
        self.alone = token_budget == 0
        self.token_budget = token_budget or LEAST_TOKENS
        self.timeout = timeout
        self._progress = progress
        self.shortcuts = shortcuts
        self._prefixes: Prefixes | None = None
        if shortcuts.prefix and model.resumable:
            self._prefixes = Prefixes(self.answering, LEAST_TOKENS, last_block=shortcuts.last_block)
        self._finished: Callable[[Job], None] = lambda _job: None
        self._answers: list[dict[Key, Floats]] = [{} for _ in encoded]
        self._pending: dict[int, dict[tuple[int, Key], Row]] = defaultdict(dict)
        self._waiting: dict[tuple[int, Key], list[Job]] = {}

    def length_of(self, tokens: int) -> int:
        """Returns the padded length of a row of ``tokens`` tokens."""
        return padded_length(tokens, self.model.max_length)

    def rows_of(self, length: int) -> int:
        """Returns how many rows of a padded length one forward pass holds."""
        return max(1, self.token_budget // (length or LENGTHS[0]))

    def filled(self, count: int, length: int) -> int:
        """Returns how many rows of a padded length are run where so many are asked: all that fit, or half, a quarter...

        Only on a CPU: accelerators choose how to multiply, and so how to round, by the number of rows.
        """
        rows, threads = self.rows_of(length), torch.get_num_threads()
        least = threads * max(LEAST_ROWS, LEAST_TOKENS // length)
        while self.model.device.type == "cpu" and rows // 2 >= max(count, least):
            rows //= 2
        return rows

    def _bucket(self, row: Row) -> int:
        shared = self._prefixes is not None and self._prefixes.apply(row)
        return SHARED if shared else self.length_of(len(row.ids))

    def run(self, jobs: Sequence[Job], finished: Callable[[Job], None] = lambda _job: None) -> None:
        """Drives all jobs to their end; results and errors are left on the jobs.

        Args:
            jobs: Of any methods and metrics; questions are merged over all of them.
            finished: Called with each job as it ends.
        """
        self._finished = finished
        slots = sorted({job.slot for job in jobs})
        for group in [[slot] for slot in slots] if self.alone else [slots]:
            self._drive([job for job in jobs if job.slot in group])

    def _drive(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._advance(job, None)
        while self._pending:
            length = max(self._pending, key=lambda size: (len(self._pending[size]) / self.rows_of(size), size))
            for job in self._answer(length):
                if not job._missing and not job.ended:
                    self._advance(job, np.stack([self._answers[job.slot][key] for key in job._keys]))

    def _advance(self, job: Job, answers: Floats | None) -> None:
        """Sends answers to a job until it asks something that is not known yet, ends or fails."""
        start = time.perf_counter()
        try:
            while not job._missing:
                with time_limit(self._time_left(job, start), TIMED_OUT.format(self.timeout or 0)):
                    ask = next(job.asker) if answers is None else job.asker.send(answers)
                self._register(job, ask)
                if not job._missing:
                    answers = np.stack([self._answers[job.slot][key] for key in job._keys])
        except StopIteration as stop:
            job.result, job.ended = stop.value, True
        except Failure as error:
            job.error, job.skipped, job.ended = describe(error), isinstance(error, NotApplicableError), True
            with suppress(*Failure):  # its own cleaning up may fail as well; the first error is the reason
                job.asker.close()
        job.seconds += time.perf_counter() - start
        if job.ended:
            self._finished(job)

    def _time_left(self, job: Job, start: float) -> float | None:
        if self.timeout is None:
            return None
        left = self.timeout - job.seconds - (time.perf_counter() - start)
        if left <= 0:
            raise BudgetExceededError(TIMED_OUT.format(self.timeout))
        return left

    def _register(self, job: Job, ask: Ask) -> None:
        encoded, operator = self.encoded[job.slot], ask.operator or job.operator
        asked = questions(ask, operator, encoded.n_units)
        self._prepare(job, encoded, dict(asked))
        job.forwards += len(asked)
        job._keys = [key for key, _ in asked]
        for key in dict.fromkeys(job._keys):
            if key not in self._answers[job.slot]:
                self._waiting[job.slot, key].append(job)
                job._missing += 1

    def _prepare(self, job: Job, encoded: Encoded, asked: Mapping[Key, Mask]) -> None:
        """Queues the inputs of those questions that nobody has asked yet."""
        known = self._answers[job.slot]
        fresh = {key: mask for key, mask in asked.items() if key not in known and (job.slot, key) not in self._waiting}
        rows: dict[Key, Row] = {key: whole(encoded) for key in fresh if key == WHOLE}
        removed = [key for key in fresh if key != WHOLE]
        if removed:
            draws = [(fresh[key], key[1]) for key in removed]
            rows |= dict(zip(removed, removals(self.model, encoded, draws, removed[0][0]), strict=True))
        job.unique += len(rows)
        for key, row in rows.items():
            self._pending[self._bucket(row)][job.slot, key] = row
            self._waiting[job.slot, key] = []

    def _answer(self, length: int) -> list[Job]:
        """Runs one batch of a bucket and returns the jobs that waited for any of its rows."""
        bucket, rows = self._pending[length], self.rows_of(length)
        names = list(bucket)[:rows]
        chosen = [bucket.pop(name) for name in names]
        if not bucket:
            del self._pending[length]
        start = time.perf_counter()
        if length == SHARED:
            logits = self._shared(chosen)
        else:
            copies = self.filled(len(chosen), length) - len(chosen)
            logits = self._logits(chosen + chosen[:1] * copies, length)[: len(chosen)]
        seconds = (time.perf_counter() - start) / sum(len(row.ids) for row in chosen)
        woken: dict[int, Job] = {}
        for (slot, key), row, answer in zip(names, chosen, logits, strict=True):
            self._answers[slot][key] = answer
            jobs = self._waiting.pop((slot, key))
            for job in jobs:
                job.seconds += seconds * len(row.ids) / len(jobs)
                job._missing -= 1
                woken[id(job)] = job
        self._progress(len(chosen))
        return list(woken.values())

    def _shared(self, rows: Sequence[Row]) -> Floats:
        """Class logits of rows whose common beginnings are computed once, as long as the device's memory allows."""
        if self._prefixes is not None:
            try:
                return self._prefixes.logits(rows)
            except torch.OutOfMemoryError:
                self._prefixes = None
        return np.concatenate([self._logits([row], self.length_of(len(row.ids))) for row in rows])

    def _logits(self, rows: Sequence[Row], length: int) -> Floats:
        """Class logits of a batch; one that the device's memory cannot hold is halved, and so are all later ones."""
        try:
            with torch.inference_mode():
                batch = self.answering.collate(rows, length=length)
                with pooled(self.answering, self.answering.pool(batch)) if self.shortcuts.last_block else nullcontext():
                    return self.answering.forward(batch).logits.double().cpu().numpy()
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        self.token_budget = max(1, length * (len(rows) // 2))
        half = (len(rows) + 1) // 2
        return np.concatenate([self._logits(rows[:half], length), self._logits(rows[half:], length)])


def peak_memory() -> int:
    """Returns the highest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
