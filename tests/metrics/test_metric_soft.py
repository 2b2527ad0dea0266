"""Soft comprehensiveness and sufficiency against their limits, hand-computed values and a model where all is known."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from attrlab.bench.batch import Output
from attrlab.bench.engine import Engine, Job
from attrlab.bench.facts import MetricFacts
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.testing import FAMILIES, TEXTS, tiny
from attrlab.bench.types import Case, drive
from attrlab.metrics.soft import SoftComprehensiveness, SoftSufficiency

BOTH = (SoftComprehensiveness, SoftSufficiency)

each = pytest.mark.parametrize("metric", BOTH)
finite = st.floats(-100, 100, allow_subnormal=False)


def make(scores, *, example="x", target=0):
    scores = np.array(scores, dtype=float)
    orders = np.arange(len(scores))[None]
    return Case(scores=scores, signed=True, target=target, label=None, tie_orders=orders, example=example)


def expecting(base, effects):
    """A model that answers a question about probabilities by its expectation: each word adds its effect to p."""

    def answer(ask):
        p = base + ask.keep @ np.asarray(effects, dtype=float)
        return np.stack([np.log(p), np.log1p(-p)], axis=1)

    return answer


def value(metric, scores, answer):
    score = drive(metric.score(make(scores)), answer)
    assert score.reason is None
    return score.value


class Linear(TextModel):
    """Its probability of class 0 is 0.1 plus a sum over the coordinates of the word embeddings, 0.9 on the text."""

    def __init__(self, other):
        super().__init__(other.network, other.tokenizer, other.name)
        self.gains = torch.rand(self.embedding.shape[1], generator=torch.Generator().manual_seed(0)).double()
        self.scale = 1.0

    def effects(self, encoded):
        """Effect of each coordinate of each unit's tokens, ``(n_tokens, d)``, 0 for special tokens."""
        own = self.embedding[torch.from_numpy(encoded.ids)].double().abs() * self.gains
        return (own * torch.from_numpy(encoded.units >= 0)[:, None]).numpy() * self.scale

    def forward(self, batch, embeds=None):
        assert embeds is None
        words = batch.mask.bool() & torch.from_numpy(self.words)[: batch.ids.shape[1]]
        total = (self.embed(batch).double().abs() * self.gains).sum(2)[:, : len(self.words)]
        p = 0.1 + self.scale * (total * words).sum(1)
        return Output(torch.stack([p.log(), (1 - p).log()], 1), total)


