"""Re-explanations: what each kind changes, what is stored of it, and that runs are resumed and told apart by key."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cliruns import chunks, save_model
from replicatoys import EVERY, filler, planned, write_suite

from attrlab.bench import (
    again,
    alterations,
    checkpoint,
    command,
    plan,
    replicas,
    testing,
)
from attrlab.bench import run as runner
from attrlab.bench.engine import Engine
from attrlab.bench.facts import MetricFacts
from attrlab.bench.inputs import Example
from attrlab.bench.predict import full_logits
from attrlab.bench.registry import METHODS
from attrlab.bench.score import _obstacle, _replica
from attrlab.bench.session import Options, Session
from attrlab.bench.store import Store
from attrlab.bench.train import save


def stored(folder):
    """Rows of attributions by method and replicate, of all slices."""
    found = {}
    for path in sorted((folder / "attributions").glob("*.json")):
        chunk = json.loads(path.read_text())
        key = (chunk["of"]["method"]["id"], *chunk["of"]["replicate"])
        found.setdefault(key, []).extend(zip(chunk["of"]["examples"], chunk["rows"], strict=True))
    return {key: dict(sorted(rows)) for key, rows in found.items()}


class Silent:
    """Progress that nobody watches."""

    def now(self, what):
        pass

    def done(self, chunks=1):
        pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run with every kind of an untrained model to which every word matters: plan, stored rows and folder."""
    patch = pytest.MonkeyPatch()
    sharp = checkpoint.load(checkpoint.find(str(save_model(tmp_path_factory.mktemp("drawn")))))
    for weight in sharp.network.parameters():
        weight.mul_(4.0 if weight.ndim > 1 else 1.0)
    model = tmp_path_factory.mktemp("sharp")
    save(sharp, {}, model)
    folder = tmp_path_factory.mktemp("run")
    patch.chdir(folder)
    ready = planned(write_suite(folder), model)
    store = Store(folder / "o")

    runner.execute(ready, store, Options(workers=1), Silent())
    assert store.fresh
    yield ready, stored(folder / "o"), folder
    patch.undo()


def first(rows, method="leave_one_out"):
    return rows[method, "", 0]


def scores(row):
    return np.array(row["scores"])


def test_every_kind_is_stored_as_often_as_planned(run):
    ready, rows, _ = run
    (block,) = ready.blocks
    metric = {column.metric.facts.replicates[0]: column.metric for column in ready.columns}
    counts = {kind: len(ready.replicates(block, metric[kind])) for kind in EVERY}
    assert counts["radii"] == 6
    assert (counts["seed"], counts["noise"], counts["company"], counts["typo"], counts["runner_up"]) == (1, 2, 2, 2, 1)
    model = checkpoint.load(block.checkpoint)
    for kind in replicas.ALTERED:
        assert counts[kind] == alterations.count(kind, model) > 0
    for method in ("leave_one_out", "saliency", "lime"):
        made = {kind: sum(1 for m, k, _ in rows if (m, k) == (method, kind)) for kind in EVERY}
        unreached = () if method == "saliency" else ("noise", "radii")
        assert made == {kind: 0 if kind in unreached else counts[kind] for kind in EVERY}
    assert {len(found) for key, found in rows.items() if key[1]} == {3}, "re_explain.examples"
    assert {len(found) for key, found in rows.items() if not key[1]} == {4}


def test_the_first_explanation_is_stored_as_ever_and_the_others_tell_what_changed(run):
    _, rows, _ = run
    for (_, kind, _), found in rows.items():
        for row in found.values():
            assert {"units", "distance", "kept"} <= set(row) if kind else "units" not in row
            assert (row.get("units") is not None) == (kind in ("paraphrase", "typo") and row["status"] == "ok")
            assert (row.get("distance") is not None) == (kind in ("noise", "radii"))


def test_company_and_rewrites_change_nothing(run):
    _, rows, _ = run
    checked = 0
    for (method, kind, _), found in rows.items():
        if kind in ("company", "rewrite"):
            for name, row in found.items():
                own = scores(first(rows, method)[name])
                assert np.abs(scores(row) - own).max() <= 1e-4 * np.abs(own).max()
                assert row["kept"]
                checked += 1
    assert checked >= 3 * 3 * 3


def test_the_runner_up_of_two_classes_has_the_opposite_contrast(run):
    _, rows, _ = run
    for name, row in rows["leave_one_out", "runner_up", 1].items():
        assert scores(row) == pytest.approx(-scores(first(rows)[name]), abs=1e-9)


