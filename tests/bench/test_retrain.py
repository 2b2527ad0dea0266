"""Metrics that train, from the command line: stored training by training, resumed, the same each time."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cliruns import save_model

from attrlab.bench import data, learner, train
from attrlab.bench.inputs import Example
from attrlab.bench.plan import Block, Plan
from attrlab.bench.registry import METHODS as METHODS_KNOWN
from attrlab.bench.removal import whole
from attrlab.bench.session import Options
from attrlab.bench.sides import Quiet
from attrlab.bench.store import Store
from attrlab.bench.suite import Suite
from attrlab.bench.testing import TEXTS, tiny
from attrlab.bench.trials import Stays, Training
from attrlab.bench.zoo import BY_MINI

PLUGINS = Path(__file__).with_name("trainingplugins.py")
SMALL = "seeds=2,examples=40,steps=4,shares=20-60"
METRICS = [
    f"{PLUGINS}:Roar:{SMALL}",
    f"{PLUGINS}:RecursiveRoar:{SMALL}",
    f"{PLUGINS}:RoarLeak:{SMALL}",
    f"{PLUGINS}:Simulatability:seeds=2,examples=40,steps=4",
]
METHODS = ["random", "saliency"]


def options(methods=METHODS, metrics=METRICS):
    given = [part for name in methods for part in ("--method", name)]
    return given + [part for name in metrics for part in ("--metric", name)]


def stored(folder):
    """Modification time and inode of every training, explanation, study and score."""
    kinds = ("predictions", "attributions", "scores", "trainings", "studies")
    files = [path for kind in kinds for path in (folder / kind).glob("*.json")]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def rows(path):
    return json.loads(path.read_text("utf-8"))["rows"]


def test_a_run_trains_what_is_asked_once_and_resumes(attrlab, tmp_path):
    called = attrlab.run("out", *options())
    assert called.code == 0, called.err
    out = tmp_path / "out"
    # Per seed: nothing and all removed, 2 random, per method 2 for ROAR, 1 more for recursion (none for random: its
    # words are the same), 2 patterns; the student with and without the explanations of 2 methods.
    assert len(list((out / "trainings").iterdir())) == 2 * (2 + 2 + 2 * 2 + 1 + 2 * 2 + 1 + 2)
    assert len(list((out / "studies").iterdir())) == 2 * len(METRICS)
    records = [record for record in attrlab.records("out") if "Simul" in record["metric"] or "Leak" in record["metric"]]
    assert len(records) == 4
    assert {(record["status"], record["n_scored"]) for record in records} == {("ok", 4)}
    page = (out / "roar.html").read_text("utf-8")
    assert page.count("<svg") == 1
    assert "saliency" in page
    assert "nan" not in page.lower().replace("nano", "")

    before, table = stored(out), attrlab.table("out")
    again = attrlab.run("out", *options())
    assert "0 chunks computed" in again.out
    assert stored(out) == before

    lost = sorted((out / "trainings").iterdir())[:3] + sorted((out / "studies").iterdir())
    gone = {path: rows(path) for path in lost if path.parent.name == "trainings"}
    for path in [*lost, *(out / "scores").iterdir()]:
        path.unlink()
    assert attrlab.run("out", *options()).code == 0
    assert {path: rows(path)[0]["predicted"] for path in gone} == {
        path: found[0]["predicted"] for path, found in gone.items()
    }
    after = stored(out)
    assert {name for name in before if before[name] != after[name]} == {str(path.relative_to(out)) for path in lost} | {
        name for name in before if name.startswith("scores")
    }
    assert attrlab.table("out") == table


def test_a_suite_that_names_no_such_metric_trains_nothing(attrlab, tmp_path):
    assert attrlab.run("out", *options(metrics=["comprehensiveness"])).code == 0
    assert not list((tmp_path / "out" / "trainings").iterdir())
    assert not (tmp_path / "out" / "roar.html").exists()


def test_a_method_that_cannot_explain_a_text_is_not_trained_on(attrlab, tmp_path):
    metric = f"{PLUGINS}:Roar:{SMALL}"
    called = attrlab.run("out", *options(["exact_shapley:largest=2"], [metric]))
    assert called.code == 0, called.err
    (record,) = attrlab.records("out")
    assert "44 texts could not be explained" in record["reason"]
    assert not list((tmp_path / "out" / "trainings").iterdir())


def test_a_data_set_without_a_training_part_is_skipped_with_a_reason(attrlab, tmp_path):
    (tmp_path / "data" / "sst2").mkdir(parents=True)
    lines = [f"{text}\t{index % 2}" for index, text in enumerate(TEXTS)]
    (tmp_path / "data" / "sst2" / "dev.tsv").write_text("sentence\tlabel\n" + "\n".join(lines) + "\n", "utf-8")
    called = attrlab.run("out", *options(["random"], METRICS[:1]), "--data-dir", "data", dataset="sst2:dev")
    assert called.code == 2
    assert "train" in called.message


# --- one training


def course(name="bert-base-mini", *, n_train=40, n_test=10, checkpoint=None, steps=6):
    """The lexicon's first texts; a stand-in plan and block, enough for the learner."""
    source, test = data.load("lexicon:train"), data.load("lexicon")
    block = Block(
        model=name,
        dataset=test,
        examples=test.take(n_test),
        calibration=(source.take(4), source.fingerprint),
        checkpoint=checkpoint,
        classes=(0, 1),
    )
    suite = Suite(models=[name])

    def texts(examples):
        labels = np.array([example.label for example in examples])
        return learner.Texts(examples=examples, labels=labels, targets=1 - labels)

    return learner.Course(
        plan=Plan(suite=suite, methods=(), columns=(), blocks=(block,)),
        block=block,
        train=texts(source.take(n_train)),
        test=texts(test.take(n_test)),
        steps=steps,
    )


