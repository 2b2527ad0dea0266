"""Removal operators put in the ids that are intended, hide what they are to hide, and are averaged over their draws."""

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from otherheads import continuations, prompt, questions
from scipy.stats import binom, chisquare

from attrlab.bench import minis
from attrlab.bench.attending import Record, attending
from attrlab.bench.engine import Engine, Job
from attrlab.bench.errors import UserError
from attrlab.bench.explain import Question, jobs
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.model import TextModel
from attrlab.bench.operators import DRAWS, EMBEDDED, OPERATORS, Ask
from attrlab.bench.removal import FIXED, Unigram, removals, remove, whole
from attrlab.bench.scalars import scalar
from attrlab.bench.testing import FAMILIES, TEXTS, examples, tiny
from attrlab.bench.types import Bools, Case, Floats, Game, drive
from attrlab.bench.zoo import BY_MINI
from attrlab.methods.removal import LeaveOneOut

PAIRS = [("Not a good film.",), ("is it good?", "a dull, lifeless end")]
EVERY = ("bert-base-mini", "gpt2-mini", "opt-350m-mini", "opt-125m-mini")


def encoded(model: TextModel, *texts: str) -> Encoded:
    return model.encode(Example(id="x", texts=texts, label=0))


def double(name: str) -> TextModel:
    """A copy in float64 that may be changed."""
    copied = deepcopy(tiny(name, sharpness=3.0))
    copied.network.double()
    return copied


def logits(model: TextModel, *rows: Any) -> Floats:
    with torch.inference_mode():
        return model.forward(model.collate(rows)).logits.double().numpy()


STANDS_IN = {
    "pad": {"bert-base-mini": "[PAD]", "gpt2-mini": "<|endoftext|>", "opt-350m-mini": "<pad>"},
    "unk": {"bert-base-mini": "[UNK]", "gpt2-mini": "<|endoftext|>", "opt-350m-mini": "</s>"},
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("texts", PAIRS)
@pytest.mark.parametrize("operator", ["attn", "pad", "unk"])
@given(data=st.data())
def test_the_ids_and_the_attention_are_those_intended(name: str, texts: Any, operator: str, data: Any) -> None:
    model = tiny(name)
    found = encoded(model, *texts)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=found.n_units, max_size=found.n_units)))
    row = remove(model, found, keep, operator)
    stays = [unit < 0 or bool(keep[unit]) for unit in found.units.tolist()]
    if operator == "attn":
        assert row.ids.tolist() == found.ids.tolist()
        assert row.attend.tolist() == stays
    else:
        other = model.tokenizer.convert_tokens_to_ids(STANDS_IN[operator][name])
        assert row.ids.tolist() == [i if kept else other for i, kept in zip(found.ids.tolist(), stays, strict=True)]
        assert row.attend.all()
    assert row.segments.tolist() == found.segments.tolist()


def test_every_operator_is_there() -> None:
    assert sorted([*FIXED, *DRAWS, *EMBEDDED]) == sorted(OPERATORS)


@pytest.mark.parametrize("name", EVERY)
def test_no_attention_falls_on_removed_positions(name: str) -> None:
    model = double(name)
    found = encoded(model, TEXTS[4])
    keep = np.random.default_rng(0).random(found.n_units) < 0.5
    keep[0] = False  # the first word of a decoder without a begin token has nothing in front of it
    row, record = remove(model, found, keep, "attn"), Record()
    with attending(model, record), torch.inference_mode():
        model.forward(model.collate([row, whole(found)]))
    assert len(record.layers) > 1
    for weights in record.layers:
        reading = weights[0][:, row.attend]
        assert (reading[..., ~row.attend] == 0).all()
        assert (weights[1, :, -1, ~row.attend] > 0).all()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("texts", PAIRS)
