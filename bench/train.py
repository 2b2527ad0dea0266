"""The trainer that makes the minis, and fine-tunes a checkpoint the same way; nothing more."""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.seeds import digest
from attrlab.bench.types import Json
from attrlab.bench.zoo import BY_MINI, FineTuning, ModelInfo

RECIPE_VERSION = 1
"""Raised whenever the same settings would give other weights."""

Progress = Callable[[int, int], None]
"""Told the steps done and the steps to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained: AdamW, linear warm-up over 5 % of the steps, then linear decay to zero.

    Attributes:
        learning_rate: Highest rate.
        steps: Upper bound on the number of steps.
        batch_size: Examples per step.
        weight_decay: AdamW's.
        evaluate_every: Steps between looks at the development part.
        patience: Looks without a better accuracy after which training stops.
        good_enough: Accuracy at which training stops at once.
        seed: Of the initial weights, dropout and the order of the examples.
    """

    learning_rate: float
    steps: int = 800
    batch_size: int = 32
    weight_decay: float = 0.01
    evaluate_every: int = 50
    patience: int = 20
    good_enough: float = 0.985
    seed: int = 42


WATCHED = 500
"""Most examples set aside from the training part to decide when to stop."""

TESTED = 2000
"""Most examples on which the held-out accuracy is measured."""

EVALUATION_ROWS = 256

LIKE_LENGTH = 8
"""Batches are cut from so many batches' worth of examples sorted by length: less padding, still a random mix."""


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


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch to one thread: small products gain nothing from more, and the weights come out the same anywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def descend(
    network: Any,
    labelled: Sequence[tuple[Row, int]],
    recipe: Recipe,
    aims: tuple[Callable[[Sequence[Row], Sequence[int]], Tensor], Callable[[], float]],
    progress: Progress,
) -> int:
    """Trains a network in place and leaves it frozen at its best weights; returns the number of steps run.

    The global torch generator is left as it was.

    Args:
        network: What is trained.
        labelled: Training inputs with their labels.
        recipe: How.
        aims: The loss of a batch, which is followed, and a held-out score (higher is better), which is watched.
        progress: Told the steps.
    """
    loss, score = aims
    network.requires_grad_(requires_grad=True)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    best, best_score, since, step = network.state_dict(), -math.inf, 0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        for step, (rows, labels) in enumerate(_batches(labelled, recipe), 1):
            network.train()
            _step(network, loss(rows, labels), optimizer)
            schedule.step()
            progress(step, recipe.steps)
            if step % recipe.evaluate_every and step != recipe.steps:
                continue
            network.eval()
            reached, since = score(), since + 1
            if reached > best_score:
                best_score, since = reached, 0
                best = {key: value.clone() for key, value in network.state_dict().items()}
            if since >= recipe.patience or reached >= recipe.good_enough:
                break
    network.load_state_dict(best)
    network.eval().requires_grad_(requires_grad=False)
    return step


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


def _batches(labelled: Sequence[tuple[Row, int]], recipe: Recipe) -> Iterator[tuple[list[Row], list[int]]]:
    """Yields batches of like length for ``recipe.steps`` steps, the examples in a new order in each epoch."""
    rng = np.random.default_rng(recipe.seed)
    lengths = np.array([len(row.ids) for row, _ in labelled])
    queue: list[list[int]] = []
    for _ in range(recipe.steps):
        if not queue:
            order = rng.permutation(len(labelled))
            window = recipe.batch_size * LIKE_LENGTH
            for start in range(0, len(order), window):
                part = order[start : start + window]
                part = part[np.argsort(lengths[part], kind="stable")]
                cuts = range(0, len(part), recipe.batch_size)
                queue += [part[cut : cut + recipe.batch_size].tolist() for cut in rng.permutation(cuts)]
        chosen = [labelled[index] for index in queue.pop()]
        yield [row for row, _ in chosen], [label for _, label in chosen]


def _step(network: Any, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def _encode(model: TextModel, examples: Sequence[Example]) -> list[tuple[Row, int]]:
    return [(whole(model.encode(example)), example.label) for example in examples if example.label is not None]


def _accuracy(model: TextModel, labelled: Sequence[tuple[Row, int]]) -> float:
    """Share of examples classified correctly, in [0, 1]."""
    by_length = sorted(labelled, key=lambda pair: len(pair[0].ids))
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(by_length), EVALUATION_ROWS):
            rows, labels = zip(*by_length[start : start + EVALUATION_ROWS], strict=True)
            found = model.forward(model.collate(rows)).logits.argmax(1).cpu().numpy()
            correct += int((found == np.array(labels)).sum())
    return correct / len(by_length)


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
