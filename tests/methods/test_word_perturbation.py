"""Word-by-word perturbation: linear formulas, symmetry, the Jacobian limit, and section 1 with one token."""

import pytest
import torch
from noisetoys import linear, rngs, toy
from scipy.stats import spearmanr
from tokenbatch import collate, encode

from attrlab.bench.testing import TEXTS, tiny
from attrlab.methods.noise import noise_like, representation
from attrlab.methods.tolerance import deviation
from attrlab.methods.word_perturbation import damage_per_token


def test_word_noise_ranks_and_equals_the_linear_formula():
    weights = torch.tensor([3.0, -11.0, 1.0, 7.0], dtype=torch.float64)
    problem = linear(weights)
    xi = torch.randn(1, 32, 256, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    draws = 0.01 * torch.cat([xi, -xi], 1)
    damage = damage_per_token(problem.phi, problem.embeds, problem.scorable, problem.reference, draws)[0]
    torch.testing.assert_close(damage, weights**2 * draws.square().mean())
    assert (damage / 0.01**2 / weights**2 - 1).abs().max() < 0.05
    assert damage.argsort().tolist() == weights.abs().argsort().tolist()


def test_word_noise_is_the_same_at_equal_tokens():
    problem = toy(lambda embeds, rows: embeds.sum(1).tanh(), 4)
    problem.embeds[0, 2] = problem.embeds[0, 0]
    draws = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    damage = damage_per_token(problem.phi, problem.embeds, problem.scorable, problem.reference, draws)[0]
    assert float(damage[0]) == pytest.approx(float(damage[2]), rel=1e-12)


def test_word_noise_at_one_token_equals_the_common_deviation():
    problem = toy(lambda embeds, rows: embeds.sum(1).tanh(), 1, 2)
    xi = noise_like(problem.scorable, problem.embeds, (5,), rngs(2))
    u = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    together = deviation(problem, torch.arange(2), u, torch.cat([xi, -xi])).damage
    draws = (u.exp() * torch.cat([xi, -xi])[:, :, 0].transpose(0, 1).flatten(1)).view(2, 10, -1)
    alone = damage_per_token(problem.phi, problem.embeds, problem.scorable, problem.reference, draws)[:, 0]
    torch.testing.assert_close(alone / problem.spread, together)


def test_small_word_noise_measures_the_jacobian():
    model = tiny.__wrapped__("gpt2-mini")
    model.network.double()
    batch = collate(model, encode(model, TEXTS[1:2]))
    phi, embeds, row = representation(model, batch, "readout"), model.embed(batch), torch.zeros(1, dtype=torch.int64)
    jacobian = torch.autograd.functional.jacobian(lambda e: phi(e, row)[0], embeds)[:, 0]
    draws = torch.randn(1, 64, embeds.shape[-1], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        reference = phi(embeds, row)
        found = damage_per_token(phi, embeds, batch.scorable, reference, 1e-6 * draws)[0] / 1e-12
    exact = torch.einsum("hld,kd->lkh", jacobian, draws[0]).square().sum(2).mean(1)
    marks = batch.scorable[0]
    torch.testing.assert_close(found[marks], exact[marks], rtol=1e-3, atol=0)
    norms = jacobian.square().sum((0, 2))[marks]
    assert spearmanr(found[marks], norms).statistic > 0.8
