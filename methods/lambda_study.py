"""What the weight of the entropy does to co-perturbation (methods spec 1.3, metrics spec 9.3; figure 4 of the source).

Two kinds of curves over the weight lambda. The *optimum*: one sweep from the smallest weight to the largest, each
started from the solution before. *Unfinished*: the same objective, but only a few steps, from the most noise there is
and anew for every weight. Exact optima cannot lose damage M as lambda grows; what is not finished may.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.engine import padded_length
from attrlab.bench.inputs import Encoded
from attrlab.bench.model import TextModel
from attrlab.bench.removal import whole
from attrlab.bench.seeds import generator
from attrlab.bench.types import Bools, Floats, Ints, Json
from attrlab.methods.co_perturbation import CoPerturbation, attribution, capped, diagnostics, pose
from attrlab.methods.noise import noise_like
from attrlab.methods.tolerance import Deviation, Problem, Settings, Solution, deviation, optimise, sweep

UNFINISHED = (25, 100)
"""Steps of the optimisations that are stopped early."""

FRESH = 64
"""Draws, common to all weights and curves of a seed, on which damage and slope are measured at what was found."""

_AT_ONCE = 8
"""Of these draws, how many are held in memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sentence:
    """An example of the study.

    Attributes:
        encoded: The example, its units words.
        planted: Words that decide the label, ``(n_units,)``, not all and not none.
        pair: The designated pair: a word that should draw interest, and one that should not.
    """

    encoded: Encoded
    planted: Bools
    pair: tuple[int, int]


def designate(encoded: Encoded, planted: Bools) -> Sentence:
    """Returns the example with one of its planted and one of its other words, drawn by the example's id alone."""
    rng = generator("designated pair", encoded.example.id)
    pair = (int(rng.choice(np.flatnonzero(planted))), int(rng.choice(np.flatnonzero(~planted))))
    return Sentence(encoded=encoded, planted=planted, pair=pair)


def study(
    model: TextModel, sentences: Sequence[Sentence], method: CoPerturbation, lams: Sequence[float], seed: int
) -> list[Json]:
    """Returns one record per curve and weight; each measure is a list with one number per sentence.

    ``unfinished``: steps from the most noise, 0 for the optimum. ``lam``, ``seed``. ``damage``: M on fresh draws.
    ``entropy``: mean of u below the cap, at most 0. ``capped``, ``collapsed``, ``kkt``, ``moved``: as in
    :func:`~attrlab.methods.co_perturbation.diagnostics`, on fresh draws. ``recall`` of the planted words by the
    method's score, ``recall_rho`` by ln(rho) alone. ``planted``, ``ordinary``: ln(rho) of the designated pair;
    ``ordered``: 1 if the first is higher, 1/2 if both tolerate the most noise there is. ``floor``: the lowest ln(rho).
    ``scale``: the source does not divide its objective; its weight times this is ours (methods spec 1.3).

    Args:
        model: The model, calibrated.
        sentences: The examples; a word's interest is that of its sub-token at the edge (methods spec 0.5).
        method: Draws, steps, representation and shrinkage; its own weight is not used.
        lams: Weights of the entropy, ascending.
        seed: Of all draws.

    Raises:
        ValueError: If the weights do not ascend.
    """
    size = len(sentences)
    found: dict[tuple[int, float], dict[str, Floats]] = defaultdict(lambda: defaultdict(lambda: np.zeros(size)))
    for members, length in _groups(model, sentences):
        chosen = [sentences[index] for index in members]
        for key, measures in _solve(model, chosen, length, (method, lams, seed)):
            for name, values in measures.items():
                found[key][name][members] = values
    return [
        {"unfinished": steps, "lam": lam, "seed": seed, **{name: values.tolist() for name, values in columns.items()}}
        for (steps, lam), columns in found.items()
    ]


def _groups(model: TextModel, sentences: Sequence[Sentence]) -> Iterator[tuple[Ints, int]]:
    """Yields the indices of sentences of like length with their padded length: no sentence depends on company."""
    padded = np.array([padded_length(len(sentence.encoded.ids), model.max_length) for sentence in sentences])
    for length in np.unique(padded):
        yield np.flatnonzero(padded == length), int(length)


