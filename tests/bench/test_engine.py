"""The engine's answers are the model's own, whoever else asks, and a bad asker harms only itself."""

from collections.abc import Generator, Iterator, Sequence
from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from attrlab.bench import testing
from attrlab.bench.batch import LEAST_ROWS, LEAST_TOKENS
from attrlab.bench.contract import TOLERANCE, quick
from attrlab.bench.engine import LENGTHS, TOKEN_BUDGET, Engine, Job, padded_length
from attrlab.bench.explain import Question, jobs
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.model import TextModel
from attrlab.bench.operators import OPERATORS
from attrlab.bench.registry import METHODS
from attrlab.bench.removal import remove
from attrlab.bench.testing import FAMILIES, TEXTS, examples, explain
from attrlab.bench.types import Ask, Asker, Bools, Floats, Game

tiny = partial(testing.tiny, sharpness=testing.SHARPNESS)

each_family = pytest.mark.parametrize("name", FAMILIES)

SMALL = {
    "lime": "lime:samples=60",
    "shap": "shap:evals=60",
    "shapley_sampling": "shapley_sampling:permutations=3",
    "co_perturbation": "co_perturbation:steps=60,draws=2",
    "integrated_gradients": "integrated_gradients:steps=8",
}

Asking = Generator[Ask, Floats, Any]


def ask(*keeps: Bools, operator: str | None = None) -> Asking:
    """Asks one batch after the other and returns all answers."""
    answers = []
    for keep in keeps:
        answers.append((yield Ask(keep=keep, operator=operator)))
    return np.concatenate(answers)


def masks(units: int, seed: int, count: int = 9) -> Bools:
    return np.random.default_rng(seed).random((count, units)) < 0.6


def naive(model: TextModel, encoded: Encoded, keep: Bools, operator: str) -> Floats:
    """One question after the other, each the network's only, unpadded row."""
    rows = [model.collate([remove(model, encoded, mask, operator)]) for mask in keep]
    with torch.inference_mode():
        return np.concatenate([model.forward(row).logits.double().numpy() for row in rows])


def encode(model: TextModel, *, pairs: bool = False) -> list[Encoded]:
    return [model.encode(example) for example in examples(pairs=pairs)]