def test_hiding_is_deleting_where_positions_do_not_count(name: str, texts: tuple[str, ...]) -> None:
    model = double(name)
    found = encoded(model, *texts)
    keep = np.arange(found.n_units) % 2 == 1
    differ = [logits(model, remove(model, found, keep, operator)) for operator in ("attn", "delete")]
    assert np.abs(differ[0] - differ[1]).max() > 1e-6, "with positions they differ"
    positions = [weight for key, weight in model.network.named_parameters() if "position" in key or "wpe" in key]
    assert len(positions) == 1
    positions[0].zero_()
    for one in (keep, ~keep, np.zeros_like(keep)):
        hidden, gone = (logits(model, remove(model, found, one, operator)) for operator in ("attn", "delete"))
        np.testing.assert_allclose(hidden, gone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("special", [True, False])
def test_logits_are_finite_with_everything_hidden(name: str, kernel: str, *, special: bool) -> None:
    model = double(name)
    if kernel == "eager":  # in float64 transformers' OPT masks by a number that its float32 softmax cannot hold
        model.network.float()
    if not special and model.decoder:  # a checkpoint whose tokenizer adds nothing: the last word is read, so it stays
        vocabulary = minis.tokenizer(BY_MINI[name], TEXTS)
        backend = vocabulary.backend_tokenizer
        backend.post_processor = minis.template(backend, "$A", "$A $B")
        model = TextModel(model.network, vocabulary, name)
    model.network.set_attn_implementation(kernel)
    found = encoded(model, TEXTS[0])
    row = remove(model, found, np.zeros(found.n_units, dtype=bool), "attn")
    assert row.attend.sum() == max(1, found.special.sum())
    alone, together = logits(model, row), logits(model, row, whole(encoded(model, TEXTS[5])))
    assert np.isfinite(alone).all()
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-4 if kernel == "eager" else 1e-10)


# One vector in place of word embeddings


def vector(model: TextModel, operator: str) -> Any:
    """What stands for a removed token, computed by NumPy."""
    return model.embedding.numpy().mean(0) * (operator == "mean")


def embeddings(model: TextModel, *rows: Any) -> Any:
    """The word embeddings that the network is given."""
    return model.embed(model.collate(rows)).numpy()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("texts", PAIRS)
@pytest.mark.parametrize("operator", EMBEDDED)
@given(data=st.data())
def test_one_vector_stands_for_the_removed_tokens_and_nothing_else_changes(
    name: str, texts: Any, operator: str, data: Any
) -> None:
    model = tiny(name)
    found = encoded(model, *texts)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=found.n_units, max_size=found.n_units)))
    row, longer = remove(model, found, keep, operator), whole(encoded(model, TEXTS[5], TEXTS[0]))
    assert all(np.array_equal(ours, full) for ours, full in zip(row[:4], whole(found)[:4], strict=True))
    mixed, plain = embeddings(model, row, longer, row), embeddings(model, whole(found), longer, whole(found))
    stays = np.array([unit < 0 or bool(keep[unit]) for unit in found.units.tolist()])
    other = np.flatnonzero(~stays)
    for index in (0, 2):
        unchanged = np.delete(mixed[index], other, 0)
        assert np.array_equal(unchanged, np.delete(plain[index], other, 0))
        np.testing.assert_allclose(mixed[index][other] - vector(model, operator), 0, atol=1e-8)
        assert operator == "mean" or not mixed[index][other].any()
    assert np.array_equal(mixed[1], plain[1])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("operator", EMBEDDED)
def test_the_answer_is_that_of_the_network_on_such_embeddings(name: str, operator: str) -> None:
    model = double(name)
    found = encoded(model, TEXTS[0])
    keep = np.arange(found.n_units) % 2 == 0
    own = model.embedding[found.ids].clone()
    for position, unit in enumerate(found.units.tolist()):
        if unit >= 0 and not keep[unit]:
            own[position] = torch.from_numpy(vector(model, operator))
    with torch.inference_mode():
        expected = model.network(inputs_embeds=own[None]).logits[0].double().numpy()
    ours = logits(model, remove(model, found, keep, operator), whole(encoded(model, TEXTS[5])))[0]
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)
    assert np.abs(ours - logits(model, whole(found))[0]).max() > 1e-6


@pytest.mark.parametrize("operator", EMBEDDED)
@pytest.mark.parametrize("head", ["continuation", "question"])
def test_other_heads_are_asked_under_it_as_well(head: str, operator: str) -> None:
    if head == "continuation":
        model: TextModel = continuations("gpt2-mini")
        found = model.encode(prompt(TEXTS[0], " the film", (" the plot",), "p"))
    else:
        model = questions("bert-base-mini")
        found = model.encode(Example(id="q", texts=("what was wonderful", TEXTS[0]), label=0))
    keep = np.arange(found.n_units) % 2 == 0
    plain = model.collate([whole(found)])
    embeds = model.embed(plain).clone()
    gone = np.isin(found.units, np.flatnonzero(~keep))
    embeds[0, gone] = model.embedding.mean(0) * (operator == "mean")
    with torch.inference_mode():
        expected = model.forward(plain, embeds).logits.double().numpy()
    ours = logits(model, remove(model, found, keep, operator))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(ours - logits(model, whole(found))).max() > 1e-4


