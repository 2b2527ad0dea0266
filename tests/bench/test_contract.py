"""The public contract test on the catalogue's own: cheap methods, all metrics."""

import numpy as np
import pytest

from attrlab.bench import contract, testing
from attrlab.bench.errors import UserError
from attrlab.bench.registry import METHODS, METRICS


@pytest.mark.parametrize("name", ["random", "leave_one_out", "saliency", "attention_last"])
def test_methods_keep_the_contract(name):
    found = contract.check(name)
    assert [finding for finding in found if finding.problem] == []
    assert len(found) >= 18


@pytest.mark.parametrize("name", METRICS.entries())
def test_metrics_keep_the_contract(name):
    found = contract.check(name)
    assert [finding for finding in found if finding.problem] == []
    assert len(found) == 4 * len(testing.cases())


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


def test_a_metric_outside_its_bounds_and_one_that_writes(tmp_path):
    source = "class Mine:\n    facts = {'bounds': (0, 1)}\n    def score(self, case):\n        return 2.0\n"
    assert list(problems("Mine", tmp_path, source)) == ["inside [0, 1]"]
    source = "class Mine:\n    def score(self, case):\n        case.scores[:] += 1\n        return 1.0\n"
    assert list(problems("Mine", tmp_path, source)) == ["the attribution is left as it was"]


def test_unknown_thing():
    with pytest.raises(UserError, match="Did you mean 'lime'"):
        contract.check("lyme")


def test_the_tiny_models_are_the_same_each_time():
    first = testing.tiny("gpt2-mini").embedding.numpy().copy()
    testing.tiny.cache_clear()
    assert np.array_equal(testing.tiny("gpt2-mini").embedding.numpy(), first)
    assert set(testing.FAMILIES) <= set(testing.BY_MINI)
    assert "lime" in METHODS.entries()
