"""What a plan would cost, before anything is run."""

import inspect
import time

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from attrlab.bench.facts import MethodFacts
from attrlab.bench.inputs import words
from attrlab.bench.operators import DRAWS
from attrlab.bench.plan import Block, Plan
from attrlab.bench.registry import Component, load
from attrlab.bench.zoo import BY_MINI, ModelInfo

TOKENS_PER_WORD = 1.4
"""Rough number of tokens per word; only the estimate rests on it."""

EFFICIENCY = 0.5
"""Share of the measured matrix-multiply rate that batches of short texts reach, roughly."""


def formula(text: str, values: dict[str, float]) -> float:
    """Returns the value of a cost formula of the catalogue, 0 for an empty one.

    >>> formula("2 * m + samples", {"m": 10, "samples": 100})
    120.0
    """
    if not text:
        return 0.0
    return float(eval(compile(text, "cost", "eval"), {"__builtins__": {"min": min, "max": max}}, dict(values)))


def per_example(
    method: Component[MethodFacts], units: float, layers: int, tokens: float | None = None
) -> tuple[float, float]:
    """Returns the forwards and backwards a method asks for an example of so many units (and attributable tokens)."""
    tokens = units * TOKENS_PER_WORD if tokens is None else tokens
    built = method.build()  # may have resolved a parameter, such as the draws and steps of a preset
    if isinstance(inner := getattr(built, "component", None), Component):
        return per_example(inner, units, layers, tokens)
    known = inspect.signature(load(method.facts.where)).parameters
    resolved = {name: getattr(built, name, method.params.get(name, known[name].default)) for name in known}
    given = {name: value for name, value in resolved.items() if isinstance(value, int | float)}
    values = {**given, "m": units, "t": tokens, "L": layers}
    return formula(method.facts.forwards, values), formula(method.facts.backwards, values)


def overview(plan: Plan) -> RenderableType:
    """Returns the cells of a plan with their forwards, what is skipped and why, and a rough time."""
    table = Table(title=f"Dry run of suite {plan.suite.name!r}", title_justify="left")
    for column in ("model", "data", "examples", "method", "forwards", "backwards"):
        table.add_column(column, justify="right" if column in ("examples", "forwards", "backwards") else "left")
    work = rows = 0.0
    for block in plan.live:
        units, info = _mean_units(block), _info(block)
        for method in plan.methods:
            times = _explanations(plan, block, method)
            if not method.facts.needs:  # a question is asked in every draw of the operator
                times *= DRAWS.get(plan.suite.explain.operator, 1)
            forwards, backwards = (n * times for n in per_example(method, units, info.layers if info else 12))
            counts = (f"{forwards:,.0f}", f"{backwards:,.0f}")
            table.add_row(block.model, block.dataset.name, str(len(block.examples)), method.name, *counts)
            rows += forwards
            work += (forwards + 2 * backwards) * 2 * _parameters(block, info) * units * TOKENS_PER_WORD
    cells = len(plan.blocks) * len(plan.methods)
    seconds = work / (EFFICIENCY * _matmul_rate())
    summary = f"{cells} cells, {rows:,.0f} forwards; roughly {seconds:,.0f} s of attribution on this CPU,"
    return Group(table, *_skips(plan), Text(f"{summary} training and overhead aside. Nothing was run."))


def _skips(plan: Plan) -> list[Text]:
    """One line for each reason, with those that it holds for."""
    lines = [f"{block.model} on {block.dataset.name}: {block.reason}" for block in plan.blocks if block.reason]
    skips: dict[tuple[str, str, str], list[str]] = {}
    for block in plan.live:
        for method in plan.methods:
            for column in plan.columns:
                if reason := plan.skip(block, method, column):
                    names = skips.setdefault((column.metric.name, block.dataset.name, reason), [])
                    names += [] if method.name in names else [method.name]
    for (metric, dataset, reason), names in sorted(skips.items()):
        of = "all methods" if len(names) == len(plan.methods) else ", ".join(names)
        lines.append(f"{metric} on {dataset}: {reason} ({of})")
    return [Text(f"skipped: {line}") for line in lines]


def _explanations(plan: Plan, block: Block, method: Component[MethodFacts]) -> int:
    again = {
        replicate
        for column in plan.columns
        if plan.skip(block, method, column) is None
        for replicate in plan.replicates(block, column.metric)
    }
    return len(block.examples) + len(again) * min(plan.suite.re_explain.examples, len(block.examples))


def _mean_units(block: Block) -> float:
    counts = [sum(len(words(text)) for text in example.texts) for example in block.examples]
    return sum(counts) / max(1, len(counts))


def _info(block: Block) -> ModelInfo | None:
    return BY_MINI.get(block.model) or (block.checkpoint.info if block.checkpoint else None)


def _parameters(block: Block, info: ModelInfo | None) -> float:
    """Returns the weights that every token meets: those of the blocks, and none of the embeddings."""
    if block.model in BY_MINI:
        size = BY_MINI[block.model].mini_geometry()
        return 12.0 * size["layers"] * size["width"] ** 2
    if info:
        return 12.0 * info.layers * info.width**2
    return float(block.checkpoint.parameters if block.checkpoint else 0)


def _matmul_rate() -> float:
    """Measured rate of a square fp32 product, in operations per second."""
    matrix = torch.randn(512, 512)
    matrix @ matrix
    start = time.perf_counter()
    for _ in range(10):
        matrix @ matrix
    return 10 * 2 * 512**3 / (time.perf_counter() - start)
