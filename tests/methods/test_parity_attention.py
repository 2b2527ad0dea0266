"""Attention methods against dense NumPy made from the attentions and gradients that transformers itself returns.

The references see one text at a time, without padding and through the ids; ours sees all texts in one padded batch,
through the embeddings.
"""

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
import torch
from tokenbatch import MINIS, attribute, collate, encode

from attrlab.bench.batch import Targets
from attrlab.bench.testing import TEXTS, tiny
from attrlab.methods.attention import AttentionAll, AttentionLast, AttentionRollout
from attrlab.methods.attention_gradients import (
    AttCat,
    AttentionAttribution,
    AttentionGradCam,
    AttentionTimesGradient,
    GenericRelevance,
    GradSam,
)

TARGET = 1
TOLERANCE = 1e-10


class Theirs:
    """What transformers returns for one text, for one class of a classifier: all dense arrays.

    Attributes:
        q: The position that the head reads.
        weights: (L, H, n, n) attentions.
        gradients: (L, H, n, n) derivatives of the target's logit minus the mean of the others'; attentions are part of
            the graph that transformers builds.
        products: (L, n) hidden state times gradient, summed over dimensions.
        sizes: (L, n) the same of absolute values.
    """

    def __init__(self, model, encoded, *, target=TARGET, scaled=None, factor=1.0):
        network = model.network
        self.q = len(encoded.ids) - 1 if model.decoder else 0
        inputs = {"input_ids": torch.tensor(encoded.ids[None])}
        if "token_type_ids" in model.tokenizer.model_input_names:
            inputs["token_type_ids"] = torch.tensor(encoded.segments[None])
        with own_softmax(scaled, factor):
            output = network(**inputs, output_attentions=True, output_hidden_states=True)
        logits, states = output.logits[0], output.hidden_states[1:]
        scalar = logits[target] - (logits.sum() - logits[target]) / (len(logits) - 1)
        found = torch.autograd.grad(scalar, [*output.attentions, *states])
        depth = len(output.attentions)
        self.weights, self.gradients = (
            np.stack([one[0].detach().numpy() for one in part]) for part in (output.attentions, found[:depth])
        )
        products = [(state * slope)[0].detach() for state, slope in zip(states, found[depth:], strict=True)]
        self.products = np.stack([product.sum(-1).numpy() for product in products])
        self.sizes = np.stack([product.abs().sum(-1).numpy() for product in products])
        if model.decoder:
            self.gradients = np.tril(self.gradients)


@contextmanager
def own_softmax(scaled, factor):
    """Has layer number ``scaled`` use its attention times a factor; and all layers compute it in float64.

    The eager attention of OPT computes its softmax in float32, whatever the model's data type.
    """
    plain, calls = torch.nn.functional.softmax, []

    def softmax(scores, dim=-1, dtype=None):
        calls.append(None)
        return plain(scores, dim=dim) * (factor if len(calls) - 1 == scaled else 1.0)

    with patch("torch.nn.functional.softmax", softmax):
        yield


@pytest.fixture(scope="module", params=[*MINIS, "opt-125m-mini"])
def model(request):
    """A tiny classifier in float64 whose weights take gradients, so that attentions of ids are part of a graph."""
    model = tiny.__wrapped__(request.param, classes=3, sharpness=5.0)
    model.network.double().requires_grad_(True)
    model.network.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="module")
def texts(model):
    return encode(model, [*TEXTS[:4], ("not good", "a dull film")])


@pytest.fixture(scope="module")
def references(model, texts):
    return [Theirs(model, encoded) for encoded in texts]


def rollout(theirs):
    n = theirs.weights.shape[-1]
    product = np.eye(n)
    for layer in theirs.weights:
        product = (0.5 * layer.mean(0) + 0.5 * np.eye(n)) @ product
    return product[theirs.q]


def rollout_of_largest(theirs):
    n = theirs.weights.shape[-1]
    product = np.eye(n)
    for layer in theirs.weights:
        mixed = 0.5 * layer.max(0) + 0.5 * np.eye(n)
        product = mixed / mixed.sum(1, keepdims=True) @ product
    return product[theirs.q]


def product_of_layers(theirs):
    return np.linalg.multi_dot([layer.mean(0) for layer in theirs.weights[::-1]]).mean(0)


def grad_sam(theirs):
    return (theirs.weights * np.maximum(theirs.gradients, 0)).mean((0, 1, 2))


def grad_sam_of_queries(theirs):
    return (theirs.weights * np.maximum(theirs.gradients, 0)).sum(3).mean((0, 1)) / theirs.weights.shape[-1]


def grad_cam(theirs):
    heads = theirs.gradients[-1].mean((1, 2))
    return np.maximum(np.einsum("h,hj->j", heads, theirs.weights[-1][:, theirs.q]) / len(heads), 0)


