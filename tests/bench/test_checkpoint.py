"""Classifiers found by name and loaded as they are, or refused with a reason."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import train
from attrlab.bench.errors import UserError
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.testing import FAMILIES, examples, tiny
from attrlab.bench.zoo import BY_REPO, ZOO


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder per family, as the trainer writes them; not to be written to."""
    root = tmp_path_factory.mktemp("models")
    for name in FAMILIES:
        train.save(tiny(name), {"base": name, "heldout_accuracy": 0.5}, root / name)
    return {name: root / name for name in FAMILIES}


Damage = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


def altered(source: Path, target: Path, damage: Damage) -> checkpoints.Checkpoint:
    shutil.copytree(source, target)
    weights = damage(load_file(source / "model.safetensors"))
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return checkpoints.find(str(target))


def logits(model: TextModel) -> torch.Tensor:
    with torch.inference_mode():
        return model.forward(model.collate([whole(model.encode(one)) for one in examples(pairs=True)])).logits


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_model_loads_as_it_was(saved: dict[str, Path], name: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = checkpoints.find(str(saved[name]))
    model, original = checkpoints.load(found), tiny(name)
    assert torch.equal(logits(model), logits(original))
    assert (model.labels, model.replace_id, model.max_length) == (
        original.labels,
        original.replace_id,
        original.max_length,
    )
    assert found.card == {"base": name, "heldout_accuracy": 0.5}
    assert found.parameters == sum(weight.numel() for weight in original.network.parameters())
    assert not model.network.training
    assert not any(weight.requires_grad for weight in model.network.parameters())
    assert capfd.readouterr() == ("", "")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such model folder: '\./nowhere'; give a folder with config\.json"):
        checkpoints.find("./nowhere")
    with pytest.raises(UserError, match=r"no such model folder: '/no/such/place'"):
        checkpoints.find("/no/such/place")
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(UserError, match=r"has no config\.json; save the model with save_pretrained\(\)"):
        checkpoints.find(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(UserError, match="is not a safetensors file"):
        checkpoints.find(str(tmp_path))


@pytest.mark.parametrize("config", ["{}", '{"model_type": "no-such-type"}', "not json"])
def test_a_configuration_of_no_classifier_is_refused(saved: dict[str, Path], tmp_path: Path, config: str) -> None:
    found = altered(saved["gpt2-mini"], tmp_path / "m", lambda weights: weights)
    (found.folder / "config.json").write_text(config)
    with pytest.raises(UserError, match="cannot be loaded as a text classifier"):
        checkpoints.load(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_without_head_is_sent_to_the_trainer(tmp_path: Path, name: str) -> None:
    model, folder = tiny(name), tmp_path / "headless"
    model.network.base_model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    found = checkpoints.find(str(folder))
    with pytest.raises(UserError, match=r"has no trained classification head \('.*\).*attrlab train .*headless"):
        checkpoints.load(found)
    loaded = checkpoints.load(found, head=("no", "maybe", "yes"))
    assert loaded.labels == ("no", "maybe", "yes")
    assert logits(loaded).shape == (6, 3)
    assert torch.equal(loaded.embedding, model.embedding)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_head_of_another_size_is_replaced_for_training_only(saved: dict[str, Path], name: str) -> None:
    found = checkpoints.find(str(saved[name]))
    loaded = checkpoints.load(found, head=("no", "maybe", "yes"))
    assert logits(loaded).shape == (6, 3)
    assert torch.equal(loaded.embedding, tiny(name).embedding)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("head", [None, ("a", "b")], ids=["as it is", "to train"])
def test_a_missing_weight_is_named(saved: dict[str, Path], tmp_path: Path, name: str, head: Any) -> None:
    weights = load_file(saved[name] / "model.safetensors")
    gone = next(key for key in weights if "layers.0." in key or "layer.0." in key or "h.0." in key)
    found = altered(
        saved[name], tmp_path / "m", lambda weights: {key: value for key, value in weights.items() if key != gone}
    )
    with pytest.raises(UserError, match=f"1 weights are missing from the file, '{gone}' first"):
        checkpoints.load(found, head=head)


def test_a_weight_of_another_shape_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    found = altered(saved["gpt2-mini"], tmp_path / "m", lambda weights: weights | {"score.weight": torch.zeros(5, 48)})
    with pytest.raises(UserError, match="cannot be loaded as a text classifier"):
        checkpoints.load(found)
    narrow = altered(
        saved["gpt2-mini"], tmp_path / "n", lambda weights: weights | {"transformer.ln_f.weight": torch.ones(7)}
    )
    with pytest.raises(UserError, match=r"'transformer\.ln_f\.weight' first"):
        checkpoints.load(narrow, head=("a", "b"))


def test_weights_in_half_precision_run_in_single(saved: dict[str, Path], tmp_path: Path) -> None:
    found = altered(
        saved["bert-base-mini"], tmp_path / "m", lambda weights: {key: value.half() for key, value in weights.items()}
    )
    config = json.loads((found.folder / "config.json").read_text())
    (found.folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    model = checkpoints.load(found)
    assert {weight.dtype for weight in model.network.parameters()} == {torch.float32}
    assert torch.equal(model.embedding, tiny().embedding.half().float())
    assert logits(model).dtype == torch.float32


def test_the_hash_follows_every_weight_and_the_tokenizer_but_not_the_card(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    name = "gpt2-mini"
    hashes = {checkpoints.find(str(saved[name])).hash}
    same = altered(saved[name], tmp_path / "same", lambda weights: weights)
    (same.folder / checkpoints.CARD).unlink()
    assert checkpoints.find(str(same.folder)).hash in hashes
    assert checkpoints.find(str(same.folder)).card is None
    keys = list(load_file(saved[name] / "model.safetensors"))

    def nudge(key: str) -> Damage:
        def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            flat = weights[key].view(-1)
            flat[-1] += flat[-1].abs() * 1e-6 + 1e-12
            return weights

        return change

    for key in keys:
        hashes.add(altered(saved[name], tmp_path / key, nudge(key)).hash)
    assert len(hashes) == 1 + len(keys)
    for file in ("tokenizer.json", "config.json"):
        shutil.copytree(saved[name], tmp_path / file)
        with (tmp_path / file / file).open("a") as text:
            text.write("\n")
        hashes.add(checkpoints.find(str(tmp_path / file)).hash)
    assert len(hashes) == 3 + len(keys)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_without_tokenizer_is_refused(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    found = altered(saved[name], tmp_path / "m", lambda weights: weights)
    (found.folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer .*; save it beside the model"):
        checkpoints.load(found)


def test_pickled_weights_are_read_for_the_pinned_opt_ids_only(saved: dict[str, Path], tmp_path: Path) -> None:
    name = "opt-350m-mini"
    folder = tmp_path / "pickled"
    shutil.copytree(saved[name], folder)
    (folder / "model.safetensors").unlink()
    (folder / checkpoints.CARD).unlink()
    torch.save(tiny(name).network.state_dict(), folder / "pytorch_model.bin")
    found = checkpoints.find(str(folder))
    with pytest.raises(UserError, match=r"cannot be loaded as a text classifier: .*model\.safetensors"):
        checkpoints.load(found)
    for info in ZOO:
        assert info.pickled == (info.family == "opt")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        checkpoints.load(replace(found, info=BY_REPO["openai-community/gpt2"]))
    loaded = checkpoints.load(replace(found, info=BY_REPO["facebook/opt-350m"]))
    assert torch.equal(logits(loaded), logits(tiny(name)))


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "gpt2", "facebook/opt-125m"])
def test_a_hub_that_cannot_be_reached_is_one_line(
    name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    start = time.perf_counter()
    with pytest.raises(UserError, match="neither a local folder nor on a reachable hub") as caught:
        checkpoints.find(name)
    assert time.perf_counter() - start < 15
    assert "\n" not in str(caught.value)
    assert "bert-base-mini" in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "hint"), [("gpt2-medum", "gpt2-medium"), ("bert-bass-mini", "bert-base-mini")])
def test_an_unknown_short_name_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"unknown model '{name}'. Did you mean '{hint}'"):
        checkpoints.find(name)


def test_the_nine_minis_are_told_from_other_names() -> None:
    assert sum(checkpoints.is_mini(info.mini) for info in ZOO) == 9
    assert not any(checkpoints.is_mini(name) for info in ZOO for name in (info.name, info.repo, f"./{info.mini}"))
