"""The public contract test on the catalogue's own: cheap methods, all metrics."""

import numpy as np
import pytest

from attrlab.bench import contract, testing
from attrlab.bench.errors import UserError
from attrlab.bench.registry import METHODS, METRICS


@pytest.mark.parametrize("name", ["random", "leave_one_out", "saliency", "attention_last", "inverted:of=saliency"])
def test_methods_keep_the_contract(name):
    found = contract.check(name)
    assert [finding for finding in found if finding.problem] == []
    assert len(found) >= 18


@pytest.mark.parametrize("name", METRICS.entries())
def test_metrics_keep_the_contract(name):
    found = contract.check(name)
    assert [finding for finding in found if finding.problem and not finding.skipped] == []
    trains = METRICS.find(name).facts.trains
    assert trains or len(found) >= 5 * len(testing.cases())


def problems(thing, tmp_path, source):
    """What the contract test finds in a class ``Mine``."""
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\nimport torch\n" + source)
    return {f.check: f.problem for f in contract.check(f"{path}:{thing}") if f.problem}


ASK = "    def ask(self, game, rng):\n        full = yield from game.values(np.ones((1, game.n_units)))\n"


def test_a_method_that_claims_to_be_deterministic(tmp_path):
    source = (
        "class Mine:\n    facts = {'deterministic': True}\n" + ASK + "        return rng.normal(size=game.n_units)\n"
    )
    assert list(problems("Mine", tmp_path, source)) == ["declared deterministic, another seed changes nothing"]


def test_a_method_that_costs_more_than_declared(tmp_path):
    source = "class Mine:\n    facts = {'forwards': 'm'}\n" + ASK + "        return np.arange(game.n_units)\n"
    # One question for a text of one word is declared; so the text itself must cost more than its words.
    source = source.replace("np.ones((1,", "np.ones((50,")
    assert list(problems("Mine", tmp_path, source)) == ["cost is what is declared"]


def test_a_method_that_changes_the_model(tmp_path):
    source = (
        "from attrlab.bench.batch import Explained\n"
        "class Mine:\n"
        "    def attribute(self, model, batch, targets, rngs):\n"
        "        with torch.no_grad():\n"
        "            model.network.score.weight.mul_(1) if model.decoder else model.network.classifier.bias.add_(1)\n"
        "        return Explained(batch.ids.double())\n"
    )
    try:
        assert list(problems("Mine", tmp_path, source)) == ["the model is left as it was"]
    finally:
        testing.tiny.cache_clear()


TOUCHES = (
    "from attrlab.bench.batch import Explained\n"
    "class Mine:\n"
    "    def attribute(self, model, batch, targets, rngs):\n"
    "        embeds = model.embed(batch)\n"
    "        model.forward(batch, {embeds})\n"
    "        return Explained(batch.ids.double())\n"
)


def test_a_method_that_perturbs_special_tokens(tmp_path):
    assert problems("Mine", tmp_path, TOUCHES.format(embeds="embeds")) == {}
    touched = problems("Mine", tmp_path, TOUCHES.format(embeds="embeds + 1"))
    assert touched == {"special tokens are left alone": "the embedding of a special token was changed"}
    inside = "embeds + batch.scorable[..., None].float()"
    assert problems("Mine", tmp_path, TOUCHES.format(embeds=inside)) == {}


SKIPS = (
    "from attrlab.bench.errors import NotApplicableError\n"
    "class Mine:\n"
    "    def ask(self, game, rng):\n"
    "        if game.n_units > {most}:\n"
    "            raise NotApplicableError('more words than {most}')\n"
    "        values = yield from game.values(np.ones((1, game.n_units)))\n"
    "        return np.arange(game.n_units)\n"
)


def test_a_method_that_does_not_apply_is_skipped_not_failed(tmp_path):
    assert problems("Mine", tmp_path, SKIPS.format(most=5)) == {}
    assert problems("Mine", tmp_path, SKIPS.format(most=0)) == {"does not apply": "more words than 0"}
    path = tmp_path / "mine.py"
    assert all(finding.skipped for finding in contract.check(f"{path}:Mine"))


def test_a_cost_that_is_declared_as_a_bound_may_be_smaller(tmp_path):
    source = "class Mine:\n    facts = {'forwards': '2 * m + 1', 'bound': BOUND}\n"
    source += ASK + "        return np.arange(game.n_units)\n"
    assert problems("Mine", tmp_path, source.replace("BOUND", "True")) == {}
    assert list(problems("Mine", tmp_path, source.replace("BOUND", "False"))) == ["cost is what is declared"]


METRIC = "from attrlab.bench.types import Score\nclass Mine:\n    facts = {facts}\n    def score(self, case):\n"


def faults(tmp_path, facts, *lines):
    """Which checks a metric with these facts and this body fails."""
    source = METRIC.replace("{facts}", repr(facts)) + "".join(f"        {line}\n" for line in lines)
    return sorted(problems("Mine", tmp_path, source))


