"""Maps of all layers: against the methods for one layer, dense Jacobians, and closed forms of an identity model."""

import math

import numpy as np
import pytest
import torch
from tokenbatch import MINIS, attribute, collate, encode, same_scores

from attrlab.bench.errors import UserError
from attrlab.bench.states import states
from attrlab.bench.testing import SHARPNESS, TEXTS, tiny
from attrlab.methods.co_perturbation import CoPerturbation
from attrlab.methods.jacobian import jacobian_norms
from attrlab.methods.layers import MODES, layer_interest, layer_word_damage, normalised
from attrlab.methods.noise import clean, natural_scale, natural_spread, representation
from attrlab.methods.word_perturbation import WordPerturbation, paired_noise

FAMILIES = pytest.mark.parametrize("mini", MINIS)
SITES = pytest.mark.parametrize("site", ["words", "h0"])
EACH_MODE = pytest.mark.parametrize("mode", MODES)
QUICK = CoPerturbation(draws=2, steps=12)


def own(mini, *, calibrated=True, double=False):
    model = tiny.__wrapped__(mini, sharpness=SHARPNESS)
    if double:
        model.network.double()
    model.calibration = encode(model, TEXTS) if calibrated else ()
    return model


def rngs(count, first=0):
    return [np.random.default_rng(first + index) for index in range(count)]


def depth(model):
    return model.network.config.num_hidden_layers


@pytest.mark.parametrize("mini", [*MINIS, "opt-125m-mini"])
def test_the_pooled_last_layer_is_the_readout(mini):
    model = own(mini)
    batch = collate(model, encode(model, TEXTS))
    found = layer_interest(model, batch, rngs(6), QUICK, "pooled")
    expected = attribute(CoPerturbation(steps=12, draws=2), model, batch)
    assert found.scores.shape == (depth(model), *batch.ids.shape)
    assert torch.equal(found.scores[-1][batch.scorable], expected.scores[batch.scorable])
    assert [row["M"] for row in found.stats[-1]] == [row["M"] for row in expected.stats]


@pytest.mark.parametrize("mode", MODES[:2])
@FAMILIES
def test_every_layer_is_optimised_as_if_alone(mini, mode):
    model = own(mini)
    batch = collate(model, encode(model, TEXTS[:3]))
    found = layer_interest(model, batch, rngs(3), QUICK, mode)
    for layer, scores in enumerate(found.scores, 1):
        phi = f"hidden:{layer}" + (":pooled" if mode == "pooled" else "")
        expected = attribute(CoPerturbation(steps=12, draws=2, phi=phi), model, batch).scores
        assert torch.equal(scores[batch.scorable], expected[batch.scorable])


@SITES
@pytest.mark.parametrize("mode", MODES[:2])
@FAMILIES
def test_word_damage_of_every_layer_is_exact(mini, mode, site):
    model = own(mini)
    batch = collate(model, encode(model, TEXTS[:4]))
    found = layer_word_damage(model, batch, rngs(4), mode=mode, draws=4, site=site)
    for layer, scores in enumerate(found.scores, 1):
        phi = f"hidden:{layer}" + (":pooled" if mode == "pooled" else "")
        expected = attribute(WordPerturbation(draws=4, phi=phi, site=site), model, batch).scores
        assert same_scores(scores, expected, batch.scorable)
    if mode == "pooled":
        expected = attribute(WordPerturbation(draws=4, site=site), model, batch).scores
        assert same_scores(found.scores[-1], expected, batch.scorable)


def identity(mini):
    """A decoder whose blocks add nothing to the residual stream: h^k = h^0 for k < L."""
    model = own(mini, double=True)
    for name, weight in model.network.named_parameters():
        if any(part in name for part in ("attn.c_proj", "mlp.c_proj", "self_attn.out_proj", ".fc2.")):
            weight.zero_()
    batch = collate(model, encode(model, TEXTS))
    with torch.no_grad():
        assert torch.equal(states(model, batch, upto=1)[0], clean(model, batch, "h0"))
    return model, batch


IDENTITIES = pytest.mark.parametrize("mini", ["gpt2-mini", "opt-125m-mini"])


