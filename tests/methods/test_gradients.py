"""Gradient scores against finite differences, formulas in NumPy and models known by hand."""

import numpy as np
import pytest
import torch
from pathtoys import Scalar, Toy, plain_batch, precise, targets, value_at, words
from tokenbatch import MINIS, attribute, collate, encode, same_scores

from attrlab.bench.errors import NotApplicableError
from attrlab.bench.testing import TEXTS
from attrlab.methods import smoothing
from attrlab.methods.gradients import (
    GradientL1,
    GradientL2,
    GradientMean,
    InputTimesGradient,
    InputTimesGradientLength,
    Saliency,
    gradient,
    inputs_of,
    scalar_at,
)
from attrlab.methods.smoothing import SmoothGrad, SmoothGradSigned, SquareGrad, VarGrad

FAMILIES = pytest.mark.parametrize("mini", MINIS)
ALL = (*MINIS, "opt-125m-mini")
PLAIN = {
    "g_l1": GradientL1,
    "g_l2": GradientL2,
    "saliency": Saliency,
    "input_x_gradient": InputTimesGradient,
    "input_x_gradient_l2": InputTimesGradientLength,
}
FORMULAS = {
    "g_l1": lambda e, g: np.abs(g).sum(-1) / g.shape[-1],
    "g_l2": lambda e, g: (g**2).sum(-1) / g.shape[-1],
    "saliency": lambda e, g: np.sqrt((g**2).sum(-1)),
    "input_x_gradient": lambda e, g: (e * g).sum(-1),
    "input_x_gradient_l2": lambda e, g: np.sqrt(((e * g) ** 2).sum(-1)),
}


def gradient_of(model, batch):
    embeds, rows = inputs_of(model, batch)
    return gradient(scalar_at(model, batch, targets(len(batch))), embeds, rows)


@pytest.mark.parametrize("mini", ALL)
def test_the_gradient_predicts_central_differences_along_random_directions(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:1]))
    embeds = model.embed(batch)
    directions = torch.from_numpy(np.random.default_rng(0).normal(size=(5, *embeds.shape[1:])))
    step = 1e-6
    slopes = value_at(model, batch, embeds + step * directions) - value_at(model, batch, embeds - step * directions)
    found = (gradient_of(model, batch) * directions).sum((1, 2))
    torch.testing.assert_close(found, slopes / (2 * step), rtol=1e-6, atol=1e-8)


@FAMILIES
@pytest.mark.parametrize("name", PLAIN)
def test_scores_are_their_formulas(mini, name):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:3]))
    expected = FORMULAS[name](model.embed(batch).numpy(), gradient_of(model, batch).numpy())
    np.testing.assert_allclose(attribute(PLAIN[name](), model, batch).scores.numpy(), expected, rtol=1e-12)


@FAMILIES
def test_mean_square_is_squared_saliency_over_the_width(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:3]))
    square, saliency = (attribute(method, model, batch).scores for method in (GradientL2(), Saliency()))
    torch.testing.assert_close(square, saliency.square() / model.embedding.shape[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("mini", ["bert-base-mini", "gpt2-mini", "opt-125m-mini"])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_models_in_which_raising_all_entries_changes_nothing_have_no_mean_gradient(mini, precision):
    model = precise(mini)
    rng = np.random.default_rng(1)
    for vector in (parameter for parameter in model.network.parameters() if parameter.ndim == 1):
        vector.add_(torch.from_numpy(0.3 * rng.normal(size=vector.shape)))  # whatever the weights of LayerNorm
    batch = collate(model, encode(model, TEXTS[:1]))
    raised = model.embed(batch) + torch.linspace(-2, 2, batch.ids.shape[1])[:, None]
    torch.testing.assert_close(
        value_at(model, batch, raised), value_at(model, batch, model.embed(batch)), rtol=1e-5, atol=1e-5
    )
    model.network.to(precision)
    with pytest.raises(NotApplicableError, match="LayerNorm"):
        attribute(GradientMean(), model, batch)


def test_mean_gradient_is_the_slope_when_all_entries_of_a_token_are_raised():
    model = precise("opt-350m-mini")
    batch = collate(model, encode(model, TEXTS[:1]))
    embeds, step = model.embed(batch), 1e-6
    tokens = torch.arange(embeds.shape[1])
    steps = torch.zeros(len(tokens), *embeds.shape[1:], dtype=torch.float64)
    steps[tokens, tokens] = step
    slopes = (value_at(model, batch, embeds + steps) - value_at(model, batch, embeds - steps)) / (2 * step)
    scores = attribute(GradientMean(), model, batch).scores[0]
    torch.testing.assert_close(scores, slopes / embeds.shape[2], rtol=1e-6, atol=1e-9)


def test_input_x_gradient_is_complete_without_biases():
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(6, size, generator=generator, dtype=torch.float64) for size in (6, 1))
    model = Toy(
        words(), Scalar(lambda embeds: ((embeds @ one).relu().sum(1).sub(1.0 * embeds.sum(1)).relu() @ two)[:, 0])
    )
    batch = plain_batch([3, 7, 1, 12, 5], [True] * 5)
    scores = attribute(InputTimesGradient(), model, batch).scores
    assert float(scores.sum()) == pytest.approx(float(value_at(model, batch, model.embed(batch))), rel=1e-12)
    assert float(scores.abs().max()) > 0.1


@FAMILIES
@pytest.mark.parametrize("name", PLAIN)
def test_without_noise_averages_are_the_score_itself(mini, name):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:2]))
    plain = attribute(PLAIN[name](), model, batch).scores
    kind = SmoothGradSigned(draws=3, tau=0.0) if name == "input_x_gradient" else SmoothGrad(base=name, draws=3, tau=0.0)
    torch.testing.assert_close(attribute(kind, model, batch).scores, plain)
    square = attribute(SquareGrad(base=name, draws=3, tau=0.0), model, batch).scores
    torch.testing.assert_close(square, plain.square())
    assert float(attribute(VarGrad(base=name, draws=3, tau=0.0), model, batch).scores.abs().max()) < 1e-20


