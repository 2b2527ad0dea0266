"""The ancestor of co-perturbation, as the comparison in tests/perf runs it: closed form, and which iterate is which."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenbatch import MINIS, encode

from attrlab.bench.testing import TEXTS, tiny

_spec = importlib.util.spec_from_file_location("ancestor", Path(__file__).parents[1] / "perf" / "ancestor.py")
ancestor = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ancestor)

WEIGHTS = torch.tensor([10.0, 20.0, 5.0, -20.0, -10.0], dtype=torch.float64)
SPREAD = 0.1021


def learn(steps, seed=0, width=256, learning_rate=0.01, scale=0.1):
    """Noise tolerated by phi(e) = sum_j w_j e_j, whose optimum is known; the cap is ten times the spread of e."""
    embeds = 0.01 * torch.randn(5, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    settings = ancestor.Settings(scale=scale, rate=0.1, steps=steps, learning_rate=learning_rate)
    return ancestor.learn_noise(
        lambda rows: (WEIGHTS[:, None] * rows).sum(0),
        embeds,
        torch.full((width,), SPREAD, dtype=torch.float64),
        settings,
        torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_final_iterate_has_the_closed_form_of_a_linear_representation(seed):
    """With the ancestor's own 5000 steps and learning rate (methods spec 1.6)."""
    exact = (0.1 * SPREAD / (2 * 5 * WEIGHTS**2)).sqrt()
    assert float((learn(5000, seed).final / exact - 1).abs().max()) < 0.15


def test_lowest_iterate_is_the_one_with_the_lowest_single_draw_loss():
    """Rerun up to the step of the lowest loss, the last iterate is that one."""
    whole = learn(300, width=4, learning_rate=0.1)
    lowest = int(whole.losses.argmin())
    assert 0 < lowest < 299
    again = learn(lowest, width=4, learning_rate=0.1)
    assert torch.equal(again.losses, whole.losses[:lowest])
    assert torch.equal(again.final, whole.lowest)
    assert not torch.equal(whole.lowest, whole.final)


def test_loss_of_the_first_iterate_by_hand():
    rng = torch.Generator().manual_seed(7)
    embeds, variance = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    sigma = 0.5 / (1 + (-torch.randn(2, 1, generator=rng, dtype=torch.float64)).exp())
    noised = (sigma * torch.randn(2, 3, generator=rng, dtype=torch.float64)).sum(0)
    expected = float((noised**2 / variance).sum() / 3 - 0.3 * sigma.log().sum() / 2)
    settings = ancestor.Settings(scale=0.5, rate=0.3, steps=1)
    found = ancestor.learn_noise(lambda rows: rows.sum(0), embeds, variance, settings, torch.Generator().manual_seed(7))
    assert found.losses.tolist() == pytest.approx([expected])
    assert found.lowest.tolist() == pytest.approx(sigma[:, 0].tolist())


@pytest.mark.parametrize("mini", MINIS)
def test_only_scorable_tokens_of_a_sentence_get_noise(mini, monkeypatch):
    model = tiny.__wrapped__(mini)
    model.calibration = encode(model, TEXTS)
    (encoded,) = encode(model, TEXTS[:1])
    seen, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda batch, embeds: seen.append(embeds[0]) or forward(batch, embeds))
    settings = ancestor.Settings(scale=ancestor.cap(model), steps=3)
    variance = torch.ones(1)
    found = ancestor.ancestor(model, encoded, variance, settings, 0)
    clean, *noised = seen
    assert len(noised) == 3
    moved = torch.stack([(rows != clean).any(1) for rows in noised])
    assert moved.tolist() == [(encoded.units >= 0).tolist()] * 3
    assert torch.equal(clean, model.embedding[torch.from_numpy(encoded.ids)])
    assert found.final.shape == (int((encoded.units >= 0).sum()),)
    assert not torch.equal(found.final, found.lowest)


def test_regularisation_is_the_spread_of_each_dimension():
    model = tiny("gpt2-mini")
    model.calibration = encode(model, TEXTS)
    with torch.no_grad():
        read = [
            model.forward(model.collate([ancestor.whole(one)])).readout[0].double().numpy() for one in model.calibration
        ]
    mean = np.mean(read, axis=0)
    expected = np.mean([(row - mean) ** 2 for row in read], axis=0)
    assert ancestor.calibrated_variance(model).numpy() == pytest.approx(expected, rel=1e-4)
