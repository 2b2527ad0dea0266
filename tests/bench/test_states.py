"""Hidden states are those of transformers, cut off where asked; what enters at a site is what is run."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from attrlab.bench import states, testing
from attrlab.bench.batch import Batch
from attrlab.bench.errors import UserError
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.testing import FAMILIES, examples
from attrlab.bench.zoo import BY_MINI

tiny = partial(testing.tiny, sharpness=testing.SHARPNESS)
each_family = pytest.mark.parametrize("name", FAMILIES)
each_mini = pytest.mark.parametrize("name", list(BY_MINI))


def batch_of(model: TextModel, *, pairs: bool = False) -> Batch:
    coded = [model.encode(example) for example in examples(pairs=pairs)]
    return model.collate([whole(one) for one in coded], [one.units >= 0 for one in coded])


def plain(model: TextModel, pairs: bool = False) -> list[Any]:
    """Hidden states that a user of transformers gets for one text at a time: h^0 .. h^L, each (1, n, d)."""
    return [
        model.network.base_model(
            **model.tokenizer(*example.texts, return_tensors="pt"), output_hidden_states=True
        ).hidden_states
        for example in examples(pairs=pairs)
    ]


def hooks_of(model: TextModel) -> list[int]:
    """Keys of the hooks on the blocks; transformers leaves some of its own."""
    return [key for block in states.blocks(model) for key in (*block._forward_hooks, *block._forward_pre_hooks)]


@each_mini
@torch.no_grad()
def test_states_and_sites_are_those_of_transformers(name: str) -> None:
    model = tiny(name)
    batch = batch_of(model, pairs=True)
    found = states.states(model, batch)
    assert len(found) == states.depth(model) == model.network.config.num_hidden_layers
    entered = states.embed(model, batch, "h0")
    for row, expected in enumerate(plain(model, pairs=True)):
        n = expected[0].shape[1]
        for layer, state in enumerate((entered, *found)):
            torch.testing.assert_close(state[row, :n], expected[layer][0], atol=2e-5, rtol=2e-5)
    assert torch.equal(states.embed(model, batch), model.embed(batch))


@each_mini
@torch.no_grad()
def test_the_pooled_last_state_is_the_readout(name: str) -> None:
    model = tiny(name)
    batch = batch_of(model)
    last = states.states(model, batch)[-1]
    assert torch.equal(last[torch.arange(len(batch)), model.pool(batch)], model.forward(batch).readout)


@each_mini
def test_a_pass_ends_after_the_last_block_asked_for(name: str) -> None:
    model = tiny(name)
    batch = batch_of(model)
    ran: list[int] = []
    blocks = states.blocks(model)
    before = hooks_of(model)
    hooks = [block.register_forward_hook(lambda *_, k=k: ran.append(k)) for k, block in enumerate(blocks, 1)]
    whole_pass = states.states(model, batch)
    ran.clear()
    for upto in range(1, len(blocks) + 1):
        part = states.states(model, batch, upto=upto)
        assert ran == list(range(1, upto + 1))
        ran.clear()
        last = zip(part[:-1], whole_pass, strict=False)
        assert all(torch.equal(ours, full) for ours, full in last)
        torch.testing.assert_close(part[-1], whole_pass[upto - 1])
    for hook in hooks:
        hook.remove()
    assert hooks_of(model) == before


@each_mini
@pytest.mark.parametrize("site", states.SITES)
@torch.no_grad()
def test_what_enters_at_a_site_is_what_is_run(name: str, site: str) -> None:
    model = tiny(name)
    batch = batch_of(model)
    ids = torch.where(batch.scorable, batch.ids.flip(0), batch.ids)
    other = replace(batch, ids=ids)
    entered = states.embed(model, other, site)
    expected = model.forward(other)
    found = states.forward(model, batch, entered, site=site)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.readout, expected.readout, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found.logits, model.forward(batch).logits, atol=1e-3)
    for ours, theirs in zip(states.states(model, batch, entered, site=site), states.states(model, other), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@each_family
def test_the_noise_offset_reaches_both_sites_and_all_states(name: str) -> None:
    model = tiny(name)
    batch = batch_of(model)
    offset = torch.randn((*batch.ids.shape, model.embedding.shape[1]), generator=torch.Generator().manual_seed(0))
    noised = replace(batch, offset=offset)
    by_hand = model.embedding[batch.ids] + offset
    torch.testing.assert_close(states.embed(model, noised), by_hand)
    torch.testing.assert_close(states.states(model, noised), states.states(model, batch, by_hand))
    at_h0 = states.embed(model, noised, "h0")
    torch.testing.assert_close(states.states(model, batch, at_h0, site="h0"), states.states(model, noised))


@each_family
@pytest.mark.parametrize("site", states.SITES)
def test_gradients_flow_from_every_state_to_the_site(name: str, site: str) -> None:
    model = testing.tiny.__wrapped__(name)
    model.network.double()
    batch = batch_of(model).take(torch.tensor([2]))
    entered = states.embed(model, batch, site).detach().requires_grad_()
    direction = torch.randn(entered.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for layer in range(1, states.depth(model) + 1):

        def scalar(at: torch.Tensor, layer: int = layer) -> torch.Tensor:
            return states.states(model, batch, at, site=site, upto=layer)[-1].tanh().sum()

        (gradient,) = torch.autograd.grad(scalar(entered), entered)
        with torch.no_grad():
            slope = (scalar(entered + 1e-8 * direction) - scalar(entered - 1e-8 * direction)) / 2e-8
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


@each_family
@pytest.mark.parametrize("site", states.SITES)
def test_rows_are_counted_once_however_deep(name: str, site: str) -> None:
    model = tiny(name)
    batch = batch_of(model)
    with model.metered(len(batch)) as meter:
        entered = states.embed(model, batch, site).requires_grad_()
        assert meter.forwards.tolist() == [0] * 6
        rows = torch.tensor([0, 0, 3])
        found = states.states(model, batch.take(rows), entered[rows], site=site)
        assert meter.forwards.tolist() == [2, 0, 0, 1, 0, 0]
        for state in found:
            torch.autograd.grad(state.sum(), entered, retain_graph=True)
        count = len(found)
        assert meter.backwards.tolist() == [2 * count, 0, 0, count, 0, 0]
        states.states(model, batch, upto=1)
        states.forward(model, batch, entered, site=site).logits.sum().backward()
    assert meter.forwards.tolist() == [4, 2, 2, 3, 2, 2]
    assert meter.backwards.tolist() == [2 * count + 1, 1, 1, count + 1, 1, 1]
    entered.sum().backward()
    assert meter.backwards.tolist() == [2 * count + 1, 1, 1, count + 1, 1, 1], "a hook stayed behind"


def test_a_failing_pass_leaves_no_hook() -> None:
    model = tiny("gpt2-mini")
    batch, before = batch_of(model), hooks_of(model)
    with pytest.raises(RuntimeError):
        states.states(model, batch, torch.zeros(1, 2, 3), site="h0")
    assert hooks_of(model) == before


def test_wrong_sites_and_layers_are_refused() -> None:
    model = tiny("bert-base-mini")
    batch = batch_of(model)
    with pytest.raises(ValueError, match="site='h1'; allowed: words, h0"):
        states.embed(model, batch, "h1")
    for layer in (0, 3):
        with pytest.raises(UserError, match=rf"layer {layer} of model 'bert-base-mini'; allowed: 1 to 2"):
            states.states(model, batch, upto=layer)


def test_an_unknown_architecture_is_refused() -> None:
    model = testing.tiny.__wrapped__("bert-base-mini")
    model.network.bert.encoder = torch.nn.Identity()
    with pytest.raises(
        UserError, match=r"\(BertForSequenceClassification\) keeps its blocks in none of: encoder.layer"
    ):
        states.depth(model)