def test_a_model_that_is_constant_has_no_effects(run):
    _, rows, _ = run
    for row in rows["leave_one_out", "constant", 1].values():
        assert not scores(row).any()


def test_another_seed_moves_the_methods_that_draw_and_no_other(run):
    _, rows, _ = run
    for name, row in rows["lime", "seed", 1].items():
        assert not np.array_equal(scores(row), scores(first(rows, "lime")[name]))
    for name, row in rows["leave_one_out", "seed", 1].items():
        assert np.array_equal(scores(row), scores(first(rows)[name]))


@pytest.mark.parametrize("kind", sorted(replicas.ALTERED))
def test_altered_models_are_explained_for_the_same_class(run, kind):
    ready, rows, folder = run
    (block,) = ready.blocks
    model = checkpoint.load(block.checkpoint)
    other = alterations.altered(model, kind, 1)
    method = METHODS.find("leave_one_out").build()
    targets = {
        row["example"]: row["target"]
        for path in (folder / "o" / "predictions").glob("*.json")
        for row in json.loads(path.read_text())["rows"]
    }
    for example in block.examples[:3]:
        engine = Engine(other, [other.encode(example)])
        question = testing.Question(slot=0, target=targets[example.id], seed=(0,))
        (found,) = testing.outcomes(method, [question], engine)
        row = rows["leave_one_out", kind, 1][example.id]
        assert scores(row) == pytest.approx(found.scores, abs=1e-6)
        assert row["kept"] == (int(full_logits(engine)[0].argmax()) == targets[example.id])


@pytest.mark.parametrize("kind", ["noise", "radii"])
def test_noise_is_measured_and_its_prediction_asked(run, kind):
    _, rows, _ = run
    norms = np.array([[row["distance"] for row in rows["saliency", kind, i].values()] for i in (1, 2)])
    assert (norms > 0).all()
    assert (norms[0] != norms[1]).all()
    if kind == "radii":  # one draw at three radii, then another
        far = np.array([[row["distance"] for row in rows["saliency", kind, i].values()] for i in range(1, 7)])
        full = np.array([[row["distance"] for row in rows["saliency", "noise", i].values()] for i in (1, 2)])
        assert far[:3] == pytest.approx(np.outer(replicas.RADII, full[0]).reshape(3, -1))
        assert far[3:] == pytest.approx(np.outer(replicas.RADII, full[1]).reshape(3, -1))


def session(ready, folder):
    return Session(plan=ready, block=ready.blocks[0], store=Store(folder), options=Options(), progress=Silent())


def rows_of(engine, target=None):
    """Predictions of the examples of an engine."""
    logits = full_logits(engine)
    return [
        {"status": "ok", "target": int(logits[slot].argmax()) if target is None else target}
        if slot in logits
        else {"status": "skipped"}
        for slot in range(len(engine.encoded))
    ]


def test_kept_is_whether_the_noised_input_is_predicted_alike(run, tmp_path, monkeypatch):
    ready, _, _ = run
    here = session(ready, tmp_path / "s")
    (chunk, *_) = ready.chunks(ready.blocks[0])
    engine = here.engine(chunk)
    monkeypatch.setattr(
        again.neighbours, "input_noise", lambda model, encoded, seed: 30 * big[seed[2]][: len(encoded.ids)]
    )
    big = np.random.default_rng(0).normal(size=(9, 99, engine.model.embedding.shape[1]))
    verdicts = []
    for index in range(1, 9):
        setting = again.prepare(here, chunk, rows_of(engine), ("noise", index))
        for slot, change in setting.changes.items():
            model, encoded = engine.model, engine.encoded[slot]
            ids = torch.tensor(encoded.ids)[None]
            embeds = model.embedding[ids] + torch.tensor(change.noise, dtype=torch.float32)
            logits = model.network(inputs_embeds=embeds, token_type_ids=torch.tensor(encoded.segments)[None]).logits
            assert change.kept == (int(logits.argmax()) == change.target)
            assert change.distance == pytest.approx(np.sqrt((change.noise**2).sum()))
            verdicts.append(change.kept)
    assert {True, False} == set(verdicts)


