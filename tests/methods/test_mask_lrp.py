"""Mask-LRP and the heads it lets relevance through: counted by brute force, planted, and what they drop."""

import functools
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_parity_relevance import without_biases
from test_relevance import precise
from tokenbatch import MINIS, attribute, collate, encode, same_scores

from attrlab.bench import generator
from attrlab.bench.attending import Record, attending
from attrlab.bench.batch import Targets
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.inputs import Example
from attrlab.bench.parses import Node, Parse
from attrlab.bench.testing import TEXTS, tiny
from attrlab.bench.zoo import BY_MINI
from attrlab.methods import heads
from attrlab.methods.heads import RELATIONS, count_heads, head_counts
from attrlab.methods.mask_lrp import MaskLRP, masked_relevance, masked_rollout
from attrlab.methods.relevance import ConservativeLRP, relevance
from attrlab.methods.relevance_rules import HeadRule, propagating

FAMILIES = pytest.mark.parametrize("mini", MINIS)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTRLAB_CACHE", str(tmp_path))
    return tmp_path / "heads"


def corpus(model, size=24, task="lexicon"):
    return [model.encode(example) for example in getattr(generator, task)("dev")[:size]]


def shape(model):
    config = model.network.config
    return config.num_hidden_layers, config.num_attention_heads


def targets(batch):
    return Targets(classes=torch.ones(len(batch), dtype=torch.int64))


def with_peaks(monkeypatch, peaks):
    """Lets heads look where they are told: ``peaks`` is one (L, H, n) array per text."""
    monkeypatch.setattr(heads, "_peaks", lambda _model, _corpus: iter(peaks))


def word_of(encoded, token):
    """(text, start) of the word that holds a token, by the text; None for special tokens."""
    unit = encoded.units[token]
    return None if unit < 0 else tuple(encoded.words[unit][:2])


def arcs_by_hand(encoded):
    """(relation, dependent's word, head's word), words as (text, start), from the text alone."""
    for number, (text, parse) in enumerate(zip(encoded.example.texts, encoded.example.parses, strict=True)):
        for node in parse.nodes if parse else ():
            starts = [
                (number, max((text[:at].rfind(" ") + 1), 0))
                for at in (node.start, parse.nodes[node.head].start if node.head >= 0 else node.start)
            ]
            if node.relation.split(":")[0] in RELATIONS and starts[0] != starts[1]:
                yield node.relation.split(":")[0], *starts


@pytest.mark.parametrize("unit", ["word", "token"])
@pytest.mark.parametrize("task", ["lexicon", "shortcut", "pairs"])
@FAMILIES
def test_counts_equal_those_of_plain_loops(monkeypatch, mini, task, unit):
    model, rng = tiny(mini), np.random.default_rng(7)
    texts = [model.encode(example, unit) for example in getattr(generator, task)("dev")[:8]]
    layers, width = shape(model)
    peaks = [rng.integers(0, len(one.ids), (layers, width, len(one.ids))) for one in texts]
    with_peaks(monkeypatch, peaks)
    counts = count_heads(model, texts)
    looks, hits, offsets = Counter(), Counter(), defaultdict(Counter)
    for one, peak in zip(texts, peaks, strict=True):
        names = {(word.text, word.start): place for place, word in enumerate(sorted(set(one.words)))}
        assert len(names) == sum(len(text.split()) for text in one.example.texts)
        first = {}
        for token in range(len(one.ids)):
            first.setdefault(word_of(one, token), token)
            for place in np.ndindex(layers, width):
                if not one.special[token]:
                    looks[*place, int(peak[*place, token] - token)] += 1
        for relation, dependent, head in arcs_by_hand(one):
            offsets[relation][names[head] - names[dependent]] += 1
            for place in np.ndindex(layers, width):
                hits[0, relation, *place] += word_of(one, peak[*place, first[dependent]]) == head
                hits[1, relation, *place] += word_of(one, peak[*place, first[head]]) == dependent
    middle = counts.looks.shape[-1] // 2
    for (*place, offset), times in np.ndenumerate(counts.looks):
        assert times == looks[*place, offset - middle]
    for (way, relation, *place), times in np.ndenumerate(counts.hits):
        assert times == hits[way, RELATIONS[relation], *place]
    assert counts.arcs.tolist() == [sum(offsets[name].values()) for name in RELATIONS]
    assert counts.guessed.tolist() == [max(offsets[name].values(), default=0) for name in RELATIONS]
    assert counts.arcs.sum() > 5
    assert counts.parsed == 1


