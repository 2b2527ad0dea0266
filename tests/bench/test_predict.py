"""Which class is explained, and that everything downstream explains that one."""

import json

import numpy as np
import pytest

from attrlab.bench.errors import UserError
from attrlab.bench.predict import explained_class

LOGITS = np.array([0.5, -1.0, 2.0])


def test_the_class_that_is_explained():
    assert explained_class("predicted", LOGITS, 0) == 2
    assert explained_class("gold", LOGITS, 0) == 0
    assert explained_class("gold", LOGITS, None) is None
    assert explained_class("fixed:1", LOGITS, 0) == 1
    with pytest.raises(UserError, match=r"fixed:3.*classes 0 to 2"):
        explained_class("fixed:3", LOGITS, 0)


SUITE = """
models = ["{model}"]
datasets = ["lexicon"]
methods = ["leave_one_out", "input_x_gradient"]
metrics = ["comprehensiveness"]
limit = 8

[explain]
target = "{target}"
"""


def rows(folder, kind):
    return [row for path in sorted((folder / kind).glob("*.json")) for row in json.loads(path.read_text())["rows"]]


def test_a_run_explains_the_class_it_is_told_to(attrlab, tmp_path):
    found = {}
    for target in ("fixed:0", "fixed:1", "gold"):
        path = tmp_path / f"{target.replace(':', '')}.toml"
        path.write_text(SUITE.format(target=target, model=attrlab.model))
        found[target] = tmp_path / path.stem
        assert attrlab("run", path, "--workers", 1, "--out", found[target]).code == 0
    predictions = {target: rows(folder, "predictions") for target, folder in found.items()}
    assert {row["target"] for row in predictions["fixed:0"]} == {0}
    assert all(row["target"] == row["label"] for row in predictions["gold"])
    zero, one = (rows(found[f"fixed:{target}"], "attributions") for target in (0, 1))
    assert len(zero) == len(one) == 16
    for a, b in zip(zero, one, strict=True):  # of two classes, what speaks for one speaks against the other
        np.testing.assert_allclose(a["scores"], -np.array(b["scores"]), rtol=1e-4, atol=1e-6)


def test_a_target_that_is_none_is_refused(attrlab, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(SUITE.format(target="fixed", model=attrlab.model))
    assert "explain.target" in attrlab("run", path, "--out", "o").message
