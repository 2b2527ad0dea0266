"""What the command line prints of a questionnaire: how to use it, and what came out."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrlab.bench.errors import unknown
from attrlab.leaderboard.questionnaire_key import CONTROL, KEY_FILE, SIMULATION, Key, read_key
from attrlab.leaderboard.questionnaire_score import (
    Difference,
    Outcome,
    Response,
    Share,
    outcomes,
    read_answers,
    record,
    responses,
)

Rows = list[tuple[str, ...]]

FORMATS = ("text", "json")


def exported(key: Key, out: Path) -> str:
    """Returns what to do with an exported questionnaire."""
    texts = sum(len(item.examples) for item in key.items)
    lines = [
        f"{key.kind} of {_models(key)} on {key.results.dataset}: {len(key.items)} questions, {texts} texts, "
        f"{len(key.groups)} groups",
        f"conditions: {', '.join(key.conditions)}",
    ]
    if key.kind == SIMULATION:
        lines.append(_baselines(key))
    if key.caution:
        lines.append(key.caution)
    lines += [
        f"give {out / 'pages'}/group-1.html to the first participant, group-2.html to the second, and so on in turn",
        f"keep {out / KEY_FILE} to yourself; score with: attrlab questionnaire score {out / KEY_FILE} ANSWERS.json...",
    ]
    return "\n".join([*lines, ""])


def render(key_path: Path, paths: Sequence[Path], format: str) -> str:
    """Returns the scores of the answers in files, as ``text`` or ``json``, ending in a newline.

    Raises:
        UserError: If the format is unknown, or a file cannot be scored.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    key = read_key(key_path)
    found = responses(key, read_answers(key, paths))
    if format == "json":
        return json.dumps(record(key, found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return "\n".join([*_text(key, found), ""])


def _text(key: Key, found: Sequence[Response]) -> Iterator[str]:
    participants = len({one.participant for one in found})
    yield (
        f"{key.kind} of {_models(key)} on {key.results.dataset}: {participants} "
        f"participant{'s' * (participants != 1)}, {len(key.items)} items, {len(found)} answers"
    )
    results = outcomes(key, found)
    simulation = key.kind == SIMULATION
    yield ""
    yield from _aligned(_simulation_rows(results) if simulation else _choice_rows(results))
    yield ""
    yield from _simulation_notes(key) if simulation else _choice_notes(key)
    if key.caution:
        yield key.caution


def _simulation_rows(results: Sequence[Outcome]) -> Rows:
    rows: Rows = [("condition", "model is", "right/n", "predicted [95 %]", "more than control [95 %]", "sure", "s")]
    for one in results:
        for part in one.parts:
            whole = part.model == "all"
            rows.append(
                (
                    one.condition if whole else "",
                    part.model,
                    *_share(part.share),
                    "" if part.difference is None else _difference(part.difference),
                    _number(one.confidence) if whole else "",
                    _number(one.seconds) if whole else "",
                )
            )
    return rows


def _choice_rows(results: Sequence[Outcome]) -> Rows:
    rows: Rows = [("condition", "right/n", "picked the better [95 %]", "p", "participants", "p", "sure", "s")]
    for one in results:
        rows.append(
            (
                one.condition,
                *_share(one.parts[0].share),
                _p(one.p),
                f"{one.participants_better}/{one.participants_decided}",
                _p(one.p_participants),
                _number(one.confidence),
                _number(one.seconds),
            )
        )
    return rows


def _simulation_notes(key: Key) -> Iterator[str]:
    yield "predicted: share of answers that are the model's, with Wilson interval (answers taken as independent)."
    yield (
        f"more than control: that share less the share under {CONTROL!r}, mean over texts seen both ways (none: -), "
        "bootstrap interval over texts."
    )
    yield "model is wrong: to predict it there is to follow it into its mistakes."
    yield _baselines(key)


def _choice_notes(key: Key) -> Iterator[str]:
    accuracy = ", ".join(f"{model.name} {model.n_correct}/{model.n_labelled}" for model in key.models)
    yield f"better: {key.better.name} (right: {accuracy})."
    yield "right/n and the first p: answers, Wilson interval, exact binomial against 1/2; takes answers as independent."
    yield "participants and the second p: most of whose answers are right, of those with a majority; exact sign test."


def _baselines(key: Key) -> str:
    known = [item.correct for item in key.items if item.correct is not None]
    labels = f"; always the gold label: {sum(known)}/{len(known)}" if known else ""
    return f"guessing: 1/{len(key.options)}{labels}."


def _models(key: Key) -> str:
    return " and ".join(model.name for model in key.models)


def _share(share: Share) -> tuple[str, str]:
    if share.share is None:
        return "0/0", "-"
    return f"{share.right}/{share.n}", f"{share.share:.3f} [{share.low:.3f}, {share.high:.3f}]"


def _difference(difference: Difference) -> str:
    if difference.mean is None:
        return "-"
    ends = "" if difference.low is None else f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    return f"{difference.mean:+.3f}{ends} n {difference.n}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _aligned(rows: Rows) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