@pytest.mark.parametrize("mini", BY_MINI)
def test_peaks_are_those_of_the_attention_transformers_returns(mini):
    model = tiny.__wrapped__(mini, sharpness=10.0)
    texts = corpus(model, 3)
    ours = list(heads._peaks(model, texts))
    model.network.set_attn_implementation("eager")
    for one, peaks in zip(texts, ours, strict=True):
        inputs = {"input_ids": torch.from_numpy(one.ids)[None], "output_attentions": True}
        theirs = model.network.base_model(**inputs).attentions
        np.testing.assert_array_equal(peaks, torch.cat(theirs).argmax(-1).numpy())


def planted(model, texts, offset=None, relation=None):
    """Peaks that say nothing, but for head (0, 1): it looks at an offset, or from dependents at their heads."""
    rng = np.random.default_rng(3)
    for one in texts:
        n = len(one.ids)
        peaks = rng.integers(0, n, (*shape(model), n))
        if offset is not None:
            peaks[0, 1] = np.clip(np.arange(n) + offset, 0, n - 1)
        for name, dependent, head in arcs_by_hand(one) if relation else ():
            if name == relation:
                places = [[word_of(one, token) == word for token in range(n)].index(True) for word in (dependent, head)]
                peaks[0, 1, places[0]] = places[1]
        yield peaks


@pytest.mark.parametrize("offset", [-1, 0, 1])
@FAMILIES
def test_a_diagonal_head_is_positional(monkeypatch, mini, offset):
    model = tiny(mini)
    texts = corpus(model)
    with_peaks(monkeypatch, list(planted(model, texts, offset=offset)))
    counts = count_heads(model, texts)
    assert counts.positional().nonzero().tolist() == [[0, 1]]
    assert counts.positional(own=False).nonzero().tolist() == ([[0, 1]] if offset else [])
    assert counts.positional(1.0).sum() == 0


@pytest.mark.parametrize("relation", ["nsubj", "obj"])
@FAMILIES
def test_a_head_that_follows_a_relation_is_syntactic(monkeypatch, mini, relation):
    model = tiny(mini)
    texts = corpus(model, 64)
    with_peaks(monkeypatch, list(planted(model, texts, relation=relation)))
    counts = count_heads(model, texts)
    assert counts.syntactic().nonzero().tolist() == [[0, 1]]
    lead = 1 - counts.guessed / counts.arcs
    assert counts.syntactic(float(lead[RELATIONS.index(relation)])).sum() == 0
    backwards = [np.zeros_like(peaks) for peaks in planted(model, texts)]
    for one, peaks in zip(texts, backwards, strict=True):
        for name, dependent, head in arcs_by_hand(one):
            if name == relation:
                names = [word_of(one, token) for token in range(len(one.ids))]
                peaks[1, 0, names.index(head)] = names.index(dependent)
    with_peaks(monkeypatch, backwards)
    counts = count_heads(model, texts)
    assert counts.syntactic().sum() == 0
    assert counts.syntactic(both=True).nonzero().tolist() == [[1, 0]]


def test_repeated_words_are_told_apart_by_their_place():
    """Two equal words with one subject each, and a word that the parser cuts in two."""
    model = tiny()
    nodes = [(0, 3, 1, "amod"), (4, 8, -1, "root"), (9, 12, 3, "amod"), (13, 17, 1, "conj"), (17, 20, 3, "advmod")]
    parse = Parse(tuple(Node(*node) for node in nodes))
    one = model.encode(Example(id="0", texts=("bad film bad filmn't",), label=None, parses=(parse,)))
    assert [(arc.dependent, arc.head) for arc in heads._arcs(one)] == [(0, 1), (2, 3)]


