"""Trains the small masked language model of words that fills holes where the user names no other."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import minis
from attrlab.bench.batch import Row
from attrlab.bench.checkpoint import CARD, Checkpoint
from attrlab.bench.data import Dataset
from attrlab.bench.descent import Progress, Recipe, descend, one_thread
from attrlab.bench.encoding import encode
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example
from attrlab.bench.masked import MaskedWords
from attrlab.bench.operators import FILLER
from attrlab.bench.removal import whole
from attrlab.bench.seeds import digest
from attrlab.bench.train import EVALUATION_ROWS, TESTED, WATCHED, save
from attrlab.bench.types import Floats, Ints, Json
from attrlab.bench.zoo import BY_MINI

RECIPE = Recipe(learning_rate=4e-3, steps=800, batch_size=64, evaluate_every=100, patience=5, good_enough=0.0)
"""How it is trained; the score that is watched is minus the loss, which never gets to 0."""


def mini(name: str, train: Dataset, test: Dataset, progress: Progress = lambda _done, _all: None) -> Checkpoint:
    """Returns a small masked language model of words, trained on a data set: from the cache, or on the spot.

    A BERT at mini geometry whose tokens are the white-space words of the training texts. In each training text a share
    of the words, drawn from 0 to 1, is masked: it learns the conditionals of any words given any others.

    Args:
        name: How it is called.
        train: Part to train on; a tenth of it is set aside to decide when to stop.
        test: Part on which the held-out losses of the card are measured; it shapes nothing.
        progress: Told how far training is.
    """
    info = BY_MINI["bert-base-mini"]
    key = digest(
        {
            "recipe": [1, asdict(RECIPE)],
            "model": [FILLER, info.mini_geometry(), minis.WORDS],
            "data": train.fingerprint,
            "torch": torch.__version__.partition("+")[0],
        }
    )
    folder = checkpoints.cache_dir() / "models" / f"{FILLER}-{key[:16]}"
    if not (folder / CARD).is_file():
        vocabulary = minis.word_tokenizer(text for example in train.examples for text in example.texts)
        model = MaskedWords(minis.masked_network(info, vocabulary, RECIPE.seed), vocabulary, name)
        with one_thread():
            card = fit(model, train, test, RECIPE, progress)
        save(model, {"base": name, **card}, folder)
    return checkpoints.read(name, folder)


def fit(
    model: MaskedWords, train: Dataset, test: Dataset, recipe: Recipe, progress: Progress = lambda _done, _all: None
) -> Json:
    """Trains in place and returns the card: settings, steps run, held-out loss in nats per masked word.

    Beside it the loss of the unigram distribution of the training words (plus one each) on the same masked words.

    Raises:
        UserError: If there is no text with a known word to train on, to watch or to test on.
    """
    start = time.perf_counter()
    order, aside = train.take(), min(WATCHED, len(train.examples) // 10)
    watched, learned = _readable(model, order[:aside]), _readable(model, order[aside:])
    tested = _readable(model, test.take(TESTED))
    if not (watched and learned and tested):
        raise UserError(f"data sets {train.name!r} and {test.name!r} have too few words for a masked language model")
    rng = np.random.default_rng(recipe.seed)

    def loss(rows: Sequence[Row], _labels: Sequence[int]) -> Tensor:
        return _losses(model, [_hide(model, row, rng) for row in rows]).mean()

    def score() -> float:
        return -held_out(model, watched)[0]

    steps = descend(model.network, [(row, 0) for row in learned], recipe, (loss, score), progress)
    counts = np.bincount(np.concatenate([row.ids for row in learned]), minlength=len(model.drawable))
    found, unigram = held_out(model, tested, np.where(model.drawable, counts + 1.0, 0.0))
    return {
        "dataset": train.name,
        "train_size": len(learned),
        "heldout": test.name,
        "heldout_loss": found,
        "unigram_loss": unigram,
        "steps": steps,
        "recipe": asdict(recipe),
        "seconds": round(time.perf_counter() - start, 2),
        "torch": torch.__version__,
    }


def _readable(model: MaskedWords, examples: Iterable[Example]) -> list[Row]:
    rows = [whole(encode(model.tokenizer, example, "word", model.max_length)) for example in examples]
    return [row for row in rows if model.drawable[row.ids].any()]


class _Hidden(NamedTuple):
    """A text some of whose words are masked: the row, their positions and what they were."""

    row: Row
    positions: Ints
    words: Ints


def _hide(model: MaskedWords, row: Row, rng: np.random.Generator) -> _Hidden:
    """Masks some known words of a text; every number of them, one to all, is as likely."""
    known = np.flatnonzero(model.drawable[row.ids])
    positions = rng.permutation(known)[: rng.integers(1, len(known) + 1)]
    ids = row.ids.copy()
    ids[positions] = model.tokenizer.mask_token_id
    return _Hidden(row._replace(ids=ids), positions, row.ids[positions])


def _losses(model: MaskedWords, hidden: Sequence[_Hidden]) -> Tensor:
    """Returns the cross-entropy of each masked word of a batch, in nats."""
    states = model.network.bert(**model.inputs([one.row for one in hidden])).last_hidden_state
    rows = np.repeat(np.arange(len(hidden)), [len(one.positions) for one in hidden])
    logits = model.network.cls(states[rows, np.concatenate([one.positions for one in hidden])])
    words = torch.from_numpy(np.concatenate([one.words for one in hidden])).to(logits.device)
    return torch.nn.functional.cross_entropy(logits, words, reduction="none")


def held_out(model: MaskedWords, rows: Sequence[Row], counts: Floats | None = None) -> tuple[float, float]:
    """Returns the mean loss per masked word in nats, and that of a distribution in proportion to ``counts``.

    The masks are the same at every call.
    """
    rng = np.random.default_rng(0)
    hidden = sorted((_hide(model, row, rng) for row in rows), key=lambda one: len(one.row.ids))
    with torch.inference_mode():
        batches = [hidden[start : start + EVALUATION_ROWS] for start in range(0, len(hidden), EVALUATION_ROWS)]
        found = torch.cat([_losses(model, batch) for batch in batches]).double().mean()
    if counts is None:
        return float(found), np.nan
    words = np.concatenate([one.words for one in hidden])
    return float(found), float(-np.log(counts[words] / counts.sum()).mean())