def _solve(
    model: TextModel,
    sentences: Sequence[Sentence],
    length: int,
    how: tuple[CoPerturbation, Sequence[float], int],
) -> Iterator[tuple[tuple[int, float], dict[str, Floats]]]:
    """Yields the measures of sentences of like length by steps (0: optimum) and weight."""
    method, lams, seed = how
    encoded = [sentence.encoded for sentence in sentences]
    batch = model.collate([whole(one) for one in encoded], [one.units >= 0 for one in encoded], length)
    problem, _ = pose(model, batch, method.phi, method.site, method.cap)
    settings = Settings(lam=lams[0], draws=method.draws, steps=method.steps)

    def rngs(purpose: str) -> list[np.random.Generator]:
        return [generator("lambda study", purpose, seed, one.example.id) for one in encoded]

    found = {(0, lam): one for lam, one in zip(lams, sweep(problem, settings, lams, rngs("draws")), strict=True)}
    highest = problem.log_cap[:, None].expand(problem.scorable.shape)
    for steps in UNFINISHED:
        for lam in lams:
            stopped = replace(settings, lam=lam, steps=steps)
            found[steps, lam] = optimise(problem, stopped, rngs("draws"), highest)
    for (steps, lam), solution in found.items():
        fresh = fresh_deviation(problem, solution.u, rngs("fresh"))
        judged = solution._replace(damage=fresh.damage, slope=fresh.slope)
        numbers = diagnostics(problem, judged, torch.full_like(problem.log_cap, lam))
        measures = {name: numbers[name].double().cpu().numpy() for name in ("capped", "collapsed", "kkt", "moved")}
        measures["damage"] = numbers["M"].cpu().numpy()
        measures["entropy"] = (numbers["entropy"] - problem.log_cap).cpu().numpy()
        words = [
            _words(sentence, row, problem, solution, model, method.shrink) for row, sentence in enumerate(sentences)
        ]
        yield (steps, lam), measures | {name: np.array([one[name] for one in words]) for name in words[0]}


def fresh_deviation(problem: Problem, u: Tensor, rngs: Sequence[np.random.Generator]) -> Deviation:
    """Returns the mean deviation of all examples over ``FRESH`` draws."""
    rows = torch.arange(len(u), device=u.device)
    parts = []
    for _ in range(0, FRESH, _AT_ONCE):
        noise = noise_like(problem.scorable, problem.embeds, (_AT_ONCE,), rngs)
        parts.append(deviation(problem, rows, u, noise))
    return Deviation(*(torch.stack(values).mean(0) for values in zip(*parts, strict=True)))


def _words(
    sentence: Sentence, row: int, problem: Problem, solution: Solution, model: TextModel, shrink: float
) -> dict[str, float]:
    """Returns the measures of one sentence that are about its words."""
    edges = edge_tokens(sentence.encoded, model.decoder)
    floor = -2 * float(problem.log_cap[row])
    tied = capped(problem, solution)[row].cpu().numpy()[edges]
    interest = np.where(tied, floor, -2 * solution.u[row].cpu().numpy()[edges])
    scores = attribution(solution, shrink)[row].cpu().numpy()[edges]
    planted, ordinary = interest[list(sentence.pair)]
    return {
        "recall": expected_recall(scores, sentence.planted),
        "recall_rho": expected_recall(interest, sentence.planted),
        "planted": float(planted),
        "ordinary": float(ordinary),
        "ordered": float((np.sign(planted - ordinary) + 1) / 2),
        "floor": floor,
        "scale": _scale(problem, row),
    }


def _scale(problem: Problem, row: int) -> float:
    """Returns d * m / (D * R): what the source's objective is divided by here, over what its weight is divided by."""
    tokens, width = float(problem.scorable[row].sum()), problem.embeds.shape[-1]
    return tokens * width / (problem.reference.shape[1] * float(problem.spread[row]))


def edge_tokens(encoded: Encoded, decoder: bool) -> Ints:
    """Returns the token that speaks for each word, ``(n_units,)``: the last of a causal model, else the first."""
    members = [np.flatnonzero(encoded.units == unit) for unit in range(encoded.n_units)]
    return np.array([tokens[-1 if decoder else 0] for tokens in members], dtype=np.int64)


def expected_recall(scores: Floats, planted: Bools) -> float:
    """Returns the share of the k planted words among the k best, expected over random orders of tied words, in [0, 1].

    >>> expected_recall(np.array([3.0, 1.0, 1.0, 0.0]), np.array([True, True, False, False]))
    0.75
    """
    k = int(planted.sum())
    cut = np.sort(scores)[-k]
    above, level = scores > cut, scores == cut
    share = (k - above.sum()) / level.sum()
    return float(((above & planted).sum() + share * (level & planted).sum()) / k)
