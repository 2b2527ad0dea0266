"""Which attention heads do recognisable work: those that look at a fixed offset, and those that follow syntax.

Both are told from where each head looks most, over the model's calibration set and its dependency parses (methods
spec 7.2; Voita et al. 2019, arXiv 1905.09418). What was counted is kept on disk, by model and texts.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.attending import Rule, attending
from attrlab.bench.batch import NOBODY
from attrlab.bench.checkpoint import cache_dir
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.parses import ROOT
from attrlab.bench.removal import whole
from attrlab.bench.seeds import digest
from attrlab.bench.types import Floats, Ints

RELATIONS = ("nsubj", "obj", "amod", "advmod")
"""Relations a head may follow; their subtypes (``nsubj:pass``) count with them."""

ROWS = 32
"""Texts of one forward pass."""

VERSION = 1
"""Of what is counted and how it is stored."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadCounts:
    """Where the H heads of L layers look most, over a set of texts.

    Attributes:
        looks: (L, H, 2N + 1) how often a token that is not special looks most at offset -N .. N (key minus query).
        hits: (2, 4, L, H) how often the first token of a dependent looks most at its head's word, and the first token
            of a head at its dependent's word, per relation.
        arcs: (4,) number of dependents per relation.
        guessed: (4,) how many of them the best fixed offset between words finds.
        parsed: () share of the texts that have a parse.
    """

    looks: Ints
    hits: Ints
    arcs: Ints
    guessed: Ints
    parsed: Floats

    def positional(self, threshold: float = 0.8, *, own: bool = True) -> Tensor:
        """Returns the heads (L, H) that look at one offset more often than ``threshold``.

        Args:
            threshold: Share of the tokens that are not special, in [0, 1].
            own: Offset 0, a token's own position, counts too.
        """
        total = self.looks.sum(-1)
        looks = self.looks if own else np.delete(self.looks, self.looks.shape[-1] // 2, axis=-1)
        return torch.from_numpy(looks.max(-1) > threshold * total)

    def syntactic(self, threshold: float = 0.1, *, both: bool = False) -> Tensor:
        """Returns the heads (L, H) that find words of some relation more often than the best fixed offset does.

        Args:
            threshold: By which share of the dependents they must be better.
            both: Finding dependents from heads counts as well as finding heads from dependents.
        """
        hits = self.hits if both else self.hits[:1]
        needed = self.guessed + threshold * self.arcs
        return torch.from_numpy((hits > needed[:, None, None]).any((0, 1)))


_known: WeakKeyDictionary[TextModel, tuple[Sequence[Encoded], HeadCounts]] = WeakKeyDictionary()


def head_counts(model: TextModel) -> HeadCounts:
    """Returns the counts over the model's calibration set.

    They are counted once: kept with the model object as long as its calibration set is the same object, and on disk
    under the hash of weights, configuration, texts and parses. They cost no example anything.

    Raises:
        NotApplicableError: If the calibration set is empty.
    """
    if len(model.calibration) == 0:
        raise NotApplicableError("the model has no calibration set to tell important heads from; give it texts")
    if model not in _known or _known[model][0] is not model.calibration:
        _known[model] = (model.calibration, _stored(model))
    return _known[model][1]


def _stored(model: TextModel) -> HeadCounts:
    path = cache_dir() / "heads" / f"{_model_hash(model)[:16]}-{_corpus_hash(model.calibration)[:16]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return HeadCounts(**{name: stored[name] for name in stored.files})
    counts = count_heads(model, model.calibration)
    _write(path, counts)
    return counts


def _write(path: Path, counts: HeadCounts) -> None:
    """Writes the file whole or not at all, whoever else is writing it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        np.savez_compressed(file, **{field.name: getattr(counts, field.name) for field in fields(counts)})
    Path(file.name).replace(path)


def _model_hash(model: TextModel) -> str:
    total = hashlib.blake2b(digest_size=16)
    config = {name: value for name, value in model.network.config.to_dict().items() if not name.startswith("_")}
    total.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, weight in sorted(model.network.state_dict().items()):
        total.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        total.update(weight.detach().cpu().contiguous().numpy().data)
    return total.hexdigest()


def _corpus_hash(corpus: Sequence[Encoded]) -> str:
    parses = [[parse and parse.nodes for parse in one.example.parses or ()] for one in corpus]
    texts = [(one.ids.tolist(), one.units.tolist(), one.words) for one in corpus]
    return digest([VERSION, RELATIONS, texts, parses])


def count_heads(model: TextModel, corpus: Sequence[Encoded]) -> HeadCounts:
    """Returns where every head looks most, over the texts of a corpus."""
    longest = max(len(one.ids) for one in corpus)
    arcs = [_arcs(one) for one in corpus]
    config = model.network.config
    shape = (config.num_hidden_layers, config.num_attention_heads)
    looks = np.zeros((*shape, 2 * longest + 1), dtype=np.int64)
    hits = np.zeros((2, len(RELATIONS), *shape), dtype=np.int64)
    layer, head = np.ogrid[: shape[0], : shape[1]]
    for one, found, peaks in zip(corpus, arcs, _peaks(model, corpus), strict=True):
        queries = np.flatnonzero(~one.special)
        np.add.at(looks, (layer[..., None], head[..., None], peaks[:, :, queries] - queries + longest), 1)
        _hit(hits, one, found, peaks)
    per_relation = [[arc for found in arcs for arc in found if arc.relation == k] for k in range(len(RELATIONS))]
    guesses = [Counter(arc.head - arc.dependent for arc in found) for found in per_relation]
    return HeadCounts(
        looks=looks,
        hits=hits,
        arcs=np.array([len(found) for found in per_relation]),
        guessed=np.array([max(counter.values(), default=0) for counter in guesses]),
        parsed=np.array(sum(any(one.example.parses or ()) for one in corpus) / len(corpus)),
    )


class _Peaks(Rule):
    """Keeps the key that every query looks at most, layer by layer."""

    def __init__(self) -> None:
        self.layers: list[Tensor] = []

    def weights(self, layer: int, weights: Tensor) -> Tensor:
        self.layers.append(weights.argmax(-1))
        return weights


@torch.no_grad()
def _peaks(model: TextModel, corpus: Sequence[Encoded]) -> Iterator[Ints]:
    """Yields per text the key that every query looks at most, (L, H, n)."""
    for start in range(0, len(corpus), ROWS):
        encoded, rule = corpus[start : start + ROWS], _Peaks()
        batch = model.collate([whole(one) for one in encoded])
        with attending(model, rule):
            model.forward(replace(batch, owners=torch.full_like(batch.owners, NOBODY)))
        peaks = torch.stack(rule.layers, 1).cpu().numpy()
        for row, one in enumerate(encoded):
            yield peaks[row, :, :, : len(one.ids)]


class _Arc(NamedTuple):
    """A dependent and its head, by number of word in the example, and their relation by number in ``RELATIONS``."""

    dependent: int
    head: int
    relation: int


def _arcs(encoded: Encoded) -> list[_Arc]:
    """Returns the arcs of an example between two of its canonical words; a word is matched by its first character."""
    words = sorted(set(encoded.words))
    found = []
    for text, parse in enumerate(encoded.example.parses or ()):
        nodes = parse.nodes if parse else ()
        at = [
            next((i for i, word in enumerate(words) if word.text == text and word.start <= node.start < word.end), None)
            for node in nodes
        ]
        for place, node in enumerate(nodes):
            relation, dependent = node.relation.partition(":")[0], at[place]
            head = None if node.head == ROOT else at[node.head]
            if relation in RELATIONS and dependent is not None and head is not None and dependent != head:
                found.append(_Arc(dependent, head, RELATIONS.index(relation)))
    return found


def _hit(hits: Ints, encoded: Encoded, arcs: Sequence[_Arc], peaks: Ints) -> None:
    """Adds the hits (2, 4, L, H) of one example."""
    words = sorted(set(encoded.words))
    owner = np.array([words.index(encoded.words[unit]) if unit >= 0 else -1 for unit in encoded.units])
    seen = owner[peaks]
    first = {int(word): int(np.argmax(owner == word)) for word in np.unique(owner)}
    for arc in arcs:
        hits[0, arc.relation] += seen[:, :, first[arc.dependent]] == arc.head
        hits[1, arc.relation] += seen[:, :, first[arc.head]] == arc.dependent
