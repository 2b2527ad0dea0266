"""Degraded explanations: the same values in other places, as many as was asked for, nested from rung to rung."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenbatch import collate, encode
from toygames import curved, estimate, explain

from attrlab.bench.batch import Targets
from attrlab.bench.errors import UserError
from attrlab.bench.estimate import per_example
from attrlab.bench.registry import METHODS
from attrlab.bench.testing import FAMILIES, examples, tiny
from attrlab.bench.testing import explain as explain_texts
from attrlab.leaderboard import judged_scores
from attrlab.methods.degraded import degraded, places
from attrlab.methods.removal import LeaveOneOut

SHARES = st.floats(0.01, 1.0)


def taking_part(n, share, seed):
    """Returns who takes part, by definition: those first in the generator's permutation."""
    return set(np.random.default_rng(seed).permutation(n)[: max(2, int(np.ceil(share * n - 1e-9)))].tolist())


@given(st.integers(0, 40), SHARES, st.integers(0, 10**6))
def test_places_are_a_permutation_that_moves_the_chosen_ones_only(n, share, seed):
    found = places(n, share, np.random.default_rng(seed))
    assert sorted(found.tolist()) == list(range(n))
    moved = set(np.flatnonzero(found != np.arange(n)).tolist())
    assert moved <= taking_part(n, share, seed)


@given(st.integers(2, 40), SHARES, SHARES, st.integers(0, 10**6))
def test_who_takes_part_at_a_rung_takes_part_at_the_next(n, first, second, seed):
    low, high = sorted((first, second))
    assert taking_part(n, low, seed) <= taking_part(n, high, seed)


def test_all_permutations_of_all_words_are_as_likely():
    draws = 12_000
    found = Counter(tuple(places(3, 1.0, np.random.default_rng(seed)).tolist()) for seed in range(draws))
    assert len(found) == 6
    for count in found.values():
        assert count / draws == pytest.approx(1 / 6, abs=4 * np.sqrt(1 / 6 * 5 / 6 / draws))


@pytest.mark.parametrize(
    ("n", "share", "count"), [(10, 0.25, 3), (30, 0.1, 3), (10, 0.01, 2), (1, 1.0, 1), (4, 1.0, 4)]
)
def test_so_many_words_take_part(n, share, count):
    moved = set()
    for seed in range(200):
        found = places(n, share, np.random.default_rng(seed))
        assert (found != np.arange(n)).sum() <= count
        moved.add(int((found != np.arange(n)).sum()))
    assert max(moved) == (count if count > 1 else 0)


def test_black_box_scores_and_errors_move_together():
    of = "shapley_sampling:permutations=4"
    plain, moved = (estimate(method, curved(6), 6, seed=3) for method in (METHODS.find(of).build(), degraded(of)))
    assert plain.scores.tolist() != moved.scores.tolist()
    pairs = [set(zip(one.scores.tolist(), one.errors.tolist(), strict=True)) for one in (plain, moved)]
    assert pairs[0] == pairs[1]


def test_seeds_of_the_run_change_nothing_and_draws_do():
    assert np.array_equal(explain(degraded(), curved(9), 9, seed=1), explain(degraded(), curved(9), 9, seed=2))
    assert not np.array_equal(explain(degraded(), curved(9), 9), explain(degraded(draw=1), curved(9), 9))


@pytest.mark.parametrize("mini", FAMILIES)
@pytest.mark.parametrize("of", ["leave_one_out", "input_x_gradient"])
def test_texts_keep_the_values_of_the_inner_method(of, mini):
    names = (of, f"degraded:of={of},share=0.5", f"degraded:of={of}")
    found = [explain_texts(METHODS.find(name).build(), tiny(mini), examples()) for name in names]
    changed = 0
    for plain, half, whole in zip(*found, strict=True):
        for moved in (half, whole):
            assert sum(moved.scores) == pytest.approx(sum(plain.scores), rel=1e-4, abs=1e-9)
            assert (moved.cost.forwards, moved.cost.backwards) == (plain.cost.forwards, plain.cost.backwards)
            changed += not np.allclose(moved.scores, plain.scores, rtol=0, atol=1e-12)
        if of == "leave_one_out":
            assert sorted(half.scores) == sorted(whole.scores) == sorted(plain.scores)
            assert (half.scores != plain.scores).sum() <= max(2, np.ceil(len(plain.scores) / 2))
    assert changed >= 6


def test_white_box_tokens_that_can_be_attributed_keep_their_values_and_no_others_move():
    model = tiny()
    batch = collate(model, encode(model, ["not good at all", "brilliant", "she said the end was dull"]))
    targets, rngs = Targets(classes=torch.zeros(3, dtype=torch.int64)), [np.random.default_rng(i) for i in range(3)]
    inner = METHODS.find("saliency").build()
    before = inner.attribute(model, batch, targets, rngs).scores
    method = METHODS.find("degraded:of=saliency").build()
    after = method.attribute(model, batch, targets, rngs).scores
    assert (method.aggregate, method.rows) == (inner.aggregate, 1)
    assert torch.equal(before[~batch.scorable], after[~batch.scorable])
    for row, scorable in enumerate(batch.scorable):
        assert sorted(before[row, scorable].tolist()) == sorted(after[row, scorable].tolist())
    assert not torch.equal(before, after)


def test_company_in_a_batch_changes_nothing():
    model = tiny()
    method = METHODS.find("degraded:of=saliency").build()
    together = explain_texts(method, model, examples())
    for text, one in zip(examples(), together, strict=True):
        assert explain_texts(method, model, [text])[0].scores == pytest.approx(one.scores, rel=1e-4)


@pytest.mark.parametrize(
    ("parameters", "message"), [({"share": 0.0}, "share=0.0"), ({"share": 1.1}, "share=1.1"), ({"draw": -1}, "draw=-1")]
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        degraded(**parameters)


@pytest.mark.parametrize(("of", "message"), [("lyme", "Did you mean 'lime'"), ("lime:samples=1", "allowed: 2 or more")])
def test_inner_methods_are_refused_as_by_the_catalogue(of, message):
    with pytest.raises(UserError, match=message):
        degraded(of)


@pytest.mark.parametrize("of", ["leave_one_out", "lime:samples=40", "saliency", "integrated_gradients:steps=5"])
def test_facts_and_cost_are_those_of_the_inner_method(of):
    ours, theirs = METHODS.find(f"degraded:of={of},share=0.25"), METHODS.find(of)
    for fact in ("signed", "deterministic", "needs", "bound"):
        assert getattr(ours.facts, fact) == getattr(theirs.facts, fact)
    assert ours.facts.family == "control"
    assert per_example(ours, 9, 2, 12) == per_example(theirs, 9, 2, 12)


def test_the_leaderboard_knows_the_defaults_that_cards_leave_out():
    component = METHODS.find("degraded:of=leave_one_out,share=1.0,draw=0")
    assert (component.name, dict(component.params)) == ("degraded", {})
    assert (judged_scores._OF, judged_scores._SHARE) == ("leave_one_out", 1.0)


def test_a_degraded_explanation_is_further_from_the_truth_rung_by_rung():
    truth = explain(LeaveOneOut(), curved(20), 20)
    found = [explain(degraded(share=share), curved(20), 20) for share in (0.25, 0.5, 0.75, 1.0)]
    kept = [int((one == truth).sum()) for one in found]
    assert kept[0] > kept[-1]
    assert kept[0] >= 15