@pytest.fixture(scope="module")
def checkpoints_of(tmp_path_factory):
    from attrlab.bench import checkpoint

    def find(mini):
        folder = save_model(tmp_path_factory.mktemp("model"), mini=mini)
        return checkpoint.read(mini, folder)

    return find


def staying(one, rule):
    def masks(texts):
        return tuple(np.array([rule(j) for j in range(len(e.texts[0].split()))]) for e in texts.examples)

    return Stays(masks(one.train), masks(one.test))


@pytest.mark.parametrize("mini", ["bert-base-mini", "gpt2-mini", "opt-125m-mini"])
def test_removed_words_are_replaced_and_patterns_hide_the_words(checkpoints_of, mini):
    one = course(mini, checkpoint=checkpoints_of(mini))
    stays = staying(one, lambda j: j != 1)
    shown = learner.Pupil(one, Training(seed=1, stays=stays), Options())
    hidden = learner.Pupil(one, Training(seed=1, stays=stays, shows="pattern"), Options())
    for text, words, pattern in zip(one.test.examples, shown.test_inputs, hidden.test_inputs, strict=True):
        plain = shown.model.encode(text)
        gone = words.units == 1
        assert (words.ids[gone] == shown.model.replace_id).all()
        assert (words.ids[~gone] == plain.ids[~gone]).all()
        assert set(pattern.ids[gone]) == {shown.model.replace_id}
        kept = set(pattern.ids[(pattern.units >= 0) & ~gone])
        assert len(kept) == 1
        assert not kept & {shown.model.replace_id, *shown.model.tokenizer.all_special_ids}
        assert (pattern.ids[pattern.units < 0] == plain.ids[pattern.units < 0]).all()