def test_counts_are_kept_by_weights_texts_and_parses(monkeypatch, own_folder):
    model = tiny.__wrapped__()
    model.calibration = corpus(model)
    first = head_counts(model)
    assert head_counts(model) is first
    assert len(list(own_folder.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(heads, "count_heads", None)
        again = tiny.__wrapped__()
        again.calibration = corpus(again)
        stored = head_counts(again)
    for name in ("looks", "hits", "arcs", "guessed", "parsed"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(first, name))
    again.calibration = [
        again.encode(Example(id="0", texts=one.example.texts, label=None)) for one in again.calibration
    ]
    assert head_counts(again).parsed == 0
    other = tiny.__wrapped__(seed=1)
    other.calibration = model.calibration
    assert head_counts(other) is not first
    assert len(list(own_folder.iterdir())) == 3


def ones(model, batch):
    return torch.ones(len(batch), *shape(model), dtype=torch.float64)


@FAMILIES
def test_with_every_head_nothing_is_masked(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS))
    every = ones(model, batch)
    unmasked = relevance(model, batch, targets(batch), HeadRule(split=False)).layers[0]
    assert torch.equal(masked_relevance(model, batch, targets(batch), every).scores, unmasked)
    of_the_method = attribute(ConservativeLRP(), model, batch).scores  # in a batch of another shape
    assert same_scores(unmasked, of_the_method, batch.mask.bool(), 1e-10)
    free = relevance(model, batch, targets(batch), HeadRule(split=True)).layers
    assert torch.equal(relevance(model, batch, targets(batch), HeadRule(split=True, heads=every)).layers, free)


@pytest.mark.parametrize("mini", BY_MINI)
def test_without_any_head_all_relevance_stays_where_it_is_read(mini):
    model = without_biases(mini)
    batch = collate(model, encode(model, TEXTS))
    scores, stats = masked_relevance(model, batch, targets(batch), 0 * ones(model, batch))
    rows = torch.arange(len(batch))
    assert bool((scores[rows, model.pool(batch)] != 0).all())
    scores[rows, model.pool(batch)] = 0
    assert not scores.any()
    assert all(abs(row["conservation_gap"]) > 1e-9 for row in stats)


class Watched(HeadRule):
    """Keeps what every head puts out."""

    def context(self, layer, context):
        self.kept = [*getattr(self, "kept", []), context]
        return context


@FAMILIES
def test_without_biases_what_is_missing_is_what_the_heads_dropped(mini):
    model = without_biases(mini)
    batch = collate(model, encode(model, TEXTS))
    mask = torch.from_numpy(np.random.default_rng(0).integers(0, 2, ones(model, batch).shape)).double()
    rule = Watched(split=False, heads=mask)
    inputs = model.embed(batch).requires_grad_()
    with propagating(model, rule):
        explained = targets(batch).of(model.forward(batch, inputs).logits, batch)
    gradients = torch.autograd.grad(explained.sum(), rule.kept)
    entering = torch.stack(
        [(context * gradient).sum((2, 3)) for context, gradient in zip(rule.kept, gradients, strict=True)], 1
    ).detach()
    dropped = ((1 - mask) * entering).sum((1, 2))
    scores = masked_relevance(model, batch, targets(batch), mask).scores
    torch.testing.assert_close(scores.sum(1), explained.detach() - dropped, rtol=1e-9, atol=1e-12)
    assert float(dropped.abs().max()) > 1e-3


def rollout_by_hand(model, batch, mask):
    """The read-out in NumPy, from plain attention gradients and relevances that ``bench.attending`` alone gives."""
    record, rule = Record(), HeadRule(split=True, heads=mask)
    found = []
    for context, kept in ((attending(model, record), record.layers), (propagating(model, rule), rule.probabilities)):
        with context:
            logits = model.forward(batch, model.embed(batch).detach().requires_grad_()).logits
        gradients = torch.autograd.grad(logits.diff(dim=1).sum(), kept)
        found.append([(weights.detach().numpy(), one.numpy()) for weights, one in zip(kept, gradients, strict=True)])
    rows = []
    for row, position in enumerate(model.pool(batch).tolist()):
        product = np.eye(batch.ids.shape[1])
        for (weights, plain), (_, ruled) in zip(*found, strict=True):
            change = np.maximum(plain[row] * (0.5 * weights[row] * ruled[row]), 0).mean(0) + np.eye(len(product))
            product = np.diag(1 / change.sum(1)) @ change @ product
        rows.append(product[position])
    return np.array(rows)


@FAMILIES
def test_the_rollout_equals_a_dense_one(mini, parity):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS))
    mask = torch.from_numpy(np.random.default_rng(1).integers(0, 2, ones(model, batch).shape)).double()
    ours = masked_rollout(model, batch, targets(batch), mask)
    parity(
        "P18", "mask_lrp", "matrix product in NumPy", np.abs(ours - rollout_by_hand(model, batch, mask)).max(), 1e-10
    )
    torch.testing.assert_close(ours.sum(1), torch.ones(len(batch), dtype=torch.float64))
    assert float(ours.min()) >= 0
    assert not torch.equal(ours, masked_rollout(model, batch, targets(batch), ones(model, batch)))


