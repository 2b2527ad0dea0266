"""Representations, their natural spread and the unit of the noise, against the plain forward pass and numpy."""

import numpy as np
import pytest
import torch
import transformers
from tokenbatch import MINIS, attribute, collate, encode, same_scores

from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.language import LanguageModel
from attrlab.bench.registry import METHODS
from attrlab.bench.states import embed
from attrlab.bench.testing import SHARPNESS, TEXTS, tiny
from attrlab.methods import noise
from attrlab.methods.noise import (
    Moments,
    check_phi,
    clean,
    layer_views,
    natural_scale,
    natural_spread,
    representation,
)
from attrlab.methods.word_perturbation import WordPerturbation

FAMILIES = pytest.mark.parametrize("mini", MINIS)
SITES = pytest.mark.parametrize("site", ["words", "h0"])
EVERY = ("readout", "logits", "probs", "hidden:1", "hidden:2:pooled", "hidden:4", "hidden:4:pooled", "lm")


def phis_of(model):
    deep = model.network.config.num_hidden_layers >= 4
    return [phi for phi in EVERY if (deep or "4" not in phi) and (model.decoder or phi != "lm")]


def own(mini, calibration=()):
    model = tiny.__wrapped__(mini, sharpness=SHARPNESS)
    model.calibration = encode(model, calibration)
    return model


def plain(model, encoded):
    """States h^1 .. h^L (n, d), logits and pooling position of one text, by transformers alone."""
    output = model.network(input_ids=torch.tensor(encoded.ids)[None], output_hidden_states=True)
    return (
        [state[0] for state in output.hidden_states[1:]],
        output.logits[0],
        len(encoded.ids) - 1 if model.decoder else 0,
    )


def vectors(model, encoded, phi):
    """The vectors (P, d) that a representation of one text is made of, by transformers alone."""
    states, logits, pool = plain(model, encoded)
    if phi.startswith("hidden"):
        _, layer, *pooled = phi.split(":")
        state = states[int(layer) - 1]
        return state[pool][None] if pooled else state[encoded.units >= 0]
    return {"logits": logits, "probs": logits.softmax(0), "readout": states[-1][pool], "lm": states[-1][pool]}[phi][
        None
    ]


@pytest.mark.parametrize("phi", ["readout", "logits", "probs", "lm", "hidden:1", "hidden:12", "hidden:3:pooled"])
def test_representations_are_named(phi):
    assert check_phi(phi) == phi


@pytest.mark.parametrize("phi", ["hidden", "hidden:", "hidden:0", "hidden:-1", "hidden:1:all", "hidden:a", "LM", ""])
def test_other_names_are_refused(phi):
    with pytest.raises(ValueError, match=rf"phi='{phi}'; allowed: readout, logits, probs, lm, hidden:K, hidden:K:pool"):
        check_phi(phi)


def test_a_layer_the_model_lacks_is_refused_before_any_forward_pass():
    model = tiny("bert-base-mini")
    batch = collate(model, encode(model, TEXTS[:1]))
    with pytest.raises(UserError, match="layer 3 of model 'bert-base-mini'; allowed: 1 to 2"):
        representation(model, batch, "hidden:3:pooled")
    with pytest.raises(UserError, match="is an encoder and predicts no next token"):
        representation(model, batch, "lm")
    with pytest.raises(ValueError, match="site='h1'"):
        representation(model, batch, "readout", "h1")


@SITES
@FAMILIES
@torch.no_grad()
def test_squared_length_is_the_mean_squared_entry(mini, site):
    model = own(mini)
    encoded = encode(model, TEXTS)
    batch = collate(model, encoded)
    rows = torch.tensor([5, 0, 0, 3, 1])
    for phi in phis_of(model):
        found = representation(model, batch, phi, site)(clean(model, batch, site)[rows], rows)
        for vector, row in zip(found, rows.tolist(), strict=True):
            expected = vectors(model, encoded[row], phi).flatten()
            assert float(vector.square().sum()) == pytest.approx(float(expected.square().mean()), rel=1e-4)
            kept = vector[vector != 0]
            torch.testing.assert_close(kept, expected / len(expected) ** 0.5, rtol=1e-4, atol=1e-5)


@SITES
@FAMILIES
def test_values_and_gradients_are_the_same_bits_in_any_company(mini, site):
    model = own(mini)
    encoded = encode(model, [*TEXTS, *TEXTS[::-1], *TEXTS])
    batch = collate(model, encoded)
    length = batch.ids.shape[1]
    longest = int(batch.last.argmax())
    for phi in phis_of(model):
        together = _value_and_gradient(model, batch, phi, site)
        for row in (2, longest, 17):
            alone = _value_and_gradient(model, collate(model, encoded[row : row + 1], length), phi, site)
            for ours, theirs in zip(alone, together, strict=True):
                assert torch.equal(ours[0], theirs[row])


