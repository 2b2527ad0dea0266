"""Token distribution dynamics: priors, foils, readout tokens, noise, batches, cost; and what encoders get instead."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from otherheads import DECODERS, asked, batch_of, continuations, explained, prompt, questions
from tokenbatch import attribute, collate, encode, same_scores
from toygames import game

from attrlab.bench.batch import Targets
from attrlab.bench.engine import Engine
from attrlab.bench.explain import Question, outcomes
from attrlab.bench.inputs import Example
from attrlab.bench.language import LanguageModel
from attrlab.bench.testing import SHARPNESS, TEXTS, tiny
from attrlab.bench.types import drive
from attrlab.methods.tdd import TddBackward, TddBidirectional, TddForward, TruncationPrefix, TruncationSuffix

DIRECTIONS = (TddForward, TddBackward, TddBidirectional)
TINY = pytest.mark.parametrize("mini", DECODERS)
EACH = pytest.mark.parametrize("direction", DIRECTIONS)


def sharp(mini):
    return tiny(mini, sharpness=SHARPNESS)


def relevance(model, ids, target=1):
    """Of ids read by themselves, by transformers alone."""
    with torch.no_grad():
        state = model.network.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        shares = model.network.score(state).softmax(0).tolist()
    return shares[target] - (sum(shares) - shares[target]) / (len(shares) - 1)


def scores_of(method, model, text):
    coded = encode(model, [text])
    return attribute(method, model, collate(model, coded)).scores[0], coded[0]


@TINY
def test_the_prior_is_that_of_a_beginning_of_text(mini):
    model = sharp(mini)
    prior = relevance(model, [model.tokenizer.bos_token_id])
    assert abs(prior) > 1e-4
    for direction in (TddForward, TddBackward):
        plain, coded = scores_of(direction(), model, TEXTS[1])
        without, _ = scores_of(direction(subtract_prior=True), model, TEXTS[1])
        changed = 0 if direction is TddForward else len(coded.ids) - 1
        expected = torch.zeros_like(plain)
        expected[changed] = prior
        torch.testing.assert_close(plain - without, expected, rtol=0, atol=1e-5)


@TINY
def test_the_readout_token_ends_every_text_and_is_worth_nothing_to_words(mini):
    model = sharp(mini)
    found, coded = scores_of(TddBackward(), model, "Not good.")
    ids = coded.ids.tolist()
    assert coded.special[-1]
    last = len(ids) - 2
    assert coded.units[last] >= 0
    expected = relevance(model, ids[last:]) - relevance(model, ids[last + 1 :])
    assert float(found[last]) == pytest.approx(expected, abs=1e-5)
    units = explained_units(model, "Not good.", TddBackward())
    assert units.sum() == pytest.approx(float(found[torch.tensor(coded.units >= 0)].sum()), abs=1e-6)


def explained_units(model, text, method):
    coded = encode(model, [text])
    found = outcomes(method, [Question(slot=0, target=1, seed=())], Engine(model, coded))[0]
    assert found.error is None
    return found.scores


def test_both_directions_agree_on_a_text_of_one_token():
    model = continuations("gpt2-mini")
    coded = [model.encode(prompt("a", " film", (" plot",)))]
    assert coded[0].segments.tolist() == [0, 1]
    forward, backward, both = (explained(model, coded, direction())[0].scores for direction in DIRECTIONS)
    assert forward == pytest.approx(backward, abs=1e-12)
    assert both == pytest.approx(forward, abs=1e-12)
    assert abs(forward[0]) > 1e-3


@TINY
def test_only_the_prompt_matters_before_its_continuation(mini):
    model = continuations(mini)
    short = model.encode(prompt("Not good at all", " film", (" plot",)))
    for direction in DIRECTIONS:
        one = explained(model, [short], direction())[0].scores
        swapped = model.encode(prompt("Not good at all", " plot", (" film",)))
        other = explained(model, [swapped], direction())[0].scores
        assert one == pytest.approx(-other, abs=1e-12)


@EACH
@TINY
def test_noise_belongs_to_its_token(direction, mini):
    model = sharp(mini)
    batch = collate(model, encode(model, [TEXTS[1]]))
    embeds = model.embed(batch)
    swapped = batch.ids.clone()
    token = int(batch.scorable[0].nonzero()[2])
    swapped[0, token] = 40
    offset = model.network.get_input_embeddings()(swapped) - embeds
    noised = attribute(direction(), model, replace(batch, offset=offset)).scores
    expected = attribute(direction(), model, replace(batch, ids=swapped)).scores
    assert same_scores(noised, expected, batch.scorable)
    assert not same_scores(noised, attribute(direction(), model, batch).scores, batch.scorable, 1e-2)


@EACH
@TINY
def test_company_changes_nothing(direction, mini):
    model = sharp(mini)
    coded = encode(model, TEXTS)
    batch = collate(model, coded)
    together = attribute(direction(subtract_prior=True), model, batch).scores
    for row, one in enumerate(coded):
        alone = collate(model, [one])
        found = attribute(direction(subtract_prior=True), model, alone).scores
        assert same_scores(found, together[row : row + 1, : found.shape[1]], alone.scorable)


@TINY
@pytest.mark.parametrize("prior", [False, True])
def test_cost_is_one_pass_forward_and_one_per_token_backward(mini, prior):
    model = sharp(mini)
    coded = encode(model, TEXTS)
    batch = collate(model, coded)
    n = np.array([len(one.ids) for one in coded])
    for direction, expected in zip(DIRECTIONS, (0 * n + 1, n, n + 1), strict=True):
        with model.metered(len(coded)) as meter:
            attribute(direction(subtract_prior=prior), model, batch)
        assert meter.forwards.tolist() == (expected + prior).tolist()
        assert not meter.backwards.any()
        bound = np.array([(one.units >= 0).sum() for one in coded]) + 3
        assert (n <= bound).all()


@EACH
def test_encoders_and_extractive_answers_are_passed_over(direction):
    reasons = {
        tiny(): ("TDD needs a causal model", Example(id="0", texts=("Not good",), label=None)),
        questions("gpt2-mini"): ("an extractive answer is read at two positions", asked("what", "Not good")),
    }
    for model, (reason, example) in reasons.items():
        coded = [model.encode(example)]
        found = outcomes(direction(), [Question(slot=0, target=0, seed=())], Engine(model, coded))[0]
        assert found.skipped
        assert found.error.startswith(reason)


@EACH
def test_a_continuation_alone_needs_the_whole_vocabulary(direction):
    model = continuations("gpt2-mini")
    coded = [model.encode(prompt("Not good", " film", foils)) for foils in ((), (" plot",))]
    questions_ = [Question(slot=slot, target=0, seed=()) for slot in range(2)]
    alone, compared = outcomes(direction(), questions_, Engine(model, coded))
    assert alone.skipped
    assert alone.error == "TDD compares with a foil and there is none; give one, or full=true"
    assert compared.error is None
    found = explained(model, coded[:1], direction(full=True))[0].scores
    batch = batch_of(model, coded[:1])
    logits = model.head(model.forward(batch).readout)[0]
    told = int(coded[0].ids[-1])
    assert found.sum() == pytest.approx(float(logits.softmax(0)[told]), abs=1e-10)


def test_every_token_of_the_vocabulary_can_be_a_class():
    made = continuations("gpt2-mini")
    model = LanguageModel(made.network, made.tokenizer, "gpt2-mini")
    batch = batch_of(model, [model.encode(Example(id="0", texts=("Not good",), label=None))])
    targets = Targets(classes=torch.tensor([7]))
    found = TddForward().attribute(model, batch, targets, []).scores
    share = float(model.forward(batch).logits[0].softmax(0)[7])
    assert float(found.sum()) == pytest.approx(share - (1 - share) / (len(model.embedding) - 1), abs=1e-10)


def truncated(order, scores, prior):
    """The same by the definition: relevances of growing texts, one call each."""
    before, found = prior, np.zeros(len(order))
    for count, unit in enumerate(order, 1):
        now = scores(np.isin(np.arange(len(order)), order[:count]))
        found[unit] = now - before
        before = now
    return found


@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 5), st.booleans())
def test_truncation_adds_one_unit_after_the_other(units, classes, seed, subtract):
    rng = np.random.default_rng(seed)
    weights, pull = rng.normal(size=(units, classes)), rng.normal(size=classes)
    operators = []

    def answer(ask):
        operators.append((ask.operator, len(ask.keep)))
        return np.tanh(ask.keep @ weights) * 2 + pull

    def one(keep):
        shares = np.exp(np.tanh(keep @ weights) * 2 + pull)
        shares /= shares.sum()
        return shares[1] - np.delete(shares, 1).mean()

    prior = one(np.zeros(units)) if subtract else 0.0
    for method, order in ((TruncationPrefix, range(units)), (TruncationSuffix, range(units)[::-1])):
        found = drive(method(subtract_prior=subtract).ask(game(units), rng), answer)
        assert found == pytest.approx(truncated(list(order), one, prior), abs=1e-12)
        assert operators.pop() == ("delete", units + subtract)


def test_truncation_runs_where_tdd_cannot():
    model = sharp("bert-base-mini")
    coded = encode(model, TEXTS[:3])
    for method in (TruncationPrefix(), TruncationSuffix()):
        for found, one in zip(explained(model, coded, method), coded, strict=True):
            logits = model.forward(collate(model, [one])).logits[0].double()
            shares = logits.softmax(0)
            assert found.scores.sum() == pytest.approx(float(shares[0] - shares[1]), abs=1e-6)
            assert found.cost.forwards == one.n_units
