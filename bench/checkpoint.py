"""Finds a classifier by name (mini, local folder, hub id), checks it, loads it; trains a mini where none is cached.

``trust_remote_code`` is never on. Weights are read from safetensors only, save the OPT ids of the zoo, whose
repositories hold ``pytorch_model.bin``: those at the pinned revision, with ``weights_only=True``.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attrlab.bench.errors import UserError, unknown
from attrlab.bench.types import Json
from attrlab.bench.zoo import BY_MINI, BY_REPO, WIRED, ZOO, ModelInfo

if TYPE_CHECKING:
    from attrlab.bench.data import Dataset

CARD = "attrlab.json"
"""What the trainer knows of a model it made, beside the weights."""

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub before saying that it cannot be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A classifier on disk.

    Attributes:
        name: How the user called it.
        folder: Where it is.
        hash: BLAKE2 of its configuration, weights and tokenizer files.
        info: Its record in the zoo, or None.
        card: What the trainer wrote about it, or None.
        parameters: Number of weights in its safetensors files; 0 where there are none.
    """

    name: str
    folder: Path
    hash: str
    info: ModelInfo | None = None
    card: Json | None = None
    parameters: int = 0


def cache_dir() -> Path:
    """Returns the folder for trained minis and converted data: ``$ATTRLAB_CACHE``, else ``~/.cache/attrlab``."""
    return Path(os.environ.get("ATTRLAB_CACHE") or Path.home() / ".cache" / "attrlab")


def is_mini(name: str) -> bool:
    """Whether a name is one of the nine minis."""
    return name in BY_MINI


def find(name: str) -> Checkpoint:
    """Returns the checkpoint that a local folder, hub id or wired model names (minis are found by the trainer).

    Raises:
        UserError: If there is no such folder, or the hub does not answer or does not know the id.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return read(name, folder)
    if name in WIRED:
        from attrlab.bench import wired

        return read(name, wired.saved(name))
    by_short = {info.name: info.repo for info in ZOO}
    repo = by_short.get(name, name)
    if repo in BY_REPO:
        return read(name, _download(BY_REPO[repo].repo, BY_REPO[repo]), BY_REPO[repo])
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"no such model folder: {name!r}; give a folder with config.json and model.safetensors")
    if "/" not in name:
        raise unknown("model", name, [*BY_MINI, *WIRED, *by_short, *BY_REPO])
    return read(name, _download(name, None))


def read(name: str, folder: Path, info: ModelInfo | None = None) -> Checkpoint:
    """Returns the checkpoint in a folder, its files hashed.

    Raises:
        UserError: If the folder holds no configuration.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"model folder {str(folder)!r} has no config.json; save the model with save_pretrained()")
    card = folder / CARD
    return Checkpoint(
        name=name,
        folder=folder,
        hash=_hash(folder),
        info=info,
        card=json.loads(card.read_text("utf-8")) if card.is_file() else None,
        parameters=sum(_count(path) for path in folder.glob("*.safetensors")),
    )


def _count(path: Path) -> int:
    """Number of weights in a safetensors file, from its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{str(path)!r} is not a safetensors file: {error}") from error


def _hash(folder: Path) -> str:
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".json", ".txt", ".model") and path.name != CARD:
            total.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    total.update(block)
    return total.hexdigest()


def _download(repo: str, info: ModelInfo | None) -> Path:
    """Returns the local snapshot of a hub repository: from the hub's own cache, else from the hub."""
    import huggingface_hub
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    weights = "pytorch_model.bin" if info and info.pickled else "*.safetensors"
    wanted: Json = {
        "revision": info.revision if info else None,
        "allow_patterns": [weights, "*.json", "*.txt", "*.model"],
    }
    try:
        return Path(huggingface_hub.snapshot_download(repo, local_files_only=True, **wanted))
    except (OSError, ValueError):
        pass  # not in the hub's cache: ask the hub
    try:
        huggingface_hub.HfApi().model_info(repo, revision=wanted["revision"], timeout=HUB_TIMEOUT)
        return Path(huggingface_hub.snapshot_download(repo, etag_timeout=HUB_TIMEOUT, **wanted))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:160] or type(error).__name__
        raise UserError(
            f"model {repo!r} is neither a local folder nor on a reachable hub ({reason}); "
            f"give a folder, or one of the minis: {', '.join(BY_MINI)}"
        ) from error


def load(checkpoint: Checkpoint, device: str = "cpu", *, head: tuple[str, ...] | None = None) -> Any:
    """Returns the :class:`~attrlab.bench.model.TextModel` of a checkpoint, in fp32 and ``eval`` mode.

    Args:
        checkpoint: What :func:`find` returned.
        device: Torch device.
        head: Class names for a new classification head (training only); None refuses a checkpoint without one.

    Raises:
        UserError: If it is no text classifier, has no tokenizer, its head is new, or any other weight is missing.
    """
    from attrlab.bench.model import TextModel

    options: Json = {}
    if head is not None:
        options = {"num_labels": len(head), "id2label": dict(enumerate(head)), "ignore_mismatched_sizes": True}
        options |= {"label2id": {label: index for index, label in enumerate(head)}}
    loaded = pretrained(checkpoint, "SequenceClassification", "text classifier", HEADS, **options)
    if loaded.random and head is None:
        raise UserError(
            f"model {checkpoint.name!r} has no trained classification head ({loaded.random[0]!r} would be random); "
            f"train one first: attrlab train {checkpoint.name} DATASET --out DIR"
        )
    return TextModel(loaded.network.to(device), loaded.tokenizer, checkpoint.name)