def kept_coordinates(model: TextModel, found: Encoded, chances: Any, draw: int, operator: str = "zero") -> Bools:
    """Which coordinates of the word embeddings stay; all others must be those of the vector."""
    given = embeddings(model, remove(model, found, np.asarray(chances, dtype=float), operator, draw))[0]
    own = embeddings(model, whole(found))[0]
    kept = given == own
    np.testing.assert_allclose(np.where(kept, 0, given - vector(model, operator)), 0, atol=1e-8)
    return np.asarray(kept)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("operator", EMBEDDED)
def test_coordinates_stay_with_the_probability_asked_for(name: str, operator: str) -> None:
    model = tiny(name)
    found = encoded(model, TEXTS[5])
    chances = np.linspace(0, 1, found.n_units)
    stays = np.mean([kept_coordinates(model, found, chances, draw, operator) for draw in range(20)], axis=0)
    for unit, chance in enumerate(chances):
        drawn = stays[found.units == unit]
        low, high = binom.ppf([1e-5, 1 - 1e-5], 20 * drawn.size, chance) / (20 * drawn.size)
        assert max(low, 0) <= drawn.mean() <= high
    assert (stays[found.special] == 1).all()
    assert (stays[found.units == found.n_units - 1] == 1).all()
    assert (stays[found.units == 0] == 0).all()


def test_coordinates_are_drawn_by_example_and_draw_alone() -> None:
    model = tiny("opt-350m-mini")
    found = encoded(model, TEXTS[1])
    low, high = np.full(found.n_units, 0.3), np.full(found.n_units, 0.6)
    few, many = (kept_coordinates(model, found, chances, 3) for chances in (low, high))
    assert (many | ~few).all(), "the same numbers, whatever is asked: what stays at 0.3 stays at 0.6"
    assert np.array_equal(few, kept_coordinates(model, encoded(model, TEXTS[1]), low, 3))
    assert not np.array_equal(few, kept_coordinates(model, found, low, 4))
    other = model.encode(Example(id="y", texts=(TEXTS[1],), label=0))
    assert not np.array_equal(few, kept_coordinates(model, other, low, 3))


# Drawn tokens


def unigram(model: TextModel) -> Unigram:
    return Unigram([model.encode(example) for example in examples()])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("texts", PAIRS)
def test_drawn_tokens_replace_the_removed_ones_and_depend_on_the_question_alone(name: str, texts: Any) -> None:
    model = deepcopy(tiny(name))
    model.fillers["random"] = unigram(model)
    found = encoded(model, *texts)
    rng = np.random.default_rng(1)
    questions = [(rng.random(found.n_units) < 0.5, draw) for draw in range(DRAWS["random"]) for _ in range(4)]
    together = removals(model, found, questions, "random")
    known = {i for example in examples() for i in model.encode(example).ids[model.encode(example).units >= 0].tolist()}
    for (keep, draw), row in reversed(list(zip(questions, together, strict=True))):
        alone = remove(model, encoded(model, *texts), keep, "random", draw)
        assert np.array_equal(alone.ids, row.ids)
        stays = np.array([unit < 0 or keep[unit] for unit in found.units])
        assert np.array_equal(row.ids[stays], found.ids[stays])
        assert {*row.ids[~stays].tolist()} <= known
        assert row.attend.all()
    keep = np.zeros(found.n_units, dtype=bool)
    draws = {tuple(remove(model, found, keep, "random", draw).ids.tolist()) for draw in range(5)}
    assert len(draws) == 5
    other = model.encode(Example(id="y", texts=texts, label=0))
    assert remove(model, other, keep, "random").ids.tolist() not in ([*one] for one in draws)


def test_tokens_are_drawn_as_often_as_they_occur() -> None:
    model = tiny("gpt2-mini")
    texts = [model.encode(example) for example in examples()]
    filler, found = Unigram(texts), encoded(model, TEXTS[5])
    rows = filler(model, found, [(np.zeros(found.n_units, dtype=bool), draw) for draw in range(800)])
    drawn = np.concatenate([row.ids[found.units >= 0] for row in rows])
    occurring = np.concatenate([one.ids[~one.special] for one in texts])
    ids, counts = np.unique(occurring, return_counts=True)
    seen = np.array([(drawn == one).sum() for one in ids])
    assert seen.sum() == len(drawn)
    assert chisquare(seen, counts / counts.sum() * len(drawn)).pvalue > 1e-3


