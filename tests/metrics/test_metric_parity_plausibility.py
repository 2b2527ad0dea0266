"""Parity Q4: plausibility against ERASER's own scorer (stored numbers) and scikit-learn."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from attrlab.bench.types import Case
from attrlab.metrics.detection import auprc, auroc, average_precision
from attrlab.metrics.plausibility import Auprc, Auroc, AveragePrecision, TokenF1, TokenPrecision, TokenRecall
from attrlab.metrics.spans import IouF1, IouPrecision, IouRecall

STORED = json.loads((Path(__file__).parent / "data" / "eraser_rationales.json").read_text("utf-8"))
CASES = [
    Case(
        scores=np.array(one["scores"]),
        signed=True,
        target=0,
        label=0,
        tie_orders=np.arange(len(one["scores"]))[None],
        rationales=np.array([one["marks"]], dtype=bool),
        rationale_share=one["k"] / len(one["scores"]),
    )
    for one in STORED["examples"]
]


def values(metric, cases=CASES):
    return np.array([metric.score(case).value for case in cases])


@pytest.mark.parametrize(
    ("name", "metric", "group", "number"),
    [
        ("token_precision", TokenPrecision(), "tokens", "p"),
        ("token_recall", TokenRecall(), "tokens", "r"),
        ("token_f1", TokenF1(), "tokens", "f1"),
        ("iou_precision", IouPrecision(), "spans", "p"),
        ("iou_recall", IouRecall(), "spans", "r"),
        ("iou_f1", IouF1(), "spans", "f1"),
        ("auprc", Auprc(), "soft", "auprc"),
        ("average_precision", AveragePrecision(), "soft", "average_precision"),
        ("auroc", Auroc(), "soft", "roc_auc_score"),
    ],
)
def test_every_example_has_erasers_number(parity, name, metric, group, number):
    expected = np.array([one["eraser"][group][number] for one in STORED["examples"]])
    parity("Q4", name, "ERASER metrics.py", np.abs(values(metric) - expected).max(), 1e-12)
    assert 0 < expected.mean() < 1, "the examples are neither all right nor all wrong"


@pytest.mark.parametrize(
    ("name", "metric", "number"),
    [
        ("auprc", Auprc(), "auprc"),
        ("average_precision", AveragePrecision(), "average_precision"),
        ("auroc", Auroc(), "roc_auc_score"),
    ],
)
def test_tied_scores_too(parity, name, metric, number):
    cases = [replace(case, scores=np.array(one["tied"])) for case, one in zip(CASES, STORED["examples"], strict=True)]
    expected = np.array([one["eraser"]["soft_tied"][number] for one in STORED["examples"]])
    parity("Q4", name, "ERASER metrics.py", np.abs(values(metric, cases) - expected).max(), 1e-12)


def test_erasers_means_are_to_be_had_from_ours(parity):
    """Its macro token F1 is a mean of F1, its macro IOU F1 the F1 of two means."""
    together = STORED["together"]
    parity("Q4", "token_f1", "ERASER macro", abs(values(TokenF1()).mean() - together["tokens"]["f1"]), 1e-12)
    precision, recall = values(IouPrecision()).mean(), values(IouRecall()).mean()
    macro = 2 * precision * recall / (precision + recall)
    parity("Q4", "iou_f1", "ERASER macro", abs(macro - together["spans"]["f1"]), 1e-12)
    assert abs(values(IouF1()).mean() - together["spans"]["f1"]) > 0.01, "the two conventions differ"
    parity("Q4", "auprc", "ERASER macro", abs(values(Auprc()).mean() - together["soft"]["auprc"]), 1e-12)


def scikit_auprc(marks, scores, sample_weight):
    precision, recall, _ = precision_recall_curve(marks, scores, sample_weight=sample_weight)
    return auc(recall, precision)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("auprc", auprc, scikit_auprc),
        ("average_precision", average_precision, average_precision_score),
        ("auroc", auroc, roc_auc_score),
    ],
)
@pytest.mark.parametrize("soft", [False, True])
def test_areas_are_scikit_learns_with_each_unit_as_two_weighted_ones(parity, name, ours, theirs, soft):
    rng, error = np.random.default_rng(4), 0.0
    for _ in range(100):
        m = int(rng.integers(2, 40))
        target = rng.random(m) if soft else (rng.random(m) < 0.3).astype(float)
        target[:2] = 1.0, 0.0
        scores = rng.integers(-5, 6, m) / 3 if rng.random() < 0.5 else rng.normal(size=m)
        marks, weights = np.repeat([1, 0], m), np.concatenate([target, 1 - target])
        expected = theirs(marks, np.tile(scores, 2), sample_weight=weights)
        error = max(error, abs(ours(target, scores) - expected))
    parity("Q4", name, "scikit-learn, weighted" if soft else "scikit-learn", error, 1e-12)