@FAMILIES
def test_a_mask_acts_on_the_layers_below_alone(mini):
    model = precise(mini)
    batch = collate(model, encode(model, TEXTS[:3]))
    layers = shape(model)[0]

    def at_layers(mask):
        rule = HeadRule(split=True, heads=mask)
        with propagating(model, rule):
            logits = model.forward(batch, model.embed(batch).detach().requires_grad_()).logits
        return torch.autograd.grad(logits[:, 1].sum(), rule.probabilities)

    free = at_layers(ones(model, batch))
    for layer in range(layers):
        mask = ones(model, batch)
        mask[:, layer] = 0
        changed = [not torch.equal(one, other) for one, other in zip(at_layers(mask), free, strict=True)]
        assert changed == [below < layer for below in range(layers)]


@functools.cache
def chooser(mini, parsed=True):
    """A model whose heads (0, 0) and (1, 0) count as positional and (0, 1) as syntactic, by what is counted."""
    model = tiny.__wrapped__(mini, sharpness=10.0)
    examples = generator.lexicon("dev")[:64]
    if not parsed:
        examples = [Example(id=one.id, texts=one.texts, label=one.label) for one in examples]
    model.calibration = [model.encode(example) for example in examples]
    with pytest.MonkeyPatch.context() as patch:
        told = []
        parsed_texts = corpus(model, 64)
        for peaks in planted(model, parsed_texts, relation="nsubj"):
            n = peaks.shape[-1]
            peaks[0, 0] = np.clip(np.arange(n) - 1, 0, n - 1)
            peaks[1, 0] = np.arange(n)
            told.append(peaks)
        with_peaks(patch, told)
        patch.setattr(heads, "_stored", lambda model: count_heads(model, model.calibration))
        head_counts(model)
    return model


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, 3),
        ({"heads": "synt"}, 1),
        ({"heads": "pos"}, 2),
        ({"heads": "pos", "own_position": False}, 1),
        ({"heads": "random"}, 3),
        ({"heads": "synt", "xi_synt": 1.0}, 0),
        ({"heads": "pos", "xi_pos": 1.0}, 0),
        ({"heads": "pos", "xi_pos": 1.0, "corruption": 1.0}, None),
        ({"corruption": 0.5}, None),
    ],
)
@pytest.mark.parametrize("readout", ["rollout", "h0"])
def test_which_heads_let_relevance_pass(options, kept, readout):
    model = chooser("opt-350m-mini")
    batch = collate(model, encode(model, TEXTS))
    total = int(np.prod(shape(model)))
    if kept is None:
        kept = {1.0: total, 0.5: 3 + int((total - 3) * 0.5 + 0.5)}[options["corruption"]]
    if kept == 0 and readout == "h0":
        with pytest.raises(NotApplicableError, match="no head"):
            attribute(MaskLRP(readout=readout, **options), model, batch)
        return
    stats = attribute(MaskLRP(readout=readout, **options), model, batch).stats
    assert {row["kept"] for row in stats} == {kept}
    assert {row["syntactic_heads"] for row in stats} == {float(options.get("xi_synt", 0) < 1)}
    assert {row["parsed"] for row in stats} == {1.0}