def test_without_texts_there_is_nothing_to_draw_from() -> None:
    with pytest.raises(UserError, match="'random' draws tokens from the calibration texts, and these have none"):
        Unigram([tiny().encode(Example(id="e", texts=("",), label=0))])


def test_an_operator_that_was_not_prepared_fails_its_job_alone() -> None:
    model = tiny()
    engine = Engine(model, [encoded(model, TEXTS[0])])
    keep = np.eye(engine.encoded[0].n_units, dtype=bool)

    def asker(operator: str) -> Any:
        return (yield Ask(keep=keep, operator=operator))

    bad, good = (Job(slot=0, asker=asker(operator), operator="") for operator in ("mlm", "pad"))
    engine.run([bad, good])
    assert (
        bad.error == "removal operator 'mlm' is not prepared: name it in the suite, under operators or explain.operator"
    )
    assert good.error is None


# Averages over draws


def answers(seed: int, classes: int = 3) -> Any:
    """Logits of its own for every question and draw."""
    table: dict[tuple[bytes, int], Floats] = {}
    rng = np.random.default_rng(seed)

    def answer(ask: Ask) -> Floats:
        draws = np.broadcast_to(ask.draw, len(ask.keep)).tolist()
        keys = [(keep.tobytes(), draw) for keep, draw in zip(ask.keep, draws, strict=True)]
        return np.stack([table.setdefault(key, 3 * rng.normal(size=classes)) for key in keys])

    return SimpleNamespace(answer=answer, table=table)


def case(operator: str) -> Case:
    return Case(scores=np.zeros(3), signed=True, target=1, label=None, tie_orders=np.arange(3)[None], operator=operator)


@pytest.mark.parametrize(("operator", "draws"), [("random", 5), ("mlm", 5), ("replace", 1), ("attn", 1)])
def test_scalars_are_averaged_over_the_draws_not_logits(operator: str, draws: int) -> None:
    keep = np.array([[True, False, True], [False, False, False]])
    model, asked = answers(0), []
    game = Game(n_units=3, target=1, scalar="logprob", operator=operator)
    found = drive(game.values(keep), lambda ask: asked.append(ask) or model.answer(ask))
    assert sum(len(ask.keep) for ask in asked) == draws * len(keep)
    assert len(asked) == 1
    by_hand = [
        sum(float(scalar("logprob", model.table[one.tobytes(), draw], 1)) for draw in range(draws)) / draws
        for one in keep
    ]
    assert found.tolist() == pytest.approx(by_hand, abs=1e-14)
    chances = drive(case(operator).probabilities(keep), model.answer)
    softmax = {key: np.exp(row) / np.exp(row).sum() for key, row in model.table.items()}
    expected = [sum(softmax[one.tobytes(), draw] for draw in range(draws)) / draws for one in keep]
    assert chances.tolist() == pytest.approx([row[1] for row in expected], abs=1e-14)
    mixed = drive(case(operator).ask(keep), model.answer)
    assert (mixed.argmax(1) == np.argmax(expected, 1)).all()
    if draws == 1:
        assert np.array_equal(mixed, model.answer(Ask(keep=keep)))


def test_a_method_under_a_drawing_operator_is_its_mean_over_the_draws() -> None:
    model = deepcopy(tiny("opt-350m-mini", sharpness=10.0))
    model.fillers["random"] = unigram(model)
    found = encoded(model, TEXTS[1])
    m, engine = found.n_units, Engine(model, [found])
    (job,) = jobs(LeaveOneOut(), [Question(slot=0, target=1, seed=(0,))], engine, "contrast", "random")
    engine.run([job])

    def value(keep: Bools) -> float:
        rows = [remove(model, found, keep, "random", draw) for draw in range(5)]
        return float(np.mean([scalar("contrast", logits(model, row), 1) for row in rows]))

    full = value(np.ones(m, dtype=bool))
    expected = [full - value(np.arange(m) != unit) for unit in range(m)]
    np.testing.assert_allclose(job.result.scores, expected, rtol=1e-4, atol=1e-5)
    assert job.forwards == 5 * (m + 1)
    assert job.unique == 5 * m + 1, "with nothing removed there is nothing to draw"
