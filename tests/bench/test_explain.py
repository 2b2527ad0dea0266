"""White-box methods run in batches: words out of tokens, and a bad example harms only itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.engine import Engine
from attrlab.bench.errors import ContractError, NotApplicableError
from attrlab.bench.explain import Question, check_scores, jobs, outcomes, white_box
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.testing import FAMILIES, examples, explain, tiny
from attrlab.bench.types import Asker, Estimate, Game


class Positions:
    """Scores each token by 1 + its position, on every row of the batch."""

    def __init__(self, aggregate: str | None = None) -> None:
        if aggregate:
            self.aggregate = aggregate
        self.sizes: list[int] = []

    def attribute(self, _model: TextModel, batch: Batch, _targets: Targets, _rngs: Sequence[Any]) -> Explained:
        self.sizes.append(len(batch))
        return Explained(scores=torch.arange(1.0, batch.ids.shape[1] + 1).repeat(len(batch), 1))


LONG = Example(id="long", texts=("unforgettable soundtracks, (truly)", "zqxjk ok"), label=0)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("aggregate", ["sum", "max", "mean", "first", "last", "edge", None])
def test_the_score_of_a_word_is_made_of_its_tokens(name: str, aggregate: str | None) -> None:
    model = tiny(name)
    encoded = model.encode(LONG)
    found = explain(Positions(aggregate), model, [LONG])[0]
    positions: list[list[int]] = [[] for _ in range(encoded.n_units)]
    for position, unit in enumerate(encoded.units.tolist(), 1):
        if unit >= 0:
            positions[unit].append(position)
    assert max(map(len, positions)) > 2, "words of one token cannot tell the rules apart"
    rules = {
        "sum": sum,
        "max": max,
        "mean": lambda own: sum(own) / len(own),
        "first": min,
        "last": max,
        "edge": max if model.decoder else min,
        None: sum,
    }
    assert found.scores is not None
    assert found.scores.tolist() == [rules[aggregate](own) for own in positions]  # type: ignore[operator]


class Picky(Positions):
    """Raises, or returns what is asked for, whenever the text that holds the marked token is in its batch."""

    def __init__(self, marked: int, trouble: str) -> None:
        super().__init__()
        self.marked, self.trouble = marked, trouble

    def attribute(self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[Any]) -> Explained:
        found = super().attribute(model, batch, targets, rngs).scores
        guilty = (batch.ids == self.marked).any(1)
        if guilty.any() and self.trouble == "raise":
            raise ZeroDivisionError("by design")
        if guilty.any() and self.trouble == "shape":
            return Explained(scores=found[:, :-1])
        if self.trouble == "nan":
            found[guilty] = torch.nan
        return Explained(scores=found, stats=[{"row": float(row)} for row in range(len(batch))])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("raise", "ZeroDivisionError: by design"),
        ("shape", "returned scores of shape (1, {short}); (1, {length}) is needed"),
        ("nan", "returned 2 of 2 scores that are not finite"),
    ],
)
def test_a_batch_that_fails_costs_only_the_guilty_example(name: str, trouble: str, reason: str) -> None:
    model = tiny(name)
    texts = ("film good", "plot moved", "film dull", "plot bad")
    inputs = [Example(id=text, texts=(text,), label=0) for text in texts]
    coded = [model.encode(example) for example in inputs]
    first = coded[1].ids[coded[1].units == 1][0]  # the first token of "moved", in no other text
    assert [first in one.ids for one in coded] == [False, True, False, False]
    engine = Engine(model, coded)
    lengths = {engine.length_of(len(one.ids)) for one in coded}
    assert len(lengths) == 1, "all four must share a batch"
    method = Picky(int(first), trouble)
    found = explain(method, model, inputs)
    length = lengths.pop()
    expected = reason.format(short=length - 1, length=length)
    assert [one.error for one in found] == [None, expected, None, None]
    assert method.sizes == ([4] if trouble == "nan" else [4, 1, 1, 1, 1])
    clean = explain(Positions(), model, inputs)
    for index in (0, 2, 3):
        assert np.array_equal(found[index].scores, clean[index].scores)  # type: ignore[arg-type]


def test_a_guilty_example_alone_is_tried_once() -> None:
    model = tiny()
    method = Picky(model.encode(examples()[0]).ids[1], "raise")
    assert explain(method, model, examples()[:1])[0].error == "ZeroDivisionError: by design"
    assert method.sizes == [1]


@pytest.mark.parametrize(
    ("scores", "shape"), [(None, "()"), ([1.0], "()"), (torch.zeros(3), "(3,)"), (torch.zeros(1, 2, 3), "(1, 2, 3)")]
)
def test_scores_of_another_shape_are_refused(scores: Any, shape: str) -> None:
    class Wrong:
        def attribute(self, *_args: Any) -> Explained:
            return Explained(scores=scores)

    error = explain(Wrong(), tiny(), examples()[3:4])[0].error
    assert error is not None
    assert error.startswith(f"returned scores of shape {shape}; (1, ")


def test_padding_and_special_tokens_never_count() -> None:
    class OnlySpecial:
        def attribute(self, _model: TextModel, batch: Batch, *_args: Any) -> Explained:
            return Explained(scores=torch.where(batch.scorable, 0.0, torch.nan))

    for name in FAMILIES:
        for pairs in (False, True):
            for one in explain(OnlySpecial(), tiny(name), examples(pairs=pairs)):
                assert one.error is None
                assert not one.scores.any()  # type: ignore[union-attr]


def test_each_example_gets_its_own_target_generator_noise_and_cost() -> None:
    seen: dict[int, tuple[int, float]] = {}

    class Spy:
        def attribute(
            self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
        ) -> Explained:
            embeds = model.embed(batch).requires_grad_()
            targets.of(model.forward(batch, embeds).logits, batch).sum().backward()
            model.forward(batch.take(torch.tensor([0, 0])))
            for row, rng in enumerate(rngs):
                seen[int(batch.ids[row, 0])] = (int(targets.classes[row]), float(rng.random()))
            return Explained(
                scores=(model.embed(batch) - model.embedding[batch.ids]).sum(-1).detach(),
                stats=[{"row": float(row)} for row in range(len(batch))],
            )

    model = tiny("gpt2-mini")
    inputs = [Example(id=text, texts=(text,), label=0) for text in ("film", "plot", "good")]
    coded = [model.encode(example) for example in inputs]
    engine = Engine(model, coded)
    noise = np.full((len(coded[1].ids), model.embedding.shape[1]), 0.5)
    questions = [
        Question(slot=slot, target=slot % 2, seed=("s", slot), noise=noise if slot == 1 else None) for slot in range(3)
    ]
    found = white_box(Spy(), questions, engine, "contrast")
    assert [one.stats for one in found] == [{"row": 0.0}, {"row": 1.0}, {"row": 2.0}]
    assert [(one.cost.forwards, one.cost.backwards) for one in found] == [(3, 1), (1, 1), (1, 1)]
    tokens = int((coded[1].units == 0).sum())
    total = [float(one.scores.sum()) for one in found]  # type: ignore[union-attr]
    assert total == pytest.approx([0.0, 0.5 * tokens * noise.shape[1], 0.0], abs=1e-4)
    together = dict(seen)
    white_box(Spy(), questions[::-1], engine, "contrast")
    assert seen == together, "targets and draws must not depend on company and order"
    assert [target for target, _ in seen.values()] == [0, 1, 0]
    assert len({draw for _, draw in seen.values()}) == 3


def test_groups_respect_the_token_budget_and_the_rows_a_method_declares() -> None:
    model = tiny()
    inputs = [examples()[0]] * 12
    length = Engine(model, []).length_of(len(model.encode(inputs[0]).ids))
    method = Positions()
    explain(method, model, inputs, token_budget=5 * length)
    assert method.sizes == [5, 5, 2]
    greedy = Positions()
    greedy.rows = 2  # type: ignore[attr-defined]
    explain(greedy, model, inputs, token_budget=5 * length)
    assert greedy.sizes == [2] * 6


def test_a_white_box_method_that_hangs_times_out() -> None:
    class Hangs:
        def attribute(self, *_args: Any) -> Explained:
            while True:
                pass

    model = tiny()
    engine = Engine(model, [model.encode(examples()[0])], timeout=0.1)
    found = white_box(Hangs(), [Question(slot=0, target=0, seed=())], engine, "contrast")
    assert found[0].error == "timed out after 0.1 s"


def test_a_method_that_fails_on_the_warm_up_game_still_runs() -> None:
    class Needy:
        def ask(self, game: Any, _rng: Any) -> Any:
            if game.n_units == 2:
                raise ZeroDivisionError
            values = yield from game.values(np.eye(game.n_units, dtype=bool))
            return values

    model = tiny()
    engine = Engine(model, [model.encode(examples()[0])])
    asked = jobs(Needy(), [Question(slot=0, target=0, seed=())], engine, "contrast", "replace")
    engine.run(asked)
    assert asked[0].error is None
    assert asked[0].result.scores.shape == (11,)


def test_check_scores_takes_what_can_become_numbers() -> None:
    assert check_scores([1, 2, 3], 3).dtype == np.float64
    assert check_scores(torch.tensor([1.0, 2.0]), 2).tolist() == [1.0, 2.0]
    assert check_scores([], 0).shape == (0,)
    with pytest.raises(ContractError, match=r"returned scores of shape \(2, 1\)"):
        check_scores([[1], [2]], 2)


class Estimates:
    """Leaves one out and knows how unsure it is; not defined for long texts."""

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Estimate]:
        if game.n_units > 10:
            raise NotApplicableError(f"{game.n_units} words; at most 10")
        values = yield from game.values(~np.eye(game.n_units, dtype=bool))
        return Estimate(values, np.full(game.n_units, 0.5), {"words": float(len(game.words))})


def test_standard_errors_and_diagnostics_of_a_black_box_are_kept_and_what_does_not_apply_is_skipped() -> None:
    model = tiny("gpt2-mini")
    encoded = [model.encode(example) for example in examples()]
    engine = Engine(model, encoded)
    found = outcomes(Estimates(), [Question(slot=slot, target=0, seed=(slot,)) for slot in range(len(encoded))], engine)
    assert [one.skipped for one in found] == [one.n_units > 10 for one in encoded]
    assert any(one.skipped for one in found)
    for one, text in zip(found, encoded, strict=True):
        if one.skipped:
            assert one.error == f"{text.n_units} words; at most 10"
            assert one.scores is None
        else:
            assert one.errors is not None
            assert one.errors.tolist() == [0.5] * text.n_units
            assert one.stats == {"words": text.n_units}


def test_a_white_box_that_does_not_apply_to_one_example_skips_that_one() -> None:
    class Short:
        def attribute(self, _model: TextModel, batch: Batch, *_args: Any) -> Explained:
            if int(batch.last.max()) > 8:
                raise NotApplicableError("too long")
            return Explained(batch.ids.double())

    model = tiny("gpt2-mini")
    encoded = [model.encode(example) for example in examples()]
    questions = [Question(slot=slot, target=0, seed=(slot,)) for slot in range(len(encoded))]
    found = outcomes(Short(), questions, Engine(model, encoded))
    assert [one.skipped for one in found] == [len(one.ids) > 9 for one in encoded]
    assert {one.error for one in found} == {None, "too long"}