def generic_relevance(theirs):
    relevance = np.eye(theirs.weights.shape[-1])
    for layer, gradient in zip(theirs.weights, theirs.gradients, strict=True):
        relevance = relevance + np.maximum(layer * gradient, 0).mean(0) @ relevance
    return relevance[theirs.q]


NUMPY = "NumPy on transformers' eager attentions"
PARITY = {
    "attention_last": (AttentionLast(), lambda theirs: theirs.weights[-1].mean(0)[theirs.q]),
    "attention_last:heads=max": (AttentionLast(heads="max"), lambda theirs: theirs.weights[-1].max(0)[theirs.q]),
    "attention_all": (AttentionAll(), lambda theirs: theirs.weights.mean((0, 1, 2))),
    "attention_all:heads=max": (AttentionAll(heads="max"), lambda theirs: theirs.weights.max(1).mean((0, 1))),
    "attention_all:layers=last": (AttentionAll(layers="last"), lambda theirs: theirs.weights[-1].mean((0, 1))),
    "attention_all:layers=product": (AttentionAll(layers="product"), product_of_layers),
    "attention_rollout": (AttentionRollout(), rollout),
    "attention_rollout:heads=max": (AttentionRollout(heads="max"), rollout_of_largest),
    "attention_x_gradient": (
        AttentionTimesGradient(),
        lambda theirs: (theirs.weights[-1] * theirs.gradients[-1]).sum(0)[theirs.q],
    ),
    "grad_sam": (GradSam(), grad_sam),
    "grad_sam:axis=query": (GradSam(axis="query"), grad_sam_of_queries),
    "generic_relevance": (GenericRelevance(), generic_relevance),
}


def largest_gap(model, texts, method, expected):
    """The largest difference at tokens of words, relative to the largest score of the text."""
    batch = collate(model, texts, 24)
    scores = attribute(method, model, batch).scores.numpy()
    gaps = []
    for row, (encoded, reference) in enumerate(zip(texts, expected, strict=True)):
        words = encoded.units >= 0
        largest = np.abs(reference[words]).max()
        assert largest > 0
        gaps.append(np.abs(scores[row, : len(words)] - reference)[words].max() / largest)
    return max(gaps)


@pytest.mark.parametrize("name", PARITY)
def test_dense_second_implementations(model, texts, references, parity, name):
    method, formula = PARITY[name]
    gap = largest_gap(model, texts, method, [formula(theirs) for theirs in references])
    parity("P18", name, NUMPY, gap, TOLERANCE)


def test_attcat_within_what_it_adds_up(model, texts, references, parity):
    """State times gradient nearly cancels where the norm comes first, so the measure is the size of what is summed."""
    scores = attribute(AttCat(), model, collate(model, texts, 24)).scores.numpy()
    for row, (encoded, theirs) in enumerate(zip(texts, references, strict=True)):
        received = theirs.weights.mean((1, 2))
        expected = (theirs.products * received).sum(0)
        words = encoded.units >= 0
        size = (theirs.sizes * received).sum(0)[words].max()
        gap = np.abs(scores[row, : len(words)] - expected)[words].max() / size
        parity("P18", "attcat", NUMPY, gap, TOLERANCE)


def test_grad_cam_for_every_class(model, texts, parity):
    """What the three classes get sums to nothing before the ReLU, so some class gets more than nothing after it."""
    batch, classes = collate(model, texts, 24), len(model.labels)
    scores = torch.stack(
        [
            AttentionGradCam().attribute(model, batch, Targets(classes=torch.full((len(batch),), target)), []).scores
            for target in range(classes)
        ]
    ).numpy()
    for row, encoded in enumerate(texts):
        expected = np.stack([grad_cam(Theirs(model, encoded, target=target)) for target in range(classes)])
        words = encoded.units >= 0
        gap = np.abs(scores[:, row, : len(words)] - expected)[:, words].max() / expected[:, words].max()
        parity("P18", "attention_grad_cam", NUMPY, gap, TOLERANCE)


@pytest.mark.parametrize("layer", [0, 1])
def test_attention_attribution_one_step_after_the_other(model, texts, references, parity, layer):
    steps, depth = 20, model.network.config.num_hidden_layers
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    expected = []
    for encoded, theirs in zip(texts[:3], references, strict=False):
        at = (layer or depth) - 1
        integral = sum(
            share / 2 * scaled_gradient(model, encoded, at, (node + 1) / 2)
            for node, share in zip(nodes, shares, strict=True)
        )
        expected.append((theirs.weights[at] * integral).sum(0)[theirs.q])
    gap = largest_gap(model, texts[:3], AttentionAttribution(layer=layer), expected)
    name = f"attention_attribution:layer={layer}" if layer else "attention_attribution"
    parity("P18", name, NUMPY, gap, TOLERANCE)


def scaled_gradient(model, encoded, layer, factor):
    return Theirs(model, encoded, scaled=layer, factor=factor).gradients[layer]
