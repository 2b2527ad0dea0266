"""What a model and a data set allow: how many re-explanations of a kind there are, or why there are none."""

import numpy as np
import pytest
from replicatoys import planned, write_suite

from attrlab.bench import alterations, checkpoint, command, data, estimate, plan, replicas, suite, supplies, testing
from attrlab.bench.errors import UserError
from attrlab.bench.facts import MethodFacts


def test_altered_models_are_counted_without_their_weights(model, tmp_path):
    found = checkpoint.find(str(model))
    loaded, outline = checkpoint.load(found), checkpoint.outline("any", found)
    assert {weight.device.type for weight in outline.network.parameters()} == {"meta"}
    untrained = checkpoint.outline("bert-base-mini", None)
    for kind in replicas.ALTERED:
        assert alterations.count(kind, outline) == alterations.count(kind, loaded) == alterations.count(kind, untrained)


def test_a_dry_run_counts_the_explanations_of_a_mini_that_is_not_trained(tmp_path):
    chosen = suite.override(
        suite.load(str(write_suite(tmp_path, ["layers", "noise", "paraphrase"]))), models=["opt-350m-mini"]
    )
    ready = plan.make(chosen, None, lambda _name, _dataset: None)
    (block,), layers = ready.blocks, testing.tiny("opt-350m-mini").network.config.num_hidden_layers
    counts = [estimate._explanations(ready, block, method) for method in ready.methods]
    # Four examples, three of them again: L + 2 depths and two paraphrases; two noised inputs reach one method only.
    assert counts == [4 + 3 * (layers + 4), 4 + 3 * (layers + 6), 4 + 3 * (layers + 4)]


def test_noise_does_not_reach_methods_that_read_ids():
    reads_ids, reads_embeddings = MethodFacts(where=""), MethodFacts(where="", needs=("embeddings",))
    for kind in replicas.KINDS:
        assert replicas.obstacle(kind, reads_embeddings) is None
        assert (replicas.obstacle(kind, reads_ids) is None) == (kind not in ("noise", "radii"))


def test_a_kind_that_does_not_exist_is_refused(model, tmp_path):
    with pytest.raises(UserError, match=r"unknown kind of re-explanations of metric .*Did you mean 'typo'"):
        planned(write_suite(tmp_path, ["typos"]), model)


def test_models_on_permuted_labels_are_had_where_minis_are_trained(model, tmp_path):
    asked, path = [], write_suite(tmp_path, ["labels"])
    chosen = suite.override(suite.load(str(path)), models=["bert-base-mini"])
    (block,) = plan.make(chosen, None, lambda name, dataset: asked.append((name, dataset.name))).blocks
    assert asked == [(name, "lexicon:test") for name in ("bert-base-mini", "bert-base-mini" + supplies.PERMUTED)]
    assert not block.lacks
    ready = planned(path, model)
    skips = {ready.skip(ready.blocks[0], method, column) for method in ready.methods for column in ready.columns}
    assert skips == {"only minis are trained on permuted labels"}


def test_a_mini_on_permuted_labels_learns_from_the_same_texts(monkeypatch):
    asked = []
    monkeypatch.setattr(command.trainer, "mini", lambda name, train, dataset, _progress: asked.append((name, train)))
    dataset = data.load("lexicon")
    for name in ("gpt2-mini", "gpt2-mini" + supplies.PERMUTED):
        command.trained(name, dataset, None)
    (plain, ours), (permuted, theirs) = asked
    assert plain == permuted == "gpt2-mini"
    assert [one.texts for one in ours.examples] == [one.texts for one in theirs.examples]
    labels = [[one.label for one in part.examples] for part in (ours, theirs)]
    assert sorted(labels[0]) == sorted(labels[1])
    assert 0.4 < np.mean(np.array(labels[0]) == np.array(labels[1])) < 0.6


def test_without_a_training_part_only_paraphrases_are_left_out(model, tmp_path, monkeypatch):
    folder = tmp_path / "data" / "sst2"
    folder.mkdir(parents=True)
    (folder / "dev.tsv").write_text("sentence\tlabel\na good film\t1\na dull film\t0\n")
    chosen = suite.override(
        suite.load(str(write_suite(tmp_path, ["paraphrase", "typo"]))),
        models=[str(model)],
        datasets=["sst2"],
        filler="masked-mini",
    )
    monkeypatch.setattr(plan, "training_part", lambda _dataset, _data_dir: None)
    ready = plan.make(chosen, tmp_path / "data", lambda _name, _dataset: None)
    (block,) = ready.blocks
    assert block.reason is None
    assert block.lacks == {"paraphrase": "the data set has no training part to train the filler of words on"}