@pytest.mark.parametrize("kind", ["paraphrase", "typo"])
def test_changed_texts_keep_the_prediction_and_are_shared_by_all_methods(run, tmp_path, kind):
    ready, rows, _ = run
    assert rows["saliency", kind, 1].keys() == rows["lime", kind, 1].keys()
    for name in rows["saliency", kind, 1]:
        assert rows["saliency", kind, 1][name]["units"] == rows["lime", kind, 1][name]["units"]
    here = session(ready, tmp_path / "s")
    (chunk, *_) = ready.chunks(ready.blocks[0])
    engine = here.engine(chunk)
    before, texts = full_logits(engine), set()
    for index in (1, 2):
        setting = again.prepare(here, chunk, rows_of(engine), (kind, index))
        after = full_logits(setting.engine)
        for slot, change in setting.changes.items():
            if change.reason is None:
                assert after[slot].argmax() == before[slot].argmax()
                p = [np.exp(one[slot])[change.target] / np.exp(one[slot]).sum() for one in (before, after)]
                assert kind == "typo" or abs(p[0] - p[1]) <= 0.05
                texts.add((slot, setting.engine.encoded[slot].example.texts))
    assert len(texts) == 2 * len(chunk.examples)


def test_paraphrases_that_move_the_probability_are_refused(run, tmp_path, monkeypatch):
    ready, _, _ = run
    monkeypatch.setattr(again.neighbours, "DRIFT", 0.0)
    here = session(ready, tmp_path / "s")
    (chunk, *_) = ready.chunks(ready.blocks[0])
    predictions = rows_of(here.engine(chunk))
    setting = again.prepare(here, chunk, predictions, ("paraphrase", 1))
    assert {change.reason for change in setting.changes.values()} == {"no paraphrase keeps the prediction"}
    setting = again.prepare(here, chunk, predictions, ("typo", 30))
    assert {change.reason for change in setting.changes.values()} == {"no other typo keeps the prediction"}


def test_a_text_without_words_to_change_says_so(run, tmp_path):
    ready, _, _ = run
    here = session(ready, tmp_path / "s")
    chunk = plan.Chunk(
        start=0, examples=(Example(id="a", texts=("3 + 4",), label=0), Example(id="b", texts=("",), label=0))
    )
    setting = again.prepare(here, chunk, rows_of(here.engine(chunk)), ("typo", 1))
    assert {slot: change.reason for slot, change in setting.changes.items()} == {0: "no word of the text allows a typo"}


def test_the_runner_up_of_three_classes():
    logits = np.array([0.2, 1.5, 0.9])
    assert [again.runner_up(logits, target) for target in range(3)] == [1, 2, 1]


@pytest.mark.parametrize("mini", ["bert-base-mini", "gpt2-mini", "opt-350m-mini"])
def test_other_padding_is_longer_and_still_read(mini):
    model = testing.tiny(mini)
    engine, roomy = (make(model, []) for make in (Engine, again._Roomy))
    for tokens in (1, 8, 9, 31, 96):
        assert tokens <= engine.length_of(tokens) < roomy.length_of(tokens) <= model.max_length
    assert roomy.length_of(model.max_length) == model.max_length


# Resume and keys


def test_a_run_with_every_kind_is_resumed(attrlab, model, tmp_path):
    arguments = ("run", write_suite(tmp_path), "--model", model, "--workers", 1, "--out", "o", "--method", "saliency")
    seen = []

    def done(_bar, _chunks=1):
        seen.append(1)
        if len(seen) == 20:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command.Bar, "done", done)
        assert attrlab(*arguments).code == 130
    kept = chunks(tmp_path / "o")
    assert 19 <= len(kept) <= 20
    called = attrlab(*arguments)
    assert f"{len(kept)} found whole" in called.out
    assert called.out.splitlines()[-1].endswith("failed cells: 0")
    whole, table = chunks(tmp_path / "o"), attrlab.table("o")
    assert kept.items() <= whole.items()
    assert attrlab(*arguments[:7], "other", *arguments[8:]).code == 0
    assert (set(chunks(tmp_path / "other")), attrlab.table("other")) == (set(whole), table)
    means = {record["metric"].partition(":Of")[2]: record["mean"] for record in attrlab.records("o")}
    assert means == pytest.approx(
        {"seed": 1, "noise": 2, "radii": 6, "company": 2, "paraphrase": 2, "typo": 2, "runner_up": 1, "rewrite": 6}
        | {"layers": 4, "layer": 4, "redrawn": 2, "constant": 1}
    )
    with pytest.MonkeyPatch.context() as patch:  # found whole: no model is loaded
        patch.setattr("attrlab.bench.session.load_model", lambda *_: pytest.fail("a model was loaded"))
        assert f"0 chunks computed, {len(whole)} found whole" in attrlab(*arguments).out


