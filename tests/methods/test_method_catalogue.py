"""The catalogue names what exists, and its cost formulas are arithmetic over the parameters."""

import subprocess
import sys

import pytest
from tokenbatch import WHITE_BOX

from attrlab.bench.contract import quick
from attrlab.bench.estimate import per_example
from attrlab.bench.registry import METHODS, load
from attrlab.methods import CATALOGUE
from attrlab.methods.noise import PHIS

AGGREGATES = {"sum", "max", "mean", "first", "last", "edge"}


FAMILIES = (
    *("control", "removal", "surrogate", "shapley"),
    *("gradient", "path", "attention", "relevance", "dynamics", "noise"),
)


def test_families_stand_together_in_a_fixed_order():
    places = [FAMILIES.index(facts.family) for facts in CATALOGUE.values()]
    assert places == sorted(places)


def test_reading_facts_imports_no_method():
    heavy = "{'torch', 'captum', 'shap', 'lime', 'sklearn'}"
    code = f"import sys; from attrlab.methods import CATALOGUE; assert CATALOGUE; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize("name", CATALOGUE)
def test_facts_match_the_class(name):
    facts = CATALOGUE[name]
    method = METHODS.find(name).build()
    white_box = hasattr(method, "attribute")
    assert white_box != hasattr(method, "ask")
    assert white_box == bool(facts.needs) == (name in WHITE_BOX)
    assert set(facts.needs) <= {"embeddings", "gradients", "attentions", "calibration", "causal"}
    if white_box:
        assert method.aggregate in AGGREGATES
        assert method.rows >= 1
    assert facts.summary
    assert facts.reference


@pytest.mark.parametrize("name", CATALOGUE)
def test_quick_parameters_keep_the_cost_to_a_few_dozen_passes(name):
    forwards, backwards = per_example(quick(name), 8, 24, 10)
    assert max(forwards, backwards) <= 32


@pytest.mark.parametrize(
    ("name", "forwards", "backwards"),
    [
        ("random", 0, 0),
        ("leave_one_out", 11, 0),
        ("word_perturbation", 16 * 14 + 1, 0),
        ("saliency", 1, 1),
        ("g_l1", 1, 1),
        ("input_x_gradient", 1, 1),
        ("integrated_gradients:max_steps=0", 52, 50),
        ("smoothgrad", 50, 50),
        ("gradient_shap", 50, 50),
        ("conservative_lrp", 1, 1),
        ("mask_lrp", 2, 2),
        ("shapley_sampling", 501, 0),
        ("rise", 500, 0),
        ("lime", 1000, 0),
        ("exact_shapley", 1024, 0),
        ("kernel_shap", 1024, 0),
        ("greedy_oracle", 54, 0),
        ("inverted", 11, 0),
        ("inverted:of=lime:samples=30", 30, 0),
        ("attention_rollout", 1, 0),
        ("attention_attribution", 20, 20),
        ("tdd_forward", 1, 0),
        ("tdd_backward", 17, 0),
        ("shap", 500, 0),
        ("attention_last", 1, 0),
        ("co_perturbation", 801, 800),
    ],
)
def test_cost_at_the_defaults_is_that_of_the_specification(name, forwards, backwards):
    assert per_example(METHODS.find(name), 10, 12, 14) == (forwards, backwards)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("integrated_gradients", {"steps": 0}),
        ("word_perturbation", {"draws": 3}),
        ("word_perturbation", {"draws": 0}),
        ("word_perturbation", {"scale": 0.0}),
        ("word_perturbation", {"phi": "pooled"}),
        ("co_perturbation", {"lam": 0.0}),
        ("co_perturbation", {"cap": -1.0}),
        ("co_perturbation", {"steps": -1}),
        ("co_perturbation", {"draws": -2}),
        ("co_perturbation", {"shrink": 1.0}),
        ("co_perturbation", {"preset": "slow"}),
        ("co_perturbation", {"phi": "hidden:0"}),
        ("co_perturbation", {"site": "h1"}),
    ],
)
def test_bad_parameters_are_refused_by_name_and_value(name, parameters):
    ((key, given),) = parameters.items()
    with pytest.raises(ValueError, match=rf"{key}='?{given}"):
        load(CATALOGUE[name].where)(**parameters)


@pytest.mark.parametrize("phi", PHIS)
def test_every_representation_is_accepted(phi):
    assert METHODS.find(f"co_perturbation:phi={phi}").build().phi == phi