@pytest.fixture
def rows_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows, filling included, of each forward pass."""
    rows: list[int] = []
    forward = TextModel.forward

    def spy(self: TextModel, batch: Any, *args: Any, **options: Any) -> Any:
        rows.append(len(batch))
        return forward(self, batch, *args, **options)

    monkeypatch.setattr(TextModel, "forward", spy)
    return rows


@each_family
@pytest.mark.parametrize("operator", ["delete", "replace"])
@pytest.mark.parametrize("pairs", [False, True], ids=["singles", "pairs"])
def test_answers_are_those_of_the_model_itself(name: str, operator: str, pairs: bool) -> None:
    model = TextModel(deepcopy(tiny(name).network).double(), tiny(name).tokenizer, name)  # no rounding to hide behind
    coded = encode(model, pairs=pairs)
    keeps = [
        np.vstack([masks(one.n_units, seed, 4), np.ones((1, one.n_units), bool)]) for seed, one in enumerate(coded)
    ]
    asked = [Job(slot=slot, asker=ask(keep, keep[:1]), operator=operator) for slot, keep in enumerate(keeps)]
    Engine(model, coded).run(asked)
    for job, one, keep in zip(asked, coded, keeps, strict=True):
        expected = naive(model, one, np.vstack([keep, keep[:1]]), operator)
        assert np.ptp(expected[:, 0]) > 1e-3 or one.n_units == 1, "answers that never change prove nothing"
        np.testing.assert_allclose(job.result, expected, rtol=1e-10, atol=1e-12)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@each_family
@pytest.mark.parametrize("budget", [512, 2048])
@pytest.mark.usefixtures("threads")
def test_company_and_order_change_no_bit_of_an_answer(name: str, budget: int) -> None:
    model = tiny(name)
    coded = encode(model)
    everyone = [(slot, seed) for seed in range(9) for slot in range(len(coded))]

    def run(chosen: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Floats]:
        asked = {
            key: Job(slot=key[0], asker=ask(masks(coded[key[0]].n_units, key[1])), operator="replace") for key in chosen
        }
        Engine(model, coded, token_budget=budget).run(list(asked.values()))
        return {key: job.result for key, job in asked.items()}

    together = run(everyone)
    assert len(everyone) > 50
    shuffled = run([everyone[index] for index in np.random.default_rng(1).permutation(len(everyone))])
    alone = {key: run([key])[key] for key in everyone[::7]}
    for key, answer in together.items():
        assert np.array_equal(answer, shuffled[key])
    for key, answer in alone.items():
        assert np.array_equal(answer, together[key])


def test_a_few_questions_do_not_fill_a_whole_batch(threads: int, rows_run: list[int]) -> None:
    model = tiny()
    coded = encode(model)[:1]
    length = padded_length(len(coded[0].ids), model.max_length)
    least = threads * max(LEAST_ROWS, LEAST_TOKENS // length)
    full = TOKEN_BUDGET // length
    for count in (1, least, least + 1, full // 2 + 1, full):
        rows_run.clear()
        keep = np.random.default_rng(0).random((5 * full, coded[0].n_units)) < 0.5
        keep = np.unique(keep[~keep.all(1)], axis=0)[:count]
        Engine(model, coded).run([Job(slot=0, asker=ask(keep), operator="replace")])
        assert len(keep) == count
        steps = [full // 2**half for half in range(8)]
        assert rows_run == [min(rows for rows in steps if rows >= max(count, least))]


def test_an_accelerator_always_runs_whole_batches() -> None:
    engine = Engine(tiny(), [])
    engine.model = SimpleNamespace(device=torch.device("cuda"), max_length=512)  # type: ignore[assignment]
    assert engine.filled(1, 16) == engine.rows_of(16) == 128


def test_a_question_asked_before_is_not_asked_again(rows_run: list[int]) -> None:
    model = tiny()
    coded = encode(model)
    keep = masks(coded[0].n_units, 0, 6)
    unique = len(np.unique(keep, axis=0))
    progress: list[int] = []
    engine = Engine(model, coded, token_budget=1, progress=progress.append)
    first = [Job(slot=0, asker=ask(keep, keep[::-1]), operator="replace") for _ in range(5)]
    engine.run(first)
    assert sum(rows_run) == sum(progress) == unique
    assert [job.forwards for job in first] == [12] * 5
    assert sum(job.unique for job in first) == unique
    late = Job(slot=0, asker=ask(keep), operator="replace")
    engine.run([late])
    assert sum(rows_run) == unique
    assert (late.forwards, late.unique) == (6, 0)
    assert np.array_equal(late.result, first[0].result[:6])
    assert late.cost().forwards == 6
    other_text = Job(slot=1, asker=ask(np.zeros((1, coded[1].n_units), bool)), operator="replace")
    engine.run([other_text])
    assert sum(rows_run) == unique + 1


def test_operators_and_draws_are_kept_apart_but_share_the_whole_text(rows_run: list[int]) -> None:
    model = tiny()
    coded = encode(model)
    units = coded[0].n_units
    keep = np.vstack([np.ones((1, units), bool), np.eye(units, dtype=bool)[:3]])
    engine = Engine(model, coded, token_budget=1)
    found = {name: Job(slot=0, asker=ask(keep, operator=name), operator="replace") for name in ("delete", "replace")}
    default = Job(slot=0, asker=ask(keep), operator="delete")
    engine.run([*found.values(), default])
    assert sum(rows_run) == 1 + 3 + 3
    for name, job in found.items():
        np.testing.assert_allclose(job.result, naive(model, coded[0], keep, name), rtol=1e-5, atol=1e-5)
    assert np.array_equal(default.result, found["delete"].result)
    assert not np.allclose(found["delete"].result[1:], found["replace"].result[1:])

    def second_draw() -> Asking:
        return (yield Ask(keep=keep[1:], draw=1))

    rows_run.clear()
    engine.run([Job(slot=0, asker=second_draw(), operator="delete")])
    assert sum(rows_run) == 3


def soft(chances: Floats, operator: str, draw: Any) -> Asking:
    return (yield Ask(keep=chances, operator=operator, draw=draw))


def test_units_kept_in_part_are_asked_once_per_probability_and_draw(rows_run: list[int]) -> None:
    model = tiny()
    coded = encode(model)
    units = coded[0].n_units
    chances = np.vstack([np.full(units, 0.5), np.linspace(0, 1, units), np.ones(units), np.arange(units) % 2])
    engine = Engine(model, coded, token_budget=1)

    def answers(job: Job) -> tuple[Floats, int]:
        rows_run.clear()
        engine.run([job])
        assert job.error is None
        return job.result, sum(rows_run)

    first, count = answers(Job(slot=0, asker=soft(chances, "zero", 0), operator=""))
    assert count == 4
    again, count = answers(Job(slot=0, asker=soft(chances[::-1], "zero", [0, 5, 0, 1]), operator=""))
    assert count == 1, "draw 1 of the first; where every probability is 0 or 1 nothing is drawn"
    assert np.array_equal(again[:3], first[:0:-1])
    certain, count = answers(Job(slot=0, asker=ask(chances[2:] == 1, operator="zero"), operator=""))
    assert count == 0
    assert np.array_equal(certain, first[2:])
    mean, count = answers(Job(slot=0, asker=soft(chances, "mean", 0), operator=""))
    assert count == 3
    assert not np.allclose(mean[[0, 1, 3]], first[[0, 1, 3]])
    for row, draw, found in [(0, 0, first[0]), (1, 0, first[1]), (0, 1, again[3]), (3, 0, first[3])]:
        inputs = model.collate([remove(model, coded[0], chances[row], "zero", draw)])
        with torch.inference_mode():
            np.testing.assert_allclose(found, model.forward(inputs).logits[0].numpy(), rtol=1e-5, atol=1e-5)


@each_family
def test_changed_embeddings_and_plain_ids_share_batches_and_change_no_bit_of_each_other(name: str) -> None:
    model = tiny(name)
    coded = encode(model)

    def asking(kind: str, slot: int) -> Job:
        units = coded[slot].n_units
        rng = np.random.default_rng(slot)
        if kind == "soft":
            return Job(slot=slot, asker=soft(rng.random((7, units)), "zero", np.arange(7)), operator="")
        return Job(slot=slot, asker=ask(masks(units, slot)), operator=kind)

    def run(*kinds: str) -> dict[tuple[str, int], Floats]:
        asked = {(kind, slot): asking(kind, slot) for slot in range(len(coded)) for kind in kinds}
        Engine(model, coded, token_budget=512).run(list(asked.values()))
        assert all(job.error is None for job in asked.values())
        return {key: job.result for key, job in asked.items()}

    together = run("soft", "replace", "mean", "delete", "zero")
    alone = run("replace", "delete") | run("mean") | run("zero") | run("soft")
    assert together.keys() == alone.keys()
    for key, answer in alone.items():
        assert np.array_equal(answer, together[key]), key


def _raises(units: int) -> Asking:
    yield Ask(keep=np.ones((1, units), bool))
    raise ZeroDivisionError("by design\nsecond line")


def _exits(units: int) -> Asking:
    yield Ask(keep=np.zeros((1, units), bool))
    raise SystemExit(3)


def _loops(units: int) -> Asking:
    yield Ask(keep=np.zeros((1, units), bool))
    while True:
        pass


def _wrong_shape(units: int) -> Asking:
    return (yield Ask(keep=np.ones((1, units + 1), bool)))


def _flat(units: int) -> Asking:
    return (yield Ask(keep=np.ones(units, bool)))


def _no_questions(units: int) -> Asking:
    return (yield Ask(keep=np.ones((0, units), bool)))


def _unknown_operator(units: int) -> Asking:
    """Asks for the whole text too, so that an answer comes after it has failed."""
    return (yield Ask(keep=np.array([[True] * units, [False] * units]), operator="vanish"))


def _in_part(units: int) -> Asking:
    return (yield Ask(keep=np.full((1, units), 0.5)))


def _more_than_whole(units: int) -> Asking:
    return (yield Ask(keep=np.full((1, units), 1.5), operator="zero"))


def _no_number(units: int) -> Asking:
    return (yield Ask(keep=np.full((1, units), np.nan), operator="mean"))


def _not_an_ask(_units: int) -> Asking:
    yield np.ones(3)  # type: ignore[misc]


def _clings_to_life(units: int) -> Asking:
    try:
        yield Ask(keep=np.ones((1, units + 1), bool))
    finally:
        raise ValueError("cannot clean up")


BAD = [
    (_raises, "ZeroDivisionError: by design"),
    (_exits, "SystemExit: 3"),
    (_loops, "timed out after 0.2 s"),
    (_wrong_shape, "asked for keep-masks of shape (1, 12); (n_questions, 11) is needed"),
    (_flat, "asked for keep-masks of shape (11,); (n_questions, 11) is needed"),
    (_no_questions, "asked for keep-masks of shape (0, 11); (n_questions, 11) is needed"),
    (_unknown_operator, "asked for removal operator 'vanish'; known: " + ", ".join(OPERATORS)),
    (_in_part, "asked to keep units in part under operator 'replace'; allowed: zero, mean"),
    (_more_than_whole, "asked to keep units with probabilities outside [0, 1]"),
    (_no_number, "asked to keep units with probabilities outside [0, 1]"),
    (_not_an_ask, "AttributeError: 'numpy.ndarray' object has no attribute 'operator'"),
    (_clings_to_life, "asked for keep-masks of shape (1, 12); (n_questions, 11) is needed"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[bad.__name__ for bad, _ in BAD])
def test_a_job_that_fails_fails_alone(bad: Any, reason: str) -> None:
    model = tiny()
    coded = encode(model)
    units = coded[0].n_units
    keep = np.vstack([masks(units, 0), np.ones((1, units), bool), np.zeros((1, units), bool)])
    good = [Job(slot=0, asker=ask(keep, keep[::-1]), operator="replace") for _ in range(2)]
    failing = Job(slot=0, asker=bad(units), operator="replace")
    ended: list[Job] = []
    Engine(model, coded, timeout=0.2 if bad is _loops else 30).run([good[0], failing, good[1]], ended.append)
    assert failing.error == reason
    assert failing.result is None
    assert failing.ended
    assert sorted(map(id, ended)) == sorted(map(id, [*good, failing])), "each job ends once"
    expected = naive(model, coded[0], np.vstack([keep, keep[::-1]]), "replace")
    for job in good:
        assert job.error is None
        np.testing.assert_allclose(job.result, expected, rtol=1e-5, atol=1e-5)


class Returns:
    """A method that asks once and returns what it is told, on the text of eleven words only."""

    def __init__(self, scores: Any) -> None:
        self.scores = scores

    def ask(self, game: Game, _rng: np.random.Generator) -> Generator[Ask, Floats, Any]:
        values = yield from game.values(np.ones((1, game.n_units), bool))
        return self.scores if game.n_units == 11 else np.repeat(values, game.n_units)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.full(11, np.nan), "returned 11 of 11 scores that are not finite"),
        ([1.0] * 10 + [np.inf], "returned 1 of 11 scores that are not finite"),
        (np.zeros(10), "returned scores of shape (10,); (11,) is needed, one per unit"),
        (np.zeros((1, 11)), "returned scores of shape (1, 11); (11,) is needed, one per unit"),
        (None, "returned scores of shape (); (11,) is needed, one per unit"),
        ("eleven", "returned str; 11 numbers are needed"),
    ],
)
def test_scores_that_break_the_contract_fail_their_own_example(scores: Any, reason: str) -> None:
    found = explain(Returns(scores), tiny(), examples())
    assert [one.error for one in found] == [reason, None, None, None, None, None]
    assert found[0].scores is None
    assert found[1].scores is not None


def test_a_method_that_does_not_yield_is_told_how() -> None:
    class Plain:
        def ask(self, game: Game, _rng: np.random.Generator) -> Floats:
            return np.zeros(game.n_units)

    found = explain(Plain(), tiny(), examples()[:1])
    assert found[0].error == ("ask() must be a generator: use `yield from game.values(keep)` and `return scores`")


def test_an_interrupt_by_the_user_is_nobodys_failure() -> None:
    def interrupted(units: int) -> Asking:
        yield Ask(keep=np.ones((1, units), bool))
        raise KeyboardInterrupt

    model = tiny()
    coded = encode(model)
    with pytest.raises(KeyboardInterrupt):
        Engine(model, coded).run([Job(slot=0, asker=interrupted(coded[0].n_units), operator="delete")])


def test_padded_lengths_come_from_the_ladder() -> None:
    engine = Engine(tiny(), [], token_budget=512)
    assert [engine.length_of(tokens) for tokens in (1, 8, 9, 100, 128)] == [8, 8, 16, 128, 128]
    assert list(LENGTHS) == sorted(set(LENGTHS))
    assert [engine.rows_of(length) for length in (8, 128, 4096)] == [64, 4, 1]


def test_rows_stay_within_the_token_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    collate = TextModel.collate

    def spy(self: TextModel, *args: Any, **options: Any) -> Any:
        batch = collate(self, *args, **options)
        shapes.append(tuple(batch.ids.shape))
        return batch

    monkeypatch.setattr(TextModel, "collate", spy)
    model = tiny("gpt2-mini")
    coded = encode(model)
    engine = Engine(model, coded, token_budget=256)
    engine.run(
        [Job(slot=slot, asker=ask(masks(one.n_units, 1, 30)), operator="delete") for slot, one in enumerate(coded)]
    )
    assert shapes
    assert set(shapes) <= {(256 // length, length) for length in LENGTHS}


def _answers(engine: Engine, spec: str) -> Iterator[Floats | None]:
    questions = [Question(slot=slot, target=0, seed=(0, slot)) for slot in range(len(engine.encoded))]
    asked = jobs(METHODS.find(spec).build(), questions, engine, "contrast", "replace")
    engine.run(asked)
    for job in asked:
        assert job.error is None
        yield job.result.scores


def test_methods_in_flight_together_give_what_they_give_alone() -> None:
    model = tiny("opt-350m-mini")
    coded = encode(model)[:3]
    specs = ["leave_one_out", SMALL["lime"], SMALL["shap"], SMALL["shapley_sampling"]]
    alone = {spec: list(_answers(Engine(model, coded), spec)) for spec in specs}
    engine = Engine(model, coded)
    questions = [Question(slot=slot, target=0, seed=(0, slot)) for slot in range(3)]
    merged = {spec: jobs(METHODS.find(spec).build(), questions, engine, "contrast", "replace") for spec in specs}
    engine.run([job for asked in zip(*merged.values(), strict=True) for job in asked])
    for spec, asked in merged.items():
        for job, expected in zip(asked, alone[spec], strict=True):
            assert np.array_equal(job.result.scores, expected), spec


SAME_LENGTH = (TEXTS[1], " ".join(reversed(TEXTS[1].split())))
"""Two texts of as many tokens: at the larger budgets they share a white-box batch."""


@each_family
@pytest.mark.parametrize("method", list(METHODS.entries()))
def test_the_token_budget_changes_no_score(method: str, name: str) -> None:
    model = tiny(name)
    inputs = [Example(id=str(index), texts=(text,), label=0) for index, text in enumerate(SAME_LENGTH)]
    component = METHODS.find(SMALL[method]) if method in SMALL else quick(method)
    built = component.build()
    runs = [explain(built, model, inputs, token_budget=budget) for budget in (4096, 256, 0)]
    for found in zip(*runs, strict=True):
        reference, *others = (one.scores for one in found)
        if reference is None:
            assert all(one.skipped for one in found)
            continue
        assert [one.error for one in found] == [None] * 3
        for scores in others:
            np.testing.assert_allclose(scores, reference, rtol=0, atol=TOLERANCE * np.abs(reference).max())


def test_a_batch_that_does_not_fit_is_halved_with_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("gpt2-mini", sharpness=10)
    encoded = [model.encode(example) for example in examples()]
    keep = np.random.default_rng(0).random((40, encoded[0].n_units)) < 0.5

    def ask() -> Asker[Floats]:
        return (yield Ask(keep=keep, operator="replace"))

    def run(engine: Engine) -> Floats:
        job = Job(slot=0, asker=ask(), operator="replace")
        engine.run([job])
        assert job.error is None
        return job.result

    whole = run(Engine(model, encoded))
    forward = model.forward

    def small(batch, *args, **options):
        if len(batch) > 10:
            raise torch.OutOfMemoryError
        return forward(batch, *args, **options)

    monkeypatch.setattr(model, "forward", small)
    engine = Engine(model, encoded)
    np.testing.assert_allclose(run(engine), whole, rtol=1e-4, atol=1e-6)
    assert engine.rows_of(16) <= 10
