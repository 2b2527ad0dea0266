"""The explained forward pass is the deployed one: for all minis, ids or embeddings, alone or padded."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench import minis, testing
from attrlab.bench.batch import Targets
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.scalars import SCALARS, explained, scalar
from attrlab.bench.testing import FAMILIES, TEXTS, examples
from attrlab.bench.zoo import BY_MINI

tiny = partial(testing.tiny, sharpness=testing.SHARPNESS)

each_family = pytest.mark.parametrize("name", FAMILIES)


def batch_of(model: TextModel, inputs: list[Example]) -> Any:
    coded = [model.encode(example) for example in inputs]
    return model.collate([whole(one) for one in coded], [one.units >= 0 for one in coded])


def plain(model: TextModel, example: Example) -> torch.Tensor:
    """What a user of transformers gets: tokenizer and network called as their documentation says, one text."""
    with torch.inference_mode():
        logits: torch.Tensor = model.network(**model.tokenizer(*example.texts, return_tensors="pt")).logits[0]
    return logits


@pytest.mark.parametrize("pairs", [False, True], ids=["singles", "pairs"])
@pytest.mark.parametrize("name", list(BY_MINI))
def test_explained_forward_is_the_plain_forward(name: str, pairs: bool) -> None:
    model, inputs = tiny(name), examples(pairs=pairs)
    expected = torch.stack([plain(model, example) for example in inputs])
    assert (expected[0] - expected[1]).abs().max() > 1e-2, "a model that ignores its input proves nothing"
    batch = batch_of(model, inputs)
    assert (batch.mask.sum(1) < batch.mask.shape[1]).any()
    with torch.inference_mode():
        ids = model.forward(batch).logits
        embeds = model.forward(batch, model.embed(batch)).logits
        alone = torch.cat([model.forward(batch_of(model, [example])).logits for example in inputs])
    for found in (ids, embeds, alone):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_all_nine_are_there() -> None:
    assert len(BY_MINI) == 9
    assert {info.family for info in BY_MINI.values()} == {"bert", "gpt2", "opt"}


def test_opt_350m_embeds_in_another_width() -> None:
    for name, info in BY_MINI.items():
        model = tiny(name)
        differs = model.embedding.shape[1] != model.network.config.hidden_size
        assert differs == (name == "opt-350m-mini") == bool(info.embedding_width)
    assert tiny("opt-350m-mini").network.config.do_layer_norm_before is False
    assert tiny("opt-125m-mini").network.config.do_layer_norm_before is True


@pytest.mark.parametrize("name", list(BY_MINI))
def test_replacement_is_one_valid_id_of_the_family(name: str) -> None:
    model = tiny(name)
    assert 0 <= model.replace_id < len(model.tokenizer) == model.embedding.shape[0]
    assert model.replace_id != model.tokenizer.pad_token_id
    token = model.tokenizer.convert_ids_to_tokens(model.replace_id)
    assert token == {"mask token": "[MASK]", "space token": "\u0120"}[BY_MINI[name].replace]
    if token == "\u0120":
        assert model.tokenizer.decode([model.replace_id]) == " "


@each_family
def test_the_noise_offset_moves_the_embeddings_and_nothing_else(name: str) -> None:
    model = tiny(name)
    batch = batch_of(model, examples())
    offset = torch.randn((*batch.ids.shape, model.embedding.shape[1]), generator=torch.Generator().manual_seed(0))
    noised = replace(batch, offset=offset)
    torch.testing.assert_close(model.embed(noised), model.embedding[batch.ids] + offset)
    with torch.inference_mode():
        by_hand = model.forward(batch, model.embedding[batch.ids] + offset).logits
        zero = model.forward(replace(batch, offset=torch.zeros_like(offset))).logits
        torch.testing.assert_close(model.forward(noised).logits, by_hand)
        torch.testing.assert_close(zero, model.forward(batch).logits, atol=1e-5, rtol=1e-5)
    rows = torch.tensor([2, 2, 0])
    assert torch.equal(noised.take(rows).offset, offset[rows])  # type: ignore[arg-type]
    assert noised.take(rows).owners.tolist() == [2, 2, 0]


def test_a_batch_has_an_offset_only_where_a_row_changes_its_embeddings_and_it_is_made_once() -> None:
    model, made = tiny(), []
    short, long = (whole(model.encode(example)) for example in examples()[2:4])
    assert model.collate([short, long]).offset is None

    def one(own: torch.Tensor) -> torch.Tensor:
        made.append(own)
        return torch.ones_like(own)

    changed = short._replace(offset=one)
    batch = model.collate([changed, long, changed, changed], length=12)
    assert len(made) == 1, "a batch is filled up with its first row"
    assert torch.equal(made[0], model.embedding[torch.from_numpy(short.ids)])
    assert batch.offset is not None
    assert batch.offset.shape == (4, 12, model.embedding.shape[1])
    expected = torch.zeros_like(batch.offset)
    expected[[0, 2, 3], : len(short.ids)] = 1
    assert torch.equal(batch.offset, expected)
    assert not model.collate([long, changed]).offset[0].any()  # type: ignore[index]


@each_family
def test_the_baseline_replaces_words_and_spares_special_and_padded_positions(name: str) -> None:
    model = tiny(name)
    batch = batch_of(model, examples(pairs=True))
    baseline = model.baseline(batch)
    for row, example in enumerate(examples(pairs=True)):
        coded = model.encode(example)
        for position in range(batch.ids.shape[1]):
            inside = position < len(coded.ids) and coded.units[position] >= 0
            token = model.replace_id if inside else int(batch.ids[row, position])
            assert torch.equal(baseline[row, position], model.embedding[token])


@each_family
def test_the_class_is_read_where_the_head_reads_it(name: str) -> None:
    model = tiny(name)
    batch = batch_of(model, examples())
    lengths = [len(model.encode(example).ids) for example in examples()]
    assert model.pool(batch).tolist() == ([length - 1 for length in lengths] if model.decoder else [0] * len(lengths))
    output = model.forward(batch)
    if model.decoder:
        torch.testing.assert_close(model.network.score(output.readout), output.logits)
    else:
        torch.testing.assert_close(
            model.network.classifier(torch.tanh(model.network.bert.pooler.dense(output.readout))), output.logits
        )


@each_family
def test_the_meter_counts_rows_per_owner(name: str) -> None:
    model = tiny(name)
    batch = batch_of(model, examples())
    model.forward(batch)  # outside: counted for nobody
    with model.metered(len(batch)) as meter:
        model.forward(batch.take(torch.tensor([0, 0, 2])))
        embeds = model.embed(batch.take(torch.tensor([1, 2, 2]))).requires_grad_()
        logits = model.forward(batch.take(torch.tensor([1, 2, 2])), embeds).logits
        assert meter.backwards.tolist() == [0] * 6
        logits[:, 0].sum().backward(retain_graph=True)
        logits[:, 1].sum().backward()
    model.forward(batch)
    assert meter.forwards.tolist() == [2, 1, 3, 0, 0, 0]
    assert meter.backwards.tolist() == [0, 2, 4, 0, 0, 0]


def test_metering_ends_when_a_method_fails() -> None:
    model = tiny()
    with pytest.raises(ZeroDivisionError), model.metered(6):
        raise ZeroDivisionError
    model.forward(batch_of(model, examples()))
    assert len(model.meter.forwards) == 0


LOGITS = st.lists(st.lists(st.floats(-30, 30), min_size=3, max_size=3), min_size=1, max_size=5)


@pytest.mark.parametrize("name", SCALARS)
@given(logits=LOGITS, target=st.integers(0, 2))
def test_the_explained_scalar_is_the_same_in_torch_and_numpy(name: str, logits: list[list[float]], target: int) -> None:
    numbers = np.array(logits)
    ours = explained(name, torch.from_numpy(numbers), torch.full((len(numbers),), target))
    np.testing.assert_allclose(ours.numpy(), scalar(name, numbers, target), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", SCALARS)
def test_explained_scalars_by_hand(name: str) -> None:
    logits = np.log([[1.0, 2.0, 5.0]])  # probabilities 1/8, 2/8, 5/8
    expected = {
        "contrast": np.log(2) - np.log(5) / 2,
        "logit": np.log(2),
        "prob": 0.25,
        "logprob": np.log(0.25),
        "logodds": np.log(1 / 3),
    }[name]
    assert scalar(name, logits, 1) == pytest.approx([expected])
    assert explained(name, torch.from_numpy(logits), torch.tensor([1])).numpy() == pytest.approx([expected])


@pytest.mark.parametrize("name", SCALARS)
def test_the_explained_scalar_has_its_own_gradient(name: str) -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: explained(name, z, torch.tensor([1])), logits)


def test_unknown_scalar_is_refused_by_both() -> None:
    with pytest.raises(UserError, match=r"unknown scalar 'odds'; known: contrast"):
        scalar("odds", np.zeros((1, 2)), 0)
    with pytest.raises(UserError, match=r"unknown scalar 'odds'; known: contrast"):
        explained("odds", torch.zeros((1, 2)), torch.tensor([0]))


def test_targets_follow_the_owners_of_the_rows() -> None:
    model = tiny(classes=3)
    batch = batch_of(model, examples()[:3]).take(torch.tensor([2, 0, 2]))
    logits = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    targets = Targets(classes=torch.tensor([0, 1, 2]), scalar="logit")
    assert targets.of(logits, batch).tolist() == [3.0, 4.0, 9.0]


def test_a_model_with_one_output_is_refused() -> None:
    model = tiny()
    single = minis.network(BY_MINI["bert-base-mini"], model.tokenizer, ("only",), 0)
    with pytest.raises(UserError, match=r"model 'regressor' has 1 output; a classifier needs at least two classes"):
        TextModel(single, model.tokenizer, "regressor")


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match=r"model 'slow' has no fast tokenizer; save one with a tokenizer\.json"):
        TextModel(tiny().network, Slow(), "slow")


def test_a_tokenizer_without_mask_and_space_is_refused() -> None:
    tokenizer = minis.tokenizer(BY_MINI["bert-base-mini"], TEXTS)
    tokenizer.mask_token = None
    with pytest.raises(UserError, match="neither a mask token nor a token for one space"):
        TextModel(tiny().network, tokenizer, "blind")


def test_a_long_text_is_cut_to_what_the_model_can_read() -> None:
    for name in FAMILIES:
        model = tiny(name)
        found = model.encode(Example(id="long", texts=("good film " * 200,), label=0))
        assert len(found.ids) == model.max_length == minis.MAX_LENGTH
        assert found.dropped == 400 - found.n_units > 0
        assert torch.isfinite(model.forward(model.collate([whole(found)])).logits).all()
