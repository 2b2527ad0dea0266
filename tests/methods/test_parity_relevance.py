"""Relevance propagation against LXT's numbers (P11, P12), and conservation of F at every layer (P13)."""

import json

import numpy as np
import pytest
import torch
from references import lxt_gpt2
from tokenbatch import collate, encode

from attrlab.bench.batch import Row, Targets
from attrlab.bench.model import TextModel
from attrlab.bench.testing import TEXTS, tiny
from attrlab.bench.zoo import BY_MINI
from attrlab.methods.relevance import AttnLRP, ConservativeLRP, layer_relevance
from attrlab.methods.relevance_rules import HeadRule


@pytest.mark.parametrize(
    ("target", "name", "rules", "method"),
    [
        ("P11", "conservative_lrp", "cp_LRP", ConservativeLRP(readout="words")),
        ("P12", "attn_lrp", "attnLRP", AttnLRP(readout="words")),
    ],
)
def test_relevance_of_gpt2_agrees_with_lxt(parity, target, name, rules, method):
    model = TextModel(lxt_gpt2.network(), tiny("gpt2-mini").tokenizer, "reference")
    stored = json.loads(lxt_gpt2.RESULTS.read_text("utf-8"))[rules]
    for text, theirs in zip(lxt_gpt2.TEXTS, stored, strict=True):
        ids = np.array(text)
        batch = model.collate([Row(ids, 0 * ids, ids >= 0)], [ids >= 0])
        torch.testing.assert_close(model.forward(batch).logits[0].tolist(), theirs["logits"], rtol=0, atol=1e-10)
        for label, relevance in enumerate(theirs["relevance"]):
            targets = Targets(classes=torch.tensor([label]), scalar="logit")
            ours = method.attribute(model, batch, targets, []).scores[0]
            error = (ours - torch.tensor(relevance, dtype=torch.float64)).abs().max()
            parity(target, name, f"LXT efficient {rules}, GPT-2", error, 1e-6)


def without_biases(mini):
    """Returns a tiny model of its own in float64 whose biases are all zero."""
    model = tiny.__wrapped__(mini, classes=3, sharpness=3.0)
    for name, parameter in model.network.double().named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    return model


@pytest.mark.parametrize("mini", BY_MINI)
def test_relevance_is_conserved_at_every_layer(parity, mini):
    model = without_biases(mini)
    batch = collate(model, encode(model, [*TEXTS, ("not good", "a dull film")]))
    targets = Targets(classes=torch.arange(len(batch)) % 3)
    layers, explained = layer_relevance(model, batch, targets, HeadRule(split=False))
    torch.testing.assert_close(explained, targets.of(model.forward(batch).logits, batch), rtol=1e-12, atol=1e-12)
    error = ((layers.sum(2) - explained) / explained).abs().max()
    parity("P13", "conservative_lrp", f"F, {BY_MINI[mini].family} without biases", error, 1e-8)
    assert float(layers[:, batch.mask == 0].abs().max()) == 0
