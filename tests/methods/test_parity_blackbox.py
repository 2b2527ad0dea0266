"""Removal and Shapley methods against Captum, SHAP and LIME, on set functions and on models."""

import importlib.util
import json
from math import factorial
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import shap
import torch
from lime.lime_text import LimeTextExplainer
from toygames import curved, estimate, explain, subsets

from attrlab.bench.batch import Row
from attrlab.bench.engine import Engine
from attrlab.bench.explain import Question, outcomes
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.testing import SHARPNESS, TEXTS, tiny
from attrlab.methods.exact_shapley import ExactShapley
from attrlab.methods.kernel_shap import KernelShap
from attrlab.methods.lime import fit
from attrlab.methods.removal import LeaveOneOut
from attrlab.methods.shapley import Shap, ShapleySampling, neighbour_tree

MINIS = ("bert-base-mini", "gpt2-mini", "opt-125m-mini", "opt-350m-mini")


HERE = Path(__file__).parent


def script(name):
    """A script of the folder of references, as a module; it loads its reference package only when run by hand."""
    spec = importlib.util.spec_from_file_location(name, HERE / "references" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_ones(value):
    """A set function as a library's model of a vector of ones and zeros."""
    return lambda present: value(np.asarray(present).astype(bool))


def in_torch(value):
    return lambda present: torch.from_numpy(value(present.numpy().astype(bool)))


def by_definition(value, units):
    """The Shapley values as the sum over all subsets (methods spec 3.4), one coalition at a time."""
    every = subsets(units)
    table, scores = value(every), np.zeros(units)
    for index, keep in enumerate(every):
        size = keep.sum()
        for unit in np.flatnonzero(~keep):
            weight = factorial(size) * factorial(units - size - 1) / factorial(units)
            scores[unit] += weight * (table[index | 1 << unit] - table[index])
    return scores


def double(mini):
    """A tiny model of its own, in float64, on which words count."""
    model = tiny.__wrapped__(mini, sharpness=SHARPNESS)
    model.network.double()
    return model


def ask(method, model, encoded):
    """Explains the logit of class 1 of one text, replacing what is removed."""
    (found,) = outcomes(method, [Question(slot=0, target=1, seed=(0,))], Engine(model, [encoded]), "logit", "replace")
    return found


def logit_of_ids(model, encoded):
    """The logit of class 1 as a function of a batch of ids, as Captum sees the model."""

    def forward(ids):
        everywhere = np.ones(ids.shape[1], dtype=bool)
        rows = [Row(row, encoded.segments, everywhere) for row in ids.numpy()]
        with torch.no_grad():
            return model.forward(model.collate(rows)).logits[:, 1]

    return forward


@pytest.mark.parametrize("unit", ["word", "token"])
@pytest.mark.parametrize("mini", MINIS)
def test_leave_one_out_equals_captum_feature_ablation_on_ids(mini, unit, parity):
    model = double(mini)
    encoded = model.encode(Example(id="0", texts=(TEXTS[0],), label=0), unit)
    special = encoded.n_units + np.arange(len(encoded.ids))  # a group of its own for every special token
    groups = torch.from_numpy(np.where(encoded.units >= 0, encoded.units, special))
    reference = captum.attr.FeatureAblation(logit_of_ids(model, encoded)).attribute(
        torch.from_numpy(encoded.ids)[None],
        baselines=model.replace_id,
        feature_mask=torch.unique(groups, return_inverse=True)[1][None],
    )
    first = [int(np.flatnonzero(encoded.units == index)[0]) for index in range(encoded.n_units)]
    scores = ask(LeaveOneOut(), model, encoded).scores
    assert np.ptp(scores) > 1e-3
    error = np.abs(scores - reference.numpy()[0, first]).max()
    parity("P1", "leave_one_out", "captum FeatureAblation on ids, 4 models, float64", error, 1e-12)


@pytest.mark.parametrize("unit", ["word", "token"])
def test_leave_one_out_equals_interpreto_occlusion(unit, parity):
    reference = script("interpreto_occlusion")
    stored = json.loads((HERE / "data" / "interpreto_occlusion.json").read_text("utf-8"))["attributions"][unit]
    model = TextModel(reference.network(), reference.tokenizer(), "reference")
    encoded = model.encode(Example(id="0", texts=(reference.TEXT,), label=1), unit)
    error = np.abs(ask(LeaveOneOut(), model, encoded).scores - np.array(stored)).max()
    parity("P1", "leave_one_out", "interpreto Occlusion, BERT, words and tokens", error, 1e-6)


@pytest.mark.parametrize("window", [1, 2, 3, 9])
def test_windows_equal_captum_occlusion(window, parity):
    value = curved(9)
    reference = captum.attr.Occlusion(in_torch(value)).attribute(
        torch.ones(1, 9, dtype=torch.float64), sliding_window_shapes=(window,)
    )
    error = np.abs(explain(LeaveOneOut(window=window), value, 9) - reference.numpy()[0]).max()
    parity("P1", "leave_one_out", "captum Occlusion, windows of 1 to 9 (float32 inside)", error, 1e-6)


@pytest.mark.parametrize("units", [1, 2, 5, 9, 12])
def test_exact_shapley_equals_brute_force(units, parity):
    value = curved(units, seed=2)
    error = np.abs(explain(ExactShapley(), value, units) - by_definition(value, units)).max()
    parity("P2", "exact_shapley", "sum over all subsets", error, 1e-12)


@pytest.mark.parametrize("units", [2, 6])
def test_exact_shapley_equals_shap_exact_through_its_front_end(units, parity):
    value = curved(units, seed=2)
    explainer = shap.Explainer(on_ones(value), np.zeros((1, units)), algorithm="exact")
    error = np.abs(explain(ExactShapley(), value, units) - explainer(np.ones((1, units))).values[0]).max()
    parity("P2", "exact_shapley", "shap Exact, its own masker", error, 1e-12)


@pytest.mark.parametrize("units", [1, 3, 6])
def test_exact_shapley_equals_captum_shapley_values(units, parity):
    value = curved(units, seed=3)
    reference = captum.attr.ShapleyValues(in_torch(value)).attribute(torch.ones(1, units, dtype=torch.float64))
    error = np.abs(explain(ExactShapley(), value, units) - reference.numpy()[0]).max()
    parity("P3", "exact_shapley", "captum ShapleyValues (float32)", error, 1e-5)


@pytest.mark.parametrize("units", [2, 3, 7, 10])
def test_kernel_shap_equals_shap_kernel_explainer_where_both_enumerate(units, parity):
    value = curved(units, seed=4)
    explainer = shap.KernelExplainer(on_ones(value), np.zeros((1, units)))
    reference = explainer.shap_values(np.ones((1, units)), nsamples=2**units, l1_reg=False, silent=True)[0]
    error = np.abs(explain(KernelShap(), value, units) - reference).max()
    parity("P4", "kernel_shap", "shap KernelExplainer, enumerated", error, 1e-9)


@pytest.mark.parametrize("units", [1, 2, 7, 11])
def test_kernel_shap_enumerated_is_exact(units, parity):
    value = curved(units, seed=4)
    error = np.abs(explain(KernelShap(), value, units) - explain(ExactShapley(), value, units)).max()
    parity("P4", "kernel_shap", "exact_shapley, enumerated", error, 1e-9)


@pytest.mark.parametrize("units", [2, 3, 7, 12])
def test_shap_equals_shap_partition_through_its_front_end(units, parity):
    value = curved(units, seed=5)
    masker = shap.maskers.Partition(np.zeros((1, units)), clustering=neighbour_tree(units))
    explainer = shap.explainers.Partition(on_ones(value), masker)
    reference = explainer(np.ones((1, units)), max_evals=10000, silent=True).values[0]
    error = np.abs(explain(Shap(evals=10000), value, units) - reference).max()
    parity("P5", "shap", "shap Partition, same tree, all evaluations", error, 1e-10)


@pytest.mark.parametrize("units", [4, 7])
def test_shapley_sampling_agrees_with_captum_and_enumeration(units, parity):
    value, exact = curved(units, seed=6), explain(ExactShapley(), curved(units, seed=6), units)
    ours = estimate(ShapleySampling(permutations=200), value, units, seed=1)
    torch.manual_seed(0)
    sampler = captum.attr.ShapleyValueSampling(in_torch(value))
    runs = [sampler.attribute(torch.ones(1, units, dtype=torch.float64), n_samples=25)[0] for _ in range(16)]
    theirs = torch.stack(runs).double().numpy()
    combined = np.hypot(ours.errors, theirs.std(axis=0, ddof=1) / 4)
    parity(
        "P6", "shapley_sampling", "captum, in standard errors", np.abs((ours[0] - theirs.mean(0)) / combined).max(), 3
    )
    parity(
        "P6", "shapley_sampling", "exact_shapley, in standard errors", np.abs((ours[0] - exact) / ours.errors).max(), 3
    )
    gain = value(np.ones((1, units), dtype=bool))[0] - value(np.zeros((1, units), dtype=bool))[0]
    parity("P6", "shapley_sampling", "efficiency", abs(ours.scores.sum() - gain), 1e-5)


@pytest.mark.parametrize("units", [1, 2, 7])
def test_lime_equals_lime_text_explainer_on_its_own_sample(units, parity):
    value, sample = curved(units), []

    def classify(texts):
        keep = np.array([[f"t{unit}" in text.split(" ") for unit in range(units)] for text in texts])
        sample.append(keep)
        return np.stack([-value(keep), value(keep)], axis=1)

    explainer = LimeTextExplainer(split_expression=" ", bow=False, feature_selection="none", random_state=0)
    text = " ".join(f"t{unit}" for unit in range(units))
    explanation = explainer.explain_instance(text, classify, labels=[1], num_features=units, num_samples=200)
    reference = dict(explanation.as_map()[1])
    scores = fit(sample[0], value(sample[0]), 25.0)
    error = np.abs(scores - np.array([reference[unit] for unit in range(units)])).max()
    parity("P7", "lime", "lime text explainer on 't0 t1 ...'", error, 1e-10)


@pytest.mark.parametrize("mini", MINIS)
def test_shapley_values_of_a_model_agree_between_estimators(mini, parity):
    model = double(mini)
    encoded = model.encode(Example(id="0", texts=("She said it was not bad at all",), label=0))
    exact = ask(ExactShapley(), model, encoded).scores
    assert np.ptp(exact) > 1e-3
    parity(
        "P4",
        "kernel_shap",
        "exact_shapley, enumerated",
        np.abs(ask(KernelShap(), model, encoded).scores - exact).max(),
        1e-9,
    )
    sampled = ask(ShapleySampling(permutations=400), model, encoded)
    error = np.abs((sampled.scores - exact) / sampled.errors).max()
    parity("P6", "shapley_sampling", "exact_shapley, 4 models, in standard errors", error, 3)
