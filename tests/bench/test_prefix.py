"""What inputs share at their beginning is computed once, and nobody's answer tells."""

from collections.abc import Generator, Sequence
from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attrlab.bench import testing
from attrlab.bench.batch import Row
from attrlab.bench.engine import Engine, Job
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.prefix import STOPS, Prefixes
from attrlab.bench.removal import remove
from attrlab.bench.session import SMALL, Options, Session
from attrlab.bench.shortcuts import Shortcuts
from attrlab.bench.testing import examples
from attrlab.bench.types import Ask, Bools, Floats, Ints

DECODERS = ("gpt2-mini", "opt-125m-mini", "opt-350m-mini")
tiny = partial(testing.tiny, sharpness=testing.SHARPNESS)
each_decoder = pytest.mark.parametrize("name", DECODERS)


def ask(keep: Bools, operator: str) -> Generator[Ask, Floats, Floats]:
    return (yield Ask(keep=keep, operator=operator))


def masks(units: int, seed: int, count: int = 12) -> Bools:
    """Random masks, and all that leave one unit out."""
    random = np.random.default_rng(seed).random((count, units)) < 0.6
    return np.vstack([random, ~np.eye(units, dtype=bool), np.ones((1, units), bool), np.zeros((1, units), bool)])


def encode(model: TextModel, *, pairs: bool = False) -> list[Encoded]:
    return [model.encode(example) for example in examples(pairs=pairs)]


def double(model: TextModel) -> TextModel:
    return TextModel(deepcopy(model.network).double(), model.tokenizer, model.name)


def row(ids: Ints) -> Row:
    return Row(ids, np.zeros(len(ids), dtype=np.int64), np.ones(len(ids), dtype=bool))


