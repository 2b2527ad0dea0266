"""The study of lambda: every number against direct calls of what it is made of, one sentence at a time."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench.removal import whole
from attrlab.bench.seeds import generator
from attrlab.bench.testing import examples, tiny
from attrlab.methods import lambda_study
from attrlab.methods.co_perturbation import CoPerturbation, attribution, capped, pose
from attrlab.methods.lambda_study import designate, edge_tokens, expected_recall, study
from attrlab.methods.noise import noise_like
from attrlab.methods.tolerance import Settings, deviation, optimise, sweep
from attrlab.metrics.planted import recall

LAMS = (0.05, 0.5, 50.0)
METHOD = CoPerturbation(draws=2, steps=30)
MINIS = ["bert-base-mini", "gpt2-mini"]


def sentences(model):
    """Every example of at least two words, its first two words (or only the first) planted."""
    found = [model.encode(example) for example in examples()]
    marks = [np.arange(one.n_units) < min(2, one.n_units - 1) for one in found]
    return [designate(one, marked) for one, marked in zip(found, marks, strict=True) if marked.any()]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(lambda_study, "UNFINISHED", (4,))
    monkeypatch.setattr(lambda_study, "FRESH", 16)


def directly(model, sentence, length, seed):
    """The problem of one sentence alone, and its solutions by steps (0: optimum) and weight."""
    encoded = sentence.encoded
    problem, _ = pose(model, model.collate([whole(encoded)], [encoded.units >= 0], length))

    def draws():
        return [generator("lambda study", "draws", seed, encoded.example.id)]

    settings = Settings(lam=1.0, draws=2, steps=30)
    found = dict(zip([(0, lam) for lam in LAMS], sweep(problem, settings, LAMS, draws()), strict=True))
    cap = problem.log_cap[:, None].expand(problem.scorable.shape)
    for lam in LAMS:
        found[4, lam] = optimise(problem, Settings(lam=lam, draws=2, steps=4), draws(), cap)
    return problem, found


@pytest.mark.parametrize("mini", MINIS)
def test_every_number_is_that_of_direct_calls(small, mini):
    model = tiny(mini, sharpness=10.0)
    chosen = sentences(model)
    points = {(point["unfinished"], point["lam"]): point for point in study(model, chosen, METHOD, LAMS, 3)}
    assert list(points) == [(steps, lam) for steps in (0, 4) for lam in LAMS]
    for index in (0, 2):
        sentence = chosen[index]
        size = len(sentence.encoded.ids)
        length = next(n for n in (8, 16, 24, 32) if n >= size)
        problem, solutions = directly(model, sentence, length, 3)
        noise = noise_like(
            problem.scorable,
            problem.embeds,
            (16,),
            [generator("lambda study", "fresh", 3, sentence.encoded.example.id)],
        )
        edges = edge_tokens(sentence.encoded, model.decoder)
        for key, solution in solutions.items():
            point = points[key]
            fresh = deviation(problem, torch.tensor([0]), solution.u, noise)
            assert point["damage"][index] == pytest.approx(float(fresh.damage), rel=1e-6)
            below = (solution.u - problem.log_cap[:, None])[problem.scorable]
            assert point["entropy"][index] == pytest.approx(float(below.mean()), abs=1e-9)
            at_cap = capped(problem, solution)[0]
            assert point["capped"][index] == pytest.approx(float(at_cap[problem.scorable[0]].double().mean()))
            free = problem.scorable[0] & ~at_cap
            if free.any():
                ratio = fresh.slope[0][free].mean() * problem.scorable.sum() / key[1]
                assert point["kkt"][index] == pytest.approx(float(ratio), rel=1e-4, abs=1e-9)
            for name, place in zip(("planted", "ordinary"), sentence.pair, strict=True):
                token = edges[place]
                level = problem.log_cap[0] if at_cap[token] else solution.u[0, token]
                assert point[name][index] == pytest.approx(-2 * float(level))
            scores = attribution(solution, METHOD.shrink)[0].numpy()[edges]
            k = int(sentence.planted.sum())
            best = np.isin(np.arange(len(scores)), np.argsort(-scores)[:k])
            assert point["recall"][index] == pytest.approx(recall(best, sentence.planted))


def test_fresh_draws_are_not_those_of_the_optimisation_and_seeds_differ(small):
    model = tiny(sharpness=10.0)
    chosen = sentences(model)[:1]
    first, again, other = (study(model, chosen, METHOD, LAMS, seed) for seed in (0, 0, 1))
    assert first == again
    assert first[0]["damage"] != other[0]["damage"]


def test_source_scale_by_hand(small):
    """Without a calibration set R is the mean square of the representation itself: here of two logits."""
    model = tiny(sharpness=3.0)
    sentence = sentences(model)[0]
    batch = model.collate([whole(sentence.encoded)])
    with torch.no_grad():
        spread = float(model.forward(batch).logits[0].square().mean())
    tokens, width = int((sentence.encoded.units >= 0).sum()), model.embedding.shape[1]
    points = study(model, [sentence], CoPerturbation(phi="logits", draws=1, steps=2), LAMS, 0)
    assert points[0]["scale"] == [pytest.approx(width * tokens / (2 * spread), rel=1e-5)]


def test_weights_must_ascend(small):
    model = tiny()
    with pytest.raises(ValueError, match="ascending"):
        study(model, sentences(model)[:1], METHOD, (1.0, 0.1), 0)


def test_pair_is_one_planted_and_one_other_word_and_fixed_by_the_id():
    model = tiny()
    pairs = [(sentence.pair, sentence.planted) for sentence in sentences(model)]
    assert all(planted[pair[0]] and not planted[pair[1]] for pair, planted in pairs)
    assert [pair for pair, _ in pairs] == [sentence.pair for sentence in sentences(tiny("gpt2-mini"))]
    assert len({pair for pair, _ in pairs}) > 1


@pytest.mark.parametrize(("mini", "edge"), zip(MINIS, (0, -1), strict=True))
def test_edge_is_the_last_token_of_a_causal_model_and_the_first_of_others(mini, edge):
    model = tiny(mini)
    encoded = [model.encode(example) for example in examples()]
    for one in encoded:
        wanted = [np.flatnonzero(one.units == unit)[edge] for unit in range(one.n_units)]
        assert edge_tokens(one, model.decoder).tolist() == wanted
    assert any((np.bincount(one.units[one.units >= 0]) > 1).any() for one in encoded)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0]), st.booleans()), min_size=2, max_size=6).filter(
        lambda words: any(mark for _, mark in words)
    )
)
def test_expected_recall_is_the_mean_over_all_tie_orders(words):
    scores, planted = np.array([score for score, _ in words]), np.array([mark for _, mark in words])
    k, found = int(planted.sum()), []
    for order in permutations(range(len(words))):
        ranked = sorted(order, key=lambda index: -scores[index])
        found.append(recall(np.isin(np.arange(len(words)), ranked[:k]), planted))
    assert expected_recall(scores, planted) == pytest.approx(np.mean(found))


def test_sentence_at_the_cap_is_a_draw(small):
    """Where nothing counts but entropy, all words tolerate the most noise there is: no pair is in order."""
    model = tiny()
    sentence = sentences(model)[0]
    point = study(model, [sentence], CoPerturbation(draws=1, steps=150), (1e3, 1e4), 0)[-1]
    assert (point["entropy"], point["capped"], point["collapsed"], point["ordered"]) == ([0.0], [1.0], [1.0], [0.5])
    assert point["planted"] == point["ordinary"] == point["floor"]
    words = sentence.encoded.n_units
    assert point["recall_rho"] == [pytest.approx(sentence.planted.sum() / words)]
