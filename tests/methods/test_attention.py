"""Attention methods: what must hold by construction, finite differences, and maps from word to word."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenbatch import MINIS, attribute, collate, encode

from attrlab.bench.attending import Record, Rule, attending
from attrlab.bench.batch import Targets, filled
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Encoded, Example, Word
from attrlab.bench.states import hidden_states as states_beside_logits
from attrlab.bench.states import states as hidden_states
from attrlab.bench.testing import TEXTS, tiny
from attrlab.methods import attention
from attrlab.methods.attention import AttentionAll, AttentionLast, AttentionRollout
from attrlab.methods.attention_gradients import (
    AttCat,
    AttentionAttribution,
    AttentionGradCam,
    AttentionTimesGradient,
    GenericRelevance,
    GradSam,
    attention_gradients,
    possible,
)
from attrlab.methods.attention_maps import word_map, word_maps

FAMILIES = pytest.mark.parametrize("mini", [*MINIS, "opt-125m-mini"])
PLAIN = {
    "last": AttentionLast(),
    "last, max": AttentionLast(heads="max"),
    "all": AttentionAll(),
    "all, max": AttentionAll(heads="max"),
    "all, last": AttentionAll(layers="last"),
    "all, product": AttentionAll(layers="product"),
    "rollout": AttentionRollout(),
    "rollout, max": AttentionRollout(heads="max"),
}
WEIGHED = {
    "attention x gradient": (AttentionTimesGradient(), (1, 1)),
    "grad_sam": (GradSam(), (1, 1)),
    "grad_sam, query": (GradSam(axis="query"), (1, 1)),
    "grad_cam": (AttentionGradCam(), (1, 1)),
    "attcat": (AttCat(), (1, 1)),
    "generic_relevance": (GenericRelevance(), (1, 1)),
    "attribution": (AttentionAttribution(), (20, 20)),
    "attribution, 1": (AttentionAttribution(steps=13, layer=1), (13, 13)),
}
"""Methods that need gradients, with their forward and backward passes per example."""
EVERY = PLAIN | {name: method for name, (method, _) in WEIGHED.items()}
UNSIGNED = [*PLAIN, "grad_sam", "grad_sam, query", "grad_cam", "generic_relevance"]


def precise(mini, sharpness=5.0):
    """Returns a tiny model of its own in float64, whose answers depend on its words."""
    model = tiny.__wrapped__(mini, sharpness=sharpness)
    model.network.double()
    return model


def explained(model, batch):
    with torch.no_grad():
        return targets(batch).of(model.forward(batch).logits, batch)


def targets(batch, target=1):
    return Targets(classes=torch.full((len(batch),), target))


@FAMILIES
@pytest.mark.parametrize("name", sorted(PLAIN.keys() - {"last, max", "all, max"}))
def test_shares_sum_to_one_and_padding_gets_nothing(mini, name):
    model = tiny(mini, sharpness=5.0)
    batch = collate(model, encode(model, TEXTS), length=40)
    scores = attribute(PLAIN[name], model, batch).scores
    torch.testing.assert_close(scores.sum(1), torch.ones(len(batch)))
    assert float(scores[batch.mask == 0].abs().max()) == 0.0


@pytest.mark.parametrize("mini", MINIS)
@pytest.mark.parametrize("name", EVERY)
def test_neither_padding_nor_company_changes_a_score(mini, name):
    model = precise(mini)
    encoded = encode(model, TEXTS)
    together = attribute(EVERY[name], model, collate(model, encoded, 40)).scores
    for row, one in enumerate(encoded):
        alone = attribute(EVERY[name], model, collate(model, [one])).scores[0]
        torch.testing.assert_close(together[row, : len(one.ids)], alone, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("mini", MINIS)
@pytest.mark.parametrize("name", EVERY)
def test_passes_are_those_that_are_declared(mini, name):
    model = tiny(mini)
    batch = collate(model, encode(model, TEXTS[:2]))
    with model.metered(len(batch)) as meter:
        attribute(EVERY[name], model, batch)
    forwards, backwards = WEIGHED[name][1] if name in WEIGHED else (1, 0)
    assert meter.forwards.tolist() == [forwards] * 2
    assert meter.backwards.tolist() == [backwards] * 2


@FAMILIES
@pytest.mark.parametrize("name", UNSIGNED)
def test_unsigned_scores_are_not_negative(mini, name):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS))
    assert (attribute(EVERY[name], model, batch).scores >= 0).all()


@pytest.mark.parametrize("mini", MINIS)
@pytest.mark.parametrize("name", EVERY)
def test_only_gradients_tell_one_class_from_the_other(mini, name):
    """With two classes F changes its sign with the class, and so do the signed scores."""
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:2]))
    zero, one = (EVERY[name].attribute(model, batch, targets(batch, c), [None] * 2).scores for c in (0, 1))
    if name in PLAIN:
        assert torch.equal(zero, one)
    elif name in UNSIGNED:
        assert not torch.allclose(zero, one)
    else:
        torch.testing.assert_close(zero, -one)


class Identity(Record):
    """Every token attends to itself."""

    def weights(self, layer, weights):
        return super().weights(layer, torch.eye(weights.shape[-1]).expand_as(weights))


class Equal(Record):
    """Every token attends alike to all that it can see."""

    def weights(self, layer, weights):
        seen = (weights > 0).to(weights)
        return super().weights(layer, seen / seen.sum(-1, keepdim=True))


@FAMILIES
@pytest.mark.parametrize("heads", attention.HEADS)
def test_rollout_of_identity_is_one_hot(mini, heads, monkeypatch):
    monkeypatch.setattr(attention, "Record", Identity)
    model = tiny(mini)
    batch = collate(model, encode(model, TEXTS))
    scores = attribute(AttentionRollout(heads=heads), model, batch).scores
    assert torch.equal(scores, torch.nn.functional.one_hot(model.pool(batch), scores.shape[1]).float())


@FAMILIES
def test_causal_rollout_piles_up_on_the_first_tokens_whatever_they_are(mini, monkeypatch):
    """The sink that the documentation warns of: with nothing preferred, rollout falls from left to right."""
    monkeypatch.setattr(attention, "Record", Equal)
    model = tiny(mini)
    (encoded,) = encode(model, TEXTS[:1])
    scores = attribute(AttentionRollout(), model, collate(model, [encoded])).scores[0].double().numpy()
    n = len(scores)
    if not model.decoder:
        np.testing.assert_allclose(scores[1:], scores[1], rtol=1e-5)
        return
    assert (np.diff(scores[:-1]) < 0).all()
    matrix = (np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None] + np.eye(n)) / 2
    depth = model.network.config.num_hidden_layers
    np.testing.assert_allclose(scores, np.linalg.matrix_power(matrix, depth)[-1], rtol=1e-5)


class Nudged(Record):
    """Adds a matrix to the weights of one layer."""

    def __init__(self, layer, change):
        super().__init__()
        self.layer, self.change = layer, change

    def weights(self, layer, weights):
        return super().weights(layer, weights + self.change if layer == self.layer else weights)


@FAMILIES
def test_gradients_of_attention_are_central_differences(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:3]), 24)
    _, gradients = attention_gradients(model, batch, targets(batch))
    exists, draw = possible(model, batch), torch.Generator().manual_seed(0)
    for layer, gradient in enumerate(gradients):
        direction = torch.randn(gradient.shape, generator=draw, dtype=torch.float64) * exists
        ends = []
        for step in (1e-5, -1e-5):
            with attending(model, Nudged(layer, step * direction)):
                ends.append(explained(model, batch))
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(slope.abs().min()) > 1e-6
        torch.testing.assert_close((gradient * direction).sum((1, 2, 3)), slope, rtol=1e-4, atol=1e-9)
        assert not gradient[~exists.expand_as(gradient)].any()


@FAMILIES
def test_last_layer_alone_has_the_same_gradient(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS))
    every, alone = (attention_gradients(model, batch, targets(batch), last=last) for last in (False, True))
    for all_layers, (last,) in zip(every, alone, strict=True):
        torch.testing.assert_close(all_layers[-1], last, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("mini", "steps", "tolerance"), zip(MINIS, (20, 20, 320), (1e-8, 1e-8, 5e-3), strict=True), ids=MINIS
)
@pytest.mark.parametrize("layer", [1, 2])
def test_attention_attribution_adds_up_to_what_the_layer_does(mini, steps, tolerance, layer):
    """Over all weights of a layer: F minus F without attention there.

    Steps over the kinks of OPT's ReLU miss some of it, the less the more steps there are.
    """

    class Without(Rule):
        def weights(self, at, weights):
            return weights * 0 if at == layer - 1 else weights

    model = precise(mini)
    batch = collate(model, encode(model, TEXTS), 24)
    edges = AttentionAttribution(steps=steps, layer=layer).edges(model, batch, targets(batch))
    with attending(model, Without()):
        without = explained(model, batch)
    change = explained(model, batch) - without
    assert float(change.abs().max()) > 1e-3
    gap = (edges.sum((1, 2, 3)) - change).abs().max() / change.abs().max()
    assert float(gap) <= tolerance


def test_attention_attribution_bounds_its_rows_and_names_missing_layers(monkeypatch):
    assert (AttentionAttribution(steps=3).rows, AttentionAttribution(steps=300).rows) == (3, 10)
    model, rows = tiny(), []
    batch, forward = collate(model, encode(model, TEXTS[:2])), model.forward
    with monkeypatch.context() as patched:
        patched.setattr(model, "forward", lambda taken: rows.append(len(taken)) or forward(taken))
        attribute(AttentionAttribution(steps=23), model, batch)
    assert rows == [20, 20, 6]
    depth = model.network.config.num_hidden_layers
    last, named = (attribute(AttentionAttribution(layer=layer), model, batch).scores for layer in (0, depth))
    assert torch.equal(last, named)
    with pytest.raises(UserError, match=f"layer 99 .* allowed: 1 to {depth}"):
        attribute(AttentionAttribution(layer=99), model, batch)


@FAMILIES
def test_states_beside_logits_are_those_of_the_layers(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS))
    with torch.no_grad(), states_beside_logits(model) as found:
        output = model.forward(batch)
    for ours, reference in zip(found, hidden_states(model, batch), strict=True):
        torch.testing.assert_close(ours, reference)
    read = found[-1][torch.arange(len(batch)), model.pool(batch)]
    torch.testing.assert_close(read, output.readout)
    count = len(found)
    model.forward(batch)
    assert len(found) == count, "a hook was left behind"


@pytest.mark.parametrize("mini", ["gpt2-mini", "opt-125m-mini"])
def test_attcat_cannot_see_what_only_a_norm_reads(mini):
    """A state whose only reader is a LayerNorm may be scaled freely: state times gradient is 0 but for epsilon.

    So where the norm comes first, the last two layers say nothing of words, and two layers are nothing but epsilon.
    """
    model = precise(mini)
    assert model.network.config.num_hidden_layers == 2
    for module in model.network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 0.0
    batch = collate(model, encode(model, TEXTS))
    weighed = attribute(AttCat(), model, batch)
    plain = attribute(AttentionTimesGradient(), model, batch).scores[batch.scorable]
    assert float(weighed.scores[batch.scorable].abs().max()) < 1e-10 * float(plain.abs().max())
    assert max(row["left"] for row in weighed.stats) < 1e-10


@pytest.mark.parametrize("mini", ["bert-base-mini", "opt-350m-mini"])
def test_attcat_has_something_left_where_the_norm_comes_last(mini):
    model = precise(mini)
    found = attribute(AttCat(), model, collate(model, encode(model, TEXTS))).stats
    assert all(1e-2 < row["left"] <= 1 for row in found)


@FAMILIES
def test_batches_are_filled_with_rows_that_nobody_asked_for(mini):
    model = tiny(mini)
    batch = collate(model, encode(model, TEXTS[2:4]), 8)
    rows = filled(batch)
    assert rows.ids.shape == (32, 8)
    assert rows.owners.tolist() == [0, 1] + [-1] * 30
    assert torch.equal(rows.ids[2:], batch.ids[:1].expand(30, 8))
    longer = collate(model, encode(model, TEXTS), 300)
    assert torch.equal(filled(longer).owners, longer.owners)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (AttentionLast, {"heads": "sum"}),
        (AttentionRollout, {"heads": "min"}),
        (AttentionAll, {"heads": "median"}),
        (AttentionAll, {"layers": "first"}),
        (GradSam, {"axis": "column"}),
        (AttentionAttribution, {"steps": 0}),
        (AttentionAttribution, {"layer": -1}),
    ],
)
def test_bad_parameters_are_refused_by_name_and_value(method, parameters):
    ((key, given_value),) = parameters.items()
    with pytest.raises(ValueError, match=rf"{key}='?{given_value}"):
        method(**parameters)


def text_of(units):
    """An encoded text whose tokens belong to the given units."""
    count = max(units, default=-1) + 1
    return Encoded(
        example=Example(id="0", texts=("x " * count,), label=None),
        ids=np.arange(len(units)),
        segments=np.zeros(len(units), dtype=np.int64),
        special=np.array(units) < 0,
        units=np.array(units, dtype=np.int64),
        words=tuple(Word(0, 2 * word, 2 * word + 1) for word in range(count)),
    )


def test_word_map_by_hand():
    encoded = text_of([-1, 0, 0, 1])
    attention_of = [[1.0, 0.0, 0.0, 0.0], [0.4, 0.2, 0.2, 0.2], [0.2, 0.0, 0.2, 0.6], [0.5, 0.1, 0.2, 0.2]]
    plain = word_map(attention_of, encoded, normalised=False)
    np.testing.assert_allclose(plain.weights, [[0.3, 0.4], [0.3, 0.2]])
    np.testing.assert_allclose(plain.special, [0.3, 0.5])
    shared = word_map(attention_of, encoded)
    np.testing.assert_allclose(shared.weights, [[3 / 7, 4 / 7], [0.6, 0.4]])
    np.testing.assert_allclose(shared.special, plain.special)
    nothing = word_map(np.eye(4)[[0, 0, 0, 3]], encoded)
    np.testing.assert_allclose(nothing.weights, [[0, 0], [0, 1]])
    np.testing.assert_allclose(nothing.special, [1, 0])


@given(st.lists(st.booleans(), max_size=12), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_rows_of_a_word_map_and_its_special_share_sum_to_one(starts, heads, seed):
    units = [-1, *np.cumsum([True, *starts]) - 1, -1]
    encoded = text_of(units)
    matrix = np.random.default_rng(seed).dirichlet(np.full(len(units), 0.3), size=(heads, len(units)))
    shared, plain = (word_map(matrix, encoded, normalised=flag) for flag in (True, False))
    np.testing.assert_allclose(shared.weights.sum(1), 1)
    np.testing.assert_allclose(plain.weights.sum(1) + plain.special, 1)
    np.testing.assert_allclose(shared.weights * (1 - shared.special)[:, None], plain.weights, atol=1e-12)
    for word, row in enumerate(plain.weights):
        for other, weight in enumerate(row):
            members = [np.flatnonzero(encoded.units == unit) for unit in (word, other)]
            assert weight == pytest.approx(matrix.mean(0)[np.ix_(*members)].sum(1).mean())


@FAMILIES
def test_word_maps_of_a_model(mini):
    model = tiny(mini, sharpness=5.0)
    for encoded in encode(model, [TEXTS[4], ("not good", "a dull film"), "Brilliant", ""]):
        maps = word_maps(model, encoded)
        assert len(maps) == model.network.config.num_hidden_layers
        for found in maps:
            assert found.weights.shape == (encoded.n_units, encoded.n_units)
            np.testing.assert_allclose(found.weights.sum(1), 1)
            assert ((found.special >= 0) & (found.special < 1)).all()
            if model.decoder:
                assert not np.triu(found.weights, 1).any()


def test_word_map_of_a_padded_batch_and_bad_shapes():
    model = tiny()
    encoded = encode(model, TEXTS[:2])
    record = Record()
    with torch.no_grad(), attending(model, record):
        model.forward(collate(model, encoded, 40))
    for row, one in enumerate(encoded):
        padded = word_map(record.layers[-1][row], one)
        np.testing.assert_allclose(padded.weights, word_maps(model, one)[-1].weights, rtol=1e-4)
    for shape in ((3,), (3, 4), (1, 1, 3, 3), (3, 3)):
        with pytest.raises(ValueError, match=r"attention of shape .* allowed"):
            word_map(np.zeros(shape), encoded[0])