@FAMILIES
def test_every_option_gives_other_scores_and_the_seed_those_of_random_ones(mini):
    model = chooser(mini)
    batch = collate(model, encode(model, TEXTS))
    found = [attribute(MaskLRP(readout="h0", heads=name), model, batch).scores for name in ("important", "synt", "pos")]
    assert all(not torch.equal(one, other) for i, one in enumerate(found) for other in found[:i])
    fixed, drawn = MaskLRP(readout="h0"), MaskLRP(readout="h0", heads="random", corruption=0.3)
    for method, same in ((fixed, True), (drawn, False)):
        first = attribute(method, model, batch).scores
        assert torch.equal(first, attribute(method, model, batch).scores)
        assert torch.equal(first, attribute(method, model, batch, first=100).scores) == same


@FAMILIES
def test_without_parses_only_positional_heads_are_told(mini):
    model = chooser(mini, parsed=False)
    stats = attribute(MaskLRP(), model, collate(model, encode(model, TEXTS[:1]))).stats[0]
    assert stats == {"positional_heads": 2.0, "syntactic_heads": 0.0, "kept": 2.0, "parsed": 0.0}


@pytest.mark.parametrize(("readout", "passes"), [("rollout", 2), ("h0", 1)])
@FAMILIES
def test_cost_company_and_padding(mini, readout, passes):
    model, method = chooser(mini), MaskLRP(readout=readout)
    encoded = encode(model, TEXTS)
    with model.metered(len(encoded)) as meter:
        together = attribute(method, model, collate(model, encoded, 40)).scores
    assert meter.forwards.tolist() == meter.backwards.tolist() == [passes] * len(encoded)
    for row, one in enumerate(encoded):
        batch = collate(model, [one])
        alone = attribute(method, model, batch).scores
        assert same_scores(together[row : row + 1, : len(one.ids)], alone, batch.scorable, 1e-4)


@pytest.mark.parametrize("readout", ["rollout", "h0"])
@FAMILIES
def test_noised_inputs_are_what_is_explained(mini, readout):
    model, method = chooser(mini), MaskLRP(readout=readout)
    batch = collate(model, encode(model, TEXTS[:2]))
    ids = batch.ids.clone()
    ids[batch.scorable] = batch.ids[batch.scorable].flip(0)
    moved = replace(batch, offset=model.embedding[ids] - model.embedding[batch.ids])
    moved, real, plain = (attribute(method, model, one).scores for one in (moved, replace(batch, ids=ids), batch))
    assert same_scores(moved, real, batch.scorable, 1e-4)
    assert not same_scores(moved, plain, batch.scorable, 1e-2)


def test_counting_is_charged_to_nobody():
    model = tiny.__wrapped__()
    model.calibration = corpus(model)
    with model.metered(2) as meter:
        attribute(MaskLRP(), model, collate(model, encode(model, TEXTS[:2])))
    assert meter.forwards.tolist() == [2, 2]


def test_without_a_calibration_set_it_does_not_apply():
    model = tiny.__wrapped__()
    batch = collate(model, encode(model, TEXTS[:1]))
    with pytest.raises(NotApplicableError, match="calibration"):
        MaskLRP().attribute(model, batch, targets(batch), [np.random.default_rng(0)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": "words"}, "readout='words'; allowed: rollout, h0"),
        ({"heads": "all"}, "heads='all'; allowed: important, synt, pos, random"),
        ({"direction": "head"}, "direction='head'; allowed: dependent, both"),
        ({"corruption": 1.5}, "corruption=1.5; allowed: from 0 to 1"),
        ({"xi_pos": -1.0}, "xi_pos=-1.0; allowed: from 0 to 1"),
    ],
)
def test_values_that_are_not_allowed_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MaskLRP(**options)
