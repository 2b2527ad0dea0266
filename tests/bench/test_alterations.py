"""Altered models: rewrites keep the function, re-initialisation changes what it says it changes and nothing else."""

import re

import numpy as np
import pytest
import torch

from attrlab.bench import rewrites
from attrlab.bench.alterations import altered, count
from attrlab.bench.attending import Record, attending
from attrlab.bench.contract import _weights as digest
from attrlab.bench.errors import UserError
from attrlab.bench.removal import whole
from attrlab.bench.states import depth, states
from attrlab.bench.testing import examples, explain, tiny
from attrlab.bench.zoo import BY_MINI
from attrlab.methods.removal import LeaveOneOut

MINIS = ["bert-base-mini", "gpt2-mini", "opt-125m-mini", "opt-350m-mini"]
"""One of each architecture; OPT-350M puts LayerNorm after the sum and projects its embeddings."""
KINDS = ["rewrite", "layers", "layer", "redrawn", "constant"]
MATRICES = ["scaled values", "permuted units", "permuted heads", "duplicated head", "folded gains"]


def general(mini):
    """Returns a model in float64 with no weight at a special value: gains are not 1, biases not 0."""
    model = tiny.__wrapped__(mini, classes=3)
    model.network.double()
    for index, weight in enumerate(model.network.parameters()):
        drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        weight.copy_(0.5 + 0.3 * drawn if weight.ndim == 1 else 0.2 * drawn)
    return model


def batch_of(model):
    return model.collate([whole(model.encode(example)) for example in examples(pairs=True)])


def logits(model):
    with torch.no_grad():
        return model.forward(batch_of(model)).logits


def weights(model):
    return {name: weight.clone() for name, weight in model.network.state_dict().items()}


def changed(first, second):
    """Returns the names of the weights that differ, in shape or value."""
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


@pytest.mark.parametrize("mini", BY_MINI)
def test_rewrites_keep_the_logits(mini):
    model = general(mini)
    names = rewrites.rewrites(model.network)
    assert names == (*MATRICES, "other attention")
    assert count("rewrite", model) == len(names)
    plain = logits(model)
    assert plain.std(0).min() > 1e-3, "the logits depend on the input"
    for index, name in enumerate(names, 1):
        gap = (logits(altered(model, "rewrite", index)) - plain).abs().max()
        # transformers computes the softmax of OPT's plain attention in float32, whatever the precision
        single = name == "other attention" and mini.startswith("opt")
        assert gap < (1e-5 if single else 1e-10), name
        assert name != "scaled values" or gap == 0


@pytest.mark.parametrize("mini", MINIS)
def test_rewrites_change_the_weights_they_name(mini):
    model = general(mini)
    parts = {
        "bert": {
            "scaled values": r"self\.value\..*|output\.dense\.weight",
            "permuted units": r"intermediate\.dense\..*|output\.dense\.weight",
            "permuted heads": r"self\.(query|key|value)\..*|attention\.output\.dense\.weight",
        },
        "gpt2": {
            "scaled values": r"attn\.c_attn\..*|attn\.c_proj\.weight",
            "permuted units": r"mlp\.c_fc\..*|mlp\.c_proj\.weight",
            "permuted heads": r"attn\.c_attn\..*|attn\.c_proj\.weight",
        },
        "opt": {
            "scaled values": r"v_proj\..*|out_proj\.weight",
            "permuted units": r"fc1\..*|fc2\.weight",
            "permuted heads": r"(q|k|v)_proj\..*|out_proj\.weight",
        },
    }[BY_MINI[mini].family]
    parts["duplicated head"] = parts["permuted heads"]
    for index, name in enumerate(MATRICES[:4], 1):
        found = changed(model, altered(model, "rewrite", index))
        assert all(re.search(rf"\.\d+\.(\w+\.)*({parts[name]})$", weight) for weight in found), name
        assert {int(re.search(r"\.(\d+)\.", weight)[1]) for weight in found} == set(range(depth(model))), name


@pytest.mark.parametrize(("mini", "norms"), [("bert-base-mini", 1), ("gpt2-mini", 5), ("opt-125m-mini", 5)])
def test_folded_gains_become_one_where_only_matrices_read_the_norm(mini, norms):
    model = general(mini)
    folded = altered(model, "rewrite", 5)
    ones = [name for name, weight in weights(folded).items() if weight.ndim == 1 and (weight == 1).all()]
    assert len(ones) == norms  # BERT: the last one; the others: two in each of two blocks, and the last one
    assert all(re.search(r"norm|ln_", name, re.IGNORECASE) for name in ones)


def test_a_gain_of_zero_stays_where_it_is():
    model = general("gpt2-mini")
    model.network.transformer.ln_f.weight[3] = 0
    plain, folded = logits(model), altered(model, "rewrite", 5)
    assert (logits(folded) - plain).abs().max() < 1e-10
    assert folded.network.transformer.ln_f.weight[3] == 0


@pytest.mark.parametrize("mini", MINIS)
def test_heads_move_and_double(mini):
    model = general(mini)

    def attentions(kind_index):
        found = Record()
        kind = altered(model, "rewrite", kind_index) if kind_index else model
        with torch.no_grad(), attending(kind, found):
            kind.forward(batch_of(kind))
        return found.layers

    plain, moved, doubled = attentions(0), attentions(3), attentions(4)
    assert len(plain) == depth(model)
    for layer in range(depth(model)):
        assert torch.allclose(moved[layer], plain[layer].roll(1, 1), atol=1e-12)
        assert torch.allclose(doubled[layer], torch.cat([plain[layer], plain[layer][:, :1]], 1), atol=1e-12)
    config = altered(model, "rewrite", 4).network.config
    assert config.num_attention_heads == model.network.config.num_attention_heads + 1


