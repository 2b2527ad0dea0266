"""Controls: what they score, and that the inverted ones follow the method inside them."""

import numpy as np
import pytest
import torch
from tokenbatch import collate, encode
from toygames import curved, estimate, explain, game

from attrlab.bench.batch import Explained, Targets
from attrlab.bench.errors import NotApplicableError, UserError
from attrlab.bench.estimate import per_example
from attrlab.bench.registry import METHODS
from attrlab.bench.testing import examples, tiny
from attrlab.bench.testing import explain as explain_texts
from attrlab.bench.types import Game
from attrlab.methods.controls import InverseFrequency, InvertedWhiteBox, Position, Random, WordLength, inverted
from attrlab.methods.gradients import Saliency
from attrlab.methods.lime import Lime
from attrlab.methods.removal import LeaveOneOut
from attrlab.methods.shapley import ShapleySampling


def test_random_is_uniform_on_the_unit_interval():
    scores = np.array([explain(Random(), curved(10), 10, seed) for seed in range(400)])
    assert ((scores >= 0) & (scores < 1)).all()
    assert scores.mean() == pytest.approx(0.5, abs=3 * np.sqrt(1 / 12 / scores.size))
    assert scores.var() == pytest.approx(1 / 12, rel=0.05)


def test_random_ranks_a_planted_unit_first_as_often_as_chance():
    first = [explain(Random(), curved(8), 8, seed).argmax() == 3 for seed in range(2000)]
    assert np.mean(first) == pytest.approx(1 / 8, abs=3 * np.sqrt(1 / 8 * 7 / 8 / 2000))


def test_position_falls_from_the_left_or_rises():
    assert explain(Position(), curved(4), 4).tolist() == [4, 3, 2, 1]
    assert explain(Position(direction="last"), curved(4), 4).tolist() == [1, 2, 3, 4]


def ask_nothing(method, question):
    with pytest.raises(StopIteration) as stop:
        next(method.ask(question, np.random.default_rng(0)))
    return stop.value.value


def test_word_length_counts_letters_and_digits():
    words = ("Not", "good,", "heart-warming", "...", "café", "10/10")
    scores = ask_nothing(WordLength(), Game(n_units=6, target=0, words=words))
    assert scores.tolist() == [3, 4, 12, 0, 4, 4]


def test_word_length_does_not_apply_where_units_are_no_words():
    with pytest.raises(NotApplicableError, match="no words"):
        ask_nothing(WordLength(), game(3))


@pytest.mark.parametrize("mini", ["bert-base-mini", "gpt2-mini", "opt-350m-mini"])
def test_inverse_frequency_is_the_surprisal_of_each_token(mini):
    model = tiny(mini)
    texts = ["the film was not bad", "the plot was dull"]
    corpus, batch = encode(model, texts), collate(model, encode(model, [*texts, "a loved story"]))
    method, targets = InverseFrequency(), Targets(classes=torch.zeros(3, dtype=torch.int64))
    model.calibration = corpus
    try:
        found = method.attribute(model, batch, targets, [])
    finally:
        model.calibration = ()
    seen = [int(token) for one in corpus for token in one.ids[~one.special]]
    size = len(model.embedding)
    for row, ids in enumerate(batch.ids.tolist()):
        for column in torch.nonzero(batch.scorable[row])[:, 0].tolist():
            expected = -np.log((seen.count(ids[column]) + 1) / (len(seen) + size))
            assert found.scores[row, column].item() == pytest.approx(expected, abs=1e-12)
    assert list(found.stats) == [{"uncalibrated": 0.0}] * 3
    without = method.attribute(model, batch, targets, [])
    assert without.scores.unique().tolist() == pytest.approx([np.log(size)])
    assert list(without.stats) == [{"uncalibrated": 1.0}] * 3


def test_inverted_asks_the_same_and_changes_the_sign():
    method = inverted("shapley_sampling:permutations=4")
    ours, theirs = (estimate(kind, curved(6), 6, seed=3) for kind in (method, ShapleySampling(permutations=4)))
    assert np.array_equal(ours.scores, -theirs.scores)
    assert np.array_equal(ours.errors, theirs.errors)
    assert np.array_equal(explain(inverted(), curved(5), 5), -explain(LeaveOneOut(), curved(5), 5))


def test_inverted_takes_several_parameters_after_semicolons():
    ours, theirs = inverted("lime:samples=50;kernel_width=9"), Lime(samples=50, kernel_width=9.0)
    assert np.array_equal(explain(ours, curved(5), 5, seed=1), -explain(theirs, curved(5), 5, seed=1))


@pytest.mark.parametrize(("of", "message"), [("lyme", "Did you mean 'lime'"), ("lime:samples=1", "allowed: 2 or more")])
def test_inverted_refuses_what_the_catalogue_refuses(of, message):
    with pytest.raises(UserError, match=message):
        inverted(of)


def test_inverted_white_box_keeps_rows_statistics_and_aggregation():
    model = tiny()
    batch = collate(model, encode(model, ["not good at all", "brilliant"]))
    targets, rngs = Targets(classes=torch.zeros(2, dtype=torch.int64)), [np.random.default_rng(i) for i in range(2)]
    method = inverted("saliency")
    assert torch.equal(
        method.attribute(model, batch, targets, rngs).scores, -Saliency().attribute(model, batch, targets, rngs).scores
    )
    assert (method.rows, method.aggregate) == (1, "min")
    assert inverted("input_x_gradient").aggregate == "sum"

    class Largest:
        aggregate = "max"
        rows = 7

        def attribute(self, model, batch, targets, rngs):
            return Explained(torch.arange(6.0).view(2, 3), [{"a": 1.0}, {"a": 2.0}])

    largest = InvertedWhiteBox(Largest(), METHODS.find("saliency"))
    found = largest.attribute(model, batch, targets, rngs)
    # The largest of a word's tokens, then the sign changed, is the smallest of the changed tokens.
    assert (largest.rows, largest.aggregate) == (7, "min")
    assert found.scores.min().item() == -5
    assert list(found.stats) == [{"a": 1.0}, {"a": 2.0}]


@pytest.mark.parametrize("of", ["leave_one_out", "lime:samples=40", "random", "saliency", "input_x_gradient"])
def test_inverted_has_the_facts_and_the_cost_of_what_it_inverts(of):
    ours, theirs = METHODS.find(f"inverted:of={of}"), METHODS.find(of)
    for fact in ("signed", "deterministic", "needs", "bound"):
        assert getattr(ours.facts, fact) == getattr(theirs.facts, fact)
    assert ours.facts.family == "control"
    assert per_example(ours, 9, 2, 12) == per_example(theirs, 9, 2, 12)


@pytest.mark.parametrize("of", ["saliency", "input_x_gradient", "leave_one_out"])
def test_inverted_words_score_minus_what_they_score(of):
    ours, theirs = (explain_texts(METHODS.find(name).build(), tiny(), examples()) for name in (f"inverted:of={of}", of))
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.scores, -other.scores)
        assert (one.cost.forwards, one.cost.backwards) == (other.cost.forwards, other.cost.backwards)
