"""Attention under a rule that changes nothing is the model's own; what a rule does reaches the answer."""

import pytest
import torch

from attrlab.bench.attending import Record, Rule, attending
from attrlab.bench.removal import whole
from attrlab.bench.testing import examples, tiny
from attrlab.bench.zoo import BY_MINI


def batch_of(model):
    encoded = [model.encode(example) for example in examples()]
    return model.collate([whole(one) for one in encoded], [one.units >= 0 for one in encoded])


def eager(model, batch):
    """Attention probabilities as transformers itself returns them, layer by layer."""
    network, before = model.network, model.network.config._attn_implementation
    network.set_attn_implementation("eager")
    try:
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "output_attentions": True}
        if not model.decoder:
            inputs["token_type_ids"] = batch.segments
        return network.base_model(**inputs).attentions
    finally:
        network.set_attn_implementation(before)


@pytest.mark.parametrize("mini", BY_MINI)
def test_recording_changes_no_logit_and_gives_what_transformers_gives(mini):
    model = tiny(mini)
    batch, record = batch_of(model), Record()
    plain = model.forward(batch).logits
    before = model.network.config._attn_implementation
    with attending(model, record):
        recorded = model.forward(batch).logits
    assert model.network.config._attn_implementation == before
    torch.testing.assert_close(recorded, plain, atol=1e-6, rtol=1e-5)
    theirs = eager(model, batch)
    assert len(record.layers) == len(theirs) == model.network.config.num_hidden_layers
    real = batch.mask.bool()
    for ours, reference in zip(record.layers, theirs, strict=True):
        assert ours.shape == (len(batch), model.network.config.num_attention_heads, *[batch.ids.shape[1]] * 2)
        rows = real[:, None, :, None].expand_as(ours)
        torch.testing.assert_close(ours[rows], reference[rows], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(ours.sum(-1), torch.ones_like(ours[..., 0]))
        assert not ours[~real[:, None, None].expand_as(ours) & rows].any(), "padding is attended to"
        if model.decoder:
            assert not ours[rows & torch.ones_like(rows).triu(1)].any(), "the future is attended to"


@pytest.mark.parametrize("mini", ["bert-base-mini", "gpt2-mini", "opt-350m-mini"])
def test_gradients_reach_every_layer(mini):
    model = tiny(mini)
    batch, record = batch_of(model), Record()
    with attending(model, record):
        logits = model.forward(batch, model.embed(batch).detach().requires_grad_()).logits
    gradients = torch.autograd.grad(logits[:, 1].sum(), record.layers)
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)


@pytest.mark.parametrize("mini", ["bert-base-mini", "gpt2-mini", "opt-350m-mini"])
def test_a_rule_changes_the_layer_it_names(mini):
    class First(Rule):
        def weights(self, layer, weights):
            return weights * 0 if layer == 0 else weights

    model = tiny(mini, sharpness=10.0)
    batch = batch_of(model)
    plain = model.forward(batch).logits
    with attending(model, First()):
        changed = model.forward(batch).logits
    assert float((changed - plain).abs().max()) > 1e-4
    with pytest.raises(ZeroDivisionError), attending(model, Rule()):
        raise ZeroDivisionError
    torch.testing.assert_close(model.forward(batch).logits, plain)