def test_more_variants_or_methods_reuse_what_is_there(attrlab, model, tmp_path):
    path = write_suite(tmp_path, ["typo", "paraphrase"])
    arguments = ("run", path, "--model", model, "--workers", 1, "--out", "o")
    attrlab(*arguments, "--method", "saliency")
    before = chunks(tmp_path / "o")
    path.write_text(path.read_text().replace("variants = 2", "variants = 3"))
    called = attrlab(*arguments)
    assert called.code == 0
    missing = {name for name in before if name.startswith("attributions")} - set(chunks(tmp_path / "o"))
    assert not missing
    assert before.items() <= chunks(tmp_path / "o").items()
    rows = stored(tmp_path / "o")
    assert rows["saliency", "typo", 1].keys() == rows["lime", "typo", 3].keys()
    for name, row in rows["saliency", "typo", 1].items():
        assert row["units"] == rows["lime", "typo", 1][name]["units"]


def test_keys_name_what_shapes_a_re_explanation(model, tmp_path):
    def keys(ready):
        (block,), method = ready.blocks, ready.methods[1]
        (chunk, *_) = ready.chunks(block)
        return {kind: ready.attributions(block, chunk, method, (kind, 1)) for kind in EVERY}

    path = write_suite(tmp_path)
    before = keys(planned(path, model))
    other = filler("pieces")
    save(other, {}, tmp_path / "filler")
    after = keys(planned(path, model))
    assert {kind for kind in EVERY if before[kind] != after[kind]} == {"paraphrase"}
    assert "change" not in before["seed"]
    assert all(before[kind]["change"][0] == replicas.KINDS[kind].version for kind in EVERY if kind != "seed")


def test_a_model_on_permuted_labels_is_asked_in_place_of_the_model(run, tmp_path):
    ready, _, _ = run
    other = checkpoint.find(str(save_model(tmp_path / "other", seed=5)))
    block = replace(ready.blocks[0], shuffled=other)
    here = Session(plan=ready, block=block, store=Store(tmp_path / "s"), options=Options(), progress=None)
    (chunk, *_) = ready.chunks(block)
    setting = again.prepare(here, chunk, rows_of(here.engine(chunk)), ("labels", 1))
    alone = checkpoint.load(other)
    expected = full_logits(Engine(alone, [alone.encode(example) for example in chunk.examples]))
    for slot, logits in full_logits(setting.engine).items():
        assert logits == pytest.approx(expected[slot])
        assert logits != pytest.approx(full_logits(here.engine(chunk))[slot])


# What metrics are given


def row(status, reason=None):
    return {"status": status, "reason": reason}


@pytest.mark.parametrize(
    ("first_", "others", "expected"),
    [
        (row("ok"), [("typo", row("ok"))], None),
        (row("ok"), [], None),
        (row("skipped", "no"), [("typo", row("ok"))], "no"),
        (row("ok"), [("typo", row("failed", "oops"))], "failed: oops"),
        (row("skipped", "no"), [("typo", row("failed", "oops"))], "failed: oops"),
        (row("ok"), [("typo", row("ok")), ("typo", row("skipped", "no other"))], None),
        (row("ok"), [("typo", row("skipped", "none")), ("typo", row("skipped", "none"))], "none"),
        (row("ok"), [("typo", row("ok")), ("seed", row("skipped", "none"))], "none"),
    ],
)
def test_what_is_missing_is_left_out_and_what_failed_is_not(first_, others, expected):
    numbered = [((kind, index), other) for index, (kind, other) in enumerate(others, 1)]
    assert _obstacle(first_, numbered) == expected


def test_metrics_are_told_what_was_changed(run):
    _, rows, _ = run
    noised = next(iter(rows["saliency", "noise", 2].values()))
    told = _replica(("noise", 2), noised)
    assert (told.kind, told.index, told.distance, told.kept, told.units) == (
        *("noise", 2),
        noised["distance"],
        noised["kept"],
        None,
    )
    reworded = next(iter(rows["saliency", "typo", 1].values()))
    told = _replica(("typo", 1), reworded)
    assert told.units.tolist() == reworded["units"]
    assert math.isnan(told.distance)
    assert MetricFacts(where="").replicates == ()
