"""The catalogue: which metrics there are, that they load, and that their facts are complete."""

import ast
import inspect
import math
import re
import subprocess
import sys

import pytest

from attrlab.bench.errors import UserError
from attrlab.bench.facts import MetricFacts
from attrlab.bench.operators import OPERATORS
from attrlab.bench.registry import METRICS, load
from attrlab.bench.replicas import KINDS
from attrlab.metrics import CATALOGUE
from attrlab.metrics._validity import VALIDITY

IDS = list(CATALOGUE)
FAMILIES = [
    "faithfulness",
    "agreement",
    "plausibility",
    "ground truth",
    "stability",
    "sanity",
    "complexity",
    "human",
    "cost",
]
NEEDS = {"rationales", "planted", "complete"}
INVARIANCES = {"scale", "monotone", "sign"}
DIRECTIONS = {True: "Higher is better", False: "Lower is better", None: "It only describes"}


def test_the_catalogue_is_what_can_be_named():
    assert list(METRICS.entries()) == IDS
    assert len(IDS) >= 70
    assert {facts.family for facts in CATALOGUE.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", IDS)
def test_facts_are_complete(name):
    facts = CATALOGUE[name]
    assert isinstance(facts, MetricFacts)
    assert facts.where.startswith("attrlab.metrics.")
    assert facts.family in FAMILIES
    assert facts.summary
    assert "\n" not in facts.summary
    assert len(facts.summary) <= 100
    assert facts.comparable
    assert facts.reference
    assert set(facts.needs) <= NEEDS
    assert facts.formula
    assert len(facts.formula) <= 120
    assert set(facts.invariances) <= INVARIANCES
    assert set(facts.replicates) <= set(KINDS)
    assert set(facts.operators) <= set(OPERATORS)
    assert facts.bounds[0] < facts.bounds[1]
    assert not any(math.isnan(bound) for bound in facts.bounds)
    assert facts.measured == (name in {"seconds", "peak_memory"})


@pytest.mark.parametrize("name", IDS)
def test_the_cost_is_a_formula_in_words_and_parameters(name):
    facts = CATALOGUE[name]
    used = {node.id for node in ast.walk(ast.parse(facts.forwards)) if isinstance(node, ast.Name)}
    assert used <= {"m", "min", "max", *inspect.signature(load(facts.where)).parameters}
    assert (facts.forwards == "0") == (not facts.asks and not facts.operators)


@pytest.mark.parametrize("name", IDS)
def test_the_class_loads_and_agrees_with_its_facts(name):
    facts, thing = CATALOGUE[name], load(CATALOGUE[name].where)
    parameters = inspect.signature(thing).parameters.values()
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert all(isinstance(parameter.default, bool | int | float | str) for parameter in parameters)
    metric = METRICS.find(name).build()
    assert isinstance(metric, thing)
    if facts.trains:
        assert inspect.isgeneratorfunction(metric.study)
        return
    assert list(inspect.signature(metric.score).parameters) == ["case"]
    assert inspect.isgeneratorfunction(metric.score) == (facts.asks or bool(facts.operators))


@pytest.mark.parametrize("name", IDS)
def test_the_docstring_gives_direction_range_and_source(name):
    facts, doc = CATALOGUE[name], " ".join(inspect.getdoc(load(CATALOGUE[name].where)).split())
    assert DIRECTIONS[facts.higher_is_better] in doc
    low, high = facts.bounds
    opening, closing = "(" if math.isinf(low) else "[", ")" if math.isinf(high) else "]"
    assert re.search(re.escape(f"Range {opening}{low:g}, {high:g}") + f"[{closing}\\]]", doc)
    assert "Source: " in doc
    assert facts.family == "cost" or "``" in doc, "the formula"


def test_no_two_metrics_share_a_class():
    assert len({facts.where for facts in CATALOGUE.values()}) == len(IDS)


def test_parameters_parse_and_are_checked():
    assert METRICS.find("tau_loo:absolute=true").build().absolute is True
    assert METRICS.find("token_f1:k=oracle").build().k == "oracle"
    assert METRICS.find("token_f1:k=avg").name == "token_f1"
    with pytest.raises(UserError, match="allowed: avg, oracle"):
        METRICS.find("token_f1:k=best").build()
    with pytest.raises(UserError, match="unknown parameter"):
        METRICS.find("auprc:k=avg")


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import attrlab.metrics", ["numpy", "scipy", "sklearn", "torch", "attrlab.bench.types"]),
        (
            "from attrlab.metrics import CATALOGUE; from attrlab.bench.registry import load\n"
            "for facts in CATALOGUE.values(): load(facts.where)",
            ["scipy", "sklearn", "torch"],
        ),
    ],
    ids=["catalogue", "classes"],
)
def test_imports_stay_light(statement, absent):
    code = f"{statement}\nimport sys\nprint([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_directed_metric_of_faithfulness_says_how_it_ranks_an_oracle():
    for name, facts in CATALOGUE.items():
        directed = facts.family in {"faithfulness", "agreement"} and facts.higher_is_better is not None
        assert bool(facts.validity) == directed, name
    assert set(VALIDITY) <= set(CATALOGUE)
