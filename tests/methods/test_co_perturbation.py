"""The two noise methods: closed forms, optimality, a second plain implementation, and exactness under batching."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from tokenbatch import MINIS, attribute, collate, encode

from attrlab.bench.testing import TEXTS, tiny
from attrlab.methods import co_perturbation, noise
from attrlab.methods.co_perturbation import (
    CoPerturbation,
    Problem,
    Settings,
    Solution,
    attribution,
    deviation,
    diagnostics,
    optimise,
)
from attrlab.methods.noise import natural_spread, noise_like, representation
from attrlab.methods.word_perturbation import WordPerturbation, damage_per_token

WEIGHTS = torch.tensor([10.0, 20.0, 5.0, -20.0, -10.0], dtype=torch.float64)
SPREAD = 0.1021
DEFAULT = Settings(lam=0.1, draws=4, steps=200)


def linear(weights, examples=1, width=256, log_cap=-1.6):
    """phi(e) = sum_j w_j e_j, whose optimum is known."""
    return toy(lambda embeds, rows: (weights[:, None] * embeds).sum(1), len(weights), examples, width, log_cap)


def toy(phi, tokens, examples=1, width=8, log_cap=0.0):
    generator = torch.Generator().manual_seed(0)
    embeds = 0.02 * torch.randn(examples, tokens, width, generator=generator, dtype=torch.float64)
    rows = torch.arange(examples)
    return Problem(
        phi=phi,
        embeds=embeds,
        scorable=torch.ones(examples, tokens, dtype=torch.bool),
        reference=phi(embeds, rows),
        spread=torch.full((examples,), SPREAD, dtype=torch.float64),
        log_cap=log_cap,
    )


def rngs(count, first=0):
    return [np.random.default_rng(first + index) for index in range(count)]


def test_closed_form_of_a_linear_representation():
    problem = linear(WEIGHTS, examples=5)
    exact = (0.1 * SPREAD / (2 * 5 * WEIGHTS**2)).sqrt()
    torch.testing.assert_close(
        exact, torch.tensor([3.20, 1.60, 6.39, 1.60, 3.20], dtype=torch.float64) * 1e-3, rtol=2e-3, atol=0
    )
    full = optimise(problem, Settings(lam=0.1, draws=8, steps=400), rngs(5)).u.exp()
    assert float((full / exact - 1).abs().max()) < 0.03
    default = optimise(problem, DEFAULT, rngs(5)).u.exp()
    assert float((default / exact - 1).abs().mean(1).max()) < 0.03


def test_optimum_satisfies_the_kkt_condition():
    weights = torch.linspace(1, 4, 6, dtype=torch.float64)
    problem = toy(lambda embeds, rows: (weights[:, None] * embeds).sum(1).tanh(), 6, 2, 16)
    full = Settings(lam=0.6, draws=8, steps=400)
    found = optimise(problem, full, rngs(2))
    fresh = noise_like(problem.scorable, problem.embeds, (64,), rngs(2, 100))
    _, slope = deviation(problem, torch.arange(2), found.u, fresh)
    free = found.u < problem.log_cap + math.log(0.98)
    assert free.any()
    assert float((6 / 0.6 * slope)[free].mean()) == pytest.approx(1, abs=0.25)


def test_rank_is_the_reverse_of_the_weights():
    weights = torch.tensor([3.0, -11.0, 1.0, 7.0, -5.0, 19.0], dtype=torch.float64)
    found = optimise(linear(weights), DEFAULT, rngs(1)).u[0]
    assert found.argsort().tolist() == weights.abs().argsort(descending=True).tolist()


def test_dead_token_ends_at_the_cap():
    weights = WEIGHTS * torch.tensor([1, 1, 0, 1, 1])
    problem = linear(weights)
    found = optimise(problem, DEFAULT, rngs(1))
    assert float(found.u[0, 2]) == pytest.approx(problem.log_cap, abs=1e-12)
    assert float(found.u[0, [0, 1, 3, 4]].max()) < problem.log_cap - 1


@settings(max_examples=5, deadline=None)
@given(st.floats(0.05, 20))
def test_scaling_the_embeddings_shifts_all_logs(factor):
    weights = torch.linspace(1, 4, 5, dtype=torch.float64)

    def phi(scale):
        return lambda embeds, rows: (weights[:, None] * embeds / scale).sum(1).tanh()

    plain = toy(phi(1.0), 5)
    scaled = Problem(
        phi=phi(factor),
        embeds=plain.embeds * factor,
        scorable=plain.scorable,
        reference=plain.reference,
        spread=plain.spread,
        log_cap=plain.log_cap + math.log(factor),
    )
    quick = Settings(lam=0.1, draws=2, steps=60)
    shift = optimise(scaled, quick, rngs(1)).u - optimise(plain, quick, rngs(1)).u
    torch.testing.assert_close(shift, torch.full_like(shift, math.log(factor)), rtol=0, atol=1e-6)


def plainly(problem, row, settings, rng):
    """The algorithm for one example, step by step, by torch's own Adam and schedule; returns u, slope and M."""
    marks = problem.scorable[row]
    clean, m = problem.embeds[row, marks], int(marks.sum())
    u = torch.full((m,), problem.log_cap - 5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([u], lr=0.1, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.steps, eta_min=0.002)
    path, slopes, losses = [], [], []
    for step in range(1, settings.steps + 1):
        total = torch.zeros((), dtype=torch.float64)
        for xi in rng.standard_normal((settings.draws // 2, m, clean.shape[1]), dtype=np.float32):
            for sign in (1, -1):
                embeds = problem.embeds[row].clone()
                embeds[marks] = clean + sign * u.exp()[:, None] * torch.from_numpy(xi).double()
                change = problem.phi(embeds[None], torch.tensor([row]))[0] - problem.reference[row]
                total = total + change.square().mean() / problem.spread[row] / settings.draws
        (slope,) = torch.autograd.grad(total, u, retain_graph=True)
        adam.zero_grad()
        (total - settings.lam * u.mean()).backward()
        adam.step()
        schedule.step()
        with torch.no_grad():
            u.clamp_(problem.log_cap - 12, problem.log_cap)
        path, slopes, losses = [*path, u.detach().clone()], [*slopes, slope], [*losses, total.detach()]
        if step % 25 == 0 and step >= 75:
            third, second, last = (torch.stack(path[i:][:25]).mean(0) for i in (step - 75, step - 50, step - 25))
            if max((last - second).abs().max(), (second - third).abs().max()) < 0.05:
                break
    tail = slice(math.floor(0.75 * len(path)), None)
    return len(path), *(torch.stack(part[tail]).mean(0) for part in (path, slopes, losses))


def ragged(examples=3, tokens=5):
    """A nonlinear problem whose examples have 5, 4, 3 tokens; the last one's representation ignores its input."""
    mix = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    live = torch.ones(examples, 1, dtype=torch.float64)
    live[-1] = 0
    order = torch.arange(1, tokens + 1, dtype=torch.float64)[:, None]
    problem = toy(lambda embeds, rows: live[rows] * ((order * embeds).sum(1) @ mix).tanh(), tokens, examples)
    for row in range(examples):
        problem.scorable[row, tokens - row :] = False
    return problem


@pytest.mark.parametrize("steps", [7, 200])
def test_equals_a_plain_implementation(steps):
    problem, settings = ragged(), Settings(lam=0.3, draws=4, steps=steps)
    found = optimise(problem, settings, rngs(3))
    for row, rng in enumerate(rngs(3)):
        count, u, slope, damage = plainly(problem, row, settings, rng)
        assert int(found.steps[row]) == count
        marks = problem.scorable[row]
        torch.testing.assert_close(found.u[row, marks], u, rtol=0, atol=1e-8)
        torch.testing.assert_close(found.slope[row, marks], slope, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(found.damage[row], damage, rtol=1e-6, atol=1e-10)
    if steps > 75:
        assert int(found.steps[-1]) < steps


def test_finished_examples_leave_the_batch():
    problem, seen = ragged(), []

    def phi(embeds, rows):
        seen.append(rows.bincount(minlength=3).tolist())
        return problem.phi(embeds, rows)

    watched = Problem(**{name: getattr(problem, name) for name in problem.__slots__} | {"phi": phi})
    found = optimise(watched, Settings(lam=0.3, draws=2, steps=200), rngs(3))
    assert int(found.steps[-1]) < 200
    assert np.sum(seen, axis=0).tolist() == (2 * found.steps).tolist()


def test_noise_drawn_ahead_changes_nothing(monkeypatch):
    ahead = optimise(ragged(), Settings(lam=0.3, draws=2, steps=60), rngs(3))
    monkeypatch.setattr(co_perturbation, "NOISE_BYTES", 7 * 4 * 3 * 5 * 8)
    by_sevens = optimise(ragged(), Settings(lam=0.3, draws=2, steps=60), rngs(3))
    assert torch.equal(ahead.u, by_sevens.u)


def test_ties_at_the_cap_are_ordered_by_slope():
    problem = ragged(examples=1)
    u = torch.tensor([[-1.0, 0.0, 0.0, -0.01, -3.0]], dtype=torch.float64)
    slope = torch.tensor([[9.0, 0.004, 0.002, -0.002, 9.0]], dtype=torch.float64)
    solution = Solution(u=u, slope=slope, damage=torch.tensor([0.1]), steps=torch.tensor([50]))
    scores = attribution(problem, solution, 0.1)[0]
    assert scores.tolist() == pytest.approx([2.0, 0.05 * 0.004, 0.05 * 0.002, 0.02 - 0.05 * 0.002, 6.0])
    (stats,) = diagnostics(problem, solution)
    assert stats == pytest.approx({"M": 0.1, "entropy": -0.802, "capped": 0.6, "steps": 50, "collapsed": 0})


@pytest.mark.parametrize(("damage", "u", "collapsed"), [(0.51, -1.0, 1), (0.1, 0.0, 1), (0.49, -1.0, 0)])
def test_collapse_is_flagged(damage, u, collapsed):
    problem = ragged(examples=1)
    solution = Solution(
        u=torch.full((1, 5), u), slope=torch.zeros(1, 5), damage=torch.tensor([damage]), steps=torch.tensor([50])
    )
    assert diagnostics(problem, solution)[0]["collapsed"] == collapsed


def test_damage_and_entropy_grow_with_lambda():
    model = calibrated("bert-base-mini")
    batch = collate(model, encode(model, TEXTS[:4]))
    rows = []
    for lam in (0.02, 0.1, 0.3, 0.6, 1.0):
        stats = attribute(CoPerturbation(lam=lam, steps=60), model, batch).stats
        rows.append([np.mean([row[name] for row in stats]) for name in ("M", "entropy")])
    steps = np.diff(rows, axis=0)
    assert (steps >= -0.05 * np.abs(rows[:-1])).all()
    assert (np.array(rows[-1]) > rows[0]).all()


def calibrated(mini, trained=False):
    model = tiny.__wrapped__(mini)
    if trained:
        train(model)
    model.calibration = encode(model, TEXTS)
    return model


def train(model):
    """Fits the tiny model to six sentences: enough to make its noised answers a rough landscape."""
    model.network.requires_grad_(True)
    batch = collate(model, encode(model, TEXTS))
    classes = torch.arange(len(TEXTS)) % 2
    adam = torch.optim.AdamW(model.network.parameters(), 3e-3)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model.forward(batch).logits, classes)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
    model.network.requires_grad_(False).zero_grad(set_to_none=True)
    assert loss.item() < 0.3


@pytest.mark.parametrize("mini", MINIS)
def test_sixteen_together_equal_sixteen_alone_on_trained_models(mini):
    model = calibrated(mini, trained=True)
    words = " ".join(TEXTS).split()
    texts = [" ".join(np.random.default_rng(i).choice(words, 2 + i % 8)) for i in range(16)]
    encoded = encode(model, texts)
    length = max(len(one.ids) for one in encoded)
    method = CoPerturbation(steps=60, draws=2)
    together = attribute(method, model, collate(model, encoded)).scores
    for row in (3, 15):
        alone = attribute(method, model, collate(model, encoded[row : row + 1], length), first=row).scores
        assert torch.equal(together[row], alone[0])


@pytest.mark.parametrize("mini", MINIS)
def test_spread_is_the_mean_variance_over_the_calibration_set(mini):
    model = calibrated(mini)
    encoded = encode(model, [*TEXTS] * 7)
    model.calibration = encoded
    batch = collate(model, encoded)
    read = model.forward(batch).readout.double().numpy()
    with model.metered(len(batch)) as meter:
        spread, known = natural_spread(model, "readout", torch.zeros(2, 3))
    assert known
    assert spread.tolist() == pytest.approx([read.var(0).mean()] * 2, rel=1e-5)
    assert meter.forwards.sum() == 0
    model.calibration = encoded[:2]
    again, _ = natural_spread(model, "readout", torch.zeros(1, 3))
    assert float(again) == pytest.approx(read[:2].var(0).mean(), rel=1e-4)


def test_spread_without_a_calibration_set_and_its_floor():
    model = tiny.__wrapped__("gpt2-mini")
    spread, known = natural_spread(model, "logits", torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert not known
    assert spread.tolist() == [12.5, 1e-8]
    model.calibration = encode(model, TEXTS[:1])
    spread, known = natural_spread(model, "logits", torch.ones(1, 2))
    assert known
    assert spread.tolist() == [noise.FLOOR]


@pytest.mark.parametrize("phi", noise.PHIS)
@pytest.mark.parametrize("method", [CoPerturbation(steps=5, draws=2), WordPerturbation(draws=2)], ids=["co", "word"])
def test_uncalibrated_is_flagged_for_every_representation(method, phi):
    model = tiny.__wrapped__("opt-350m-mini")
    method = type(method)(draws=2, phi=phi)
    if isinstance(method, CoPerturbation):
        method = CoPerturbation(steps=5, draws=2, phi=phi)
    batch = collate(model, encode(model, TEXTS[:2]))
    assert [row["uncalibrated"] for row in attribute(method, model, batch).stats] == [1.0, 1.0]
    model.calibration = encode(model, TEXTS)
    explained = attribute(method, model, batch)
    assert [row["uncalibrated"] for row in explained.stats] == [0.0, 0.0]
    assert torch.isfinite(explained.scores[batch.scorable]).all()


@pytest.mark.parametrize("phi", noise.PHIS)
def test_representation_is_what_the_plain_forward_gives(phi):
    model = tiny("gpt2-mini")
    batch = collate(model, encode(model, TEXTS))
    rows = torch.tensor([5, 0, 0, 3, 1])
    output = model.forward(batch.take(rows))
    expected = {"readout": output.readout, "logits": output.logits, "probs": output.logits.softmax(1)}[phi]
    torch.testing.assert_close(representation(model, batch, phi)(model.embed(batch)[rows], rows), expected)


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
    together, _ = deviation(problem, torch.arange(2), u, xi)
    draws = (u.exp() * torch.cat([xi, -xi])[:, :, 0].transpose(0, 1).flatten(1)).view(2, 10, -1)
    alone = damage_per_token(problem.phi, problem.embeds, problem.scorable, problem.reference, draws)[:, 0]
    torch.testing.assert_close(alone / SPREAD, together)


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
    exact = torch.einsum("hld,kd->lkh", jacobian, draws[0]).square().mean((1, 2))
    marks = batch.scorable[0]
    torch.testing.assert_close(found[marks], exact[marks], rtol=1e-3, atol=0)
    norms = jacobian.square().sum((0, 2))[marks] / len(jacobian)
    assert spearmanr(found[marks], norms).statistic > 0.8