COMPREHENSIVE = (
    "if case.n_units == 0:",
    "    return Score.undefined('no words')",
    "keep = np.ones((2, case.n_units), dtype=bool)",
    "keep[1, np.argsort(-case.scores)[: (case.n_units + 1) // 2]] = False",
    "p = yield from case.probabilities(keep)",
    "return float(p[0] - p[1])",
)
RIGHT = {"bounds": (-1, 1), "asks": True, "forwards": "2", "invariances": ("scale", "monotone")}


def test_a_metric_of_a_third_party_in_one_file(tmp_path):
    assert faults(tmp_path, RIGHT, *COMPREHENSIVE) == []


def test_a_metric_that_declares_the_wrong_direction(tmp_path):
    wrong = RIGHT | {"higher_is_better": False}
    assert faults(tmp_path, wrong, *COMPREHENSIVE) == ["right explanations score no worse than reversed ones"]
    neither = RIGHT | {"higher_is_better": None}
    assert faults(tmp_path, neither, *COMPREHENSIVE) == []


def test_a_metric_that_leaves_its_bounds(tmp_path):
    narrow = RIGHT | {"bounds": (0, 1)}
    assert faults(tmp_path, narrow, *COMPREHENSIVE) == ["inside [0, 1]"]
    ratio = ("return 1.0 / np.ptp(case.scores) if case.n_units else Score.undefined('no words')",)
    assert "a number, or NaN with a reason" in faults(tmp_path, {}, *ratio)  # divides by zero where all are equal
    assert "inside [0, 100]" in faults(tmp_path, {"bounds": (0, 100)}, *ratio)


def test_a_metric_that_depends_on_company(tmp_path):
    body = (
        "if case.n_units == 0:",
        "    return Score.undefined('no words')",
        "self.largest = max(getattr(self, 'largest', 0.0), float(np.abs(case.scores).max()))",
        "return float(np.abs(case.scores).mean() / (self.largest + 1.0))",
    )
    assert faults(tmp_path, {}, *body) == ["the company of other examples changes nothing"]


def test_a_metric_that_writes_to_its_input(tmp_path):
    assert faults(tmp_path, {}, "case.scores[:] += 1", "return 1.0") == ["what it is given is left as it was"]
    assert faults(tmp_path, {}, "case.tie_orders.sort()", "return 1.0") == ["what it is given is left as it was"]


def test_a_metric_that_asks_what_it_did_not_declare(tmp_path):
    assert faults(tmp_path, RIGHT | {"forwards": "3"}, *COMPREHENSIVE) == ["asks what is declared"]
    assert faults(tmp_path, RIGHT | {"forwards": "3", "bound": True}, *COMPREHENSIVE) == []
    assert faults(tmp_path, RIGHT | {"asks": False}, *COMPREHENSIVE) == ["asks what is declared"]
    other = [
        *COMPREHENSIVE[:-2],
        "from attrlab.bench.types import Ask",
        "logits = yield Ask(keep=keep, operator='pad')",
    ]
    other += ["return float(logits[0, 0] > logits[1, 0])"]
    assert faults(tmp_path, RIGHT, *other) == ["asks what is declared"]
    assert faults(tmp_path, RIGHT | {"operators": ("pad",)}, *other) == []


def test_a_metric_that_is_not_invariant_as_declared(tmp_path):
    body = ("return float(np.abs(case.scores).sum())",)
    assert faults(tmp_path, {"invariances": ("sign",)}, *body) == []
    assert faults(tmp_path, {"invariances": ("scale",)}, *body) == ["as declared, invariant to scale"]


def test_stability_and_sanity_look_at_equal_re_explanations_from_opposite_sides(tmp_path):
    body = (
        "if not case.replicates:",
        "    return Score.undefined('nothing to compare')",
        "return float(np.mean([np.array_equal(again.scores, case.scores) for again in case.replicates]))",
    )
    facts = {"family": "stability", "replicates": ("seed",), "bounds": (0, 1)}
    assert faults(tmp_path, facts, *body) == []
    wrong = ["unchanged ones score as the family has it"]
    assert faults(tmp_path, facts | {"higher_is_better": False}, *body) == wrong
    assert faults(tmp_path, facts | {"family": "sanity"}, *body) == wrong
    assert faults(tmp_path, facts | {"family": "sanity", "higher_is_better": False}, *body) == []


def test_unknown_thing():
    with pytest.raises(UserError, match="Did you mean 'lime'"):
        contract.check("lyme")


def test_the_tiny_models_are_the_same_each_time():
    first = testing.tiny("gpt2-mini").embedding.numpy().copy()
    testing.tiny.cache_clear()
    assert np.array_equal(testing.tiny("gpt2-mini").embedding.numpy(), first)
    assert set(testing.FAMILIES) <= set(testing.BY_MINI)
    assert "lime" in METHODS.entries()
