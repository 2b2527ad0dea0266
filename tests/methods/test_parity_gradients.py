"""Gradient and path methods against Captum, leave-one-out and time_interpret (methods spec 14: P8, P9, P10, P17)."""

import importlib.util
import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from captum.attr import DeepLift as CaptumDeepLift
from captum.attr import GradientShap as CaptumGradientShap
from captum.attr import InputXGradient, LayerIntegratedGradients, NoiseTunnel
from captum.attr import Saliency as CaptumSaliency
from pathtoys import Toy, plain_batch, precise, targets, value_at
from tokenbatch import MINIS, attribute, collate, encode

from attrlab.bench.batch import Targets
from attrlab.bench.engine import Engine
from attrlab.bench.explain import Question, outcomes
from attrlab.bench.testing import TEXTS, examples
from attrlab.methods.deeplift import GradientTimesDelta
from attrlab.methods.gradients import GradientL1, InputTimesGradient, InputTimesGradientLength, Saliency, scalar_at
from attrlab.methods.noise import noise_like
from attrlab.methods.paths import GradientShap, IntegratedGradients, IntegratedGradientsLength, baseline_of
from attrlab.methods.removal import LeaveOneOut
from attrlab.methods.sequential import SequentialIntegratedGradients, SequentialIntegratedGradientsLength
from attrlab.methods.smoothing import SmoothGrad, SmoothGradSigned, SquareGrad, VarGrad

HERE = Path(__file__).parent
ALL = (*MINIS, "opt-125m-mini")
FAMILIES = pytest.mark.parametrize("mini", ALL)
pytestmark = pytest.mark.filterwarnings(
    "ignore:Input Tensor 0 did not already", "ignore:Setting forward, backward hooks"
)


class Direct:
    """A model that Captum calls: F of its embeddings, of one unpadded text."""

    def __init__(self, mini, text=TEXTS[0]):
        self.model = precise(mini)
        self.batch = collate(self.model, encode(self.model, [text]))
        self.inputs = self.model.embed(self.batch)

    def contrast(self, logits):
        return logits[:, 1] - logits[:, 0]

    def __call__(self, embeds):
        rows = torch.zeros(len(embeds), dtype=torch.int64)
        return scalar_at(self.model, self.batch, targets())(embeds, rows)

    def ours(self, method):
        return attribute(method, self.model, self.batch)


def gap(ours, theirs):
    """Largest difference, as a share of the largest score."""
    return float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())


@FAMILIES
def test_integrated_gradients(mini, parity):
    direct = Direct(mini)
    model, batch = direct.model, direct.batch
    found, sizes = direct.ours(IntegratedGradients()), direct.ours(IntegratedGradientsLength())
    theirs = LayerIntegratedGradients(
        lambda ids: direct.contrast(model.network(input_ids=ids).logits), model.network.get_input_embeddings()
    ).attribute(
        batch.ids,
        torch.where(batch.scorable, model.replace_id, batch.ids),
        n_steps=int(found.stats[0]["steps"]),
        internal_batch_size=1,
    )
    reference = "captum LayerIntegratedGradients"
    parity("P8", "integrated_gradients", reference, gap(found.scores, theirs.sum(-1)), 1e-8)
    parity("P8", "integrated_gradients_l2", reference, gap(sizes.scores, theirs.norm(dim=-1)), 1e-8)


@FAMILIES
def test_sequential_integrated_gradients_and_leave_one_out(mini, parity):
    kind, sharpness, tolerance = ("ReLU", 5.0, 5e-3) if mini.startswith("opt") else ("GELU", 10.0, 1e-6)
    model = precise(mini, sharpness)
    texts = examples()[:4]
    engine = Engine(model, [model.encode(text, "token") for text in texts])
    questions = [Question(slot=slot, target=1, seed=(0,)) for slot in range(len(texts))]
    left = outcomes(LeaveOneOut(), questions, engine)
    sums = outcomes(SequentialIntegratedGradients(), questions, engine)
    error = max(np.abs(one.scores - other.scores).max() for one, other in zip(left, sums, strict=True))
    assert max(np.abs(one.scores).max() for one in left) > 0.1
    parity("P9", "sequential_integrated_gradients", f"leave_one_out, replace, {kind}", error, tolerance)


def test_what_separates_it_from_leave_one_out_under_relu_is_the_quadrature():
    model = precise("opt-125m-mini", 10.0)
    engine = Engine(model, [model.encode(examples()[2], "token")])
    question = [Question(slot=0, target=1, seed=(0,))]
    (left,) = outcomes(LeaveOneOut(), question, engine)
    errors = [
        np.abs(outcomes(SequentialIntegratedGradients(steps=steps), question, engine)[0].scores - left.scores).max()
        for steps in (50, 3000)
    ]
    assert errors[1] < 0.1 * errors[0]