@pytest.mark.parametrize(("mini", "site"), [("gpt2-mini", "words"), ("opt-125m-mini", "h0")])
def test_an_identity_model_gives_all_tokens_the_interest_of_the_closed_form(mini, site):
    """M = mean_j(s_j^2) / R, so s_j^2 = lam * R / 2 for every token, whatever its embedding and position."""
    model, batch = identity(mini)
    batch = batch.take(torch.arange(3))
    found = layer_interest(model, batch, rngs(3), CoPerturbation(draws=8, steps=125, site=site, shrink=0))
    for layer in range(1, depth(model)):
        spread, _ = natural_spread(model, f"hidden:{layer}", torch.zeros(1, 1))
        exact = -math.log(0.1 * float(spread) / 2)
        errors = (found.scores[layer - 1] - exact)[batch.scorable]
        assert float(errors.abs().max()) < 0.2
        assert float(errors.mean()) == pytest.approx(0, abs=0.03)
        shares = normalised(found.scores[layer - 1], batch.scorable)
        uniform = batch.scorable / batch.scorable.sum(1, keepdim=True)
        torch.testing.assert_close(shares.float(), uniform, rtol=0.2, atol=0)


@IDENTITIES
def test_an_identity_model_reads_nothing_of_any_token_at_the_pooling_position(mini):
    model, batch = identity(mini)
    found = layer_interest(model, batch, rngs(6), CoPerturbation(draws=2, steps=150, shrink=0), "pooled")
    assert {row["capped"] for layer in found.stats for row in layer} == {1.0}
    assert {row["M"] for layer in found.stats for row in layer} == {0.0}


@SITES
@IDENTITIES
def test_an_identity_model_is_damaged_equally_and_has_a_unit_jacobian(mini, site):
    model, batch = identity(mini)
    marks, width = batch.scorable, model.network.config.hidden_size
    damage = layer_word_damage(model, batch, rngs(6), draws=4, site=site).scores[0]
    scale = 3 * float(natural_scale(model, site, clean(model, batch, site), marks)[0])
    spread = float(natural_spread(model, "hidden:1", torch.zeros(1, 1))[0])
    draws = scale * paired_noise(torch.zeros(1, 1, width, dtype=torch.float64), 4, rngs(1))
    exact = float(draws.square().mean()) / spread
    assert (damage[0] * marks[0].sum())[marks[0]].tolist() == pytest.approx([exact] * int(marks[0].sum()), rel=1e-9)
    for row, here in zip(damage, marks, strict=True):
        torch.testing.assert_close(row[here], row[here][:1].expand(int(here.sum())), rtol=1e-9, atol=0)
    norms = jacobian_norms(model, batch, rngs(6), probes=2, site=site)
    assert norms[0][marks].unique().tolist() == [width]
    assert not norms[0][~marks].any()
    for mode in ("pooled", "others"):
        assert not layer_word_damage(model, batch, rngs(6), mode=mode, draws=2, site=site).scores.any()
        assert not jacobian_norms(model, batch, rngs(6), mode=mode, probes=1, site=site).any()


def blocks_of(model, batch, site="words"):
    """Dense ``||dh^k_i / de_j||_F^2`` of the only example, and the Jacobian itself, per layer."""
    embeds = clean(model, batch, site)
    found = torch.autograd.functional.jacobian(lambda e: states(model, batch, e, site=site), embeds)
    return [(part[0][:, :, 0].square().sum((1, 3)), part[0][:, :, 0]) for part in found]


def read_by(mode, model, batch):
    """Which rows i count for which token j, (n, n)."""
    n, marks = batch.ids.shape[1], batch.scorable[0]
    rows = torch.arange(n) == model.pool(batch) if mode == "pooled" else marks
    return rows[:, None] & ~(torch.eye(n, dtype=torch.bool) & (mode == "others")) & marks[None]


@EACH_MODE
@FAMILIES
def test_jacobian_norms_are_those_of_the_dense_jacobian(mini, mode):
    """Within five standard errors: the variance of a probe of signs is 2 * sum over o != o' of (J J^T)_oo'^2."""
    model, probes = own(mini, double=True), 24
    batch = collate(model, encode(model, ["the film was bad"]))
    read, marks = read_by(mode, model, batch), batch.scorable[0]
    found = jacobian_norms(model, batch, rngs(1), mode=mode, probes=probes, groups=int(marks.sum()))[:, 0]
    assert not found[:, ~marks].any()
    for layer, (blocks, jacobian) in enumerate(blocks_of(model, batch)):
        exact = (blocks * read).sum(0)
        for token in marks.nonzero()[:, 0].tolist():
            rows = jacobian[read[:, token], :, token].flatten(0, 1)
            product = (rows @ rows.T).fill_diagonal_(0)
            error = math.sqrt(2 * float(product.square().sum()) / probes)
            assert error <= exact[token]
            assert abs(float(found[layer, token] - exact[token])) <= 5 * error


