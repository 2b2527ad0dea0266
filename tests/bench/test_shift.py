"""The share of inputs off the distribution is that of a naive computation, and right where the answer is known."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from attrlab.bench import generator as texts
from attrlab.bench.batch import Output
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.removal import Unigram, remove, whole
from attrlab.bench.seeds import generator
from attrlab.bench.shift import SHARES, readouts, shift
from attrlab.bench.testing import FAMILIES, examples, tiny
from attrlab.metrics.erasure import BINS
from attrlab.metrics.ranking import count


@pytest.fixture(params=FAMILIES)
def setting(request):
    """A model, thirty training and twelve held-out texts."""
    model = deepcopy(tiny(request.param, sharpness=3.0))
    model.calibration = [model.encode(one) for one in texts.lexicon("train")[:30]]
    model.fillers["random"] = Unigram(model.calibration)
    return model, [model.encode(one) for one in texts.lexicon("dev")[:12]]


def readout(model, row):
    """The representation of one input that is the network's only, unpadded one."""
    with torch.inference_mode():
        return model.forward(model.collate([row])).readout[0].double().numpy()


def naive(model, encoded, reference, operator):
    known = np.stack([readout(model, whole(one)) for one in reference])
    search = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(known)

    def distance(row):
        return search.kneighbors(readout(model, row)[None])[0].mean()

    limit = np.percentile([distance(whole(one)) for one in encoded], 99)
    far = []
    for one in encoded:
        order = np.argsort(generator("shift", one.example.id).permutation(one.n_units))
        for share in SHARES:
            top = np.isin(np.arange(one.n_units), order[: count(share, one.n_units)])
            far += [distance(remove(model, one, keep, operator)) > limit for keep in (top, ~top) if not keep.all()]
    return np.mean(far)


def test_the_bins_are_those_of_the_erasure_metrics():
    assert SHARES == BINS


@pytest.mark.parametrize("operator", ["delete", "replace", "zero", "random"])
def test_the_share_is_that_of_one_input_after_the_other(setting, operator):
    model, held_out = setting
    found = shift(model, held_out, operator)
    assert found == pytest.approx(naive(model, held_out, model.calibration, operator), abs=1e-12)
    assert shift(model, held_out, operator, token_budget=64) == found
    assert shift(model, held_out, operator, reference=model.calibration) == found


class Counting(TextModel):
    """Represents an input by the number of replacement tokens above three: texts are all alike."""

    def forward(self, batch, embeds=None):
        assert embeds is None
        above = ((batch.ids == self.replace_id).sum(1) - 3).clamp(min=0)
        return Output(torch.zeros(len(batch), 2), above[:, None].float())


def test_where_it_is_known_which_inputs_are_unlike_any_text_these_are_counted():
    other = tiny()
    model = Counting(other.network, other.tokenizer, other.name)
    model.calibration = [model.encode(one) for one in texts.lexicon("train")[:12]]
    held_out = [model.encode(one, "token") for one in texts.lexicon("dev")[:12]]
    sizes = [(count(share, one.n_units), one.n_units) for one in held_out for share in SHARES]
    removed = [gone for k, m in sizes for gone in (k, m - k)]
    assert shift(model, held_out, "replace") == pytest.approx(np.mean([gone > 3 for gone in removed if gone]))
    assert shift(model, held_out, "unk") == 0


def test_an_example_among_the_training_texts_is_not_its_own_neighbour(setting):
    model, held_out = setting
    again = [model.encode(Example(id="again", texts=one.example.texts, label=0)) for one in held_out]
    alone = shift(model, held_out, "delete")
    assert shift(model, held_out, "delete", reference=[*again, *model.calibration]) == alone
    with pytest.raises(UserError, match="9 reference inputs besides the examples; distances need 10 or more"):
        shift(model, held_out, "delete", reference=[*again, *model.calibration[:9]])


def test_without_words_there_is_nothing_to_remove(setting):
    model, _ = setting
    assert math.isnan(shift(model, [model.encode(Example(id="e", texts=("",), label=0))], "delete"))


def test_representations_come_back_in_order_whatever_the_lengths(setting):
    model, held_out = setting
    rows = [whole(model.encode(one)) for one in examples()] + [whole(one) for one in held_out]
    expected = np.stack([readout(model, row) for row in rows])
    assert len({len(row.ids) for row in rows}) > 4
    for budget in (1, 100, 4096):
        np.testing.assert_allclose(readouts(model, rows, budget), expected, rtol=1e-4, atol=1e-5)
