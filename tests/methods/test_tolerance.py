"""The optimiser of co-perturbation: closed forms, optimality, a second plain implementation, and exactness."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noisetoys import SPREAD, WEIGHTS, exact, linear, ragged, rngs, toy

from attrlab.methods import tolerance
from attrlab.methods.co_perturbation import PRESETS, capped
from attrlab.methods.noise import noise_like
from attrlab.methods.tolerance import Settings, deviation, optimise, sweep


def budget(preset, lam=0.1):
    draws, steps = PRESETS[preset]
    return Settings(lam=lam, draws=draws, steps=steps)


@pytest.mark.parametrize(("preset", "error"), [("default", 0.03), ("full", 0.02)])
def test_closed_form_of_a_linear_representation_for_each_of_twenty_seeds(preset, error, parity):
    torch.testing.assert_close(
        exact(0.1), torch.tensor([3.20, 1.60, 6.39, 1.60, 3.20], dtype=torch.float64) * 1e-3, rtol=2e-3, atol=0
    )
    found = optimise(linear(examples=20), budget(preset), rngs(20)).u.exp()
    worst = float((found / exact(0.1) - 1).abs().max())
    parity("P15", "co_perturbation", f"closed form, 20 seeds, {preset} preset", worst, error)


def test_rank_is_the_reverse_of_the_weights():
    weights = torch.tensor([3.0, -11.0, 1.0, 7.0, -5.0, 19.0], dtype=torch.float64)
    found = optimise(linear(weights), budget("fast"), rngs(1)).u[0]
    assert found.argsort().tolist() == weights.abs().argsort(descending=True).tolist()


def test_dead_token_ends_at_the_cap():
    problem = linear(WEIGHTS * torch.tensor([1, 1, 0, 1, 1]))
    found = optimise(problem, budget("fast"), rngs(1))
    assert capped(problem, found).tolist() == [[False, False, True, False, False]]
    assert float(found.u[0, [0, 1, 3, 4]].max()) < float(problem.log_cap[0]) - 1
    assert int(found.sensitivity[0].argmin()) == 2


def test_sensitivity_is_the_gradient_norm_where_the_representation_is_a_line():
    """phi = v (w.e): 2 * sensitivity is ln of the squared Jacobian norm up to a constant, as -2u is."""
    direction = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, -4.0], dtype=torch.float64)
    problem = toy(lambda e, rows: (weights[:, None] * e).sum((1, 2))[:, None] * direction, 3)
    found = optimise(problem, replace(budget("fast"), steps=60), rngs(1))
    shift = 2 * found.sensitivity[0] - (weights**2).log()
    assert float(shift.max() - shift.min()) < 1e-9


def test_optimum_satisfies_the_kkt_condition():
    weights = torch.linspace(1, 4, 6, dtype=torch.float64)
    problem = toy(lambda embeds, rows: (weights[:, None] * embeds).sum(1).tanh(), 6, 2, 16)
    found = optimise(problem, budget("full", 0.6), rngs(2))
    fresh = noise_like(problem.scorable, problem.embeds, (64,), rngs(2, 100))
    slope = deviation(problem, torch.arange(2), found.u, fresh).slope
    free = found.u < problem.log_cap[:, None] + math.log(0.98)
    assert free.any()
    assert float((6 / 0.6 * slope)[free].mean()) == pytest.approx(1, abs=0.25)


@settings(max_examples=5, deadline=None)
@given(st.floats(0.05, 20))
def test_scaling_the_embeddings_shifts_all_logs(factor):
    weights = torch.linspace(1, 4, 5, dtype=torch.float64)

    def phi(scale):
        return lambda embeds, rows: (weights[:, None] * embeds / scale).sum(1).tanh()

    plain = toy(phi(1.0), 5)
    scaled = replace(
        plain,
        phi=toy(phi(factor), 5).phi,
        embeds=plain.embeds * factor,
        log_cap=plain.log_cap + math.log(factor),
    )
    quick = Settings(lam=0.1, draws=2, steps=60)
    shift = optimise(scaled, quick, rngs(1)).u - optimise(plain, quick, rngs(1)).u
    torch.testing.assert_close(shift, torch.full_like(shift, math.log(factor)), rtol=0, atol=1e-6)


def plainly(problem, row, settings, rng):
    """The algorithm for one example, step by step, by torch's own Adam and schedule."""
    marks, cap = problem.scorable[row], float(problem.log_cap[row])
    clean, m = problem.embeds[row, marks], int(marks.sum())
    u = torch.full((m,), cap - 5, dtype=torch.float64, requires_grad=True)
    memory = max(20, settings.steps / 8)
    adam = torch.optim.Adam([u], lr=0.1, betas=(0.9, 1 - 1 / memory))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.steps, eta_min=0.002)
    path, slopes, losses, lengths = [], [], [], []
    for step in range(1, settings.steps + 1):
        total, length = torch.zeros((), dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
        for xi in rng.standard_normal((settings.draws, m, clean.shape[1]), dtype=np.float32):
            noised = clean + u.exp()[:, None] * torch.from_numpy(xi).double()
            embeds = problem.embeds[row].index_put((marks,), noised)
            change = problem.phi(embeds[None], torch.tensor([row]))[0] - problem.reference[row]
            damage = change.square().sum() / problem.spread[row]
            (gradient,) = torch.autograd.grad(damage, noised, retain_graph=True)
            length += (gradient.norm(dim=1) + 1e-30).log() / settings.draws
            total = total + damage / settings.draws
        (slope,) = torch.autograd.grad(total, u, retain_graph=True)
        adam.zero_grad()
        (total - settings.lam * u.mean()).backward()
        adam.step()
        schedule.step()
        with torch.no_grad():
            u.clamp_(cap - 12, cap)
        path, slopes, losses = [*path, u.detach().clone()], [*slopes, slope], [*losses, total.detach()]
        lengths.append(length)
        if step % 25 == 0 and step >= 75:
            third, second, last = (torch.stack(path[i:][:25]).mean(0) for i in (step - 75, step - 50, step - 25))
            if max((last - second).abs().max(), (second - third).abs().max()) < 0.05:
                break
    first = math.floor(0.75 * len(path))
    tail = slice(first if len(path) == settings.steps else min(first, len(path) - 75), None)
    means = [torch.stack(part[tail]).mean(0) for part in (path, slopes, losses)]
    return len(path), *means, torch.stack(lengths).mean(0)


@pytest.mark.parametrize("steps", [7, 200])
def test_equals_a_plain_implementation(steps):
    problem, settings = ragged(), Settings(lam=0.3, draws=3, steps=steps)
    found = optimise(problem, settings, rngs(3))
    for row, rng in enumerate(rngs(3)):
        count, u, slope, damage, length = plainly(problem, row, settings, rng)
        assert int(found.steps[row]) == count
        marks = problem.scorable[row]
        torch.testing.assert_close(found.u[row, marks], u, rtol=0, atol=1e-8)
        torch.testing.assert_close(found.slope[row, marks], slope, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(found.sensitivity[row, marks], length, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(found.damage[row], damage, rtol=1e-6, atol=1e-10)
    if steps > 75:
        assert int(found.steps[-1]) < steps


def test_finished_examples_leave_the_batch():
    problem, seen = ragged(), []

    def phi(embeds, rows):
        seen.append(rows.bincount(minlength=3).tolist())
        return problem.phi(embeds, rows)

    found = optimise(replace(problem, phi=phi), Settings(lam=0.3, draws=2, steps=200), rngs(3))
    assert int(found.steps[-1]) < 200
    assert np.sum(seen, axis=0).tolist() == (2 * found.steps).tolist()


def test_noise_drawn_ahead_changes_nothing(monkeypatch):
    ahead = optimise(ragged(), Settings(lam=0.3, draws=2, steps=60), rngs(3))
    monkeypatch.setattr(tolerance, "NOISE_BYTES", 7 * 4 * 3 * 5 * 8)
    by_sevens = optimise(ragged(), Settings(lam=0.3, draws=2, steps=60), rngs(3))
    assert torch.equal(ahead.u, by_sevens.u)


def test_part_of_a_problem_is_solved_as_in_the_whole():
    rows = torch.tensor([2, 0])
    quick = Settings(lam=0.3, draws=2, steps=30)
    whole, part = optimise(ragged(), quick, rngs(3)), optimise(ragged().take(rows), quick, [rngs(3)[2], rngs(3)[0]])
    for ours, theirs in zip(part, whole, strict=True):
        torch.testing.assert_close(ours, theirs[rows], rtol=1e-9, atol=1e-12)


def test_every_weight_of_a_sweep_comes_to_its_closed_form():
    lams = [0.02, 0.1, 0.6]
    generators = rngs(3)
    found = sweep(linear(examples=3), budget("default"), lams, generators)
    for lam, solution in zip(lams, found, strict=True):
        assert float((solution.u.exp() / exact(lam) - 1).abs().max()) < 0.03
        assert solution.damage.tolist() == pytest.approx([lam / 2] * 3, rel=0.05)
    assert [int(solution.steps.max()) for solution in found[1:]] <= [200, 200]
    assert generators[0].random() != rngs(3)[0].random()


def test_a_sweep_of_one_weight_is_one_optimisation():
    quick = Settings(lam=0.3, draws=2, steps=60)
    (alone,) = sweep(ragged(), quick, [0.3], rngs(3))
    assert all(torch.equal(*pair) for pair in zip(alone, optimise(ragged(), quick, rngs(3)), strict=True))


def test_a_sweep_downwards_is_refused():
    with pytest.raises(ValueError, match=r"lams=\[0.3, 0.1\]; give them in ascending order"):
        sweep(ragged(), budget("fast"), [0.3, 0.1], rngs(3))


def test_unit_of_the_damage_is_the_spread():
    problem = linear(examples=2)
    fresh = noise_like(problem.scorable, problem.embeds, (4,), rngs(2))
    u = torch.full((2, 5), -3.0, dtype=torch.float64)
    found = deviation(problem, torch.arange(2), u, fresh)
    change = torch.einsum("j,krjd->krd", WEIGHTS, math.exp(-3) * fresh)
    torch.testing.assert_close(found.damage, change.square().mean((0, 2)) / SPREAD)
    doubled = deviation(replace(problem, spread=2 * problem.spread), torch.arange(2), u, fresh)
    torch.testing.assert_close(doubled.slope, found.slope / 2)