def test_random_groups_are_unbiased():
    model = own("gpt2-mini", double=True)
    batch = collate(model, encode(model, ["the film was bad"]))
    marks = batch.scorable[0]
    exact = torch.stack([(block * read_by("others", model, batch)).sum(0) for block, _ in blocks_of(model, batch)])
    draws = [jacobian_norms(model, batch, rngs(1, seed), mode="others", probes=1, groups=2) for seed in range(100)]
    found = torch.stack(draws)[:, :, 0]
    error = found.std(0) / 10
    assert ((found.mean(0) - exact).abs() <= 4.5 * error).all()
    live = exact[:, marks] > 0
    assert live.sum() >= 4
    assert float((error[:, marks][live] / exact[:, marks][live]).max()) < 0.5


@SITES
@EACH_MODE
@FAMILIES
def test_small_noise_at_one_token_measures_the_jacobian(mini, mode, site):
    model = own(mini, double=True)
    batch = collate(model, encode(model, ["Not good"]))
    embeds, read, marks = clean(model, batch, site), read_by(mode, model, batch), batch.scorable[0]
    scale = 1e-6 * float(natural_scale(model, site, embeds, batch.scorable)[0])
    noise = scale * paired_noise(embeds, 8, rngs(1))[0]
    found = layer_word_damage(model, batch, rngs(1), mode=mode, draws=8, scale=1e-6, site=site).scores[:, 0]
    for layer, (_, jacobian) in enumerate(blocks_of(model, batch, site), 1):
        name = f"hidden:{layer}" + (":pooled" if mode == "pooled" else "")
        unit = float(natural_spread(model, name, torch.zeros(1, 1))[0]) * int(read[:, marks][:, 0].sum())
        change = torch.einsum("iajb,rb->rija", jacobian, noise).square().mean((0, 3))
        exact = (change * read).sum(0) / unit
        torch.testing.assert_close(found[layer - 1][marks], exact[marks], rtol=1e-4, atol=1e-18)


@pytest.mark.parametrize("mini", ["bert-base-mini", "opt-350m-mini"])
def test_damage_is_bounded_where_states_are_normalised(mini):
    """After a LayerNorm with unit weights a mean squared entry is at most 1, so a mean squared change at most 4."""
    model = own(mini)
    batch = collate(model, encode(model, TEXTS[:3]))
    found = layer_interest(model, batch, rngs(3), CoPerturbation(lam=20.0, draws=2, steps=60))
    layers = range(1, depth(model) + (mini == "bert-base-mini"))  # OPT-350M projects its last state
    for layer in layers:
        spread = float(natural_spread(model, f"hidden:{layer}", torch.zeros(1, 1))[0])
        for row in found.stats[layer - 1]:
            assert 0.5 < row["M"] <= 4 / spread
            assert row["collapsed"] == 1
            assert row["uncalibrated"] == 0


def everything(model, batch, seeds, site):
    """Every map there is, one above the other."""
    own_rngs = [np.random.default_rng(seed) for seed in seeds]
    before = [repr(rng.bit_generator.state) for rng in own_rngs]
    method = CoPerturbation(draws=2, steps=12, site=site)
    maps = [layer_interest(model, batch, own_rngs, method, mode).scores for mode in MODES[:2]]
    maps += [layer_word_damage(model, batch, own_rngs, mode=mode, draws=2, site=site).scores for mode in MODES]
    maps += [jacobian_norms(model, batch, own_rngs, mode=mode, probes=2, site=site) for mode in MODES]
    assert [repr(rng.bit_generator.state) for rng in own_rngs] == before
    return torch.cat(maps)


@pytest.mark.parametrize(("site", "calibrated"), [("words", True), ("h0", False)])
@FAMILIES
def test_company_changes_nothing(mini, site, calibrated):
    model = own(mini, calibrated=calibrated)
    encoded = encode(model, TEXTS[1:4])
    batch = collate(model, encoded)
    together = everything(model, batch, [0, 1, 2], site)
    alone = collate(model, encoded[2:], batch.ids.shape[1])
    marks = batch.scorable[2]
    assert torch.equal(everything(model, alone, [2], site)[:, 0, marks], together[:, 2, marks])


