"""Parity of token distribution dynamics with its definition, every beginning and end of a text run by itself (P14)."""

import numpy as np
import pytest
import torch
from otherheads import DECODERS, LANGUAGE, batch_of, continuations, network, prompt
from tokenbatch import attribute, collate, encode

from attrlab.bench.batch import Targets
from attrlab.bench.testing import TEXTS, tiny
from attrlab.methods.tdd import TddBackward, TddBidirectional, TddForward

TINY = pytest.mark.parametrize("mini", DECODERS)


def classifier(mini):
    """A tiny classifier of its own in float64, with weights large enough that every word counts."""
    model = tiny.__wrapped__(mini, classes=3)
    for parameter in model.network.double().parameters():
        parameter.mul_(4.0)
    return model


def of_classes(model, ids):
    """p(1) minus the mean of the others, by transformers alone (it reads the last token that is no padding)."""
    model.network.config.pad_token_id = -1
    with torch.no_grad():
        shares = model.network(input_ids=torch.tensor([ids])).logits[0].softmax(0).tolist()
    return shares[1] - (shares[0] + shares[2]) / 2


def of_words(model, ids, chosen, full):
    with torch.no_grad():
        logits = model.network(input_ids=torch.tensor([ids])).logits[0, -1]
    if full:
        shares = logits.softmax(0)[chosen].tolist()
        return shares[0] - sum(shares[1:])
    shares = logits[chosen].softmax(0).tolist()
    return shares[0] - sum(shares[1:]) / (len(shares) - 1)


def check(parity, found, texts, relevance, kind):
    """Compares the scores of both directions with the relevances of all beginnings and ends of every text."""
    beginnings, ends, means = (one.scores for one in found)
    for row, ids in enumerate(texts):
        n = len(ids)
        upto = np.array([relevance(ids[: i + 1]) for i in range(n)])
        since = np.array([relevance(ids[i:]) for i in range(n)])
        mine, back, both = (scores[row, :n].numpy() for scores in (beginnings, ends, means))
        assert n == 1 or min(np.ptp(upto), np.ptp(since)) > 1e-5
        telescoped = max(abs(scores.sum() - upto[-1]) for scores in (mine, back, both))
        parity("P14", "tdd_bidirectional", f"telescoping to the relevance of the text, {kind}", telescoped, 1e-10)
        prefix = np.abs(np.cumsum(mine) - upto).max()
        parity("P14", "tdd_forward", f"every beginning run by itself, {kind}", prefix, 1e-10)
        suffix = np.abs(back - (since - np.append(since[1:], 0))).max()
        parity("P14", "tdd_backward", f"every end run by itself, {kind}", suffix, 1e-10)
        assert both == pytest.approx((mine + back) / 2, abs=1e-15)
        for scores in (beginnings, ends):
            assert not scores[row, n:].any()


@TINY
def test_classifiers(mini, parity):
    model = classifier(mini)
    coded = encode(model, TEXTS)
    batch = collate(model, coded)
    found = [attribute(kind(), model, batch) for kind in (TddForward, TddBackward, TddBidirectional)]
    check(parity, found, [one.ids.tolist() for one in coded], lambda ids: of_classes(model, ids), "classifiers")


@TINY
@pytest.mark.parametrize("full", [False, True])
def test_language_models(mini, full, parity):
    model = continuations(mini)
    told, *foils = said = (" the film", " was long", " not bad")  # of which only the first tokens are compared
    coded = [model.encode(prompt(text, told, tuple(foils), str(index))) for index, text in enumerate(TEXTS)]
    batch = batch_of(model, coded)
    targets = Targets(classes=torch.zeros(len(batch), dtype=torch.int64))
    found = [
        kind(full=full).attribute(model, batch, targets, []) for kind in (TddForward, TddBackward, TddBidirectional)
    ]
    first = [model.tokenizer(one, add_special_tokens=False)["input_ids"][0] for one in said]
    inside = [one.ids[one.segments == 0].tolist() for one in coded]
    kind = "language models, " + ("full" if full else "pairwise")
    check(parity, found, inside, lambda ids: of_words(model, ids, first, full), kind)


def test_states_are_those_the_head_reads():
    """OPT-350M's head reads states after the projection down, narrower than those of its blocks."""
    model = continuations("opt-350m-mini")
    plain = network("opt-350m-mini", LANGUAGE)
    batch = batch_of(model, [model.encode(prompt(TEXTS[0]))])
    states = model.backbone(batch).last_hidden_state
    assert states.shape[-1] < plain.config.hidden_size
    torch.testing.assert_close(model.head(states), plain(input_ids=batch.ids).logits, rtol=0, atol=1e-10)
