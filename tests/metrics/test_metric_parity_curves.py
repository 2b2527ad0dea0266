"""Erasure metrics against what reference packages give on the same small model, and against their formulas."""

import importlib.util
import json
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from attrlab.bench.engine import Engine, Job
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.types import Case
from attrlab.metrics.agreement import TauLoo
from attrlab.metrics.curves import DeletionAuc, InsertionAuc, deletion, insertion
from attrlab.metrics.erasure import BINS, LogOdds, aopc
from attrlab.metrics.ranking import count, ranked_units

HERE = Path(__file__).parent


def load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / "references" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


toy = load("curves_model")


@pytest.fixture(scope="module")
def model():
    return TextModel(toy.network(), toy.tokenizer(), "reference")


def stored(name):
    return json.loads((HERE / "data" / f"{name}.json").read_text("utf-8"))


def asked(asker, model, encoded, operator):
    """Returns what an asker returns when the real model answers."""
    job = Job(slot=0, asker=asker, operator=operator)
    Engine(model, [encoded]).run([job], lambda _job: None)
    assert job.error is None
    return job.result


def explained(model, operator):
    """Yields every text and explanation of the references, in their order."""
    for text in toy.TEXTS:
        encoded = model.encode(Example(id=text, texts=(text,), label=None), "token")
        for scores in toy.explanations(encoded.n_units):
            order = np.arange(encoded.n_units)[None]
            yield encoded, Case(scores=scores, signed=True, target=1, label=None, tie_orders=order, operator=operator)


@pytest.mark.parametrize(("name", "metric"), [("deletion_auc", DeletionAuc()), ("insertion_auc", InsertionAuc())])
def test_areas_equal_interpretos(name, metric, model, parity):
    ours = [asked(metric.score(case), model, encoded, "replace").value for encoded, case in explained(model, "replace")]
    error = np.abs(np.array(ours) - stored("interpreto_curves")[name]).max()
    assert np.ptp(ours) > 0.01
    parity("Q1", name, "interpreto Deletion and Insertion, BERT, tokens", error, 1e-6)


@pytest.mark.parametrize("operator", ["delete", "replace", "attn", "pad"])
def test_every_explanation_of_a_text_has_the_same_ends(operator, model):
    ends = {}
    for encoded, case in explained(model, operator):
        removed, kept = (
            asked(kind(case, ranked_units(case)), model, encoded, operator) for kind in (deletion, insertion)
        )
        assert (removed.logits[0, 0] == kept.logits[0, -1]).all(), "insertion ends with the original prediction"
        assert (removed.logits[0, -1] == kept.logits[0, 0]).all()
        ends.setdefault(case.n_units, set()).add((removed.full, removed.empty))
    assert [len(found) for found in ends.values()] == [1] * len(toy.TEXTS)


def as_ferret(case, curve, *, nothing):
    """Returns ferret's mean: bins of 10 to 100 %, rounded down, positive scores only, no set twice in a row."""
    m, positive = case.n_units, int((case.scores > 0).sum())
    sizes = [min(int(share * m), positive) for share in np.arange(0.1, 1.1, 0.1)]
    kept = [k for before, k in zip([0, *sizes], sizes, strict=False) if k not in (0, before)]
    return aopc(curve.full, curve.p[0, kept]) if kept else nothing


@pytest.mark.parametrize(
    ("name", "kind", "nothing"), [("comprehensiveness", deletion, 0.0), ("sufficiency", insertion, 1.0)]
)
def test_curves_reproduce_ferrets_evaluators(name, kind, nothing, model, parity):
    ours = [
        as_ferret(case, asked(kind(case, ranked_units(case)), model, encoded, "delete"), nothing=nothing)
        for encoded, case in explained(model, "delete")
    ]
    error = np.abs(np.array(ours) - stored("ferret_evaluators")[name]).max()
    assert nothing in ours, "an explanation without a positive score"
    assert len(set(ours)) > len(ours) / 2
    parity("Q2", name, "ferret evaluators, its bins and rules on our curve", error, 1e-5)


def test_tau_loo_equals_ferrets(model, parity):
    ours = [asked(TauLoo().score(case), model, encoded, "delete").value for encoded, case in explained(model, "delete")]
    error = np.abs(np.array(ours) - stored("ferret_evaluators")["tau_loo"]).max()
    parity("Q2", "tau_loo", "ferret TauLOO_Evaluation", error, 1e-5)


def test_tau_loo_equals_scipys_tau_b_of_the_drops(model, parity):
    for encoded, case in explained(model, "replace"):
        keep = np.vstack([np.ones(case.n_units, dtype=bool), ~np.eye(case.n_units, dtype=bool)])
        p = asked(case.probabilities(keep), model, encoded, "replace")
        expected = kendalltau(case.scores, p[0] - p[1:], variant="b").statistic
        ours = asked(TauLoo().score(case), model, encoded, "replace").value
        parity("Q5", "tau_loo", "scipy kendalltau", abs(ours - expected), 1e-12)


def eraser_average(instances, key):
    """The documented AOPC of ERASER, on its file format: the plain mean over all thresholds of all instances."""
    return fmean(
        instance["classification_scores"][instance["classification"]] - row[key][instance["classification"]]
        for instance in instances
        for row in instance["thresholded_scores"]
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("comprehensiveness", "comprehensiveness_classification_scores"),
        ("sufficiency", "sufficiency_classification_scores"),
    ],
)
def test_averaging_is_erasers_on_the_same_probability_table(name, key, seed, parity):
    tables = np.random.default_rng(seed).random((4, 1 + len(BINS)))
    instances = [
        {
            "classification": "pos",
            "classification_scores": {"pos": full, "neg": 1 - full},
            "thresholded_scores": [
                {"threshold": share, key: {"pos": p, "neg": 1 - p}} for share, p in zip(BINS, bins, strict=True)
            ],
        }
        for full, *bins in tables.tolist()
    ]
    ours = np.mean([aopc(full, np.array(bins)) for full, *bins in tables])
    error = abs(ours - eraser_average(instances, key))
    parity("Q3", name, "mean over ERASER's thresholds, from its file format", error, 1e-12)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_log_odds_equals_the_formula_of_dig_on_the_same_ids(share, model, parity):
    for encoded, case in explained(model, "replace"):
        ids = torch.tensor(encoded.ids)
        top = torch.topk(torch.tensor(case.scores), count(share, case.n_units)).indices + 1  # after [CLS]
        replaced = ids.clone()
        replaced[top] = model.tokenizer.mask_token_id
        with torch.no_grad():
            p, q = (torch.softmax(model.network(one[None]).logits[0], dim=0) for one in (ids, replaced))
        expected = (torch.log(q[1]) - torch.log(p[1])).item()
        ours = asked(LogOdds(at=str(share)).score(case), model, encoded, "replace").value
        parity("Q12", "log_odds", "formula of DIG on the same replaced ids", abs(ours - expected), 1e-10)
