"""A language model predicts what transformers predicts; only its prompt can be attributed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from attrlab.bench import checkpoint, testing
from attrlab.bench.batch import Batch
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.language import LanguageModel, load_language_model, predicting
from attrlab.bench.removal import delete, whole
from attrlab.bench.testing import TEXTS, tiny
from attrlab.bench.zoo import BY_MINI

DECODERS = ("gpt2-mini", "opt-125m-mini", "opt-350m-mini")
CLASSES = {"gpt2": transformers.GPT2LMHeadModel, "opt": transformers.OPTForCausalLM}


def causal(mini: str) -> Any:
    """An untrained network with a head for the next token, of the geometry of a mini, and its tokenizer."""
    classifier = tiny(mini)
    config = type(classifier.network.config).from_dict(classifier.network.config.to_dict())
    config.architectures = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CLASSES[BY_MINI[mini].family](config).eval().requires_grad_(requires_grad=False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.mul_(testing.SHARPNESS)
    return network, classifier.tokenizer


@pytest.fixture(params=DECODERS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return LanguageModel(*causal(request.param), request.param)


def prompts(continuation: str = "") -> list[Example]:
    return [
        Example(id=str(index), texts=(text, continuation) if continuation else (text,), label=None)
        for index, text in enumerate(TEXTS)
    ]


def batch_of(model: LanguageModel, inputs: list[Example]) -> Batch:
    coded = [model.encode(example) for example in inputs]
    return model.collate([whole(one) for one in coded], [one.units >= 0 for one in coded])


def pieces(model: LanguageModel, text: str) -> list[int]:
    ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def start(model: LanguageModel) -> list[int]:
    """OPT's tokenizer puts an end-of-text token in front, GPT-2's nothing."""
    return [model.tokenizer.eos_token_id] if "opt" in model.name else []


def test_the_prompt_ends_with_its_own_last_token(model: LanguageModel) -> None:
    for example in prompts():
        coded = model.encode(example)
        assert coded.ids.tolist() == start(model) + pieces(model, example.texts[0])
        assert (coded.units[len(start(model)) :] >= 0).all()
        assert coded.n_units == len(example.texts[0].split())
        assert not coded.segments.any()


def test_a_continuation_follows_and_cannot_be_attributed(model: LanguageModel) -> None:
    tail = pieces(model, " and the end")
    for example, alone in zip(prompts(" and the end"), prompts(), strict=True):
        coded, prompt = model.encode(example), model.encode(alone)
        n = len(prompt.ids)
        assert coded.ids.tolist() == prompt.ids.tolist() + tail
        assert coded.segments.tolist() == [0] * n + [1] * len(tail)
        assert coded.units.tolist() == prompt.units.tolist() + [-1] * len(tail)
        assert not coded.special[n:].any()
        assert coded.words == prompt.words
        kept = delete(model, coded, np.append(np.zeros(coded.n_units, dtype=bool), True)[coded.units])
        assert kept.ids.tolist() == [model.tokenizer.eos_token_id, *tail]
        assert kept.segments.tolist() == [0] + [1] * len(tail)


def test_next_token_logits_are_the_plain_ones(model: LanguageModel) -> None:
    for continuation in ("", " and the end"):
        batch = batch_of(model, prompts(continuation))
        output = model.forward(batch)
        at_embeds = model.forward(batch, model.embed(batch))
        assert output.logits.shape == (len(batch), len(model.embedding))
        for row, example in enumerate(prompts()):
            ids = torch.tensor([start(model) + pieces(model, example.texts[0])])
            expected = model.network(input_ids=ids).logits[0, -1]
            torch.testing.assert_close(output.logits[row], expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(at_embeds.logits[row], expected, atol=1e-4, rtol=1e-4)
        assert output.logits.std() > 1e-2


def test_predicting_positions_are_those_before_each_next_token(model: LanguageModel) -> None:
    tail = pieces(model, " and the end")
    for continuation, count in (("", 1), (" and the end", len(tail))):
        batch = batch_of(model, prompts(continuation))
        found = predicting(model, batch)
        for row, example in enumerate(prompts()):
            last = len(start(model)) + len(pieces(model, example.texts[0])) - 1
            assert found[row].nonzero()[:, 0].tolist() == list(range(last, last + count))
            if continuation:
                assert batch.ids[row, last + 1 : last + 1 + count].tolist() == tail
        assert not (found & (batch.mask == 0)).any()


def test_a_decoder_classifier_predicts_at_its_pooling_position() -> None:
    classifier = tiny("gpt2-mini")
    coded = [classifier.encode(example) for example in testing.examples(pairs=True)]
    batch = classifier.collate([whole(one) for one in coded])
    assert predicting(classifier, batch).nonzero()[:, 1].tolist() == batch.last.tolist()
    with pytest.raises(UserError, match="'bert-base-mini' is an encoder and predicts no next token: use phi=readout"):
        predicting(tiny("bert-base-mini"), batch)


def test_rows_are_counted(model: LanguageModel) -> None:
    batch = batch_of(model, prompts()[:3])
    with model.metered(3) as meter:
        model.forward(batch.take(torch.tensor([0, 0, 2])))
    assert meter.forwards.tolist() == [2, 0, 1]


def test_an_empty_prompt_needs_a_token_in_front(model: LanguageModel) -> None:
    example = Example(id="nothing", texts=("", "the"), label=None)
    if start(model):
        coded = model.encode(example)
        assert coded.ids.tolist() == start(model) + pieces(model, "the")
        assert coded.n_units == 0
    else:
        with pytest.raises(UserError, match="example 'nothing': the prompt is empty and 'gpt2-mini' puts no token"):
            model.encode(example)


def test_a_long_prompt_is_refused_not_cut(model: LanguageModel) -> None:
    fits = "a" + " a" * (model.max_length - 2 - len(start(model)))
    assert len(model.encode(Example(id="x", texts=(fits, "a"), label=None)).ids) == model.max_length
    with pytest.raises(UserError, match=r"example 'x': 129 tokens of prompt and continuation; .* reads 128"):
        model.encode(Example(id="x", texts=(fits, "a a"), label=None))


def save(folder: Path, network: Any, tokenizer: Any) -> Path:
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("mini", DECODERS)
def test_a_saved_model_is_loaded_as_it_was(mini: str, tmp_path: Path) -> None:
    network, tokenizer = causal(mini)
    folder = save(tmp_path / mini, network, tokenizer)
    for source in (str(folder), folder, checkpoint.find(str(folder))):
        loaded = load_language_model(source)
    ours = LanguageModel(network, tokenizer, mini)
    batch = batch_of(ours, prompts(" the end"))
    torch.testing.assert_close(loaded.forward(batch).logits, ours.forward(batch).logits)
    assert loaded.network.dtype == torch.float32
    assert not loaded.network.training
    assert not any(weight.requires_grad for weight in loaded.network.parameters())
    assert [one.ids.tolist() for one in map(loaded.encode, prompts())] == [
        one.ids.tolist() for one in map(ours.encode, prompts())
    ]


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    classifier = tiny("gpt2-mini")
    folder = save(tmp_path / "classifier", classifier.network, classifier.tokenizer)
    with pytest.raises(UserError, match="was saved as GPT2ForSequenceClassification, not as a causal language model"):
        load_language_model(folder)
    encoder = tiny("bert-base-mini")
    backwards = transformers.BertLMHeadModel(encoder.network.config)
    folder = save(tmp_path / "encoder", backwards, encoder.tokenizer)
    with pytest.raises(UserError, match=r"\(BertLMHeadModel\) is no causal language model"):
        load_language_model(folder)
    folder = tmp_path / "silent"
    causal("gpt2-mini")[0].save_pretrained(folder)
    with pytest.raises(UserError, match="has no tokenizer"):
        load_language_model(folder)
    with pytest.raises(UserError, match="no such model folder"):
        load_language_model("./nowhere")


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    network, tokenizer = causal("gpt2-mini")
    folder = save(tmp_path / "torn", network, tokenizer)
    weights = {name: value for name, value in network.state_dict().items() if "lm_head" not in name}
    weights.pop("transformer.ln_f.weight")
    network.save_pretrained(folder, state_dict=weights)
    with pytest.raises(UserError, match=r"1 weights are missing from the file, 'transformer.ln_f.weight' first"):
        load_language_model(folder)
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError):
        load_language_model(folder)