@pytest.mark.parametrize("mini", ["bert-base-mini", "gpt2-mini"])
def test_a_mini_starts_from_weights_drawn_under_the_seed(checkpoints_of, mini):
    one = course(mini, checkpoint=checkpoints_of(mini))
    stays = staying(one, lambda _j: True)
    first, again, other = (
        learner.Pupil(one, Training(seed=seed, stays=stays), Options()).model.embedding for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_another_checkpoint_keeps_its_encoder_and_gets_a_new_head():
    model = tiny("bert-base-mini")
    body = model.embedding.clone()
    head = model.network.classifier.weight.clone()
    try:
        learner.redraw_head(model.network, 3)
        drawn = model.network.classifier.weight.clone()
        assert torch.equal(model.embedding, body)
        assert not torch.equal(drawn, head)
        assert 0.01 < float(model.network.bert.pooler.dense.weight.std()) < 0.03
        learner.redraw_head(model.network, 3)
        assert torch.equal(model.network.classifier.weight, drawn)
        learner.redraw_head(model.network, 4)
        assert not torch.equal(model.network.classifier.weight, drawn)
    finally:
        tiny.cache_clear()


@pytest.mark.parametrize("mini", ["bert-base-mini", "gpt2-mini"])
def test_a_student_learns_the_explained_classes_and_where_it_was_pointed(checkpoints_of, mini):
    one = course(mini, checkpoint=checkpoints_of(mini), steps=300)
    easy = tuple(
        Example(id=str(i), texts=(f"{('not', 'brilliant')[i % 2]} film {TEXTS[0].split()[i % 11]}",), label=i % 2)
        for i in range(40)
    )
    labels = np.arange(40) % 2
    one = replace(one, train=learner.Texts(examples=easy, labels=labels, targets=1 - labels))
    marks = staying(one, lambda j: j == 1)
    training = Training(seed=1, stays=staying(one, lambda _j: True), student=True, marks=marks.train, weight=1.0)
    pupil = learner.Pupil(one, training, Options())
    assert type(pupil.model.network).__name__ == "BertForSequenceClassification"
    batch = pupil.model.collate(pupil._rows())

    def loss():
        with torch.inference_mode():
            pupil.model.forward(batch)
            return float(pupil._pointing(batch.marks[:, 0]))

    before = loss()
    with train.one_thread():
        pupil.train()
    assert loss() < before / 3
    predicted = train.predicted(pupil.model, [whole(encoded) for encoded in pupil.train_inputs])
    assert (predicted == 1 - labels).mean() > 0.9


def test_a_lesson_gives_the_same_in_another_process_and_explains_what_is_asked(checkpoints_of, tmp_path):
    one = course(checkpoint=checkpoints_of("bert-base-mini"))
    training = Training(seed=1, stays=staying(one, lambda j: j != 0), explain=True)
    method = METHODS_KNOWN.find("saliency")
    found = []
    for name in ("here", "there"):
        lesson = (one, training, (method,), Store(tmp_path / name), Options())
        sent = lesson if name == "here" else pickle.loads(pickle.dumps(lesson))
        assert learner.learn(sent, Quiet()) == 2
        kinds = ("trainings", "attributions")
        (trained,), explained = (next(map(rows, (tmp_path / name / kind).iterdir())) for kind in kinds)
        assert len(trained["predicted"]) == 10
        assert [row["example"] for row in explained] == [e.id for e in (*one.train.examples, *one.test.examples)]
        assert [len(row["scores"]) for row in explained] == [
            len(e.texts[0].split()) for e in (*one.train.examples, *one.test.examples)
        ]
        found.append((trained["predicted"], explained))
    assert found[0] == found[1]


def test_the_key_of_a_training_holds_what_shapes_it_and_no_more(checkpoints_of):
    found = checkpoints_of("bert-base-mini")
    one = course(checkpoint=found)
    stays, fewer = staying(one, lambda _j: True), staying(one, lambda j: j)
    base = Training(seed=1, stays=stays)
    marked = stays.train
    changed = [
        replace(base, seed=2),
        replace(base, stays=fewer),
        replace(base, stays=Stays(stays.train, fewer.test)),
        replace(base, shows="pattern"),
        replace(base, student=True),
        replace(base, marks=marked),
        replace(base, weight=2.0),
    ]
    keys = [json.dumps(one.training(training)) for training in (base, *changed)]
    keys += [json.dumps(replace(one, steps=5).training(base))]
    keys += [json.dumps(course(checkpoint=found, n_train=39).training(base))]
    assert len(set(keys)) == len(keys)
    assert json.dumps(one.training(replace(base, explain=True))) == keys[0]
    assert one.recipe(base) == replace(train.mini_recipe(BY_MINI["bert-base-mini"]), steps=6, seed=1)


# --- permuted labels


def test_permuted_labels_are_dealt_out_anew():
    dataset = data.load("lexicon")
    mixed, again, other = (train.permuted(dataset, seed) for seed in (0, 0, 1))
    labels = [np.array([example.label for example in one.examples]) for one in (dataset, mixed, again, other)]
    assert sorted(labels[0]) == sorted(labels[1])
    assert 0.4 < (labels[0] == labels[1]).mean() < 0.6
    assert (labels[1] == labels[2]).all()
    assert (labels[1] != labels[3]).any()
    assert [example.texts for example in mixed.examples] == [example.texts for example in dataset.examples]
    assert all(example.rationales is None for example in mixed.examples)
    assert len({one.fingerprint for one in (dataset, mixed, other)}) == 3


def test_a_missing_label_stays_missing():
    dataset = data.load("lexicon")
    blank = replace(dataset.examples[0], label=None)
    mixed = train.permuted(replace(dataset, examples=(blank, *dataset.examples[1:])), 0)
    assert mixed.examples[0].label is None
    assert all(example.label is not None for example in mixed.examples[1:])