def _value_and_gradient(model, batch, phi, site):
    embeds = clean(model, batch, site).requires_grad_()
    value = representation(model, batch, phi, site)(embeds, torch.arange(len(batch)))
    squared = value.square().sum(1)
    (gradient,) = torch.autograd.grad(squared.sum(), embeds)
    return embeds.detach(), value.detach(), squared.detach(), gradient


@FAMILIES
@torch.no_grad()
def test_spread_is_the_mean_variance_over_all_positions_that_count(mini):
    texts = [" ".join(TEXTS[i % 6].split()[: 1 + i]) for i in range(40)]
    model = own(mini, texts)
    for phi in phis_of(model):
        with model.metered(2) as meter:
            spread, known = natural_spread(model, phi, torch.zeros(2, 3))
        assert known
        assert meter.forwards.sum() == 0
        found = torch.cat([vectors(model, one, phi) for one in model.calibration]).double().numpy()
        assert spread.tolist() == pytest.approx([found.var(0).mean()] * 2, rel=1e-4)
    model.calibration = model.calibration[:3]
    found = torch.cat([vectors(model, one, "hidden:1") for one in model.calibration]).double().numpy()
    assert float(natural_spread(model, "hidden:1", torch.zeros(1, 3))[0]) == pytest.approx(
        found.var(0).mean(), rel=1e-4
    )


def test_one_pass_over_the_calibration_set_serves_all_layers():
    model = own("opt-350m-mini", TEXTS)
    passes = []
    model.network.base_model.register_forward_hook(lambda *_: passes.append(1))
    for layer in range(1, 5):
        natural_spread(model, f"hidden:{layer}", torch.zeros(1, 3))
        natural_spread(model, f"hidden:{layer}:pooled", torch.zeros(1, 3))
    assert len(passes) == 1


@FAMILIES
@torch.no_grad()
def test_unit_of_the_noise(mini):
    texts = [" ".join(TEXTS[i % 6].split()[: 1 + i]) for i in range(40)]
    model = own(mini)
    encoded = encode(model, TEXTS)
    batch = collate(model, encoded)
    words = natural_scale(model, "words", model.embed(batch), batch.scorable)
    assert words.tolist() == pytest.approx([float(np.std(model.embedding.double().numpy(), ddof=1))] * 6, rel=1e-9)
    entered = [
        model.network.base_model(input_ids=torch.tensor(one.ids)[None], output_hidden_states=True).hidden_states[0][0]
        for one in encoded
    ]
    expected = [
        float(np.std(state[one.units >= 0].double().numpy())) for state, one in zip(entered, encoded, strict=True)
    ]
    h0 = clean(model, batch, "h0")
    assert natural_scale(model, "h0", h0, batch.scorable).tolist() == pytest.approx(expected, rel=1e-4)
    model.calibration = encode(model, texts)
    every = [
        embed(model, collate(model, [one]), "h0")[0][one.units >= 0].flatten().double().numpy()
        for one in model.calibration
    ]
    with model.metered(6) as meter:
        calibrated = natural_scale(model, "h0", h0, batch.scorable)
    assert meter.forwards.sum() == 0
    assert calibrated.tolist() == pytest.approx([float(np.std(np.concatenate(every)))] * 6, rel=1e-5)


def test_a_text_without_tokens_has_a_unit_and_a_spread():
    model = own("opt-350m-mini")
    batch = collate(model, encode(model, ["", "Brilliant"]))
    h0 = clean(model, batch, "h0")
    assert float(natural_scale(model, "h0", h0, batch.scorable)[0]) == noise.FLOOR
    vector = representation(model, batch, "hidden:1")(model.embed(batch), torch.arange(2))
    assert not vector[0].any()
    assert natural_spread(model, "hidden:1", vector)[0][0] == noise.FLOOR