@FAMILIES
def test_mean_square_is_squared_mean_plus_variance(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS))
    mean, square, variance = (
        attribute(kind(draws=12), model, batch).scores for kind in (SmoothGrad, SquareGrad, VarGrad)
    )
    torch.testing.assert_close(square, mean.square() + variance, rtol=1e-10, atol=0)
    assert float(variance[batch.scorable].min()) > 0


def test_square_grad_of_a_parabola_grows_by_the_variance_of_the_noise():
    model = Toy(words(), Scalar(lambda embeds: embeds.square().sum((1, 2)) / 2))  # its gradient is the embedding
    batch = plain_batch([3, 7, 1, 12], [True, True, False, True])
    draws, scale = 4000, 0.5 * float(model.embedding.std())
    scores = attribute(SquareGrad(draws=draws), model, batch).scores[0]
    lengths, width = model.embed(batch)[0].square().sum(-1), model.embedding.shape[1]
    error = (scale**2 * (2 * width * scale**2 + 4 * lengths) / draws).sqrt()
    noised = batch.scorable[0]
    assert ((scores - lengths - width * scale**2).abs() < 3 * error)[noised].all()
    torch.testing.assert_close(scores[~noised], lengths[~noised])


def test_draws_do_not_depend_on_how_many_are_run_at_once(monkeypatch):
    model = precise("gpt2-mini")
    batch = collate(model, encode(model, TEXTS))
    once = attribute(SmoothGrad(draws=7), model, batch).scores
    monkeypatch.setattr(smoothing, "ROWS", 3)
    assert same_scores(attribute(SmoothGrad(draws=7), model, batch).scores, once, batch.scorable, 1e-12)


@FAMILIES
@pytest.mark.parametrize("kind", [SmoothGrad, SmoothGradSigned, SquareGrad, VarGrad])
def test_averages_cost_a_pass_per_draw_and_ignore_company(mini, kind):
    model = precise(mini)
    encoded = encode(model, TEXTS)
    batch = collate(model, encoded)
    with model.metered(len(encoded)) as meter:
        together = attribute(kind(draws=12), model, batch).scores
    assert set(meter.forwards) == set(meter.backwards) == {12}
    for row, one in enumerate(encoded):
        alone = attribute(kind(draws=12), model, collate(model, [one]), first=row).scores
        assert same_scores(together[row : row + 1, : len(one.ids)], alone, collate(model, [one]).scorable, 1e-10)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (SmoothGrad, {"base": "input_x_gradient"}),
        (SmoothGrad, {"base": "g_avg"}),
        (SmoothGrad, {"draws": 0}),
        (SmoothGrad, {"tau": -0.1}),
        (SquareGrad, {"base": "gradient"}),
        (VarGrad, {"draws": 1}),
        (SmoothGradSigned, {"draws": 0}),
    ],
)
def test_bad_parameters_are_refused_by_name_and_value(kind, parameters):
    ((key, given),) = parameters.items()
    with pytest.raises(ValueError, match=rf"{key}='?{given}'?; allowed:"):
        kind(**parameters)
