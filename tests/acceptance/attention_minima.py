"""One task, one architecture, two minima: the same accuracy and answers, other attention. What do methods make of it?

    python tests/acceptance/attention_minima.py OUT_FOLDER

Cui et al. 2024 (arXiv 2402.03902): a transformer with a single attention layer, queries and keys tied, learns to count
how often a word occurs (data set ``histogram``) in two ways. In the semantic one a word attends to its like, in the
positional one by position alone; which one is reached depends on where training starts. Here this is a BERT of one
layer without special tokens, read at the first word, the one that is counted: word embeddings have only their first
half of dimensions, position embeddings the second, values are the embeddings themselves.

Writes ``minima.json`` and ``minima.md``: per start and seed the held-out accuracy, what the tied weights act on, how
the attention of the first word is spread, and per method the recall of the words that are counted.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from attrlab.bench import data, generator_words, train
from attrlab.bench.attending import Record, attending
from attrlab.bench.batch import Row
from attrlab.bench.engine import Engine
from attrlab.bench.explain import Question, outcomes
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.registry import METHODS
from attrlab.bench.removal import whole
from attrlab.bench.seeds import generator
from attrlab.bench.types import Floats, Json
from attrlab.leaderboard.statistics import intervals
from attrlab.metrics.planted import recall
from attrlab.metrics.ranking import rankings, top

HALF, LENGTH = 24, 16
STEPS, BATCH, RATE = 2500, 128, 3e-3
TIED_RATE = 1e-4
"""Of the tied weights, low enough for them to stay near where they start: the rest of the model adapts to them."""

STARTS = ("semantic", "positional")
SEEDS = (0, 1)
EXPLAINED = 120
METHODS_SHOWN = (
    "attention_last",
    "attention_rollout",
    "leave_one_out",
    "input_x_gradient",
    "integrated_gradients:steps=20",
    "random",
)


def tokenizer() -> Any:
    """Returns a tokenizer of white-space words that adds nothing."""
    words = ["[PAD]", "[UNK]", "[MASK]", *generator_words.COUNTED]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=LENGTH, **special)


def network(start: str, vocabulary: int) -> Any:
    """Returns the untrained classifier, its tied weights acting on words or on positions only."""
    labels = data.DATASETS["histogram"].labels
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=2 * HALF,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8 * HALF,
        max_position_embeddings=LENGTH,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    made = transformers.BertForSequenceClassification(config)
    embeddings, block = made.bert.embeddings, made.bert.encoder.layer[0].attention
    words = (torch.arange(2 * HALF) < HALF).float()
    embeddings.word_embeddings.register_forward_hook(lambda _module, _args, rows: rows * words)
    embeddings.position_embeddings.register_forward_hook(lambda _module, _args, rows: rows * (1 - words))
    embeddings.LayerNorm = torch.nn.Identity()
    block.self.key = block.self.query
    block.self.value = block.output.dense = torch.nn.Identity()
    with torch.no_grad():
        embeddings.word_embeddings.weight.normal_()
        embeddings.position_embeddings.weight.normal_()
        embeddings.token_type_embeddings.weight.zero_()
        block.self.query.weight.copy_(0.5 * torch.diag(words if start == "semantic" else 1 - words))
    embeddings.token_type_embeddings.weight.requires_grad_(requires_grad=False)
    return made


def batches(labelled: list[tuple[Row, int]], seed: int) -> Iterator[tuple[list[Row], Tensor]]:
    """Yields ``STEPS`` batches, drawn with replacement."""
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        rows, labels = zip(*(labelled[index] for index in rng.integers(len(labelled), size=BATCH)), strict=True)
        yield list(rows), torch.tensor(labels)


def trained(start: str, seed: int) -> TextModel:
    """Returns the model that training reaches from a start."""
    vocabulary = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TextModel(network(start, len(vocabulary)), vocabulary, start)
    tied = list(model.network.bert.encoder.layer[0].attention.self.query.parameters())
    known = {id(parameter) for parameter in tied}
    rest = [one for one in model.network.parameters() if one.requires_grad and id(one) not in known]
    groups = [{"params": rest, "lr": RATE}, {"params": tied, "lr": TIED_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [RATE, TIED_RATE], total_steps=STEPS)
    labelled = [(whole(model.encode(one)), int(one.label or 0)) for one in data.load("histogram:train").examples]
    for rows, labels in batches(labelled, seed):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.forward(model.collate(rows)).logits, labels).backward()
        optimizer.step()
        schedule.step()
    model.network.requires_grad_(requires_grad=False).eval()
    return model


def first_word_attention(model: TextModel, examples: list[Example]) -> Floats:
    """Returns the mean attention of the first word: to itself, to its other occurrences, to all other words."""
    shares = []
    for example in examples:
        record = Record()
        with torch.inference_mode(), attending(model, record):
            model.forward(model.collate([whole(model.encode(example))]))
        weights = record.layers[0][0, 0, 0].numpy()
        same = np.array([word == example.texts[0].split()[0] for word in example.texts[0].split()])
        shares.append((weights[0], weights[same][1:].sum(), weights[~same].sum()))
    return np.mean(shares, axis=0)


def recalls(model: TextModel, examples: list[Example]) -> dict[str, Floats]:
    """Returns per method the recall of the counted words in the |G| largest scores of either sign, per example."""
    encoded = [model.encode(example) for example in examples]
    engine = Engine(model, encoded)
    questions = [Question(slot=slot, target=int(one.label or 0), seed=(0, one.id)) for slot, one in enumerate(examples)]
    found = {}
    for name in METHODS_SHOWN:
        values = []
        for example, one, outcome in zip(
            examples, encoded, outcomes(METHODS.find(name).build(), questions, engine), strict=True
        ):
            assert outcome.scores is not None, outcome.error
            counted = one.rationale((example.rationales or ())[0])
            ties = np.array([generator("ties", example.id, draw).permutation(len(counted)) for draw in range(5)])
            chosen = top(rankings(np.abs(outcome.scores), ties), int(counted.sum()))
            values.append(np.mean([recall(row, counted) for row in chosen]))
        found[name] = np.array(values)
    return found


def predictions(model: TextModel, examples: Sequence[Example]) -> list[int]:
    """Returns the class that the model predicts for each example."""
    with torch.inference_mode():
        logits = model.forward(model.collate([whole(model.encode(one)) for one in examples])).logits
    found: list[int] = logits.argmax(1).tolist()
    return found


def measured(start: str, seed: int) -> Json:
    """Returns what is measured of the minimum that one start and seed reach."""
    model = trained(start, seed)
    examples = data.load("histogram:test").take()
    right = [one for one, found in zip(examples, predictions(model, examples), strict=True) if found == one.label]
    weight = model.network.bert.encoder.layer[0].attention.self.query.weight
    squares = (weight**2).sum(0)
    repeated = [one for one in right if one.label][:EXPLAINED]
    itself, like, others = first_word_attention(model, repeated)
    return {
        "start": start,
        "seed": seed,
        "accuracy": len(right) / len(examples),
        "weight_on_words": float(squares[:HALF].sum() / squares.sum()),
        "attention": {"itself": float(itself), "its like": float(like), "others": float(others)},
        "chance": float(np.mean([((one.label or 0) + 1) / len(one.texts[0].split()) for one in repeated])),
        "recall": {
            name: [float(values.mean()), *map(float, intervals(values[:, None])[0])]
            for name, values in recalls(model, repeated).items()
        },
    }


def markdown(rows: list[Json]) -> str:
    """Returns the two tables."""
    lines = ["| start | seed | accuracy | weight on words | attention to itself | to its like | to others |"]
    lines.append("|" + "---|" * 7)
    for row in rows:
        shares = " | ".join(f"{share:.2f}" for share in row["attention"].values())
        head = f"| {row['start']} | {row['seed']} | {row['accuracy']:.3f} | {row['weight_on_words']:.2f}"
        lines.append(f"{head} | {shares} |")
    chance = np.mean([row["chance"] for row in rows])
    lines += ["", f"Recall of the counted words, mean with 95 % interval (by chance {chance:.2f})", ""]
    lines.append("| method | " + " | ".join(f"{row['start']} {row['seed']}" for row in rows) + " |")
    lines.append("|" + "---|" * (len(rows) + 1))
    for name in METHODS_SHOWN:
        cells = ["{:.2f} [{:.2f}, {:.2f}]".format(*row["recall"][name]) for row in rows]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains from both starts under every seed, measures, writes."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with train.one_thread():
        rows = [measured(start, seed) for start in STARTS for seed in SEEDS]
    (out / "minima.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    (out / "minima.md").write_text(markdown(rows), "utf-8")
    print(markdown(rows))


if __name__ == "__main__":
    main()
