"""Builds results folders in the stored format, without a model: the tests' only input."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

METHODS: list[tuple[str, str, dict[str, Any], str, bool, bool, float]] = [
    # name, id, params, family, signed, deterministic, quality of the synthetic explanation
    ("lime:samples=200", "lime", {"samples": 200}, "surrogate", True, False, 0.7),
    ("shap", "shap", {}, "shapley", True, False, 0.8),
    ("occlusion", "occlusion", {}, "removal", True, True, 0.75),
    ("random", "random", {}, "control", True, False, 0.0),
    ("rise", "rise", {}, "removal", False, False, 0.5),
    ("gradient", "gradient", {}, "gradient", False, True, 0.25),
    ("gradient_x_input", "gradient_x_input", {}, "gradient", True, True, 0.1),
    ("integrated_gradients:steps=20", "integrated_gradients", {"steps": 20}, "path", True, True, 0.65),
    ("attention", "attention", {}, "attention", False, True, 0.2),
    ("rollout", "rollout", {}, "attention", False, True, 0.05),
    ("tdd", "tdd", {}, "noise", True, False, -0.2),
]

COUNTED = {"random": (0, 0), "gradient": (1, 1), "attention": (1, 0), "occlusion": (30, 0), "shap": (600, 0)}
"""Forwards and backwards of one explanation; 200 forwards for every method that is not named."""

METRICS: list[tuple[str, str, str, bool, tuple[float | None, float | None], str, bool, bool]] = [
    # name, family, summary, higher is better, bounds, comparable, measured, asks
    (
        "comprehensiveness",
        "faithfulness",
        "Drop of the target's probability when the top-ranked words are removed",
        True,
        (-1.0, 1.0),
        "methods on one model and operator",
        False,
        True,
    ),
    (
        "sufficiency",
        "faithfulness",
        "Drop of the target's probability when only the top-ranked words are kept",
        False,
        (-1.0, 1.0),
        "methods on one model and operator",
        False,
        True,
    ),
    (
        "tau_loo",
        "agreement",
        "Kendall rank correlation with the effect of leaving one word out",
        True,
        (-1.0, 1.0),
        "methods on one model and operator",
        False,
        True,
    ),
    (
        "token_f1",
        "plausibility",
        "F1 between the top-ranked words and the words of the human rationale",
        True,
        (0.0, 1.0),
        "methods and models on the same examples",
        False,
        False,
    ),
    (
        "auprc",
        "plausibility",
        "Area under the precision-recall curve of the scores against the human rationale",
        True,
        (0.0, 1.0),
        "methods and models on the same examples",
        False,
        False,
    ),
    (
        "seed_consistency",
        "stability",
        "Mean Spearman correlation between explanations under different seeds",
        True,
        (-1.0, 1.0),
        "methods and models",
        False,
        False,
    ),
    (
        "noise_stability",
        "stability",
        "Largest relative change of the explanation under small noise on the embeddings",
        False,
        (0.0, None),
        "methods and models",
        False,
        False,
    ),
    (
        "seconds",
        "cost",
        "Time of one explanation in seconds",
        False,
        (0.0, None),
        "methods on one machine and thread count",
        True,
        False,
    ),
    (
        "forwards",
        "cost",
        "Inputs sent through the model for one explanation",
        False,
        (0.0, None),
        "methods, models and machines",
        False,
        False,
    ),
]

VOCABULARY = re.findall(
    r"\w+",
    "the film is a quiet and remarkably funny portrait of two people who never say what they mean though its last "
    "act drags and music far too loud wonderful dull moving clumsy script camera lingers on small rooms",
)

MODELS = ("bert-tiny", "gpt2-small", "opt-125m", "bert-base", "bert-large", "gpt2", "gpt2-medium", "opt-350m", "opt")


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


class Folder:
    """Writes a results folder; every part can be changed before :meth:`write`."""

    def __init__(self, folder: Path, *, models: int = 2, methods: int = 11, examples: int = 32, chunk: int = 16):
        self.folder, self.n, self.chunk = folder, examples, chunk
        self.rng = np.random.default_rng(0)
        self.methods = METHODS[:methods]
        self.models = MODELS[:models]
        self.words: list[list[str]] = []
        self.columns = [
            {"metric": name, "operator": operator, "unit": "word"}
            for name, *_, asks in METRICS
            for operator in (("delete", "replace") if asks else (None,))
        ]
        self.run: dict[str, Any] = {
            "schema": 1,
            "suite": self.suite(),
            "provenance": self.provenance(),
            "methods": [self.method(*row) for row in self.methods],
            "metrics": [self.metric(row) for row in METRICS],
            "columns": self.columns,
            "models": [],
            "datasets": [],
            "cells": [],
        }

    def suite(self) -> dict[str, Any]:
        return {
            "name": "quick",
            "title": "Quick suite",
            "description": "Small models trained on text with planted reasons, and short reviews.",
            "limit": self.n,
            "seed": 7,
            "unit": "word",
            "timeout": 60.0,
            "operators": ["delete", "replace"],
            "explain": {"target": "predicted", "scalar": "contrast", "operator": "replace"},
            "re_explain": {"examples": 8, "seeds": 3, "draws": 5},
        }

    def provenance(self) -> dict[str, Any]:
        return {
            "attrlab": "0.1.0",
            "versions": {"torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.0", "shap": "0.51.0"},
            "python": "3.11.9",
            "platform": "Linux-x86_64",
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
            "device": "cpu",
            "threads": 2,
            "started": "2026-01-02T03:04:05+00:00",
        }

    def method(self, name, identity, params, family, signed, deterministic, _quality) -> dict[str, Any]:
        return {
            "name": name,
            "id": identity,
            "params": params,
            "version": "1",
            "origin": "",
            "family": family,
            "summary": f"What {identity} does, in one line",
            "signed": signed,
            "deterministic": deterministic,
            "reference": "Somebody et al. 2020, A Paper",
            "forwards": "m + 1",
            "backwards": "0",
        }

    def metric(self, row: tuple[Any, ...]) -> dict[str, Any]:
        name, family, summary, higher, bounds, comparable, measured, asks = row
        return {
            "name": name,
            "id": name,
            "family": family,
            "summary": summary,
            "higher_is_better": higher,
            "bounds": list(bounds),
            "comparable": comparable,
            "reference": "DeYoung et al. 2020, ERASER",
            "measured": measured,
            "asks": asks,
        }

    def add(self, dataset: str, *, rationales: str = "planted", notes: tuple[str, ...] = ()) -> "Folder":
        """Adds a data set with all models and methods."""
        labels = ["negative", "positive"]
        self.run["datasets"].append(
            {
                "name": dataset,
                "summary": "Short texts with two classes",
                "labels": labels,
                "rationales": rationales,
                "n_total": 400,
                "n_used": self.n,
                "fingerprint": "ab12" * 8,
                "reference": "Somebody 2019",
                "licence": "CC0-1.0",
                "notes": list(notes),
            }
        )
        self.words = [self.text(i) for i in range(self.n)]
        for model in self.models:
            self.run["models"].append(
                {
                    "name": model,
                    "id": model,
                    "dataset": dataset,
                    "family": "bert",
                    "parameters": 4_386_178,
                    "hash": "c0ffee" * 8,
                    "trained": {
                        "dataset": dataset,
                        "heldout_accuracy": 0.934,
                        "train_size": 2000,
                        "steps": 300,
                        "seconds": 41.5,
                    },
                }
            )
            self.block(dataset, model, bool(rationales))
        return self

    def text(self, i: int) -> list[str]:
        return [str(word) for word in self.rng.choice(VOCABULARY, size=6 + i % 17)]

    def block(self, dataset: str, model: str, rationales: bool) -> None:
        key = f"{dataset}-{model}".replace(":", "_")
        gold = [(self.rng.random((3, len(words))) < 0.25).astype(int) for words in self.words]
        predictions = [
            {
                "example": f"{dataset}-{i}",
                "status": "ok",
                "reason": None,
                "words": words,
                "texts": [0] * len(words),
                "target": i % 2,
                "label": int(i % 2 if i % 9 else 1 - i % 2),
                "probability": 0.5 + 0.4 * float(self.rng.random()),
                "correct": bool(i % 9),
                "tokens": len(words) + 2,
                "dropped": 3 if i % 16 == 5 else 0,
                "rationale": gold[i].tolist() if rationales else None,
            }
            for i, words in enumerate(self.words)
        ]
        prediction_keys = self.store("predictions", key, predictions)
        for row in self.methods:
            self.cell(dataset, model, row, prediction_keys, gold if rationales else None)

    def cell(self, dataset: str, model: str, method, predictions: list[str], gold: Any) -> None:
        name, signed, quality = method[0], method[4], method[6]
        key = f"{dataset}-{model}-{name}".replace(":", "_").replace("=", "_")
        forwards, backwards = COUNTED.get(name, (200, 0))
        attributions = []
        for i, words in enumerate(self.words):
            scores = self.rng.normal(size=len(words)) * 0.3
            scores += quality * (gold[i].mean(axis=0) if gold is not None else 0.2)
            failed = name.startswith("lime") and i == 3
            attributions.append(
                {
                    "example": f"{dataset}-{i}",
                    "status": "failed" if failed else "ok",
                    "reason": "ContractError: 61 s spent, 60 s allowed" if failed else None,
                    "scores": None if failed else (scores if signed else abs(scores)).tolist(),
                    "seconds": 0.01,
                    "forwards": forwards,
                    "backwards": backwards,
                    "unique_forwards": forwards,
                    "peak_memory": 10**9,
                    "stats": {},
                }
            )
        self.run["cells"].append(
            {
                "model": model,
                "dataset": dataset,
                "method": name,
                "reason": None,
                "predictions": predictions,
                "attributions": self.store("attributions", key, attributions),
                "scores": [
                    self.scores(f"{key}-{i}", column, quality, attributions, gold is not None)
                    for i, column in enumerate(self.columns)
                ],
            }
        )

    def scores(self, key: str, column: dict[str, Any], quality: float, attributions: list, gold: bool) -> dict:
        metric = next(row for row in METRICS if row[0] == column["metric"])
        if metric[1] == "plausibility" and not gold:
            return {"reason": "the data set has no rationales", "keys": []}
        shift = quality if metric[3] else -quality
        rows = []
        for i, row in enumerate(attributions[: 8 if metric[1] == "stability" else None]):
            value = float(np.clip(0.4 + 0.3 * shift + self.rng.normal() * 0.2, -1, 1))
            value = {"forwards": 200.0, "seconds": 0.05 + abs(value) / 9}.get(metric[0], value)
            reason = "only one word" if metric[0] == "tau_loo" and i % 11 == 0 else row["reason"]
            rows.append({"example": row["example"], "value": None if reason else value, "reason": reason})
        return {"reason": None, "keys": self.store("scores", key, rows)}

    def store(self, kind: str, key: str, rows: list[Any]) -> list[str]:
        keys = []
        for start in range(0, len(rows), self.chunk):
            keys.append(f"{key}-{start}")
            path = self.folder / kind / f"{keys[-1]}.json"
            write(path, {"schema": 1, "key": keys[-1], "rows": rows[start : start + self.chunk]})
        return keys

    def change(self, kind: str, key: str, edit: Callable[[dict[str, Any]], Any]) -> None:
        """Edits a stored chunk in place."""
        path = self.folder / kind / f"{key}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        edit(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    def write(self) -> Path:
        write(self.folder / "run.json", self.run)
        return self.folder
