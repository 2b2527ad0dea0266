"""What a language model says next is explained like a class: by every method, against foils or alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from otherheads import DECODERS, LANGUAGE, batch_of, continuations, explained, network, prompt

from attrlab.bench.batch import Targets
from attrlab.bench.continuation import ContinuationModel, Prompt, load_continuation_model
from attrlab.bench.engine import Engine, Job
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.registry import METRICS
from attrlab.bench.removal import remove
from attrlab.bench.testing import TEXTS, tiny
from attrlab.bench.types import Case

PHRASES = (" the film", " the plot", " not good")
"""Continuations of as many tokens as each other, with any tokenizer of the minis: see the first test."""


@pytest.fixture(params=DECODERS)
def model(request):
    return continuations(request.param)


def pieces(model, text):
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def start(model):
    """OPT's tokenizer puts an end-of-text token in front, GPT-2's nothing."""
    return [model.tokenizer.eos_token_id] if "opt" in model.name else []


def plain(model, before, told, said):
    """Summed logits of the tokens ``said`` while ``told`` is read after ``before``, by transformers alone."""
    with torch.no_grad():
        logits = model.network(input_ids=torch.tensor([[*before, *told]])).logits[0]
    return sum(float(logits[len(before) - 1 + step, token]) for step, token in enumerate(said))


def row_of(model, ids, told, foils):
    return [plain(model, ids, told, told), *(plain(model, ids, told, foil) for foil in foils)]


def phrases(model, told=PHRASES[0], foils=PHRASES[1:]):
    return [prompt(text, told, foils, str(index)) for index, text in enumerate(TEXTS)]


def test_values_are_the_logits_of_transformers_summed_over_the_steps(model):
    told, *foils = (pieces(model, phrase) for phrase in PHRASES)
    assert len(told) > 1
    assert len({len(told), *map(len, foils)}) == 1
    batch = batch_of(model, [model.encode(example) for example in phrases(model)])
    found, at_embeds = model.forward(batch), model.forward(batch, model.embed(batch))
    for row, text in enumerate(TEXTS):
        expected = row_of(model, start(model) + pieces(model, text), told, foils)
        assert found.logits[row].tolist() == pytest.approx(expected, abs=1e-10)
        assert at_embeds.logits[row].tolist() == pytest.approx(expected, abs=1e-10)
    explained_value = Targets(classes=torch.zeros(len(batch), dtype=torch.int64)).of(found.logits, batch)
    torch.testing.assert_close(explained_value, found.logits[:, 0] - found.logits[:, 1:].mean(1))


def test_without_foils_the_contrast_is_the_value(model):
    told = pieces(model, " the film")
    for foils in ((), (" the plot",)):
        batch = batch_of(model, [model.encode(prompt(TEXTS[0], " the film", foils))])
        logits = model.forward(batch).logits[0].tolist()
        assert logits[0] == pytest.approx(plain(model, start(model) + pieces(model, TEXTS[0]), told, told), abs=1e-10)
        assert len(logits) == 2
        assert (logits[1] == 0) == (not foils)


def test_continuations_of_any_length_share_a_batch(model):
    coded = [model.encode(prompt(TEXTS[1], told, ())) for told in (" film", PHRASES[0], " and the plot moved along")]
    assert len({int((one.segments == 1).sum()) for one in coded}) == 3
    together = model.forward(batch_of(model, coded)).logits
    alone = torch.cat([model.forward(batch_of(model, [one])).logits for one in coded])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


def test_answers_at_the_end_of_the_prompt_are_the_next_token_logits(model):
    for foils in ((), (" plot", " story")):
        batch = batch_of(model, [model.encode(prompt(text, " film", foils)) for text in TEXTS])
        states = model.backbone(batch).last_hidden_state
        rows = torch.arange(len(batch))
        found = model.answers(batch, states)[rows, model.pool(batch)]
        steps = [[pieces(model, said)[0] for said in (" film", *foils)]] * len(batch)
        expected = model.head(states[rows, model.pool(batch)]).gather(1, torch.tensor(steps))
        torch.testing.assert_close(found[:, : 1 + len(foils)], expected, rtol=0, atol=1e-10)
        assert found.shape == (len(batch), 1 + max(1, len(foils)))
        assert bool(found[:, -1].isneginf().all()) == (not foils)


def test_only_the_prompt_is_attributed_and_removed(model):
    coded = model.encode(prompt("not good at", PHRASES[0], (PHRASES[1],)))
    assert coded.readings == ("not", "good", "at")
    told = pieces(model, PHRASES[0])
    keep = np.array([True, False, True])
    without = remove(model, coded, keep, "delete")
    stays = [i for i, unit in zip(coded.ids, coded.units, strict=True) if unit in (-1, 0, 2)]
    assert without.ids.tolist() == stays
    assert without.marks[0, -len(told) :].tolist() == pieces(model, PHRASES[1])
    blank = remove(model, coded, keep, "replace")
    assert (blank.ids[coded.units == 1] == model.replace_id).all()
    assert np.array_equal(blank.marks, coded.marks)


def test_a_prompt_that_is_all_deleted_leaves_an_end_of_text_token(model):
    coded = [model.encode(prompt(text, PHRASES[0], (PHRASES[1],))) for text in TEXTS[:2]]
    nothing = [remove(model, one, np.zeros(one.n_units, dtype=bool), "delete") for one in coded]
    told, foil = pieces(model, PHRASES[0]), pieces(model, PHRASES[1])
    expected = row_of(model, [model.tokenizer.eos_token_id], told, [foil])
    for row in model.forward(model.collate(nothing, length=12)).logits.tolist():
        assert row == pytest.approx(expected, abs=1e-10)


def test_leave_one_out_is_a_difference_of_plain_values(model):
    text = "Not good at all"
    coded = model.encode(prompt(text))
    (told,), (foil,) = pieces(model, " film"), pieces(model, " plot")

    def contrast(ids):
        return plain(model, ids, [told], [told]) - plain(model, ids, [told], [foil])

    ids, units = coded.ids[:-1], coded.units[:-1]
    for operator in ("replace", "delete"):
        expected = []
        for unit in range(4):
            changed = np.where(units == unit, model.replace_id, ids) if operator == "replace" else ids[units != unit]
            expected.append(contrast(ids.tolist()) - contrast(changed.tolist()))
        found = explained(model, [coded], "leave_one_out", operator=operator)[0].scores
        assert found.tolist() == pytest.approx(expected, abs=1e-10)
        assert np.ptp(found) > 1e-3


def ends(model, coded):
    """The contrast of the whole prompt and of one made of replacement tokens."""
    batch = batch_of(model, [coded])
    blank = replace(batch, ids=torch.where(batch.scorable, model.replace_id, batch.ids))
    values = [model.forward(one).logits[0] for one in (batch, blank)]
    return [float(value[0] - value[1:].mean()) for value in values]


def test_shapley_values_and_path_integrals_add_up(model):
    coded = model.encode(prompt("Not good at all", PHRASES[0], PHRASES[1:]))
    full, empty = ends(model, coded)
    shapley = explained(model, [coded], "shapley_sampling")[0].scores
    assert shapley.sum() == pytest.approx(full - empty, abs=1e-10)
    path = explained(model, [coded], "integrated_gradients")[0].scores
    assert abs(path.sum() - (full - empty)) <= (1e-6 if "gpt2" in model.name else 2e-2) * np.abs(path).sum()
    assert abs(full - empty) > 5e-3


def test_saliency_is_the_norm_of_central_differences(model):
    coded = model.encode(prompt("Not good at", PHRASES[0], PHRASES[1:]), "token")
    batch = batch_of(model, [coded])
    token = int(batch.scorable[0].nonzero()[1])
    embeds = model.embed(batch)
    width = embeds.shape[-1]
    steps = torch.zeros(width, *embeds.shape[1:], dtype=torch.float64)
    steps[:, token] = 1e-5 * torch.eye(width, dtype=torch.float64)
    many = batch.take(torch.zeros(width, dtype=torch.int64))
    up, down = (model.forward(many, embeds + sign * steps).logits for sign in (1, -1))
    slope = ((up - down)[:, 0] - (up - down)[:, 1:].mean(1)) / 2e-5
    found = explained(model, [coded], "saliency")[0].scores[coded.units[token]]
    assert found == pytest.approx(float(slope.norm()), rel=1e-6)


def test_attention_is_read_where_the_continuation_is_predicted(model):
    coded = model.encode(prompt("Not good at all", PHRASES[0], ()))
    made = network(model.name, LANGUAGE)
    made.set_attn_implementation("eager")
    inside = int((coded.segments == 0).sum())
    result = made(input_ids=torch.tensor(coded.ids[None, :inside]), output_attentions=True)
    # transformers computes the softmax of OPT's attention in float32
    row = result.attentions[-1][0, :, -1].mean(0).numpy()
    expected = [row[coded.units[:inside] == unit].sum() for unit in range(coded.n_units)]
    assert explained(model, [coded], "attention_last")[0].scores.tolist() == pytest.approx(expected, abs=1e-7)


def test_co_perturbation_and_metrics_run(model):
    coded = [model.encode(example) for example in phrases(model)[:2]]
    for found, one in zip(explained(model, coded, "co_perturbation:draws=1,steps=20"), coded, strict=True):
        assert np.ptp(found.scores) > 1e-3
        case = Case(
            scores=found.scores,
            signed=False,
            target=0,
            label=None,
            tie_orders=np.arange(one.n_units)[None],
            operator="delete",
        )
        job = Job(slot=0, asker=METRICS.find("comprehensiveness").build().score(case), operator="delete")
        Engine(model, [one]).run([job])
        assert job.error is None
        assert 0 < abs(job.result.value) < 1


def test_company_changes_no_bit(model):
    single = continuations(model.name, torch.float32)
    coded = [single.encode(example) for example in phrases(single)]
    loo = [one.scores for one in explained(single, coded, "leave_one_out")]
    for scores, one in zip(loo, coded, strict=True):
        assert np.array_equal(scores, explained(single, [one], "leave_one_out")[0].scores)


def test_wrong_examples_are_refused(model):
    with pytest.raises(UserError, match=r"'0': the foil ' the end' has \d tokens, the continuation ' film' 1; step by"):
        model.encode(prompt("so", " film", (" plot", " the end")))
    for example in (Example(id="x", texts=("so",), label=None), prompt("so", "", (), "x")):
        with pytest.raises(UserError, match="'x': there is no continuation to explain; give two texts"):
            model.encode(example)
    coded = [model.encode(prompt("so", " film", foils)) for foils in ((" plot",), (" plot", " story"))]
    with pytest.raises(UserError, match=r"examples of \[1, 2\] foils in one batch; explain them apart"):
        batch_of(model, coded)


def test_a_prompt_is_an_example():
    with pytest.raises(UserError, match="example 'x': 3 texts"):
        Prompt(id="x", texts=("a", "b", "c"), label=None)


@pytest.mark.parametrize("mini", DECODERS)
def test_a_saved_model_is_loaded_as_it_was(mini, tmp_path):
    ours = continuations(mini, torch.float32)
    ours.network.save_pretrained(tmp_path)
    ours.tokenizer.save_pretrained(tmp_path)
    loaded = load_continuation_model(tmp_path)
    assert isinstance(loaded, ContinuationModel)
    batch = batch_of(ours, [ours.encode(prompt(TEXTS[0]))])
    torch.testing.assert_close(loaded.forward(batch).logits, ours.forward(batch).logits)


def test_a_classifier_and_a_broken_folder_are_refused(tmp_path):
    classifier = tiny("opt-125m-mini")
    classifier.network.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="was saved as OPTForSequenceClassification, not as a causal language model"):
        load_continuation_model(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"its config\.json is no JSON object"):
        load_continuation_model(tmp_path)