def outline(name: str, checkpoint: Checkpoint | None) -> Any:
    """Returns the :class:`~attrlab.bench.model.TextModel` of a checkpoint, or of a mini not yet trained, unfilled.

    Its shapes and settings are right, its weights hold nothing: to count what could be done to the model.
    """
    import torch
    import transformers

    from attrlab.bench import minis
    from attrlab.bench.model import TextModel

    if checkpoint is None:
        vocabulary = minis.tokenizer(BY_MINI[name], [name])
        return TextModel(minis.network(BY_MINI[name], vocabulary, ("0", "1"), 0), vocabulary, name)
    with torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
        network = transformers.AutoModelForSequenceClassification.from_config(config)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    return TextModel(network.eval(), tokenizer, name)


class Pretrained(NamedTuple):
    """A network in fp32 and ``eval`` mode, weights frozen; its tokenizer; weights of its head the file lacks."""

    network: Any
    tokenizer: Any
    random: Sequence[str]


def pretrained(checkpoint: Checkpoint, task: str, what: str, heads: tuple[str, ...] = (), **options: Any) -> Pretrained:
    """Returns what transformers makes of a checkpoint.

    Args:
        checkpoint: What :func:`find` returned.
        task: What it is loaded for: ``AutoModelFor`` + task is the class.
        what: The same in words, for messages.
        heads: Beginnings of the names of weights that the file may lack.
        **options: Passed to ``from_pretrained``.

    Raises:
        UserError: If it cannot be loaded as that, has no tokenizer, or lacks any other weight.
    """
    import torch
    import transformers

    check_tokenizer(checkpoint)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    pickled = checkpoint.info is not None and checkpoint.info.pickled and checkpoint.card is None
    local: Json = {"local_files_only": True, "trust_remote_code": False}
    options |= {"dtype": torch.float32, "use_safetensors": not pickled, "weights_only": True}
    try:
        network, report = getattr(transformers, f"AutoModelFor{task}").from_pretrained(
            checkpoint.folder, output_loading_info=True, **local, **options
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, **local)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"model {checkpoint.name!r} cannot be loaded as a {what}: {reason}") from error
    missing = {*report["missing_keys"], *report["mismatched_keys"]}
    names = sorted(str(name[0] if isinstance(name, tuple) else name) for name in missing)
    body = [name for name in names if not name.startswith(heads)]
    if body:
        raise UserError(
            f"model {checkpoint.name!r}: {len(body)} weights are missing from the file, {body[0]!r} first; "
            "save the whole model with save_pretrained()"
        )
    network.requires_grad_(requires_grad=False)
    return Pretrained(network.eval(), tokenizer, names)


VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
"""Files that hold a vocabulary; one of them must lie beside the weights."""


def check_tokenizer(checkpoint: Checkpoint) -> None:
    """Refuses a folder without a vocabulary: transformers makes one of special tokens only, every word unknown."""
    if not any(any(checkpoint.folder.glob(pattern)) for pattern in VOCABULARIES):
        raise UserError(
            f"model {checkpoint.name!r} has no tokenizer ({', '.join(VOCABULARIES)}); "
            "save it beside the model with tokenizer.save_pretrained()"
        )


HEADS = ("score.", "classifier.", "pre_classifier.", "bert.pooler.")
"""Weights a pre-trained checkpoint may lack: those of the classification head (BERT's pooler is part of it)."""


def class_of_labels(checkpoint: Checkpoint, dataset: "Dataset") -> tuple[int, ...]:
    """Returns the model's class index for each label of a data set: by name, or by position where it has no names.

    Raises:
        UserError: If the model has fewer classes than the data set, or none of that name.
    """
    config: dict[str, Any] = json.loads((checkpoint.folder / "config.json").read_text("utf-8"))
    named = config.get("id2label") or {str(index): f"LABEL_{index}" for index in range(config.get("num_labels", 2))}
    names = [str(named[str(index)]).casefold() for index in range(len(named))]
    labels = dataset.info.labels
    if len(labels) > len(names):
        raise UserError(
            f"data set {dataset.name!r} has labels {', '.join(labels)}, model {checkpoint.name!r} only "
            f"{len(names)} classes: label {len(names)} is out of range; use a model trained on this data set"
        )
    if all(re.fullmatch(r"label_\d+", name) for name in names):
        return tuple(range(len(labels)))
    for label in labels:
        if label.casefold() not in names:
            raise UserError(
                f"label {label!r} of data set {dataset.name!r} is absent from the label names of model "
                f"{checkpoint.name!r}: {', '.join(names)}; use a model trained on this data set"
            )
    return tuple(names.index(label.casefold()) for label in labels)
