"""An extractive answer is explained like a class: by every method, at the span that was predicted before."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from otherheads import QUESTIONS, asked, batch_of, explained, network, questions

from attrlab.bench.engine import Engine, Job
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.questions import LONGEST_ANSWER, load_question_model
from attrlab.bench.registry import METHODS, METRICS
from attrlab.bench.removal import remove
from attrlab.bench.testing import FAMILIES, TEXTS, tiny
from attrlab.bench.types import Case

ASKED = "what was wonderful"
EXAMPLES = [asked(ASKED, text, str(index)) for index, text in enumerate(TEXTS)]


@pytest.fixture(params=FAMILIES)
def model(request):
    return questions(request.param)


def plain(model, ids, segments, at=None):
    """Start and end logits by transformers alone; their sum at a span."""
    inputs = {"input_ids": torch.as_tensor(ids)[None]}
    if "bert" in model.name:
        inputs["token_type_ids"] = torch.as_tensor(segments)[None]
    with torch.no_grad():
        result = model.network(**inputs)
    start, end = result.start_logits[0].tolist(), result.end_logits[0].tolist()
    return (start, end) if at is None else start[at[0]] + end[at[1]]


def span(coded):
    return tuple(coded.marks.argmax(1).tolist())


def context_tokens(model, example):
    """Positions of the context's tokens, from the tokenizer's own account of texts."""
    texts = model.tokenizer(*example.texts, return_offsets_mapping=True).sequence_ids()
    return [position for position, text in enumerate(texts) if text == 1]


def test_the_span_is_the_best_of_the_context(model):
    for example in EXAMPLES:
        coded = model.encode(example)
        start, end = plain(model, coded.ids, coded.segments)
        inside = context_tokens(model, example)
        value, *best = max((start[s] + end[t], s, t) for s in inside for t in inside if s <= t < s + LONGEST_ANSWER)
        assert span(coded) == tuple(best)
        assert coded.marks.sum(1).tolist() == [1, 1]
        logits = model.forward(batch_of(model, [coded])).logits[0].tolist()
        assert logits == pytest.approx([value, 0], abs=1e-10)


def test_no_span_is_longer_than_is_usual(model, monkeypatch):
    monkeypatch.setattr("attrlab.bench.questions.LONGEST_ANSWER", 1)
    spans = [span(model.encode(example)) for example in EXAMPLES]
    assert all(first == last for first, last in spans)


def test_values_in_a_batch_are_those_alone(model):
    coded = [model.encode(example) for example in EXAMPLES]
    batch = batch_of(model, coded)
    output, at_embeds = model.forward(batch), model.forward(batch, model.embed(batch))
    expected = [[plain(model, one.ids, one.segments, span(one)), 0.0] for one in coded]
    torch.testing.assert_close(output.logits, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(at_embeds.logits, output.logits, rtol=0, atol=1e-9)
    hidden = model.backbone(batch).last_hidden_state
    starts = torch.tensor([span(one)[0] for one in coded])
    torch.testing.assert_close(output.readout, hidden[torch.arange(len(coded)), starts])
    assert model.pool(batch).tolist() == starts.tolist()
    with model.metered(len(coded)) as meter:
        model.forward(batch.take(torch.tensor([0, 0, 2])))
    assert meter.forwards.tolist() == [2, 0, 1, 0, 0, 0]


def test_the_question_is_attributed_only_on_request(model):
    coded = model.encode(EXAMPLES[2])
    assert coded.readings == ("Not", "good.")
    asking = questions(model.name, score_question=True).encode(EXAMPLES[2])
    assert asking.readings == ("what", "was", "wonderful", "Not", "good.")
    assert np.array_equal(asking.marks, coded.marks)
    assert np.array_equal(np.where(asking.units >= 3, asking.units - 3, -1), coded.units)
    by_token = model.encode(EXAMPLES[2], "token")
    assert by_token.units[by_token.units >= 0].tolist() == list(range(by_token.n_units))
    assert (by_token.units >= 0).tolist() == (coded.units >= 0).tolist()
    kept = remove(model, coded, np.zeros(2, dtype=bool), "replace")
    assert np.array_equal(kept.ids[coded.units < 0], coded.ids[coded.units < 0])


def test_marks_follow_the_tokens_and_the_answer_is_never_lost(model):
    coded = model.encode(EXAMPLES[0])
    first, last = span(coded)
    for unit in range(coded.n_units):
        keep = np.arange(coded.n_units) != unit
        row = remove(model, coded, keep, "delete")
        gone = (coded.units == unit) & ~coded.marks.any(0)
        assert np.array_equal(row.marks, coded.marks[:, ~gone])
        expected = np.where(coded.units == unit, model.replace_id, coded.ids)[~gone]
        assert row.ids.tolist() == expected.tolist()
    nothing = remove(model, coded, np.zeros(coded.n_units, dtype=bool), "delete")
    assert nothing.marks.sum(1).tolist() == [1, 1]
    assert (coded.units >= 0).sum() - (len(coded.ids) - len(nothing.ids)) == len({first, last})


@pytest.mark.parametrize("operator", ["replace", "delete"])
def test_leave_one_out_is_a_difference_of_plain_values(model, operator):
    coded = model.encode(EXAMPLES[1])
    full = plain(model, coded.ids, coded.segments, span(coded))
    expected = []
    for unit in range(coded.n_units):
        out = coded.units == unit
        ids, stays = np.where(out, model.replace_id, coded.ids), ~out | coded.marks.any(0)
        if operator == "replace":
            stays[:] = True
        at = coded.marks[:, stays].argmax(1)
        expected.append(full - plain(model, ids[stays], coded.segments[stays], at))
    found = explained(model, [coded], "leave_one_out", operator=operator)[0].scores
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    assert np.ptp(found) > 1e-2


def test_shapley_values_and_path_integrals_add_up(model):
    coded = model.encode(EXAMPLES[1])
    blank = np.where(coded.units >= 0, model.replace_id, coded.ids)
    full, empty = (plain(model, ids, coded.segments, span(coded)) for ids in (coded.ids, blank))
    assert abs(full - empty) > 5e-3
    shapley = explained(model, [coded], "shapley_sampling")[0].scores
    assert shapley.sum() == pytest.approx(full - empty, abs=1e-9)
    path = explained(model, [coded], METHODS.find("integrated_gradients:steps=100").build())[0].scores
    assert abs(path.sum() - (full - empty)) <= (2e-2 if "opt" in model.name else 1e-3) * np.abs(path).sum()


def test_saliency_is_the_norm_of_central_differences(model):
    coded = model.encode(EXAMPLES[2], "token")
    batch = batch_of(model, [coded])
    token = int(batch.scorable[0].nonzero()[1])
    embeds = model.embed(batch)
    width = embeds.shape[-1]
    steps = torch.zeros(width, *embeds.shape[1:], dtype=torch.float64)
    steps[:, token] = 1e-5 * torch.eye(width, dtype=torch.float64)
    many = batch.take(torch.zeros(width, dtype=torch.int64))
    up, down = (model.forward(many, embeds + sign * steps).logits[:, 0] for sign in (1, -1))
    found = explained(model, [coded], "saliency")[0]
    assert found.scores[coded.units[token]] == pytest.approx(float((up - down).norm() / 2e-5), rel=1e-5)
    assert (found.cost.forwards, found.cost.backwards) == (1, 1)


def test_attention_is_read_at_the_first_token_of_the_answer(model):
    coded = model.encode(EXAMPLES[0])
    made = network(model.name, QUESTIONS)
    made.set_attn_implementation("eager")
    segments = {"token_type_ids": torch.tensor(coded.segments[None])} if "bert" in model.name else {}
    result = made(input_ids=torch.tensor(coded.ids[None]), output_attentions=True, **segments)
    row = result.attentions[-1][0, :, span(coded)[0]].mean(0).numpy()
    expected = [row[coded.units == unit].sum() for unit in range(coded.n_units)]
    # transformers computes the softmax of OPT's attention in float32
    assert explained(model, [coded], "attention_last")[0].scores.tolist() == pytest.approx(expected, abs=1e-7)


def test_co_perturbation_and_metrics_run(model):
    coded = [model.encode(example) for example in EXAMPLES[:2]]
    for found, one in zip(explained(model, coded, "co_perturbation:draws=1,steps=20"), coded, strict=True):
        assert np.ptp(found.scores) > 1e-3
        orders = np.arange(one.n_units)[None]
        case = Case(scores=found.scores, signed=False, target=0, label=None, tie_orders=orders, operator="delete")
        job = Job(slot=0, asker=METRICS.find("comprehensiveness").build().score(case), operator="delete")
        Engine(model, [one]).run([job])
        assert job.error is None
        assert 0 < abs(job.result.value) < 1


def test_a_long_context_is_cut(model):
    coded = model.encode(asked("what", "good " * 200))
    assert len(coded.ids) == model.max_length
    assert coded.dropped > 0
    assert coded.units[span(coded)[1]] >= 0


def test_the_answer_is_shown_as_text(model):
    coded = model.encode(EXAMPLES[1])
    first, last = span(coded)
    words = model.answer(coded)
    assert words
    assert words.replace(" ", "").lower() in TEXTS[1].replace(" ", "").lower()
    moved = np.zeros_like(coded.marks)
    moved[:, context_tokens(model, EXAMPLES[1])[0]] = 1
    assert model.answer(replace(coded, marks=moved)).lower() == "a"
    assert first <= last


def test_wrong_examples_are_refused(model):
    with pytest.raises(UserError, match="'x': 1 text; give the question and the context"):
        model.encode(Example(id="x", texts=("what",), label=None))
    with pytest.raises(UserError, match="'x': no word of the context fits"):
        model.encode(asked("what", " ", "x"))


@pytest.mark.parametrize("mini", FAMILIES)
def test_a_saved_model_is_loaded_as_it_was(mini, tmp_path):
    ours = questions(mini, torch.float32)
    ours.network.save_pretrained(tmp_path)
    ours.tokenizer.save_pretrained(tmp_path)
    loaded = load_question_model(tmp_path, score_question=True)
    assert loaded.score_question
    assert loaded.decoder == ("bert" not in mini)
    assert not any(weight.requires_grad for weight in loaded.network.parameters())
    batch = batch_of(ours, [ours.encode(EXAMPLES[0])])
    torch.testing.assert_close(loaded.forward(batch).logits, ours.forward(batch).logits)


@pytest.mark.parametrize("mini", FAMILIES)
def test_a_model_without_a_trained_head_is_refused(mini, tmp_path):
    classifier = tiny(mini)
    classifier.network.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has no trained head for answers \('qa_outputs.bias' would be random\)"):
        load_question_model(tmp_path)
    with pytest.raises(UserError, match="no such model folder"):
        load_question_model("./nowhere")