def test_one_head_cannot_be_moved():
    model = general("bert-base-mini")
    model.network.config.num_attention_heads = 1
    assert "permuted heads" not in rewrites.rewrites(model.network)
    assert "duplicated head" in rewrites.rewrites(model.network)


@pytest.mark.parametrize("mini", MINIS)
def test_a_method_that_asks_answers_gets_the_same_from_every_rewrite(mini):
    model = tiny(mini, sharpness=10.0)
    plain = explain(LeaveOneOut(), model, examples())
    for index in range(1, count("rewrite", model) + 1):
        again = explain(LeaveOneOut(), altered(model, "rewrite", index), examples())
        for first, second in zip(plain, again, strict=True):
            assert np.abs(first.scores - second.scores).max() < 1e-4 * np.abs(first.scores).max() + 1e-5


@pytest.mark.parametrize("mini", MINIS)
def test_the_cascade_goes_from_the_head_to_the_embeddings(mini):
    model = general(mini)
    number = count("layers", model)
    assert number == count("layer", model) == depth(model) + 2
    cascade = [changed(model, altered(model, "layers", index)) for index in range(1, number + 1)]
    parts = [changed(model, altered(model, "layer", index)) for index in range(1, number + 1)]
    for index, found in enumerate(cascade):
        assert found == set().union(*parts[: index + 1])
    assert sum(len(part) for part in parts) == len(cascade[-1]), "no weight is in two parts"
    assert cascade[-1] == set(weights(model)), "in the end everything is drawn anew"
    head = {name for name in weights(model) if re.search(r"classifier|score|pooler|ln_f|project_out", name)}
    head |= {name for name in weights(model) if "decoder.final_layer_norm" in name}
    assert parts[0] == head
    for place, part in enumerate(parts[1:-1], 1):
        assert all(re.search(rf"\.{depth(model) - place}\.", name) for name in part)
    assert all(re.search(r"embed|wte|wpe|project_in", name) for name in parts[-1])


@pytest.mark.parametrize("mini", MINIS)
def test_states_change_from_the_block_that_is_drawn_anew(mini):
    model = general(mini)
    with torch.no_grad():
        plain = states(model, batch_of(model))
        for index in range(1, depth(model) + 2):
            again = states(kind := altered(model, "layers", index), batch_of(kind))
            same = [torch.equal(first, second) for first, second in zip(plain[:-1], again[:-1], strict=True)]
            assert same == [layer <= depth(model) + 1 - index for layer in range(1, depth(model))]


@pytest.mark.parametrize("mini", MINIS)
def test_new_weights_are_those_of_the_architectures_own_initialisation(mini):
    model = general(mini)
    drawn = weights(altered(model, "layers", count("layers", model)))
    own = weights(tiny(mini, classes=3))  # transformers drew these
    for name, weight in drawn.items():
        if weight.ndim == 1:
            assert torch.equal(weight, own[name].double()), "biases are 0, gains 1"
        else:
            assert float(weight.std()) == pytest.approx(float(own[name].std()), rel=0.35), name
            assert not torch.equal(weight, own[name].double())


@pytest.mark.parametrize("mini", MINIS)
def test_redrawn_models_share_no_drawn_weight(mini):
    model = general(mini)
    assert count("redrawn", model) == 2
    first, second = altered(model, "redrawn", 1), altered(model, "redrawn", 2)
    matrices = {name for name, weight in weights(model).items() if weight.ndim > 1}
    assert changed(first, second) == matrices
    assert changed(model, first) == changed(model, second) == set(weights(model))


@pytest.mark.parametrize("mini", MINIS)
def test_a_constant_model_answers_its_bias(mini):
    model = general(mini)
    constant = altered(model, "constant", 1)
    bias = getattr(constant.network, "classifier", None)
    expected = torch.zeros(3) if bias is None else bias.bias  # decoders have none
    assert torch.equal(logits(constant), expected.double().expand(len(examples()), -1))
    assert len(changed(model, constant)) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mini", ["bert-base-mini", "gpt2-mini", "opt-350m-mini"])
def test_a_copy_keeps_what_belongs_to_the_model_and_leaves_it_alone(mini, kind):
    model = general(mini)
    model.calibration = [model.encode(examples()[0])]
    model.fillers = {"random": lambda *_: []}
    before, random, plain = digest(model), torch.random.get_rng_state(), logits(model)
    config = model.network.config.to_dict()
    for index in range(1, count(kind, model) + 1):
        copy = altered(model, kind, index)
        assert type(copy) is type(model)
        assert (copy.name, copy.labels) == (model.name, model.labels)
        assert (copy.calibration, copy.fillers) == (model.calibration, model.fillers)
        assert not any(weight.requires_grad for weight in copy.network.parameters())
        assert not copy.network.training
        assert {weight.dtype for weight in copy.network.parameters()} == {torch.float64}
        assert digest(copy) == digest(altered(model, kind, index)), "the same again"
        theirs, ours = (one.network.state_dict().values() for one in (copy, model))
        assert not {one.data_ptr() for one in theirs} & {one.data_ptr() for one in ours}, "no shared memory"
    assert digest(model) == before
    assert model.network.config.to_dict() == config
    assert torch.equal(logits(model), plain)
    assert torch.equal(torch.random.get_rng_state(), random)


@pytest.mark.parametrize("index", [0, 3])
def test_there_is_no_such_alteration(index):
    with pytest.raises(UserError, match=f"'redrawn' {index} of model 'gpt2-mini'; allowed: 1 to 2"):
        altered(tiny("gpt2-mini"), "redrawn", index)


def test_there_is_no_such_kind():
    with pytest.raises(UserError, match="unknown kind of alteration 'layrs'"):
        count("layrs", tiny())