def alone(model: TextModel, rows: Sequence[Row]) -> Floats:
    """One row after the other, unpadded and read as a whole."""
    with torch.inference_mode():
        return np.concatenate([model.forward(model.collate([one])).logits.double().numpy() for one in rows])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Number of tokens before and in the blocks of each pass."""
    shapes: list[tuple[int, int]] = []
    resume = TextModel.resume

    def spy(self: TextModel, ids: Any, past: Any = ()) -> Any:
        shapes.append((past[0][0].shape[2] if past else 0, ids.shape[1]))
        return resume(self, ids, past)

    monkeypatch.setattr(TextModel, "resume", spy)
    return shapes


@each_decoder
@pytest.mark.parametrize("operator", ["delete", "replace"])
@pytest.mark.parametrize("pairs", [False, True], ids=["singles", "pairs"])
@pytest.mark.parametrize("exact", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("narrow", [False, True], ids=["whole", "narrow"])
def test_answers_are_those_of_the_model_itself(
    name: str, operator: str, pairs: bool, exact: bool, narrow: bool
) -> None:
    model = double(tiny(name)) if exact else tiny(name)
    coded = encode(model, pairs=pairs)
    keeps = [masks(one.n_units, slot) for slot, one in enumerate(coded)]
    asked = [Job(slot=slot, asker=ask(keep, operator), operator="") for slot, keep in enumerate(keeps)]
    Engine(model, coded, shortcuts=Shortcuts(prefix=True, last_block=narrow)).run(asked)
    for job, one, keep in zip(asked, coded, keeps, strict=True):
        expected = alone(model, [remove(model, one, mask, operator) for mask in keep])
        assert np.ptp(expected[:, 0]) > 1e-3, "answers that never change prove nothing"
        np.testing.assert_allclose(job.result, expected, rtol=0, atol=1e-10 if exact else 1e-5)


@each_decoder
def test_company_order_and_room_change_no_bit_of_an_answer(name: str) -> None:
    model = tiny(name)
    coded = encode(model)
    everyone = [(slot, seed) for seed in range(4) for slot in range(len(coded))]

    def run(chosen: Sequence[tuple[int, int]], capacity: int = 2**20) -> dict[tuple[int, int], Floats]:
        asked = {
            key: Job(slot=key[0], asker=ask(masks(coded[key[0]].n_units, key[1]), "replace"), operator="")
            for key in chosen
        }
        engine = Engine(model, coded, shortcuts=Shortcuts(prefix=True))
        engine._prefixes = Prefixes(model, 256, capacity)
        engine.run(list(asked.values()))
        return {key: job.result for key, job in asked.items()}

    together = run(everyone)
    shuffled = run([everyone[index] for index in np.random.default_rng(1).permutation(len(everyone))])
    cramped = run(everyone, capacity=1)
    for key, answer in together.items():
        assert np.array_equal(answer, shuffled[key])
        assert np.array_equal(answer, cramped[key])
    for key in everyone[::5]:
        assert np.array_equal(run([key])[key], together[key])


@each_decoder
@pytest.mark.parametrize("threads", [1, 2])
def test_nor_do_they_where_texts_are_long_and_blocks_few(name: str, threads: int) -> None:
    model, rng = tiny(name), np.random.default_rng(0)
    ids = rng.integers(5, model.embedding.shape[0], (30, model.max_length))
    ids[:, : model.max_length // 2] = ids[0, : model.max_length // 2]
    order, before = rng.permutation(len(ids)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together, shuffled = (Prefixes(model, 256).logits([row(one) for one in some]) for some in (ids, ids[order]))
    finally:
        torch.set_num_threads(before)
    assert np.ptp(together[:, 0]) > 1e-3
    assert np.array_equal(together[order], shuffled)


def brute(inputs: Sequence[Ints]) -> int:
    """Number of different (block, what is read until its end), cut at the ladder."""
    ends = STOPS[1:]
    return len(
        {
            (stop, tuple(ids[:stop]))
            for ids in inputs
            for before, stop in zip(STOPS, ends, strict=False)
            if before < len(ids)
        }
    )


inputs_alike = st.lists(
    st.tuples(st.integers(1, 128), st.integers(0, 127), st.integers(5, 90)), min_size=1, max_size=12
).map(
    lambda drawn: [
        np.where(np.arange(length) == place, token, np.arange(length) % 50 + 7) for length, place, token in drawn
    ]
)


@settings(max_examples=25, deadline=None)
@given(inputs=inputs_alike, capacity=st.sampled_from([2**28, 1]))
def test_every_beginning_is_read_once_while_there_is_room(inputs: list[Ints], capacity: int) -> None:
    model = tiny("gpt2-mini")
    prefixes = Prefixes(model, 1, capacity)
    passes: list[int] = []
    resume = model.resume
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "_rows", lambda _size: 1)  # one block per pass: nothing is filled up
        patch.setattr(model, "resume", lambda *args: passes.append(1) or resume(*args))
        found = prefixes.logits([row(ids) for ids in inputs])
    np.testing.assert_allclose(found, alone(model, [row(ids) for ids in inputs]), rtol=0, atol=1e-5)
    if capacity > 1:
        assert len(passes) == brute(inputs)
    else:
        assert len(passes) >= brute(inputs)
    assert prefixes._used <= prefixes._room


def test_leaving_one_out_reads_little_more_than_half(reads: list[tuple[int, int]]) -> None:
    model = tiny("opt-125m-mini")
    whole = np.arange(128) % 90 + 5
    rows = [row(np.where(np.arange(128) == place, 4, whole)) for place in range(128)]
    prefixes = Prefixes(model, 256)
    reads.clear()
    prefixes.logits(rows)
    tokens = 256 * len(reads)
    assert tokens < 0.7 * 128 * 128
    prefixes.logits(rows)  # all but the last blocks are known
    assert 256 * len(reads) - tokens == 128 * 16


def test_room_is_bounded() -> None:
    model = tiny("gpt2-mini")
    rng = np.random.default_rng(0)
    prefixes = Prefixes(model, 256, capacity=1)
    assert prefixes._room == model.max_length == 128
    bytes_ = sum(part.nbytes for layer in prefixes._stored for part in layer)
    assert bytes_ == 128 * 2 * 2 * model.embedding.shape[1] * 4, "tokens, layers, keys and values, width, float32"
    rows = [row(rng.integers(5, 90, 128)) for _ in range(9)]
    np.testing.assert_allclose(prefixes.logits(rows), alone(model, rows), rtol=0, atol=1e-5)
    with torch.inference_mode():
        small, large = Prefixes(model, 256, capacity=10**6), Prefixes(model, 256, capacity=2 * 10**6)
    assert small._room < large._room <= 2 * small._room + 1


@each_decoder
@settings(max_examples=10, deadline=None)
@given(cuts=st.sets(st.integers(1, 39), max_size=4))
def test_a_text_read_in_pieces_has_the_states_of_one_read_at_once(name: str, cuts: set[int]) -> None:
    model = double(tiny(name))
    ids = torch.from_numpy(np.random.default_rng(0).integers(5, 90, (3, 40)))
    with torch.inference_mode():
        whole, _ = model.resume(ids)
        past: list[Any] = []
        states = []
        for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), 40], strict=True):
            before = [(keys.clone(), values.clone()) for keys, values in past]
            new, following = model.resume(ids[:, first:last], past)
            for kept, copied in zip(past, before, strict=True):
                assert all(map(torch.equal, kept, copied))
            states, past = [*states, new], following
        batch = model.collate([row(one.numpy()) for one in ids])
        plain = model.backbone(batch).last_hidden_state
    torch.testing.assert_close(torch.cat(states, 1), whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(whole, plain, rtol=0, atol=1e-10)


def test_a_model_that_reads_less_than_a_block_more() -> None:
    model = double(tiny("opt-350m-mini"))
    model.max_length = 100
    rows = [row(np.random.default_rng(n).integers(5, 90, n)) for n in (1, 8, 9, 96, 97, 100)]
    prefixes = Prefixes(model, 256)
    assert prefixes._stops[-2:] == [96, 100]
    np.testing.assert_allclose(prefixes.logits(rows), alone(model, rows), rtol=0, atol=1e-10)


@each_decoder
def test_other_operators_are_answered_in_the_plain_way_and_by_the_same_engine(
    name: str, reads: list[tuple[int, int]]
) -> None:
    model = tiny(name)
    coded = encode(model)
    keep = ~np.eye(coded[0].n_units, dtype=bool)
    engine = Engine(model, coded, shortcuts=Shortcuts(prefix=True))
    reads.clear()
    jobs = {
        operator: Job(slot=0, asker=ask(keep, operator), operator="") for operator in ("attn", "zero", "mean", "pad")
    }
    engine.run([jobs["attn"], jobs["zero"], jobs["mean"]])
    assert not reads
    engine.run([jobs["pad"]])
    assert reads
    for operator, job in jobs.items():
        expected = alone(model, [remove(model, coded[0], mask, operator) for mask in keep])
        np.testing.assert_allclose(job.result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "applies"),
    [
        ({}, True),
        ({"attend": np.array([True, False, True])}, False),
        ({"segments": np.array([0, 0, 1])}, False),
        ({"marks": np.zeros((1, 3), dtype=np.int64)}, False),
        ({"offset": lambda own: own}, False),
    ],
)
def test_only_rows_changed_in_nothing_but_their_ids_share(change: dict[str, Any], applies: bool) -> None:
    assert Prefixes.apply(row(np.array([5, 6, 7]))._replace(**change)) is applies


def test_reuse_changes_no_count() -> None:
    model = tiny("gpt2-mini")
    coded = encode(model)
    counts = []
    for reuse in (False, True):
        progress: list[int] = []
        jobs = [
            Job(slot=slot, asker=ask(np.vstack([masks(one.n_units, 3)] * 2), "delete"), operator="")
            for slot, one in enumerate(coded)
        ]
        Engine(model, coded, shortcuts=Shortcuts(prefix=reuse), progress=progress.append).run(jobs)
        counts.append((sum(progress), [(job.forwards, job.unique) for job in jobs]))
        assert all(job.seconds > 0 for job in jobs)
    assert counts[0] == counts[1]


def test_an_encoder_has_nothing_to_reuse(reads: list[tuple[int, int]]) -> None:
    model = tiny("bert-base-mini")
    coded = encode(model)
    jobs = [Job(slot=0, asker=ask(masks(coded[0].n_units, 0), "replace"), operator="") for _ in range(2)]
    for job, reuse in zip(jobs, (False, True), strict=True):
        Engine(model, coded, shortcuts=Shortcuts(prefix=reuse)).run([job])
    assert np.array_equal(jobs[0].result, jobs[1].result)
    assert not reads


def test_without_memory_for_it_rows_are_answered_in_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("gpt2-mini")
    coded = encode(model)
    keep = masks(coded[0].n_units, 0)
    job = Job(slot=0, asker=ask(keep, "replace"), operator="")
    engine = Engine(model, coded, shortcuts=Shortcuts(prefix=True))

    def full(*_args: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(TextModel, "resume", full)
    engine.run([job])
    expected = alone(model, [remove(model, coded[0], mask, "replace") for mask in keep])
    np.testing.assert_allclose(job.result, expected, rtol=0, atol=1e-5)
    assert engine._prefixes is None


@pytest.mark.parametrize(
    ("parameters", "reuse", "reused"),
    [(SMALL, True, True), (SMALL - 1, True, False), (SMALL, False, False)],
)
def test_a_run_reuses_where_it_is_told_to_and_the_model_is_not_small(
    parameters: int, reuse: bool, reused: bool
) -> None:
    session: Any = Session(
        plan=SimpleNamespace(suite=SimpleNamespace(unit="word", precision="float32")),  # type: ignore[arg-type]
        block=SimpleNamespace(checkpoint=SimpleNamespace(parameters=parameters)),  # type: ignore[arg-type]
        store=None,  # type: ignore[arg-type]
        options=Options(shortcuts=Shortcuts(prefix=reuse)),
        progress=None,  # type: ignore[arg-type]
    )
    engine = session.new_engine(tiny("gpt2-mini"), examples())
    assert (engine._prefixes is not None) is reused
