"""The trainer that makes the minis, and fine-tunes a checkpoint the same way; nothing more."""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import minis
from attrlab.bench.batch import Row
from attrlab.bench.checkpoint import CARD, Checkpoint
from attrlab.bench.data import Dataset
from attrlab.bench.descent import Progress, Recipe, descend, one_thread
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.seeds import digest, generator
from attrlab.bench.types import Ints, Json
from attrlab.bench.zoo import BY_MINI, FineTuning, ModelInfo

RECIPE_VERSION = 1
"""Raised whenever the same settings would give other weights."""

WATCHED = 500
"""Most examples set aside from the training part to decide when to stop."""

TESTED = 2000
"""Most examples on which the held-out accuracy is measured."""

EVALUATION_ROWS = 256


def mini_recipe(info: ModelInfo) -> Recipe:
    """Returns the recipe of a mini; wider ones take smaller steps, those with LayerNorm after the sum smaller still."""
    after_sum = info.post_norm or info.family == "bert"
    return Recipe(learning_rate=(1e-3 if after_sum else 2e-3) * (48 / info.mini_geometry()["width"]) ** 0.5)


def fine_tuning_recipe(row: FineTuning, examples: int) -> Recipe:
    """Returns the recipe of a fine-tuning row (methods spec 11.1) for so many training examples."""
    return Recipe(
        learning_rate=row.learning_rate,
        steps=row.epochs * max(1, examples // row.batch_size),
        batch_size=row.batch_size,
        evaluate_every=row.evaluate_every,
        patience=3,
        good_enough=1.0,
        seed=row.seed,
    )


def mini(name: str, train: Dataset, test: Dataset, progress: Progress = lambda _done, _all: None) -> Checkpoint:
    """Returns the mini trained on a data set: from the cache, or trained on the spot.

    The cache key hashes everything that shapes the weights: architecture, recipe, training data, torch version.

    Args:
        name: Name of the mini.
        train: Part to train on; a tenth of it is set aside to decide when to stop.
        test: Part on which the held-out accuracy of the card is measured; it shapes nothing.
        progress: Told how far training is.
    """
    info = BY_MINI[name]
    recipe = mini_recipe(info)
    key = digest(
        {
            "recipe": [RECIPE_VERSION, asdict(recipe)],
            "model": [name, info.mini_geometry()],
            "data": train.fingerprint,
            "torch": torch.__version__.partition("+")[0],
        }
    )
    folder = checkpoints.cache_dir() / "models" / f"{name}-{key[:16]}"
    if not (folder / CARD).is_file():
        vocabulary = minis.tokenizer(info, (text for example in train.examples for text in example.texts))
        model = TextModel(minis.network(info, vocabulary, train.info.labels, recipe.seed), vocabulary, name)
        with one_thread():
            card = fit(model, train, test, recipe, progress)
        save(model, {"base": name, **card}, folder)
    found = checkpoints.read(name, folder)
    return replace(found, info=info)


def fit(
    model: TextModel, train: Dataset, test: Dataset, recipe: Recipe, progress: Progress = lambda _done, _all: None
) -> Json:
    """Trains a classifier in place and returns its card: settings, steps run, held-out accuracy.

    The best weights by held-out accuracy are kept.
    """
    start = time.perf_counter()
    order, aside = train.take(), min(WATCHED, len(train.examples) // 10)
    watched, labelled = _encode(model, order[:aside]), _encode(model, order[aside:])
    if not labelled or not watched:
        raise UserError(f"data set {train.name!r} has too few labelled examples to train on: {len(train.examples)}")
    tested = _encode(model, test.take(TESTED))
    if not tested:
        raise UserError(f"data set {test.name!r} has no labelled examples to measure the held-out accuracy on")

    def loss(rows: Sequence[Row], labels: Sequence[int]) -> Tensor:
        logits = model.forward(model.collate(rows)).logits
        return torch.nn.functional.cross_entropy(logits, torch.tensor(labels, device=logits.device))

    step = descend(model.network, labelled, recipe, (loss, lambda: _accuracy(model, watched)), progress)
    return {
        "dataset": train.name,
        "train_size": len(labelled),
        "heldout": test.name,
        "heldout_accuracy": _accuracy(model, tested),
        "steps": step,
        "recipe": asdict(recipe),
        "seconds": round(time.perf_counter() - start, 2),
        "torch": torch.__version__,
    }


def _encode(model: TextModel, examples: Sequence[Example]) -> list[tuple[Row, int]]:
    return [(whole(model.encode(example)), example.label) for example in examples if example.label is not None]


def _accuracy(model: TextModel, labelled: Sequence[tuple[Row, int]]) -> float:
    """Share of examples classified correctly, in [0, 1]."""
    rows, labels = zip(*labelled, strict=True)
    return float((predicted(model, rows) == np.array(labels)).mean())


def predicted(model: TextModel, rows: Sequence[Row]) -> Ints:
    """Returns the class that a model predicts for each input, ``(n_rows,)``."""
    found = np.zeros(len(rows), dtype=np.int64)
    by_length = np.argsort([len(row.ids) for row in rows], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(rows), EVALUATION_ROWS):
            chosen = by_length[start : start + EVALUATION_ROWS]
            logits = model.forward(model.collate([rows[index] for index in chosen])).logits
            found[chosen] = logits.argmax(1).cpu().numpy()
    return found


def permuted(dataset: Dataset, seed: int) -> Dataset:
    """Returns a data set whose labels are dealt out anew among its labelled examples: nothing is left to learn.

    A model trained on it is what the label randomisation test compares with (metrics spec 8). Rationales, which speak
    for the label that was, are dropped.
    """
    labelled = [index for index, example in enumerate(dataset.examples) if example.label is not None]
    dealt = generator("permuted labels", seed, dataset.fingerprint).permutation(labelled)
    examples = list(dataset.examples)
    for index, source in zip(labelled, dealt, strict=True):
        label = dataset.examples[source].label
        examples[index] = replace(dataset.examples[index], label=label, rationales=None)
    return replace(dataset, examples=tuple(examples))


def save(model: Any, card: Json, folder: Path) -> None:
    """Writes ``network`` and ``tokenizer`` of a model to a folder atomically: it is there whole or not at all.

    Raises:
        UserError: If the folder cannot be written.
    """
    transformers.utils.logging.disable_progress_bar()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".training-") as temporary:
            target = Path(temporary) / "model"
            model.network.save_pretrained(target)
            model.tokenizer.save_pretrained(target)
            (target / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            target.replace(folder)
    except OSError as error:
        raise UserError(f"cannot write the model to {str(folder)!r}: {error.strerror or error}") from error


def append_readout(model: TextModel) -> None:
    """Makes a decoder's tokenizer append one end-of-text token, at which the class is read (methods spec 0.4).

    Encoders, and tokenizers that end a text with a special token already, are left as they are.
    """
    tokenizer = model.tokenizer
    ends = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"][-1]
    if not model.decoder or ends or tokenizer.eos_token_id is None:
        return
    starts = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"][0]
    begin = [tokenizer.convert_ids_to_tokens(tokenizer("a")["input_ids"][0])] if starts else []
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = minis.template(
        tokenizer.backend_tokenizer, " ".join([*begin, "$A", end]), " ".join([*begin, "$A", end, "$B", end])
    )