def test_moments_by_chunks_equal_numpy():
    numbers = 1e4 + torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = Moments()
    for chunk in numbers.split([1, 0, 30, 19]):
        total = total.plus(chunk)
    assert total.count == 50
    np.testing.assert_allclose(total.mean, numbers.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(total.squares / 50, numbers.numpy().var(0), rtol=1e-9)


@FAMILIES
@torch.no_grad()
def test_layer_views_are_the_representations_of_every_layer(mini):
    model = own(mini)
    batch = collate(model, encode(model, TEXTS))
    rows = torch.arange(len(batch))
    for mode, suffix in (("all", ""), ("pooled", ":pooled")):
        views = layer_views(model, batch, model.embed(batch), mode)
        for layer, view in enumerate(views, 1):
            expected = representation(model, batch, f"hidden:{layer}{suffix}")(model.embed(batch), rows)
            torch.testing.assert_close(view.entries(), expected, rtol=1e-4, atol=1e-5)


@SITES
@FAMILIES
def test_word_noise_takes_every_representation_at_both_sites(mini, site):
    model = own(mini, TEXTS)
    encoded = encode(model, TEXTS[:4])
    batch = collate(model, encoded)
    for phi in phis_of(model):
        with model.metered(4) as meter:
            explained = attribute(WordPerturbation(draws=4, phi=phi, site=site), model, batch)
        assert meter.forwards.tolist() == [4 * int((one.units >= 0).sum()) + 1 for one in encoded]
        scores = explained.scores[batch.scorable]
        assert torch.isfinite(scores).all()
        assert (scores > 0).any()
        assert explained.stats == [{"uncalibrated": 0.0}] * 4


def test_the_sites_of_gpt2_differ_by_their_unit_alone():
    """Its h^0 is the word embedding plus a constant, so the same noise does the same at both."""
    model = own("gpt2-mini", TEXTS)
    batch = collate(model, encode(model, TEXTS))
    words, h0 = (
        float(natural_scale(model, site, clean(model, batch, site), batch.scorable)[0]) for site in ("words", "h0")
    )
    assert abs(h0 / words - 1) > 0.1
    at_words = attribute(WordPerturbation(scale=3.0), model, batch).scores
    at_h0 = attribute(WordPerturbation(scale=3.0 * words / h0, site="h0"), model, batch).scores
    assert same_scores(at_h0, at_words, batch.scorable, 1e-4)


@pytest.mark.parametrize(("setting", "value"), [("phi", "hidden:x"), ("site", "h1"), ("draws", 3), ("scale", 0.0)])
def test_word_noise_refuses_a_wrong_setting(setting, value):
    with pytest.raises(ValueError, match=f"{setting}={value!r}"):
        WordPerturbation(**{setting: value})


def test_a_layer_can_be_named_on_the_command_line():
    found = METHODS.find("word_perturbation:phi=hidden:3:pooled,site=h0,draws=4")
    assert found.name == "word_perturbation:draws=4,phi=hidden:3:pooled,site=h0"
    method = found.build()
    assert (method.phi, method.site, method.draws) == ("hidden:3:pooled", "h0", 4)


@pytest.fixture(scope="module", params=[("gpt2-mini", "GPT2LMHeadModel"), ("opt-350m-mini", "OPTForCausalLM")])
def language(request):
    mini, kind = request.param
    classifier = tiny(mini)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = getattr(transformers, kind)(classifier.network.config).eval().requires_grad_(requires_grad=False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.mul_(SHARPNESS)
    return LanguageModel(network, classifier.tokenizer, mini)


def prompts(model, continuation):
    return [
        model.encode(Example(id=str(i), texts=(text, *([continuation] if continuation else [])), label=None))
        for i, text in enumerate(TEXTS[:4])
    ]


@pytest.mark.parametrize("continuation", ["", " and the end"])
@torch.no_grad()
def test_lm_is_the_state_that_predicts_each_next_token(language, continuation):
    encoded = prompts(language, continuation)
    batch = collate(language, encoded)
    q = len(language.tokenizer(continuation, add_special_tokens=False)["input_ids"]) if continuation else 1
    found = representation(language, batch, "lm")(language.embed(batch), torch.arange(len(batch)))
    expected = []
    for vector, one in zip(found, encoded, strict=True):
        ids = torch.tensor(one.ids)[None]
        prompt = int((one.segments == 0).sum())
        state = language.network.base_model(input_ids=ids).last_hidden_state[0, prompt - 1 : prompt - 1 + q]
        head = language.network.get_output_embeddings()(state)
        torch.testing.assert_close(
            head, language.network(input_ids=ids).logits[0, prompt - 1 : prompt - 1 + q], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(vector[vector != 0], state.flatten() / state.numel() ** 0.5, rtol=1e-4, atol=1e-5)
        expected.append(state.double())
    if not continuation:
        readout = representation(language, batch, "readout")(language.embed(batch), torch.arange(len(batch)))
        torch.testing.assert_close(found[found != 0], readout[readout != 0])
    language.calibration = encoded
    spread, _ = natural_spread(language, "lm", found)
    assert spread.tolist() == pytest.approx([float(torch.cat(expected).var(0, correction=0).mean())] * 4, rel=1e-4)


@torch.no_grad()
def test_only_the_prompt_is_noised(language):
    encoded = prompts(language, " and the end")
    batch = collate(language, encoded)
    scores = attribute(WordPerturbation(draws=4, phi="lm"), language, batch).scores
    for row, one in zip(scores, encoded, strict=True):
        assert (row[: len(one.ids)][one.units >= 0] > 0).all()
        assert not row[len(one.ids) :].any()
        assert not row[: len(one.ids)][one.segments == 1].any()
