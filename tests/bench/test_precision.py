"""Answers in bfloat16: near those in float32, given to questions alone; what they change is shown and kept apart."""

import numpy as np
import pytest
import torch

from attrlab.bench.engine import Engine, Job
from attrlab.bench.inputs import Example
from attrlab.bench.precision import answering
from attrlab.bench.removal import whole
from attrlab.bench.testing import TEXTS, tiny
from attrlab.bench.types import Ask
from attrlab.leaderboard import read
from attrlab.leaderboard.precision import effects

MINIS = ("bert-base-mini", "gpt2-mini", "opt-125m-mini", "opt-350m-mini")


def logits(engine, operator):
    """Class logits of every example with each word removed."""

    def ask(encoded):
        return (yield Ask(keep=~np.eye(encoded.n_units, dtype=bool)))

    jobs = [Job(slot=slot, asker=ask(one), operator=operator) for slot, one in enumerate(engine.encoded)]
    engine.run(jobs)
    assert [job.error for job in jobs] == [None] * len(jobs)
    return np.concatenate([job.result for job in jobs])


@pytest.mark.parametrize("operator", ["delete", "replace", "mean"])
@pytest.mark.parametrize("mini", MINIS)
def test_bfloat16_is_near_float32_and_not_the_same(mini, operator):
    model = tiny(mini)
    encoded = [model.encode(Example(id=str(i), texts=(text,), label=None)) for i, text in enumerate(TEXTS[:4])]
    model.calibration = encoded
    exact = logits(Engine(model, encoded), operator)
    other = answering(model, "bfloat16")
    found = logits(Engine(model, encoded, answering=other), operator)
    assert 0 < np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
    np.testing.assert_array_equal(logits(Engine(model, encoded), operator), exact)  # the model is as it was


def test_the_copy_leaves_the_model_alone():
    model = tiny("bert-base-mini")
    other = answering(model, "bfloat16")
    batch = model.collate([whole(model.encode(Example(id="a", texts=(text,), label=None))) for text in TEXTS[:2]])
    with torch.inference_mode():
        ours, theirs = model.forward(batch), other.forward(batch)
    assert {weight.dtype for weight in model.network.parameters()} == {torch.float32}
    assert (ours.readout.dtype, theirs.readout.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(theirs.readout.float(), ours.readout, atol=0.05, rtol=0.05)
    assert answering(model, "float32") is model


METHODS = ("--method", "random", "--method", "saliency", "--method", "leave_one_out", "--metric", "comprehensiveness")


@pytest.fixture
def folders(attrlab, tmp_path):
    """Two runs that differ in precision alone."""
    assert attrlab.run("exact", *METHODS).code == 0
    assert attrlab.run("lower", *METHODS, "--precision", "bfloat16").code == 0
    return tmp_path / "lower", tmp_path / "exact"


def test_a_run_in_bfloat16_is_told_apart(attrlab, folders):
    new, old = folders
    names = [{path.name for path in folder.glob("*/*.json")} for folder in folders]
    shared = {path.name for path in old.glob("shifts/*.json")}
    assert names[0] & names[1] == shared  # keys tell the precision; shifts are float32 always
    assert "answers in bfloat16" in attrlab("table", new).out
    assert "answers in" not in attrlab("table", old).out
    assert "precision is 'bfloat16' in the new and 'float32' in the old" in attrlab("compare", new, old).message
    assert "Input should be 'float32' or 'bfloat16'" in attrlab.run("x", *METHODS, "--precision", "half").message


def test_effects_are_those_of_the_stored_scores(attrlab, folders):
    boards = [read(folder) for folder in folders]
    methods, metrics = effects(*boards)
    assert [(one.method, one.n, one.other) for one in methods] == [
        (name, 4, 0) for name in ("random", "saliency", "leave_one_out")
    ]
    random, saliency, loo = methods
    for one in (random, saliency):  # no questions asked
        assert (one.largest, one.mean_tau, one.least_tau) == (0, 1, 1)
    assert loo.largest > 0
    assert -1 <= loo.least_tau <= loo.mean_tau <= 1
    assert [one.column.operator for one in metrics] == ["delete", "replace"]
    for index, one in enumerate(metrics):
        cells = [[cell.scores[index].values for cell in board.cells] for board in boards]
        apart = np.abs(np.array(cells[0]) - np.array(cells[1]))
        assert one.n == 12
        assert one.largest == apart.max() > 0
        means = np.array(cells).mean(axis=2)
        assert one.mean == pytest.approx(np.abs(means[0] - means[1]).max(), abs=1e-15)
    called = attrlab("precision", *folders)
    assert called.code == 0
    assert "bfloat16 beside float32" in called.out
    assert called.out.count("comprehensiveness") == 2


def test_only_precision_may_differ(attrlab, folders):
    _, old = folders
    assert "both folders have precision 'float32'" in attrlab("precision", old, old).message
    assert attrlab.run("other", *METHODS, "--precision", "bfloat16", dataset="lexicon:dev").code == 0
    assert attrlab.run("seeded", *METHODS, "--precision", "bfloat16", "--seed", 1).code == 0
    assert "the seed is 1 in the new and 0 in the old" in attrlab("precision", "seeded", old).message
    assert "no model on a data set in common" in attrlab("precision", "other", old).message