@FAMILIES
def test_padding_changes_nothing_but_the_last_bits(mini):
    model = own(mini, double=True)
    encoded = encode(model, TEXTS[:2])
    padded = everything(model, collate(model, encoded, 40), [0, 1], "words")
    batch = collate(model, encoded)
    plain = everything(model, batch, [0, 1], "words")
    for ours, theirs in zip(padded, plain, strict=True):
        assert same_scores(ours[:, : batch.ids.shape[1]], theirs, batch.scorable)


@FAMILIES
def test_cost_and_truncation(mini):
    model = own(mini)
    encoded = encode(model, TEXTS[:3])
    batch, layers = collate(model, encoded), depth(model)
    natural_spread(model, "hidden:1", torch.zeros(1, 1))  # calibrated beforehand: the passes below are all counted
    ran = []
    blocks = [
        part for part in model.network.modules() if type(part).__name__ in ("BertLayer", "GPT2Block", "OPTDecoderLayer")
    ]
    hooks = [block.register_forward_hook(lambda *_, k=k: ran.append(k)) for k, block in enumerate(blocks, 1)]
    with model.metered(3) as meter:
        layer_interest(model, batch, rngs(3), CoPerturbation(draws=2, steps=5))
    for hook in hooks:
        hook.remove()
    assert meter.forwards.tolist() == [layers * 5 * 2 + 1] * 3
    assert meter.backwards.tolist() == [layers * 5 * 2] * 3
    assert len(blocks) == layers
    assert [ran.count(k) for k in range(1, layers + 1)] == [1 + 5 * (layers - k + 1) for k in range(1, layers + 1)]
    with model.metered(3) as meter:
        layer_word_damage(model, batch, rngs(3), draws=4)
    assert meter.forwards.tolist() == [4 * int((one.units >= 0).sum()) + 1 for one in encoded]
    for mode, passes in (("all", 3), ("pooled", 3), ("others", 6)):
        with model.metered(3) as meter:
            jacobian_norms(model, batch, rngs(3), mode=mode, probes=3, groups=2)
        assert meter.forwards.tolist() == [1] * 3
        assert meter.backwards.tolist() == [passes * layers] * 3


def test_a_single_token_has_no_others():
    model = own("opt-350m-mini")
    batch = collate(model, encode(model, ["a"]))
    assert int(batch.scorable.sum()) == 1
    assert not layer_word_damage(model, batch, rngs(1), mode="others", draws=2).scores.any()
    assert not jacobian_norms(model, batch, rngs(1), mode="others", probes=1).any()
    assert torch.isfinite(layer_interest(model, batch, rngs(1), QUICK).scores[:, batch.scorable]).all()


def test_shares_are_rho_divided_by_its_sum():
    scorable = torch.tensor([[True, False, True, True], [False] * 4])
    rho = torch.tensor([[1.0, 9.0, 2.0, 5.0], [1.0, 1.0, 1.0, 1.0]])
    found = normalised(rho.log().expand(3, 2, 4), scorable)
    torch.testing.assert_close(found, torch.tensor([[0.125, 0, 0.25, 0.625], [0.0] * 4]).expand(3, 2, 4))
    damage = torch.tensor([[0.0, 0.0, 3.0, 1.0]])
    assert normalised(damage.log(), scorable[:1])[0].tolist() == pytest.approx([0, 0, 0.75, 0.25])


def test_impossible_questions_are_refused():
    model = own("bert-base-mini")
    batch = collate(model, encode(model, TEXTS[:1]))
    with pytest.raises(ValueError, match="mode='others'; allowed: all, pooled"):
        layer_interest(model, batch, rngs(1), QUICK, "others")
    with pytest.raises(ValueError, match="mode='some'; allowed: all, pooled, others"):
        layer_word_damage(model, batch, rngs(1), mode="some")
    with pytest.raises(ValueError, match="mode='some'; allowed: all, pooled, others"):
        jacobian_norms(model, batch, rngs(1), mode="some")
    with pytest.raises(ValueError, match="draws=3; must be even"):
        layer_word_damage(model, batch, rngs(1), draws=3)
    with pytest.raises(ValueError, match="probes=0, groups=4"):
        jacobian_norms(model, batch, rngs(1), probes=0)
    with pytest.raises(ValueError, match="site='h1'"):
        layer_word_damage(model, batch, rngs(1), site="h1")
    with pytest.raises(UserError, match="layer 3"):
        representation(model, batch, "hidden:3")
