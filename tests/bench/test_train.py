"""The trainer: the same weights each time, written whole or not at all, cached."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import data, descent, minis, train
from attrlab.bench.batch import Row
from attrlab.bench.data import Dataset
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.testing import FAMILIES, TEXTS, tiny
from attrlab.bench.zoo import BY_MINI

MINI = "gpt2-mini"


@pytest.fixture(scope="module")
def parts() -> tuple[Dataset, Dataset]:
    """The first 200 training examples of the lexicon, and 60 of its evaluation part."""
    learn, test = data.load("lexicon:train"), data.load("lexicon")
    return replace(learn, examples=learn.examples[:200]), replace(test, examples=test.examples[:60])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own, and a recipe of a few steps."""
    monkeypatch.setenv("ATTRLAB_CACHE", str(tmp_path))
    recipe = train.mini_recipe
    monkeypatch.setattr(train, "mini_recipe", lambda info: replace(recipe(info), steps=12, evaluate_every=4))
    return tmp_path


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", FAMILIES)
def test_two_trainings_give_the_same_bits(
    parts: tuple[Dataset, Dataset], short: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = train.mini(name, *parts)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.manual_seed(7)  # whatever ran before must not matter
    np.random.seed(7)
    monkeypatch.setenv("ATTRLAB_CACHE", str(short / "elsewhere"))
    second = train.mini(name, *parts)
    assert first.folder != second.folder
    assert weights(first.folder) == weights(second.folder)
    assert first.hash == second.hash
    untrained = minis.network(BY_MINI[name], checkpoints.load(first).tokenizer, parts[0].info.labels, 42)
    assert not torch.equal(checkpoints.load(first).embedding, untrained.get_input_embeddings().weight)


def test_a_cached_mini_is_not_trained_again(
    parts: tuple[Dataset, Dataset], short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[int, int]] = []
    first = train.mini(MINI, *parts, lambda done, total: steps.append((done, total)))
    assert steps == [(step, 12) for step in range(1, 13)]

    def never(*_args: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(train, "fit", never)
    again = train.mini(MINI, *parts)
    assert (again.folder, again.hash, again.card) == (first.folder, first.hash, first.card)
    assert again.info is BY_MINI[MINI]
    assert first.folder.parent == short / "models"
    other = replace(parts[0], examples=parts[0].examples[:-1])
    with pytest.raises(AssertionError, match="trained again"):  # other data, other weights
        train.mini(MINI, other, parts[1])


def test_the_card_tells_what_was_done(parts: tuple[Dataset, Dataset], short: Path) -> None:
    found = train.mini(MINI, *parts)
    card = json.loads((found.folder / checkpoints.CARD).read_text("utf-8"))
    assert card == found.card
    assert card["base"] == MINI
    assert card["dataset"] == "lexicon:train"
    assert card["heldout"] == parts[1].name
    assert card["train_size"] == 180  # a tenth is set aside
    assert card["steps"] == 12
    assert card["recipe"]["steps"] == 12
    assert card["torch"] == torch.__version__
    model = checkpoints.load(found)
    assert model.labels == tuple(parts[1].info.labels)
    right = 0
    for example in parts[1].examples:
        with torch.inference_mode():
            logits = model.network(**model.tokenizer(*example.texts, return_tensors="pt")).logits
        right += int(logits.argmax()) == example.label
    assert card["heldout_accuracy"] == right / 60


def test_training_learns_a_word_that_gives_the_class_away(parts: tuple[Dataset, Dataset]) -> None:
    def planted(count: int) -> Dataset:
        examples = [
            Example(id=str(index), texts=(f"the plot was {('bad', 'good')[index % 2]}",), label=index % 2)
            for index in range(count)
        ]
        return replace(parts[0], examples=tuple(examples))

    info = BY_MINI[MINI]
    vocabulary = minis.tokenizer(info, TEXTS)
    model = TextModel(minis.network(info, vocabulary, ("no", "yes"), 0), vocabulary, MINI)
    recipe = replace(train.mini_recipe(info), steps=60, evaluate_every=10)
    card = train.fit(model, planted(64), planted(10), recipe)
    assert card["heldout_accuracy"] == 1.0
    assert card["steps"] < 60, "it stops when it is good enough"
    assert not model.network.training
    assert not any(weight.requires_grad for weight in model.network.parameters())


def test_data_without_labels_is_refused_before_training(parts: tuple[Dataset, Dataset]) -> None:
    learn, test = parts
    model, recipe = tiny(MINI), train.mini_recipe(BY_MINI[MINI])
    nothing = replace(learn, examples=learn.examples[:3])
    with pytest.raises(UserError, match=r"'lexicon:train' has too few labelled examples to train on: 3"):
        train.fit(model, nothing, test, recipe)
    unlabelled = replace(test, examples=tuple(replace(example, label=None) for example in test.examples))
    with pytest.raises(UserError, match="has no labelled examples to measure the held-out accuracy on"):
        train.fit(model, learn, unlabelled, recipe)


def test_the_rate_warms_up_and_decays_to_zero() -> None:
    rates = [descent._rate(step, 100) for step in range(101)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == pytest.approx([(100 - step) / 95 for step in range(5, 101)])
    assert rates[-1] == 0.0


def test_each_epoch_uses_every_example_once() -> None:
    recipe = descent.Recipe(learning_rate=1.0, steps=10, batch_size=5)
    labelled = [(Row(np.zeros(n % 3 + 1), np.zeros(n % 3 + 1), np.ones(n % 3 + 1, bool)), n) for n in range(25)]
    seen = [label for _, labels in descent._batches(labelled, recipe) for label in labels]
    assert sorted(seen[:25]) == sorted(seen[25:]) == list(range(25))
    assert seen[:25] != seen[25:]


def test_a_model_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = tiny(MINI), tmp_path / "deep" / "model"
    train.save(model, {"version": 1}, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def killed(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(model.tokenizer), "save_pretrained", killed)
        for target in (folder, tmp_path / "deep" / "new"):
            with pytest.raises(KeyboardInterrupt):
                train.save(model, {"version": 2}, target)
    assert [path.name for path in folder.parent.iterdir()] == ["model"], "no new folder, no left-overs"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    train.save(model, {"version": 2}, folder)
    assert checkpoints.read("m", folder).card == {"version": 2}


def test_a_place_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write the model to '.*file/model': "):
        train.save(tiny(MINI), {}, tmp_path / "file" / "model")


def _without_template(name: str, *, start: str = "") -> TextModel:
    model = tiny(name)
    vocabulary = minis.tokenizer(BY_MINI[name], TEXTS)
    backend = vocabulary.backend_tokenizer
    backend.post_processor = minis.template(backend, f"{start} $A".strip(), f"{start} $A $B".strip())
    return TextModel(model.network, vocabulary, name)


@pytest.mark.parametrize(("name", "start"), [("gpt2-mini", ""), ("opt-350m-mini", "</s>")])
def test_the_readout_token_is_appended_and_special(name: str, start: str, tmp_path: Path) -> None:
    model = _without_template(name, start=start)
    single = Example(id="1", texts=("not good",), label=0)
    pair = Example(id="2", texts=("not good", "a dull film"), label=0)
    begin = [model.tokenizer.eos_token_id] if start else []
    bare = [model.encode(one).ids.tolist()[len(begin) :] for one in (single, pair)]
    assert not model.encode(single).special[-1]
    train.append_readout(model)
    end, cut = [model.tokenizer.eos_token_id], len(bare[0])
    train.save(model, {}, tmp_path / "m")
    loaded = checkpoints.load(checkpoints.find(str(tmp_path / "m")))
    for one in (model, loaded):  # the tokenizer itself appends it, so a plain call of the saved model does the same
        assert one.encode(single).ids.tolist() == begin + bare[0] + end
        assert one.encode(pair).ids.tolist() == begin + bare[1][:cut] + end + bare[1][cut:] + end
        for example in (single, pair):
            found = one.encode(example)
            assert found.special.tolist() == [token == end[0] for token in found.ids.tolist()]
            assert (found.units[found.special] == -1).all()
    train.append_readout(loaded)
    assert loaded.encode(single).ids.tolist() == begin + bare[0] + end, "once is enough"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_readout_that_is_there_is_left_alone(name: str) -> None:
    model = tiny(name)
    before = json.loads(model.tokenizer.backend_tokenizer.to_str())["post_processor"]
    train.append_readout(model)
    assert json.loads(model.tokenizer.backend_tokenizer.to_str())["post_processor"] == before
