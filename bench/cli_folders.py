"""The commands that hold two results folders against each other."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

folders = typer.Typer()

Repeated = list[str] | None


@folders.command()
def compare(
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Results folder of a run.")],
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Another, or the same with --method NEW=OLD.")],
    method: Annotated[Repeated, typer.Option(help="NAME or NEW=OLD; default all names that both have.")] = None,
    metric: Annotated[Repeated, typer.Option(help="Default all that both have.")] = None,
    format_: Annotated[str, typer.Option("--format", help="text, md, csv or json.")] = "text",
) -> None:
    """Compare two results folders method by method: paired differences, intervals, corrected p, verdicts.

    Example:  attrlab compare results/today results/yesterday --method lime --metric comprehensiveness
    """
    from attrlab import leaderboard
    from attrlab.leaderboard import compare as comparing
    from attrlab.leaderboard import compare_tables

    found = comparing.compare(leaderboard.read(new), leaderboard.read(old), method or (), metric or ())
    if format_ == "text":
        Console().print(compare_tables.terminal(found))
    else:
        sys.stdout.write(compare_tables.render(found, format_))


@folders.command()
def precision(
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Results folder of a run with --precision bfloat16.")],
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The same run in float32.")],
) -> None:
    """Show what another precision does to scores and ranks: largest differences, agreement of orders.

    Example:  attrlab precision results/sst2-bf16 results/sst2
    """
    from attrlab import leaderboard
    from attrlab.leaderboard import precision as precisions

    Console().print(precisions.terminal(leaderboard.read(new), leaderboard.read(old)))


@folders.command()
def gate(  # noqa: PLR0913, PLR0917 - one parameter per documented option
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Results folder to judge.")],
    baseline: Annotated[Path, typer.Option(help="Results folder that it must not fall behind.")],
    margin: Annotated[
        float, typer.Option(help="Drop that is tolerated; a share of the baseline where a range is wider than 2.")
    ] = 0.01,
    alpha: Annotated[float, typer.Option(help="Chance that a run without any such drop fails.")] = 0.01,
    method: Annotated[Repeated, typer.Option(help="NAME or NEW=BASELINE; default all of the baseline.")] = None,
    metric: Annotated[Repeated, typer.Option(help="Default all of the baseline.")] = None,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML to write.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Markdown to write, as for $GITHUB_STEP_SUMMARY.")] = None,
) -> None:
    """Fail (exit code 1) if a method scores significantly worse than in a baseline, crashed or went missing.

    Example:  attrlab gate results/ci --baseline baseline --method mine.py:Mine --junit gate.xml
    """
    from attrlab import leaderboard
    from attrlab.bench.store import write_text
    from attrlab.leaderboard import gate as gating
    from attrlab.leaderboard import gate_report

    found = gating.gate(
        leaderboard.read(new), leaderboard.read(baseline), method or (), metric or (), margin=margin, alpha=alpha
    )
    Console().print(gate_report.terminal(found))
    for path, text in ((junit, gate_report.junit), (summary, gate_report.summary)):
        if path is not None:
            write_text(path, text(found))
    if found.failing:
        raise typer.Exit(1)