def linear(name):
    model = Linear(tiny(name))
    encoded = model.encode(Example(id="linear", texts=(TEXTS[4],), label=0))
    length = 8 * -(-len(encoded.ids) // 8)
    model.words = np.pad(encoded.units >= 0, (0, length - len(encoded.ids)))
    model.scale = 0.8 / model.effects(encoded).sum()
    return model, encoded


def ask(model, encoded, metric, scores):
    job = Job(slot=0, asker=metric.score(make(scores, example=encoded.example.id)), operator="")
    Engine(model, [encoded]).run([job])
    assert job.error is None
    assert job.result.reason is None
    assert job.forwards == metric.draws + 2
    return job.result.value


@pytest.mark.parametrize("name", FAMILIES)
@each
def test_limits(metric, name, parity, monkeypatch):
    # Everything weighs: all is kept for sufficiency, all is lost for comprehensiveness; nothing weighs: the reverse.
    model, encoded = linear(name)
    for weight in (0.0, 1.0):
        monkeypatch.setattr(metric, "importance", lambda _self, scores, weight=weight: np.full(len(scores), weight))
        found = ask(model, encoded, metric(), np.arange(encoded.n_units))
        target = "soft_sufficiency" if metric is SoftSufficiency else "soft_comprehensiveness"
        parity("Q14", target, "limits w = 0 and w = 1", abs(found - weight), 1e-6)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("weights", ["score", "rank"])
@pytest.mark.parametrize("mass", ["equal", "raw"])
@each
def test_expectation_on_a_linear_model(metric, mass, weights, name, parity):
    # A share of a word's effect is lost that is, on average, 1 minus its chance; coordinates vary independently.
    model, encoded = linear(name)
    scores = np.random.default_rng(3).normal(size=encoded.n_units) ** 3
    built = metric(weights=weights, mass=mass, draws=64)
    found = ask(model, encoded, built, scores)
    w = np.append(built.importance(scores), np.nan)[encoded.units]
    effects = model.effects(encoded) / 0.8
    expected = np.nansum(w[:, None] * effects)
    variance = np.nansum((w * (1 - w))[:, None] * effects**2) / 64
    target = "soft_sufficiency" if metric is SoftSufficiency else "soft_comprehensiveness"
    parity("Q14", target, "expectation on a linear model, s.e.", abs(found - expected) / variance**0.5, 3)
    assert variance**0.5 < 0.02


@each
def test_by_hand(metric):
    # Raw weights 1, 0.5, 0.25, 0; effects .1 .2 .3 .2 of p = 0.1 + 0.8.
    model, scores = expecting(0.1, [0.1, 0.2, 0.3, 0.2]), [5.0, 3.0, 2.0, 1.0]
    assert value(metric(mass="raw"), scores, model) == pytest.approx((0.1 + 0.1 + 0.075) / 0.8)
    # Ranks 1, 0.75, 0.5, 0.25.
    ranked = (0.1 + 0.15 + 0.15 + 0.05) / 0.8
    assert value(metric(mass="raw", weights="rank"), scores, model) == pytest.approx(ranked)
    # The mean is 2.75, the largest deviation 2.25: 0.5 + (2.25, 0.25, -0.75, -1.75) / 4.5.
    equal = np.array([4.5, 2.5, 1.5, 0.5]) / 4.5
    assert value(metric(), scores, model) == pytest.approx(equal @ [0.1, 0.2, 0.3, 0.2] / 0.8)
    # Ranks at equal mass: (rank - 1) / (m - 1).
    ranked = np.array([1, 2 / 3, 1 / 3, 0]) @ [0.1, 0.2, 0.3, 0.2] / 0.8
    assert value(metric(weights="rank"), scores, model) == pytest.approx(ranked)


def test_a_gain_counts_as_no_loss_draw_by_draw():
    # p = 0.5 in full, 0.1 empty; three draws at 0.7, 0.3 and 0: lost are 0, 1/2 and more than all.
    for metric, expected in ((SoftComprehensiveness, 0.5), (SoftSufficiency, 0.5)):
        found = drive(
            metric(draws=3).score(make([1.0, 2.0, 4.0])),
            lambda _: np.log([[0.5, 0.5], [0.1, 0.9], [0.7, 0.3], [0.3, 0.7], [1e-9, 1]]),
        )
        assert found.value == pytest.approx(expected)
    kept = drive(SoftSufficiency(draws=1).score(make([1.0])), lambda _: np.log([[0.5, 0.5], [0.1, 0.9], [0.6, 0.4]]))
    assert kept.value == 1


@each
def test_all_is_asked_at_once_and_of_no_operator_but_zero(metric):
    asked = next(metric(draws=3).score(make([0.0, 1.0, 3.0])))
    weights = 0.5 + (np.array([0.0, 1.0, 3.0]) - 4 / 3) / (10 / 3)
    assert asked.operator == "zero"
    assert np.asarray(asked.draw).tolist() == [0, 0, 0, 1, 2]
    chances = weights if metric is SoftSufficiency else 1 - weights
    np.testing.assert_allclose(asked.keep, [[1, 1, 1], [0, 0, 0], chances, chances, chances])


@given(st.lists(finite, min_size=1, max_size=30), st.randoms())
@pytest.mark.parametrize("weights", ["score", "rank"])
@pytest.mark.parametrize("mass", ["equal", "raw"])
def test_weights_follow_the_scores(mass, weights, scores, random):
    metric, scores = SoftSufficiency(weights=weights, mass=mass), np.round(scores, 3)
    w = metric.importance(scores)
    assert w.min() >= 0
    assert w.max() <= 1
    order = np.array(random.sample(range(len(scores)), len(scores)))
    np.testing.assert_allclose(metric.importance(scores[order]), w[order], atol=1e-12)
    np.testing.assert_allclose(metric.importance(7 * scores + 2), w, atol=1e-9)
    assert (np.diff(w[np.argsort(scores)]) >= 0).all()
    assert len(np.unique(w)) == len(np.unique(scores)) or np.ptp(scores) < 1e-2 or weights == "score"
    if weights == "rank":
        np.testing.assert_allclose(metric.importance(np.exp(scores / 10)), w, atol=1e-12)
    if mass == "equal":
        assert w.mean() == pytest.approx(0.5, abs=1e-9)
        assert np.ptp(scores) == 0 or min(w.min(), 1 - w.max()) == pytest.approx(0, abs=1e-9)
    elif weights == "rank":
        np.testing.assert_allclose(w, rankdata(scores) / len(scores))
    elif np.ptp(scores):
        assert (w.min(), w.max()) == (0, 1)
    else:
        assert (w == 0.5).all()


@each
def test_only_equal_mass_gives_uninformative_scores_the_same_value_whatever_their_distribution(metric):
    # Over all orders of the scores nothing is known of the words; 0.5 is what an explanation of equal scores has.
    model = expecting(0.1, [0.05, 0.1, 0.25, 0.4])
    shapes = {"few large": [0.0, 0.0, 0.1, 1.0], "few small": [1.0, 1.0, 0.9, 0.0], "even": [1.0, 2.0, 3.0, 4.0]}

    def chance(mass, scores):
        return np.mean([value(metric(mass=mass), order, model) for order in permutations(scores)])

    assert {name: chance("equal", scores) for name, scores in shapes.items()} == pytest.approx(
        dict.fromkeys(shapes, 0.5)
    )
    raw = {name: chance("raw", scores) for name, scores in shapes.items()}
    assert raw == pytest.approx({"few large": 0.275, "few small": 0.725, "even": 0.5})


@each
def test_undefined(metric):
    def reason(scores, answer):
        score = drive(metric().score(make(scores)), answer)
        assert np.isnan(score.value)
        return score.reason

    assert reason([], None) == "no words to attribute"
    flat = "without any word the target is about as probable"
    assert reason([1.0, 2.0], expecting(0.5, [4e-5, 5e-5])) == flat
    assert reason([1.0, 2.0], expecting(0.5, [-0.2, 0.1])) == flat, "where it is more probable without words, too"
    assert value(metric(), [1.0, 2.0], expecting(0.5, [5e-5, 6e-5])) == pytest.approx(6 / 11)


@each
@pytest.mark.parametrize("mass", ["equal", "raw"])
def test_equal_scores_keep_half_of_every_word(metric, mass):
    model = expecting(0.2, [0.1, 0.5])
    assert value(metric(mass=mass), [3.0, 3.0], model) == pytest.approx(0.5)
    assert value(metric(mass=mass), [-2.0], expecting(0.2, [0.3])) == pytest.approx(0.5)


@each
def test_parameters_are_checked(metric):
    for name, wrong, allowed in (
        ("weights", "'scores'", "score, rank"),
        ("mass", "'half'", "equal, raw"),
        ("draws", "0", "1 and more"),
    ):
        with pytest.raises(ValueError, match=f"^{name}={wrong}; allowed: {allowed}$"):
            metric(**{name: eval(wrong)})


@each
def test_ranks_survive_what_scores_do_not(metric):
    base = MetricFacts(where="", invariances=("scale",))
    assert metric.facts(base, mass="raw", draws=3).invariances == ("scale",)
    assert metric.facts(base, weights="rank").invariances == ("scale", "monotone")