def test_sequential_integrated_gradients_and_time_interpret(parity):
    spec = importlib.util.spec_from_file_location("tint_sig", HERE / "references" / "time_interpret_sig.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    stored = json.loads((HERE / "data" / "time_interpret_sig.json").read_text("utf-8"))
    assert set(stored) == set(reference.FAMILIES)
    inner = [0 < place < len(reference.IDS) - 1 for place in range(len(reference.IDS))]
    for family, theirs in stored.items():
        network = reference.network(family)
        model = Toy(network.get_input_embeddings().weight.detach(), network)
        model.replace_id = reference.BLANK
        model.network = lambda embeds, network=network: network(inputs_embeds=embeds).logits
        logit = Targets(classes=torch.tensor([reference.TARGET]), scalar="logit")
        batch = plain_batch(reference.IDS, inner)
        kinds = {"sum": SequentialIntegratedGradients, "l2": SequentialIntegratedGradientsLength}
        for name, kind in kinds.items():
            ours = kind(steps=reference.STEPS).attribute(model, batch, logit, [np.random.default_rng(0)]).scores[0]
            expected = torch.tensor(theirs[name], dtype=torch.float64)  # its weights are rounded to float32
            method = "sequential_integrated_gradients" + "_l2" * (name == "l2")
            parity("P9", method, "time_interpret 0.3.0", gap(ours, expected), 1e-8)


@FAMILIES
def test_gradients(mini, parity):
    direct = Direct(mini)
    gradient = CaptumSaliency(direct).attribute(direct.inputs, abs=True)
    product = InputXGradient(direct).attribute(direct.inputs)
    for name, method, theirs in (
        ("saliency", Saliency(), gradient.norm(dim=-1)),
        ("g_l1", GradientL1(), gradient.mean(-1)),
        ("input_x_gradient", InputTimesGradient(), product.sum(-1)),
        ("input_x_gradient_l2", InputTimesGradientLength(), product.norm(dim=-1)),
    ):
        reference = "captum InputXGradient" if name.startswith("input") else "captum Saliency"
        parity("P10", name, reference, gap(direct.ours(method).scores, theirs), 1e-8)


class Length(CaptumSaliency):
    """Captum's gradient reduced to the length of each token's, so that its tunnel averages scores."""

    def attribute(self, inputs, **more):
        return super().attribute(inputs, abs=False, **more).norm(dim=-1)


class Dot(InputXGradient):
    """Captum's product reduced to its sum over each token's dimensions."""

    def attribute(self, inputs, **more):
        return super().attribute(inputs, **more).sum(-1)


for kind in (Length, Dot):
    kind.attribute.__wrapped__ = kind.attribute  # the tunnel steps over Captum's logging


@FAMILIES
@pytest.mark.parametrize(
    ("name", "method", "base", "tunnel"),
    [
        ("smoothgrad", SmoothGrad, Length, "smoothgrad"),
        ("squaregrad", SquareGrad, Length, "smoothgrad_sq"),
        ("vargrad", VarGrad, Length, "vargrad"),
        ("smoothgrad_input_x_gradient", SmoothGradSigned, Dot, "smoothgrad"),
    ],
)
def test_averages_over_the_same_noise(mini, parity, name, method, base, tunnel):
    direct = Direct(mini)
    draws, scale = 12, 0.5 * direct.model.embedding.std()
    noise = noise_like(direct.batch.scorable, direct.inputs, (draws,), [np.random.default_rng(0)])[:, 0]
    noised = staticmethod(lambda inputs, _stdev, _count: inputs + scale * noise)
    with patch.object(NoiseTunnel, "_add_noise_to_input", noised):
        theirs = NoiseTunnel(base(direct)).attribute(direct.inputs, nt_type=tunnel, nt_samples=draws)
    ours = direct.ours(method(draws=draws)).scores
    scorable = direct.batch.scorable
    tolerance = 1e-6 if name == "vargrad" else 1e-8  # Captum's variance is a difference of two large numbers
    parity("P10", name, "captum NoiseTunnel, same noise", gap(ours[scorable], theirs[scorable]), tolerance)


@FAMILIES
def test_gradient_shap_with_the_same_draws(mini, parity):
    direct = Direct(mini)
    model, batch, inputs = direct.model, direct.batch, direct.inputs
    draws, rng = 9, np.random.default_rng(0)
    alphas, chosen = rng.random(draws), rng.integers(3, size=draws)
    noise = 0.1 * model.embedding.std() * noise_like(batch.scorable, inputs, (draws,), [rng])[:, 0]
    starts = torch.cat([baseline_of(model, batch, name) for name in ("replace", "mean", "zero")])
    with (
        patch.object(NoiseTunnel, "_add_noise_to_input", staticmethod(lambda given, _stdev, _count: given + noise)),
        patch("numpy.random.choice", lambda *_args, **_more: chosen),
        patch("numpy.random.uniform", lambda *_args: alphas),
    ):
        theirs = CaptumGradientShap(direct).attribute(inputs, starts, n_samples=draws).sum(-1)
    ours = direct.ours(GradientShap(draws=draws)).scores
    parity("P10", "gradient_shap", "captum GradientShap, same draws", gap(ours, theirs), 1e-8)


class AsModule(torch.nn.Module):
    """What Captum's DeepLift needs: a module from embeddings to the explained scalar."""

    def __init__(self, network, value):
        super().__init__()
        self.network = network
        self.value = value

    def forward(self, embeds):
        return self.value(embeds)


def test_gradient_x_delta_is_deeplift_where_no_activation_is_registered(parity):
    direct = Direct("gpt2-mini")
    start = direct.model.baseline(direct.batch)
    theirs = CaptumDeepLift(AsModule(direct.model.network, direct)).attribute(direct.inputs, start).sum(-1)
    ours = direct.ours(GradientTimesDelta()).scores
    assert abs(float(value_at(direct.model, direct.batch, direct.inputs))) > 1e-3
    parity("P17", "grad_x_delta", "captum DeepLift, GPT-2", gap(ours, theirs), 1e-10)
