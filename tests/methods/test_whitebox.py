"""White-box methods against finite differences, Captum on ids, hand-made attention, and the rules of batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import LayerIntegratedGradients
from tokenbatch import APPLICABLE, MINIS, WHITE_BOX, attribute, calibrated, collate, encode, same_scores

from attrlab.bench.batch import Output, Targets
from attrlab.bench.contract import quick
from attrlab.bench.estimate import per_example
from attrlab.bench.testing import TEXTS, tiny
from attrlab.methods import CATALOGUE
from attrlab.methods.attention import AttentionLast
from attrlab.methods.gradients import InputTimesGradient, Saliency, scalar_at
from attrlab.methods.paths import IntegratedGradients

METHODS = pytest.mark.parametrize("method", WHITE_BOX)
BOTH = pytest.mark.parametrize(("mini", "method"), APPLICABLE)
FAMILIES = pytest.mark.parametrize("mini", MINIS)
PAIRS = [("not good", "a dull film"), ("Brilliant", "the story")]


def precise(mini):
    """Returns a tiny model of its own in float64, with weights large enough that it is not nearly constant."""
    model = tiny.__wrapped__(mini)
    with torch.no_grad():
        for parameter in model.network.double().parameters():
            parameter.mul_(3.0)
    return model


def explained_at(model, batch, embeds):
    """F of every row of embeddings (R, L, d) of the single example of a batch."""
    targets = Targets(classes=torch.ones(1, dtype=torch.int64))
    with torch.no_grad():
        return scalar_at(model, batch, targets)(embeds, torch.zeros(len(embeds), dtype=torch.int64))


@FAMILIES
def test_saliency_is_the_norm_of_central_differences(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[1:2]))
    token = int(batch.scorable[0].nonzero()[2])
    embeds = model.embed(batch)
    width = embeds.shape[-1]
    steps = torch.zeros(width, *embeds.shape[1:], dtype=torch.float64)
    steps[:, token] = 1e-5 * torch.eye(width, dtype=torch.float64)
    gradient = (explained_at(model, batch, embeds + steps) - explained_at(model, batch, embeds - steps)) / 2e-5
    assert float(attribute(Saliency(), model, batch).scores[0, token]) == pytest.approx(
        float(gradient.norm()), rel=1e-6
    )


@FAMILIES
def test_input_x_gradient_is_the_slope_when_one_token_is_scaled(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:1]))
    embeds = model.embed(batch)
    tokens = batch.scorable[0].nonzero()[:, 0]
    steps = torch.zeros(len(tokens), *embeds.shape[1:], dtype=torch.float64)
    steps[torch.arange(len(tokens)), tokens] = 1e-5 * embeds[0, tokens]
    slopes = (explained_at(model, batch, embeds + steps) - explained_at(model, batch, embeds - steps)) / 2e-5
    scores = attribute(InputTimesGradient(), model, batch).scores[0, tokens]
    torch.testing.assert_close(scores, slopes, rtol=1e-6, atol=1e-9)


@FAMILIES
def test_integrated_gradients_agree_with_captum_on_ids(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:1]))
    parts = LayerIntegratedGradients(
        lambda ids: model.network(input_ids=ids).logits, model.network.get_input_embeddings()
    )
    blank = torch.where(batch.scorable, model.replace_id, batch.ids)
    theirs = [parts.attribute(batch.ids, blank, target=c, n_steps=50, internal_batch_size=1).sum(-1) for c in (0, 1)]
    ours = attribute(IntegratedGradients(), model, batch).scores
    torch.testing.assert_close(ours, theirs[1] - theirs[0], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("mini", "tolerance"), zip(MINIS, (1e-6, 1e-6, 2e-2), strict=True))
def test_integrated_gradients_are_complete(mini, tolerance):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS))
    explained = attribute(IntegratedGradients(), model, batch)
    for row in range(len(batch)):
        one = batch.take(torch.tensor([row]))
        single = replace(one, offset=torch.zeros_like(model.embed(one)))
        single.owners.zero_()
        ends = torch.cat([model.embed(single), model.baseline(single)])
        whole, nothing = explained_at(model, single, ends)
        gap = float(explained.scores[row][batch.scorable[row]].sum() - (whole - nothing))
        assert abs(gap) <= tolerance * max(1.0, abs(float(whole - nothing)))
        assert explained.stats[row]["completeness_gap"] == pytest.approx(gap, abs=1e-10)


class Linear:
    """Logit 1 is the sum over tokens of weight . embedding, logit 0 is zero."""

    network = torch.nn.Identity()

    def __init__(self, batch, width):
        generator = torch.Generator().manual_seed(3)
        self.embeds = torch.randn(*batch.ids.shape, width, generator=generator, dtype=torch.float64)
        self.weights = torch.randn(self.embeds.shape[1:], generator=generator, dtype=torch.float64)

    def embed(self, batch):
        return self.embeds[batch.owners]

    def baseline(self, batch):
        return torch.where(batch.scorable[..., None], 0.5, self.embed(batch))

    def forward(self, batch, embeds):
        total = (embeds * self.weights).sum((1, 2))
        return Output(torch.stack([0 * total, total], 1), total[:, None])


def test_gradient_methods_on_a_linear_model():
    model = tiny()
    batch = collate(model, encode(model, TEXTS[:3]))
    linear = Linear(batch, 7)
    product = attribute(InputTimesGradient(), linear, batch).scores
    torch.testing.assert_close(product, (linear.embeds * linear.weights).sum(-1))
    torch.testing.assert_close(product.sum(1), linear.forward(batch, linear.embeds).logits[:, 1])
    saliency = attribute(Saliency(), linear, batch).scores
    torch.testing.assert_close(saliency, linear.weights.norm(dim=-1).expand_as(saliency))
    path = attribute(IntegratedGradients(steps=3), linear, batch)
    difference = linear.embeds - linear.baseline(batch)
    torch.testing.assert_close(path.scores, (difference * linear.weights).sum(-1), rtol=1e-6, atol=1e-6)
    assert max(abs(row["completeness_gap"]) for row in path.stats) < 1e-5


def heads_of(network, mini, text):
    """Query and key (H, n, dh) of the last layer, from its weights and its input."""
    states = network(input_ids=text, output_hidden_states=True).hidden_states[-2][0]
    if mini.startswith("bert"):
        layer = network.bert.encoder.layer[-1].attention.self
        query, key, heads = layer.query(states), layer.key(states), layer.num_attention_heads
    else:
        block = network.transformer.h[-1]
        query, key, _ = block.attn.c_attn(block.ln_1(states)).chunk(3, dim=-1)
        heads = block.attn.num_heads
    return (part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in (query, key))


@pytest.mark.parametrize("mini", MINIS[:2])
def test_attention_equals_the_softmax_computed_by_hand(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[4:5]))
    scores = attribute(AttentionLast(), model, batch).scores[0]
    with torch.no_grad():
        query, key = heads_of(model.network, mini, batch.ids)
    # The pooling position of a decoder is the last one, which causality lets see everything.
    position = 0 if mini.startswith("bert") else -1
    logits = (query[:, position, None] @ key.transpose(1, 2))[:, 0] / np.sqrt(key.shape[-1])
    torch.testing.assert_close(scores, logits.softmax(-1).mean(0), rtol=0, atol=1e-10)


@FAMILIES
def test_attention_sums_to_one_and_gives_padding_nothing(mini):
    model = tiny(mini)
    batch = collate(model, encode(model, TEXTS), length=40)
    before = model.network.config._attn_implementation
    scores = attribute(AttentionLast(), model, batch).scores
    torch.testing.assert_close(scores.sum(1), torch.ones(len(batch)))
    assert float(scores[batch.mask == 0].abs().max()) == 0.0
    assert model.network.config._attn_implementation == before


@BOTH
def test_counted_rows_equal_the_declared_cost(mini, method):
    model = tiny(mini)
    encoded = encode(model, TEXTS)
    with model.metered(len(encoded)) as meter:
        explained = calibrated(method, model, collate(model, encoded))
    layers, component = model.network.config.num_hidden_layers, quick(method)
    for row, one in enumerate(encoded):
        declared = per_example(component, one.n_units, layers, int((one.units >= 0).sum()))
        counted = (meter.forwards[row], meter.backwards[row])
        assert counted == declared or (component.facts.bound and all(np.less_equal(counted, declared)))
    assert explained.scores.shape == collate(model, encoded).ids.shape
    assert len(explained.stats) in (0, len(encoded))


@BOTH
def test_company_changes_no_score(mini, method):
    model = tiny(mini)
    encoded = encode(model, TEXTS)
    batch = collate(model, encoded)
    together = calibrated(method, model, batch).scores
    for row, one in enumerate(encoded):
        alone = calibrated(method, model, collate(model, [one], batch.ids.shape[1]), first=row).scores
        assert same_scores(together[row : row + 1], alone, batch.scorable[row : row + 1])


@BOTH
def test_padding_changes_no_score(mini, method):
    model = precise(mini)
    encoded = encode(model, TEXTS)
    padded = calibrated(method, model, collate(model, encoded, 40)).scores
    for row, one in enumerate(encoded):
        batch = collate(model, [one])
        alone = calibrated(method, model, batch, first=row).scores
        assert same_scores(padded[row : row + 1, : len(one.ids)], alone, batch.scorable)


@BOTH
def test_pairs_and_single_words_get_finite_scores(mini, method):
    model = tiny(mini)
    batch = collate(model, encode(model, [*PAIRS, "film", "a"]))
    scores = calibrated(method, model, batch).scores[batch.scorable]
    assert torch.isfinite(scores).all()
    assert scores.any()


@pytest.mark.parametrize(("mini", "method"), [pair for pair in APPLICABLE if "embeddings" in CATALOGUE[pair[1]].needs])
def test_noised_inputs_are_what_is_explained(mini, method):
    model = precise(mini)
    model.calibration = encode(model, TEXTS)
    batch = collate(model, encode(model, TEXTS[:2]))
    ids = batch.ids.clone()
    ids[batch.scorable] = batch.ids[batch.scorable].flip(0)
    moved = replace(batch, offset=model.embedding[ids] - model.embedding[batch.ids])
    moved, real, plain = (calibrated(method, model, one).scores for one in (moved, replace(batch, ids=ids), batch))
    assert same_scores(moved, real, batch.scorable, 1e-8)
    assert not same_scores(moved, plain, batch.scorable, 1e-6)


@pytest.mark.parametrize("trainable", [False, True])
@METHODS
def test_model_and_global_generators_are_left_alone(method, trainable):
    model = tiny.__wrapped__("opt-350m-mini")
    model.network.requires_grad_(trainable)
    batch = collate(model, encode(model, TEXTS[:3]))
    weights = {name: value.clone() for name, value in model.network.state_dict().items()}
    states = torch.get_rng_state(), repr(np.random.get_state())
    calibrated(method, model, batch)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == repr(np.random.get_state())
    assert not model.network.training
    assert all(p.grad is None and p.requires_grad is trainable for p in model.network.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.network.state_dict().items())
