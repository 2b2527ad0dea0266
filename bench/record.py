"""Writes ``run.json``: the plan, the facts and the provenance that the leaderboard shows. It never meets a model."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrlab.bench import shifts
from attrlab.bench.plan import Block, Plan
from attrlab.bench.registry import Component
from attrlab.bench.session import SMALL, Options
from attrlab.bench.store import Store, key_of, number, write_json
from attrlab.bench.trials import study_of
from attrlab.bench.types import SCHEMA, Json

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "captum",
    "shap",
    "lime",
    "scikit-learn",
    "numpy",
    "scipy",
)


def write(plan: Plan, store: Store, options: Options) -> None:
    """Writes the record of a run beside its chunks."""
    suite = plan.suite.model_dump()
    content = {
        "schema": SCHEMA,
        "suite": suite | {"timeout": options.timeout},
        "provenance": provenance(options, small=all(block.size < SMALL for block in plan.live)),
        "methods": [_facts(method) for method in plan.methods],
        "metrics": [_facts(metric) for metric in plan.metrics],
        "columns": [
            {"metric": column.metric.name, "operator": column.operator, "unit": plan.suite.unit}
            for column in plan.columns
        ],
        "models": [model_card(block) for block in plan.blocks],
        "datasets": list({block.dataset.name: dataset_card(block) for block in plan.blocks}.values()),
        "cells": [_cell(plan, block, method) for block in plan.blocks for method in plan.methods],
        "studies": list(_studies(plan)),
        "shifts": [_shift(plan, block, operator) for block in plan.live for operator in shifts.operators(plan)],
    }
    write_json(store.folder / "run.json", content)


def _facts(component: Component[Any]) -> Json:
    facts = {name: getattr(component.facts, name) for name in component.facts.__dataclass_fields__}
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}
    if "bounds" in facts:
        facts["bounds"] = [number(bound) for bound in facts["bounds"]]
    return facts | {
        "name": component.name,
        "id": component.id,
        "params": dict(component.params),
        "origin": component.origin,
    }


def model_card(block: Block) -> Json:
    """Returns the facts of the model of a block."""
    found = block.checkpoint
    info = found.info if found else None
    card = (found.card if found else None) or {}
    return {
        "name": block.model,
        "dataset": block.dataset.name,
        "id": info.repo if info else block.model,
        "family": info.family if info else "",
        "parameters": found.parameters if found else None,
        "hash": found.hash if found else None,
        "classes": list(block.classes),
        "trained": {key: value for key, value in card.items() if key != "recipe"} or None,
    }


def dataset_card(block: Block) -> Json:
    """Returns the facts of the data set of a block."""
    dataset, info = block.dataset, block.dataset.info
    return {
        "name": dataset.name,
        "summary": info.summary,
        "labels": list(info.labels),
        "rationales": info.rationales,
        "n_total": len(dataset.examples),
        "n_used": len(block.examples),
        "fingerprint": dataset.fingerprint,
        "reference": info.reference,
        "licence": info.licence,
        "notes": list(info.notes_on(dataset.part)),
    }


def _cell(plan: Plan, block: Block, method: Component[Any]) -> Json:
    cell: Json = {"model": block.model, "dataset": block.dataset.name, "method": method.name, "reason": block.reason}
    if block.reason is not None:
        return cell | {"predictions": [], "attributions": [], "scores": []}
    chunks = plan.chunks(block)
    cell["predictions"] = [key_of(plan.predictions(block, chunk)) for chunk in chunks]
    cell["attributions"] = [key_of(plan.attributions(block, chunk, method)) for chunk in chunks]
    cell["scores"] = []
    for column in plan.columns:
        reason = plan.skip(block, method, column)
        scored = [chunk for chunk in chunks if reason is None and plan.rows(column, chunk).examples]
        keys = [key_of(plan.scores(block, chunk, method, column)) for chunk in scored]
        cell["scores"].append({"reason": reason, "keys": keys})
    return cell


def _studies(plan: Plan) -> Iterator[Json]:
    """Yields where the details are of what metrics that train find."""
    for block in plan.live:
        for column in plan.columns:
            for method in plan.methods:
                if column.metric.facts.trains and plan.skip(block, method, column) is None:
                    key = key_of(study_of(plan, block, method, column))
                    yield {
                        "model": block.model,
                        "dataset": block.dataset.name,
                        "method": method.name,
                        "metric": column.metric.name,
                        "key": key,
                    }


def _shift(plan: Plan, block: Block, operator: str) -> Json:
    """Returns where it is told how far an operator takes inputs off the training texts, or why it is not."""
    place: Json = {"model": block.model, "dataset": block.dataset.name, "operator": operator}
    told = block.no_training is None
    keys = [key_of(shifts.shift_of(plan, block, operator))] if told else []
    return place | {"keys": keys, "reason": block.no_training}


def provenance(options: Options, *, small: bool) -> Json:
    """Returns versions, commit and machine."""
    import torch

    return {
        "attrlab": importlib.metadata.version("attrlab"),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": _git(),
        "device": options.device,
        "threads": 1 if small else torch.get_num_threads(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git() -> Json | None:
    """Commit of the checkout that this package runs from, and whether it was changed; None for an installed wheel."""
    folder = Path(__file__).parent
    if not (folder.parent / "pyproject.toml").is_file():
        return None
    try:
        commit, status = (
            subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=True).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.strip(), "dirty": bool(status.strip())}
