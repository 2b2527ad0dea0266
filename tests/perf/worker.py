"""Both ends of the benchmark against the peers; imports nothing but torch and the standard library.

A worker is a process that reads one request a line from standard input and writes one answer a line to standard
output, both JSON. Whatever its libraries print goes to standard error.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

Json = dict[str, Any]

T = TypeVar("T")


def options(description: str) -> argparse.Namespace:
    """Returns the options of a worker, and sets the number of threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", type=Path, help="folder of a classifier")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    found = parser.parse_args()
    torch.set_num_threads(found.threads)
    return found


def serve(answer: Callable[[Json], Json]) -> None:
    """Answers requests until there are no more; every answer also tells the highest memory so far, in bytes."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        found = answer(json.loads(line))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["peak_memory"] = peak if sys.platform == "darwin" else peak * 1024
        print(json.dumps(found), file=replies, flush=True)


class Worker:
    """The driver's end: a process that answers requests.

    Attributes:
        peak: Its highest memory so far, in bytes.
    """

    def __init__(self, python: Path, script: str, options: argparse.Namespace, dtype: str = "float32") -> None:
        command = [
            python,
            Path(__file__).with_name(script),
            options.model,
            "--threads",
            str(options.threads),
            "--dtype",
            dtype,
        ]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads))
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.peak = 0
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | threads | quiet,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, **request: Any) -> Json:
        """Returns the answer to a request.

        Raises:
            RuntimeError: If the worker ended instead; what it said is on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with status {self._process.wait()}")
        answer: Json = json.loads(line)
        self.peak = answer["peak_memory"]
        return answer


class Rows:
    """Counts the rows that a network runs, and how many of them are different.

    Args:
        base: The network below its head.
    """

    def __init__(self, base: torch.nn.Module) -> None:
        self._seen: list[tuple[torch.Tensor, torch.Tensor, bool]] = []
        base.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _module: torch.nn.Module, args: tuple[Any, ...], inputs: Json) -> None:
        # Counting waits until the clock has stopped; embeddings are kept as one number per token, not as they are.
        ids, embeds = args[0] if args else inputs.get("input_ids"), inputs.get("inputs_embeds")
        marks = embeds.detach().double().sum(-1) if ids is None else ids
        graded = torch.is_grad_enabled() and ids is None and bool(embeds.requires_grad)
        mask = inputs.get("attention_mask")
        self._seen.append((marks, torch.ones_like(marks) if mask is None else mask, graded))

    def timed(self, work: Callable[[], T]) -> tuple[T, Json]:
        """Returns what ``work`` returns, and what it took.

        The second holds ``seconds``; ``run`` and ``unique``, the rows and the different rows of forward passes; and the
        number of ``tokens`` and of their ``squares`` (squared lengths) of the different rows, those that gradients
        were taken of counted twice: a backward pass to the inputs multiplies as often as the forward pass.
        """
        self._seen.clear()
        start = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - start
        lengths: dict[bytes, tuple[int, int]] = {}
        run = 0
        for marks, mask, graded in self._seen:
            run += len(marks)
            for row, kept in zip(marks, mask.bool(), strict=True):
                real = row[kept]
                key = real.numpy().tobytes()
                lengths[key] = (len(real), max(1 + graded, lengths.get(key, (0, 1))[1]))
        self._seen.clear()
        return found, {
            "seconds": seconds,
            "run": run,
            "unique": len(lengths),
            "tokens": sum(length * passes for length, passes in lengths.values()),
            "squares": sum(length**2 * passes for length, passes in lengths.values()),
        }
