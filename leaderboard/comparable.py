"""Whether two results folders measured the same thing: only then do their values compare, example by example."""

from collections.abc import Iterator, Sequence
from typing import Any

from attrlab.bench.errors import UserError
from attrlab.leaderboard.board import Board, Column, DatasetCard, MethodCard, MetricCard

_SHOWN = 3  # differences that one message names

_EXPLAINING_AGAIN = ("stability", "sanity", "plug-in")  # families whose values hang on the settings of re-explanations

_MODELS = (
    "use the same files; minis are trained where the cache lacks them and come out otherwise on another machine or "
    "torch, so keep that cache (ATTRLAB_CACHE) with the old results, or run both on one machine"
)


def check(new: Board, old: Board, columns: Sequence[Column], *, precision: bool = True) -> None:
    """Makes sure that values in these columns mean the same in both folders.

    Seeds, numbers of examples, machines and versions of methods may differ.

    Args:
        new: What is judged.
        old: What it is compared with.
        columns: Those of the old folder that are asked for.
        precision: Whether the models have to have answered in the same precision.

    Raises:
        UserError: If the two have no model on a data set or no column in common, or what they have in common differs:
            names up to three differences, each with what to do.
    """
    wrong = [*_settings(new, old, precision=precision), *_inputs(new, old), *_metrics(new, old, columns)]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(f"the results cannot be compared: {'; '.join(wrong[:_SHOWN])}{more}")
    if not set(_blocks(new)) & set(_blocks(old)):
        found = both(*([f"{model} on {dataset}" for model, dataset in _blocks(board)] for board in (new, old)))
        raise UserError(f"no model on a data set in common: {found}; run both with the same --model and --dataset")
    if not set(new.columns) & set(columns):
        found = both(*(list(dict.fromkeys(column.metric for column in board)) for board in (new.columns, columns)))
        raise UserError(f"no metric and operator in common: {found}; run both with the same metrics and operators")


def names(cards: Sequence[DatasetCard] | Sequence[MethodCard] | Sequence[MetricCard]) -> list[str]:
    """Returns the names of things, in order."""
    return [card.name for card in cards]


def both(new: Sequence[str], old: Sequence[str]) -> str:
    """Returns what two folders have, as in ``new has a, b, old has c``; long lists are cut."""
    return ", ".join(
        f"{side} has {', '.join(found[:5]) or 'none'}{', ...' if found[5:] else ''}"
        for side, found in (("new", new), ("old", old))
    )


def _settings(new: Board, old: Board, *, precision: bool) -> Iterator[str]:
    settings: list[tuple[str, Any, Any]] = [("unit", new.suite.unit, old.suite.unit)]
    settings += [("precision", new.suite.precision, old.suite.precision)] if precision else []
    settings += [
        (f"explain.{key}", new.suite.explain.get(key), old.suite.explain.get(key)) for key in ("target", "scalar")
    ]
    for name, ours, theirs in settings:
        if ours != theirs:
            yield f"{name} is {ours!r} in the new and {theirs!r} in the old; run both with one suite"


def _blocks(board: Board) -> dict[tuple[str, str], str | None]:
    """Returns the hash of each model, by its name and data set."""
    return {(card.name, card.dataset): card.hash for card in board.models}


def _inputs(new: Board, old: Board) -> Iterator[str]:
    """Yields which texts and weights differ among those of one name."""
    texts = {card.name: card.fingerprint for card in old.datasets}
    for card in new.datasets:
        if card.name in texts and card.fingerprint != texts[card.name]:
            told = f"{_short(card.fingerprint)} and {_short(texts[card.name])}"
            yield f"data set {card.name} has other texts ({told}); run both on the same data"
    weights, asked = _blocks(old), (_asked(new), _asked(old))
    for block, found in _blocks(new).items():
        if block not in weights:
            continue
        if found != weights[block]:
            told = f"{_short(found)} and {_short(weights[block])}"
            yield f"model {block[0]} on {block[1]} has other weights ({told}): {_MODELS}"
        ours, theirs = (own.get(block, frozenset()) for own in asked)
        if ours and theirs and not (ours <= theirs or theirs <= ours):
            yield (
                f"{block[0]} on {block[1]} was asked about other examples ({len(ours & theirs)} of {len(theirs)} in "
                "common); run both with one suite and version"
            )


def _asked(board: Board) -> dict[tuple[str, str], frozenset[str]]:
    """Returns the ids of the examples of each model on each data set."""
    return {
        (cell.model, cell.dataset): frozenset(row.example for row in cell.predictions)
        for cell in board.cells
        if cell.predictions
    }


def _metrics(new: Board, old: Board, columns: Sequence[Column]) -> Iterator[str]:
    """Yields which metrics of these columns compute something else under one name."""
    again = "run the old results again with this version of the metric"
    cards = {card.name: card for card in new.metrics}
    for name in dict.fromkeys(column.metric for column in columns if column.metric in cards):
        ours, theirs = cards[name], old.metric(name)
        if ours.version != theirs.version:
            yield f"metric {name} has version {ours.version!r} in the new and {theirs.version!r} in the old; {again}"
        elif ours.origin != theirs.origin:
            yield f"metric {name} has another source in the new than in the old; {again}"
        elif ours.params != theirs.params:
            yield f"metric {name} has parameters {ours.params} in the new and {theirs.params} in the old; {again}"
        elif ours.family in _EXPLAINING_AGAIN:
            yield from _again(name, new, old)


def _again(metric: str, new: Board, old: Board) -> Iterator[str]:
    """Yields which settings of re-explanations differ; how many examples have them is no matter."""
    ours, theirs = new.suite.re_explain, old.suite.re_explain
    for key in sorted(ours.keys() & theirs.keys() - {"examples"}):
        if ours[key] != theirs[key]:
            yield (
                f"{metric} was computed with re_explain.{key} = {ours[key]} in the new and {theirs[key]} in the old; "
                "run both with one suite, or leave it out by naming others with --metric"
            )


def _short(found: str | None) -> str:
    return found[:8] if found else "none"
