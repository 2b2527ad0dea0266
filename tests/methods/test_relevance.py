"""Relevance propagation: rules against equations, the model's answers untouched, and what is not conserved."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_parity_relevance import without_biases
from tokenbatch import MINIS, attribute, collate, encode, same_scores

from attrlab.bench.attending import Rule
from attrlab.bench.batch import Targets
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.testing import TEXTS, tiny
from attrlab.bench.zoo import BY_MINI
from attrlab.methods.relevance import AttnLRP, ConservativeLRP, layer_relevance
from attrlab.methods.relevance_rules import HeadRule, propagating

FAMILIES = pytest.mark.parametrize("mini", MINIS)
METHODS = {
    "conservative_lrp": ConservativeLRP(),
    "conservative_lrp:words": ConservativeLRP(readout="words"),
    "conservative_lrp:gradient": ConservativeLRP(activation="gradient"),
    "attn_lrp": AttnLRP(),
    "attn_lrp:words": AttnLRP(readout="words"),
}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def precise(mini):
    """Returns a tiny model of its own in float64, with biases that matter."""
    model = tiny.__wrapped__(mini, sharpness=3.0)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.network.double().named_parameters():
        if name.endswith("bias"):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("mini", BY_MINI)
def test_the_forward_pass_is_unchanged(mini, split):
    model = tiny(mini, sharpness=3.0)
    batch = collate(model, encode(model, TEXTS))
    plain = model.forward(batch).logits
    with propagating(model, HeadRule(split=split)):
        ruled = model.forward(batch, model.embed(batch).detach().requires_grad_()).logits
    assert ruled.requires_grad
    assert float((ruled.detach() - plain).abs().max()) < 1e-6


def surroundings(model):
    """What of a model the rules change while they are in force."""
    config = model.network.config
    own = {name: vars(module).get("forward") for name, module in model.network.named_modules()}
    hooks = len(model.network.base_model._forward_hooks)
    return own, config._attn_implementation, config.output_hidden_states, hooks


@FAMILIES
def test_the_model_is_restored_even_after_an_error(mini):
    class Broken(Rule):
        def weights(self, layer, weights):
            raise ZeroDivisionError

    model = tiny.__wrapped__(mini)
    norm = next(module for module in model.network.modules() if isinstance(module, torch.nn.LayerNorm))
    norm.forward = type(norm).forward.__get__(norm)  # some loaders put a forward of their own on an instance
    batch = collate(model, encode(model, TEXTS[:2]))
    before, plain = surroundings(model), model.forward(batch).logits
    targets = Targets(classes=torch.zeros(2, dtype=torch.int64))
    layer_relevance(model, batch, targets, HeadRule(split=True))
    assert surroundings(model) == before
    with pytest.raises(ZeroDivisionError):
        layer_relevance(model, batch, targets, Broken())
    assert surroundings(model) == before
    torch.testing.assert_close(model.forward(batch).logits, plain, rtol=0, atol=0)


@pytest.mark.parametrize("mini", BY_MINI)
def test_only_the_identity_rule_conserves_what_passes_gelu_and_tanh(mini):
    model = without_biases(mini)
    batch = collate(model, encode(model, TEXTS))
    gaps = [row["conservation_gap"] for row in attribute(ConservativeLRP(), model, batch).stats]
    bent = [row["conservation_gap"] for row in attribute(METHODS["conservative_lrp:gradient"], model, batch).stats]
    assert max(map(abs, gaps)) < 1e-10
    assert (max(map(abs, bent)) < 1e-10) == mini.startswith("opt")  # the gradient of ReLU is f(x) / x already


@FAMILIES
def test_plain_gradient_times_input_and_attnlrp_are_not_conserved(mini):
    model = without_biases(mini)
    batch = collate(model, encode(model, TEXTS))
    inputs = model.embed(batch).requires_grad_()
    explained = model.forward(batch, inputs).logits.diff(dim=1)[:, 0]
    (gradient,) = torch.autograd.grad(explained.sum(), inputs)
    assert float((explained - (inputs * gradient).sum((1, 2))).detach().abs().max()) > 1e-3
    gaps = [row["conservation_gap"] for row in attribute(AttnLRP(), model, batch).stats]
    assert max(map(abs, gaps)) > 1e-4


@FAMILIES
def test_the_gap_is_what_the_biases_contribute(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS))
    explained = attribute(ConservativeLRP(), model, batch)
    layers, total = layer_relevance(model, batch, Targets(classes=torch.ones(len(batch), dtype=torch.int64)), RULE)
    torch.testing.assert_close(explained.scores, layers[0], rtol=1e-10, atol=1e-12)
    gaps = torch.tensor([row["conservation_gap"] for row in explained.stats], dtype=torch.float64)
    torch.testing.assert_close(gaps, total - layers[0].sum(1), rtol=1e-10, atol=1e-12)
    assert float(gaps.abs().min()) > 1e-6


RULE = HeadRule(split=False)


@FAMILIES
def test_the_last_layer_holds_relevance_only_where_it_is_read(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS))
    layers = layer_relevance(model, batch, Targets(classes=torch.ones(len(batch), dtype=torch.int64)), RULE).layers
    assert layers.shape == (model.network.config.num_hidden_layers + 1, *batch.ids.shape)
    rows = torch.arange(len(batch))
    read = torch.zeros_like(batch.scorable)
    read[rows, model.pool(batch)] = True
    assert bool((layers[-1][read] != 0).all())
    assert not layers[-1][~read].any()


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def split_by_hand(query, key, value, relevance):
    """Relevance of the three inputs of one head by the equations of the paper (its scores are ``query key^T``)."""
    products = query[:, None, :] * key[None, :, :]
    scores = products.sum(-1)
    weights = softmax(scores)
    share = weights[:, :, None] * value[None, :, :]  # (queries, keys, dimensions)
    to_products = share * (relevance / share.sum(1))[:, None, :] / 2
    to_weights = to_products.sum(2)
    to_scores = scores * (to_weights - weights * to_weights.sum(1, keepdims=True))
    to_pairs = products * (to_scores / scores)[..., None] / 2
    return to_pairs.sum(1), to_pairs.sum(0), to_products.sum(0), to_weights


def head(query, key, value, rule):
    """One row, one head, by the steps of ``bench.attending``."""
    query, key, value = rule.inputs(0, *(part[None, None] for part in (query, key, value)))
    weights = rule.weights(0, (query @ key.transpose(-1, -2)).softmax(-1))
    return rule.context(0, weights @ value)[0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_split_attention_follows_the_equations_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(4, 3)) for _ in range(3)]
    relevance = rng.normal(size=(4, 3))
    parts, rule = [torch.from_numpy(array).requires_grad_() for array in arrays], HeadRule(split=True)
    context = head(*parts, rule)
    wanted = [*parts, rule.probabilities[0]]
    gradients = torch.autograd.grad(context, wanted, torch.from_numpy(relevance) / context.detach())
    found = [part.detach() * gradient for part, gradient in zip(wanted, gradients, strict=True)]
    *inputs, weights = split_by_hand(*arrays, relevance)
    for ours, theirs in zip(found[:3], inputs, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[3][0, 0].numpy() / 2, weights, rtol=1e-9, atol=1e-12)


def test_constant_attention_hands_everything_to_the_values():
    parts = [torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    context = head(*parts, HeadRule(split=False))
    query, key, value = torch.autograd.grad(context.sum(), parts, allow_unused=True)
    assert query is None
    assert key is None
    torch.testing.assert_close((value * parts[2]).sum(), context.sum())


@FAMILIES
@EVERY_METHOD
def test_one_forward_and_one_backward_pass(mini, method):
    model = tiny(mini)
    encoded = encode(model, TEXTS)
    with model.metered(len(encoded)) as meter:
        attribute(method, model, collate(model, encoded))
    assert meter.forwards.tolist() == meter.backwards.tolist() == [1] * len(encoded)


@FAMILIES
@EVERY_METHOD
def test_company_padding_and_global_state_change_no_score(mini, method):
    model = precise(mini)
    encoded = encode(model, TEXTS)
    generator = torch.get_rng_state()
    padded = attribute(method, model, collate(model, encoded, 40)).scores
    for row, one in enumerate(encoded):
        batch = collate(model, [one])
        alone = attribute(method, model, batch).scores
        assert same_scores(padded[row : row + 1, : len(one.ids)], alone, batch.scorable, 1e-8)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in model.network.parameters())


@FAMILIES
@EVERY_METHOD
def test_noised_inputs_are_what_is_explained(mini, method):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:2]))
    ids = batch.ids.clone()
    ids[batch.scorable] = batch.ids[batch.scorable].flip(0)
    moved = replace(batch, offset=model.embedding[ids] - model.embedding[batch.ids])
    moved, real, plain = (attribute(method, model, one).scores for one in (moved, replace(batch, ids=ids), batch))
    assert same_scores(moved, real, batch.scorable, 1e-8)
    assert not same_scores(moved, plain, batch.scorable, 1e-6)


@FAMILIES
def test_positions_absorb_relevance_between_words_and_h0(mini):
    model = without_biases(mini)
    batch = collate(model, encode(model, TEXTS[:1]))
    words = attribute(METHODS["conservative_lrp:words"], model, batch).stats[0]["conservation_gap"]
    h0 = attribute(METHODS["conservative_lrp"], model, batch).stats[0]["conservation_gap"]
    assert abs(h0) < 1e-12
    assert abs(words) > 1e-6


def test_models_without_rules_are_skipped():
    model = tiny.__wrapped__()
    model.network.config.model_type = "roberta"
    with pytest.raises(NotApplicableError, match="roberta; there are: bert, gpt2, opt"):
        attribute(AttnLRP(), model, collate(model, encode(model, TEXTS[:1])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConservativeLRP(readout="h1"), "readout='h1'; allowed: words, h0"),
        (lambda: AttnLRP(readout="word"), "readout='word'; allowed: words, h0"),
        (lambda: ConservativeLRP(activation="relu"), "activation='relu'; allowed: identity, gradient"),
    ],
)
def test_unknown_names_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
