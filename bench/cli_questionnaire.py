"""The commands of ``attrlab questionnaire``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

questionnaires = typer.Typer(help="Ask people: do explanations help them?", no_args_is_help=True)

Repeated = list[str] | None


@questionnaires.command("export")
def questionnaire_export(  # noqa: PLR0913, PLR0917 - one parameter per documented option
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder of a run.")],
    kind: Annotated[str, typer.Option(help="simulation: predict the model; choice: pick the better of two models.")],
    out: Annotated[Path, typer.Option(help="Folder for the pages and the key.")],
    items: Annotated[int | None, typer.Option(min=1, help="Questions per participant; default 24, choice 8.")] = None,
    texts: Annotated[int, typer.Option(min=1, help="Texts per question of a choice.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of texts, orders and places.")] = 0,
    method: Annotated[Repeated, typer.Option(help="Methods to compare, as in the folder; default all.")] = None,
    model: Annotated[Repeated, typer.Option(help="The model, or twice for a choice; default the only ones.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set part; default the only one.")] = None,
) -> None:
    """Write one page per group of participants, to be opened from a file, and the key to score their answers by.

    Example:  attrlab questionnaire export results/demo --kind simulation --model gpt2-mini --method lime --out ask
    """
    from attrlab.leaderboard import questionnaire, questionnaire_tables

    settings = questionnaire.Settings(
        kind=kind,
        dataset=dataset,
        models=tuple(model or ()),
        methods=tuple(method or ()),
        items=items,
        texts=texts,
        seed=seed,
    )
    key = questionnaire.export(folder, out, settings)
    sys.stdout.write(questionnaire_tables.exported(key, out))


@questionnaires.command("score")
def questionnaire_score(
    key: Annotated[Path, typer.Argument(metavar="KEY.json", help="The key that the export wrote.")],
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS.json...", help="One file per participant.")],
    format_: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """Score answers: did people predict the model, or pick the better one, more often with explanations?"""
    from attrlab.leaderboard import questionnaire_tables

    sys.stdout.write(questionnaire_tables.render(key, answers, format_))
