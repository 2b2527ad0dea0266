"""Path methods against completeness, dense second implementations and models known by hand."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pathtoys import Scalar, Toy, plain_batch, precise, targets, value_at, words
from tokenbatch import MINIS, attribute, collate, encode, same_scores

from attrlab.bench.errors import NotApplicableError
from attrlab.bench.testing import TEXTS, tiny
from attrlab.methods.deeplift import DeepLift, GradientTimesDelta
from attrlab.methods.discretised import DiscretisedIntegratedGradients, Walk
from attrlab.methods.paths import (
    BASELINES,
    GradientShap,
    IntegratedGradients,
    IntegratedGradientsLength,
    baseline_of,
    gradient_at,
)
from attrlab.methods.sequential import SequentialIntegratedGradients, SequentialIntegratedGradientsLength

ALL = (*MINIS, "opt-125m-mini")
FAMILIES = pytest.mark.parametrize("mini", MINIS)
PATHS = {
    "integrated_gradients": IntegratedGradients(steps=12),
    "integrated_gradients_l2": IntegratedGradientsLength(steps=12),
    "gradient_shap": GradientShap(draws=12),
    "sequential_integrated_gradients": SequentialIntegratedGradients(steps=5),
    "sequential_integrated_gradients_l2": SequentialIntegratedGradientsLength(steps=5),
    "grad_x_delta": GradientTimesDelta(),
    "deeplift": DeepLift(),
    "discretised_integrated_gradients": DiscretisedIntegratedGradients(steps=6, neighbours=20),
}
SIGNED = {name: method for name, method in PATHS.items() if not name.endswith("_l2")}


def change_of(model, batch, start=None):
    """F(text) - F(baseline) of the only row."""
    start = model.baseline(batch) if start is None else start
    whole, nothing = value_at(model, batch, torch.cat([model.embed(batch), start]))
    return float(whole - nothing)


def linear(seed=1):
    """A toy of which every path method with one baseline gives the same exact answer, and that answer."""
    vocabulary = words()
    weights = words(5, seed=seed)
    batch = plain_batch([3, 7, 1, 12, 5], [True, True, False, True, True])
    model = Toy(vocabulary, Scalar(lambda embeds: (embeds * weights).sum((1, 2))))
    return model, batch, ((model.embed(batch) - model.baseline(batch)) * weights).sum(-1)


@pytest.mark.parametrize("name", SIGNED)
def test_all_agree_on_a_linear_model(name):
    model, batch, expected = linear()
    method = GradientShap(baseline="replace", tau=0.0) if name == "gradient_shap" else SIGNED[name]
    torch.testing.assert_close(attribute(method, model, batch).scores, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mini", ALL)
def test_integrated_gradients_are_complete(mini):
    model = precise(mini)
    relu = mini.startswith("opt")
    for encoded in encode(model, TEXTS[:4]):
        batch = collate(model, [encoded])
        found = attribute(IntegratedGradients(), model, batch)
        change = change_of(model, batch)
        gap = float(found.scores[batch.scorable].sum()) - change
        assert abs(gap) <= (2e-2 if relu else 1e-3) * max(1.0, abs(change))
        assert found.stats[0]["completeness_gap"] == pytest.approx(gap, abs=1e-10)
        assert found.stats[0]["incomplete"] == 0


def kinked():
    """A model whose gaps differ from text to text, in float32 as in earnest."""
    model = tiny("opt-350m-mini", sharpness=10.0)
    return model, encode(model, TEXTS)


def test_examples_that_miss_their_total_get_more_nodes_and_only_they():
    model, encoded = kinked()
    batch = collate(model, encoded)
    with model.metered(len(encoded)) as meter:
        found = attribute(IntegratedGradients(steps=25), model, batch)
    used = [int(stats["steps"]) for stats in found.stats]
    assert len(set(used)) > 1
    assert list(meter.backwards) == [2 * steps - 25 for steps in used]
    assert list(meter.forwards) == [2 * steps - 25 + 2 for steps in used]
    for row, steps in enumerate(used):
        alone = batch.take(torch.tensor([row]))
        alone = replace(alone, owners=torch.tensor([0]))
        once = attribute(IntegratedGradients(steps=steps, max_steps=0), model, alone)
        assert torch.equal(once.scores[0], found.scores[row])
        half = attribute(IntegratedGradients(steps=max(25, steps // 2), max_steps=0), model, alone)
        assert half.stats[0]["incomplete"] == (steps > 25)


def test_examples_that_never_reach_their_total_are_flagged():
    model, encoded = kinked()
    batch = collate(model, encoded)
    few = attribute(IntegratedGradients(steps=4, max_steps=10), model, batch)
    assert {stats["steps"] for stats in few.stats} == {4.0, 8.0}
    for row, one in enumerate(encoded):
        change = change_of(model, collate(model, [one]))
        late = abs(few.stats[row]["completeness_gap"]) > 2e-2 * max(1.0, abs(change))
        assert few.stats[row]["incomplete"] == late
    assert any(stats["incomplete"] for stats in few.stats)


@pytest.mark.parametrize("name", PATHS)
def test_company_changes_not_a_bit(name):
    model, encoded = kinked()
    batch = collate(model, encoded)
    together = attribute(PATHS[name], model, batch).scores
    tolerance = 1e-5 if name == "grad_x_delta" else 0.0
    for row, one in enumerate(encoded):
        alone = attribute(PATHS[name], model, collate(model, [one], batch.ids.shape[1]), first=row).scores
        assert same_scores(together[row : row + 1], alone, batch.scorable[row : row + 1], tolerance)


@FAMILIES
@pytest.mark.parametrize("name", PATHS)
def test_padding_pairs_and_noise_are_seen_as_they_are(mini, name):
    model = precise(mini)
    encoded = encode(model, [*TEXTS[1:3], ("not good", "a dull film")])
    padded = collate(model, encoded, 40)
    ids = padded.ids.clone()
    ids[padded.scorable] = padded.ids[padded.scorable].flip(0)
    moved = replace(padded, offset=model.embedding[ids] - model.embedding[padded.ids])
    scores, real, plain = (
        attribute(PATHS[name], model, one).scores for one in (moved, replace(padded, ids=ids), padded)
    )
    assert same_scores(scores, real, padded.scorable, 1e-8)
    assert not same_scores(scores, plain, padded.scorable, 1e-6)
    for row, one in enumerate(encoded):
        batch = collate(model, [one])
        alone = attribute(PATHS[name], model, batch, first=row).scores
        assert same_scores(plain[row : row + 1, : len(one.ids)], alone, batch.scorable, 1e-8)


def test_baselines_are_rows_of_the_vocabulary_at_the_tokens_that_count():
    model = precise("bert-base-mini")
    batch = collate(model, encode(model, TEXTS[:2]))
    rows = {
        "replace": model.embedding[model.tokenizer.mask_token_id],
        "zero": torch.zeros(model.embedding.shape[1], dtype=torch.float64),
        "mean": model.embedding.numpy().mean(0),
        "pad": model.embedding[model.tokenizer.pad_token_id],
        "unk": model.embedding[model.tokenizer.unk_token_id],
    }
    assert set(rows) == set(BASELINES)
    for name, row in rows.items():
        found = baseline_of(model, batch, name)
        torch.testing.assert_close(found[batch.scorable], torch.as_tensor(row).expand(int(batch.scorable.sum()), -1))
        assert torch.equal(found[~batch.scorable], model.embed(batch)[~batch.scorable])


@pytest.mark.parametrize("baseline", BASELINES)
def test_integrated_gradients_are_complete_from_every_baseline(baseline):
    model = precise("bert-base-mini")
    batch = collate(model, encode(model, TEXTS[:1]))
    found = attribute(IntegratedGradients(baseline=baseline), model, batch)
    change = change_of(model, batch, baseline_of(model, batch, baseline))
    assert float(found.scores[batch.scorable].sum()) == pytest.approx(change, abs=1e-4)
    assert abs(change) > 1e-3


@pytest.mark.parametrize(
    "name", ["integrated_gradients", "sequential_integrated_gradients", "grad_x_delta", "deeplift"]
)
def test_a_model_without_the_token_of_the_baseline_is_skipped(name):
    model = tiny("gpt2-mini")
    batch = collate(model, encode(model, TEXTS[:1]))
    with pytest.raises(NotApplicableError, match="no pad token"):
        attribute(type(PATHS[name])(baseline="pad"), model, batch)


@pytest.mark.parametrize("mini", ALL)
def test_sequential_equals_integrated_gradients_of_one_token_alone(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[2:3]))
    signed, size = (
        attribute(kind(steps=20), model, batch).scores[0]
        for kind in (SequentialIntegratedGradients, SequentialIntegratedGradientsLength)
    )
    for token in batch.scorable[0].nonzero()[:, 0].tolist():
        only = replace(batch, scorable=torch.zeros_like(batch.scorable))
        only.scorable[0, token] = True
        for kind, found in ((IntegratedGradients, signed), (IntegratedGradientsLength, size)):
            expected = attribute(kind(steps=20, max_steps=0), model, only).scores[0, token]
            assert float(found[token]) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("kind", [SequentialIntegratedGradients, SequentialIntegratedGradientsLength])
def test_sequential_costs_its_steps_per_token(kind):
    model = tiny("gpt2-mini")
    encoded = encode(model, TEXTS)
    with model.metered(len(encoded)) as meter:
        attribute(kind(steps=4), model, collate(model, encoded))
    tokens = [int((one.units >= 0).sum()) for one in encoded]
    assert list(meter.forwards) == list(meter.backwards) == [4 * count for count in tokens]


def runs_of(method, model, batch, count=12):
    """Scores under many seeds (count, tokens), their mean and its standard error."""
    scores = np.stack([attribute(method, model, batch, first=seed).scores[0].numpy() for seed in range(count)])
    scores = scores[:, batch.scorable[0].numpy()]
    return scores, scores.mean(0), scores.std(0, ddof=1) / np.sqrt(count)


@FAMILIES
def test_gradient_shap_with_one_baseline_is_integrated_gradients_on_average(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[2:3]))
    exact = attribute(IntegratedGradients(steps=200), model, batch).scores[batch.scorable].numpy()
    _, mean, error = runs_of(GradientShap(baseline="replace", tau=0.0), model, batch)
    assert (np.abs(mean - exact) < 3 * error + 1e-12).all()
    assert (error < 0.1 * np.abs(exact).max()).all()


@FAMILIES
def test_gradient_shap_sums_to_the_mean_change_over_the_baselines(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[2:3]))
    changes = [change_of(model, batch, baseline_of(model, batch, name)) for name in ("replace", "mean", "zero")]
    scores, _, _ = runs_of(GradientShap(tau=0.0), model, batch)
    sums = scores.sum(1)
    assert abs(sums.mean() - np.mean(changes)) < 3 * sums.std(ddof=1) / np.sqrt(len(sums))


def test_gradient_x_delta_is_first_order():
    model = precise("bert-base-mini")
    batch = collate(model, encode(model, TEXTS[:1]))
    start, end, step = model.baseline(batch), model.embed(batch), 1e-6
    tokens = batch.scorable[0].nonzero()[:, 0]
    steps = torch.zeros(len(tokens), *end.shape[1:], dtype=torch.float64)
    steps[torch.arange(len(tokens)), tokens] = step * (end - start)[0, tokens]
    slopes = (value_at(model, batch, end + steps) - value_at(model, batch, end - steps)) / (2 * step)
    scores = attribute(GradientTimesDelta(), model, batch).scores[0, tokens]
    torch.testing.assert_close(scores, slopes, rtol=1e-6, atol=1e-9)


class Layers(torch.nn.Module):
    """Logits of a network with one registered ReLU."""

    def __init__(self):
        super().__init__()
        self.relu = torch.nn.ReLU()
        self.one, self.two = words(6, 9, seed=4), words(9, 2, seed=5)

    def forward(self, embeds):
        return self.relu(embeds @ self.one - 0.3).sum(1) @ self.two


def test_deeplift_follows_the_rescale_rule_where_activations_are_registered():
    layers = Layers()
    model, batch = Toy(words(), layers), plain_batch([3, 7, 1, 12, 5], [True, True, False, True, True])
    start, end = (part[0].numpy() for part in (model.baseline(batch), model.embed(batch)))
    before, after = (part @ layers.one.numpy() - 0.3 for part in (start, end))
    moved = np.where(after == before, 1.0, after - before)
    slope = (np.maximum(after, 0) - np.maximum(before, 0)) / moved
    expected = (((end - start) @ layers.one.numpy()) * slope) @ (layers.two[:, 1] - layers.two[:, 0]).numpy()
    found = attribute(DeepLift(), model, batch)
    np.testing.assert_allclose(found.scores[0].numpy(), expected, rtol=1e-10, atol=1e-12)
    assert found.stats[0]["gate_failed"] == 0
    assert found.stats[0]["completeness_ratio"] < 1e-10
    assert not layers.relu._forward_hooks


@pytest.mark.parametrize("mini", ALL)
def test_deeplift_says_how_far_it_is_from_its_total(mini):
    model = precise(mini)
    for encoded in encode(model, TEXTS[:3]):
        batch = collate(model, [encoded])
        found = attribute(DeepLift(), model, batch)
        change = change_of(model, batch)
        gap = float(found.scores[batch.scorable].sum()) - change
        assert found.stats[0]["completeness_gap"] == pytest.approx(gap, abs=1e-10)
        assert found.stats[0]["completeness_ratio"] == pytest.approx(abs(gap / change), rel=1e-6)
        assert found.stats[0]["gate_failed"] == (abs(gap / change) > 0.1)


def walked(vocabulary, start, base, steps, neighbours, strategy):
    """A walk of one word, in loops over NumPy vectors."""

    def monotone(word, here):
        inside = [min(a, b) <= w <= max(a, b) for w, a, b in zip(word, here, vocabulary[base], strict=True)]
        moved = here + (vocabulary[base] - here) / steps
        return np.where(inside, word, moved), len(inside) - sum(inside)

    last, points, seen = start, [start], {base}
    for _ in range(steps - 1):
        distances = np.linalg.norm(vocabulary - last, axis=1)
        near = np.argsort(distances)[:neighbours]
        best, least = base, np.inf
        for word in near:
            copy, outside = monotone(vocabulary[word], last)
            cost = np.linalg.norm(copy - vocabulary[word]) if strategy == "greedy" else outside
            if word not in seen and distances[word] > 1e-9 and cost < least:
                best, least = word, cost
        seen.add(best)
        last = vocabulary[best]
        points.append(monotone(last, points[-1])[0])
    return np.stack([*points, vocabulary[base]])


@pytest.mark.parametrize("strategy", ["greedy", "maxcount"])
@pytest.mark.parametrize("neighbours", [2, 10, 500])
def test_walks_equal_those_of_a_plain_loop(strategy, neighbours):
    vocabulary = words(60, 6)
    walk = Walk(vocabulary, 0, steps=8, neighbours=neighbours, strategy=strategy)
    starts = torch.cat([vocabulary[1:12], vocabulary[20:21] + 0.1])
    found = walk.path(starts).numpy()
    for index, start in enumerate(starts.numpy()):
        expected = walked(vocabulary.numpy(), start, 0, 8, neighbours, strategy)
        np.testing.assert_allclose(found[:, index], expected, atol=1e-12)


NUMBERS = st.floats(-3, 3, width=16)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, (9, 3), elements=NUMBERS), st.sampled_from(["greedy", "maxcount"]), st.integers(1, 6))
def test_every_entry_of_a_walk_goes_one_way_from_word_to_baseline(vocabulary, strategy, steps):
    vocabulary = torch.from_numpy(vocabulary)
    path = Walk(vocabulary, 0, steps=steps, neighbours=5, strategy=strategy).path(vocabulary[1:4])
    assert torch.equal(path[0], vocabulary[1:4])
    assert torch.equal(path[-1], vocabulary[:1].expand(3, -1))
    assert (path.diff(dim=0) * (path[-1] - path[0]) >= -1e-12).all()
    torch.testing.assert_close(path.diff(dim=0).abs().sum(0), (path[-1] - path[0]).abs())


@FAMILIES
def test_discretised_scores_are_a_left_riemann_sum_along_the_walk(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:1]))
    found = attribute(DiscretisedIntegratedGradients(steps=5, neighbours=20), model, batch)
    tokens = batch.scorable[0].nonzero()[:, 0].tolist()
    path = np.repeat(model.embed(batch).numpy(), 6, axis=0)
    for token in tokens:
        start = path[0, token].copy()
        path[::-1, token] = walked(model.embedding.numpy(), start, model.replace_id, 5, 20, "greedy")
    expected = np.zeros(batch.ids.shape[1])
    for here, there in pairwise(path):
        slope = gradient_at(model, batch, targets(), torch.from_numpy(here)[None])
        expected += ((there - here) * slope[0].numpy()).sum(-1)
    np.testing.assert_allclose(found.scores[0].numpy(), expected, rtol=1e-8, atol=1e-12)
    gap = expected[tokens].sum() - change_of(model, batch)
    assert found.stats[0]["completeness_gap"] == pytest.approx(gap, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (IntegratedGradients, {"steps": 0}),
        (IntegratedGradients, {"max_steps": -1}),
        (IntegratedGradientsLength, {"baseline": "any"}),
        (SequentialIntegratedGradients, {"steps": 0}),
        (SequentialIntegratedGradients, {"baseline": "blank"}),
        (GradientShap, {"draws": 0}),
        (GradientShap, {"tau": -0.5}),
        (GradientShap, {"baseline": "pad"}),
        (GradientTimesDelta, {"baseline": "mask"}),
        (DeepLift, {"baseline": "mask"}),
        (DiscretisedIntegratedGradients, {"steps": 0}),
        (DiscretisedIntegratedGradients, {"neighbours": 0}),
        (DiscretisedIntegratedGradients, {"strategy": "nearest"}),
    ],
)
def test_bad_parameters_are_refused_by_name_and_value(kind, parameters):
    ((key, given_value),) = parameters.items()
    with pytest.raises(ValueError, match=rf"{key}='?{given_value}'?.*; allowed:"):
        kind(**parameters)
