"""Writes what ERASER's own scorer gives on made-up rationales, for ``test_metric_parity_plausibility.py``.

With a checkout of https://github.com/jayded/eraserbenchmark at commit 36467f1662812cbd4fbdd66879946cd7338e08ec (only
``rationale_benchmark/metrics.py`` and ``utils.py`` are used; the paper's versions of its packages are not needed) and
``pip install torch scipy scikit-learn==1.9.0``:

    PYTHONPATH=CHECKOUT python tests/metrics/references/eraser_rationales.py

writes ``tests/metrics/data/eraser_rationales.json``: per example the scores (all different; and a second vector with
ties), the marks, the number k of selected words, and ERASER's numbers for that example; then the numbers for all of
them together. The selected words are the k with the highest scores, their runs are the predicted spans.
"""

import json
from pathlib import Path

import numpy as np
from rationale_benchmark.metrics import (
    PositionScoredDocument,
    Rationale,
    partial_match_score,
    score_hard_rationale_predictions,
    score_soft_tokens,
)

TARGET = Path(__file__).parents[1] / "data" / "eraser_rationales.json"
EXAMPLES = 24


def spans(name, chosen):
    """Returns the runs of True as ERASER's spans."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
    return [Rationale(name, name, int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def draw(rng):
    """Returns one example: marks in runs, scores that follow them somewhat."""
    m = int(rng.integers(5, 40))
    marks = np.zeros(m, dtype=bool)
    for _ in range(int(rng.integers(1, 4))):
        start = int(rng.integers(0, m))
        marks[start : start + int(rng.integers(1, 6))] = True
    if marks.all():
        marks[-1] = False
    scores = rng.random(m) + 0.5 * marks + 0.5 * np.roll(marks, 1)
    return {
        "scores": scores.tolist(),
        "tied": np.round(3 * scores).tolist(),
        "marks": marks.astype(int).tolist(),
        "k": int(rng.integers(1, max(2, m // 2))),
    }


def judged(examples):
    """Returns ERASER's numbers for a set of examples."""
    truth, predicted, documents, tied = [], [], [], []
    for index, one in enumerate(examples):
        name, scores, marks = str(index), np.array(one["scores"]), np.array(one["marks"], dtype=bool)
        chosen = np.zeros(len(scores), dtype=bool)
        chosen[np.argsort(-scores)[: one["k"]]] = True
        truth += spans(name, marks)
        predicted += spans(name, chosen)
        documents.append(PositionScoredDocument(name, name, tuple(scores), tuple(marks.tolist())))
        tied.append(PositionScoredDocument(name, name, tuple(one["tied"]), tuple(marks.tolist())))
    tokens = [[token for span in side for token in span.to_token_level()] for side in (truth, predicted)]
    return {
        "tokens": score_hard_rationale_predictions(*tokens)["instance_macro"],
        "spans": partial_match_score(truth, predicted, [0.5])[0]["macro"],
        "soft": score_soft_tokens(documents),
        "soft_tied": score_soft_tokens(tied),
    }


def main():
    """Writes the file."""
    rng = np.random.default_rng(0)
    examples = [draw(rng) for _ in range(EXAMPLES)]
    content = {
        "examples": [{**one, "eraser": judged([one])} for one in examples],
        "together": judged(examples),
    }
    TARGET.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
