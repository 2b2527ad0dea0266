"""The command line. Every command imports what it needs when it runs: ``list`` and ``table`` never load torch."""

import math
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.exceptions import TyperException

from attrlab.bench.cli_folders import folders
from attrlab.bench.cli_questionnaire import questionnaires
from attrlab.bench.errors import UserError

app = typer.Typer(
    name="attrlab",
    help="Benchmark token-attribution methods: faithful, plausible, stable? At what cost?\n\n"
    "Start with:  attrlab list,  attrlab run demo,  attrlab table results/demo",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

studies = typer.Typer(help="Study one method closely.", no_args_is_help=True)
app.add_typer(studies, name="study")
app.add_typer(questionnaires, name="questionnaire")
app.add_typer(folders)

Repeated = list[str] | None

INTERRUPTED = 130
"""Exit code after Ctrl-C; Typer turns the exception into it."""


def main() -> None:
    """Runs the command line; a user's mistake is one line on standard error and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="attrlab", standalone_mode=False)
    except (UserError, TyperException) as error:
        message = error.format_message() if isinstance(error, TyperException) else str(error)
        print("error:", " ".join(message.splitlines()), file=sys.stderr)
        code = 2
    if code == INTERRUPTED:
        print("interrupted; run the same command again to go on", file=sys.stderr)
    sys.exit(code)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, metrics, models, datasets or suites; or the id of one.")] = "",
) -> None:
    """List what can be run, with the facts: family, direction, cost, reference."""
    from attrlab.bench import listing

    listing.show(what)


@app.command()
def run(  # noqa: PLR0913, PLR0917 - one parameter per documented option
    suite: Annotated[str, typer.Argument(help="A shipped suite, a TOML file, or 'adhoc' (starts from empty lists).")],
    out: Annotated[Path | None, typer.Option(help="Results folder; default results/SUITE.")] = None,
    method: Annotated[Repeated, typer.Option(help="m:param=value, FILE.py:Class or pkg.module:Class.")] = None,
    metric: Annotated[Repeated, typer.Option(help="Likewise. A repeatable option replaces the suite's list.")] = None,
    model: Annotated[Repeated, typer.Option(help="Mini, local folder or hub id.")] = None,
    dataset: Annotated[Repeated, typer.Option(help="NAME or NAME:PART, as in sst2:dev.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local data sets.", envvar="ATTRLAB_DATA")] = None,
    limit: Annotated[int | None, typer.Option(help="First N examples of a fixed label-stratified order.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all draws of the methods.")] = None,
    device: Annotated[str, typer.Option(help="Torch device: cpu, cuda, cuda:1, mps.")] = "cpu",
    token_budget: Annotated[
        int, typer.Option(min=0, help="Padded tokens per forward; 0: one example at a time.")
    ] = 2048,
    timeout: Annotated[float | None, typer.Option(help="Seconds per method and example; default none.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core for small models.")] = 0,
    reuse: Annotated[bool, typer.Option(help="Compute shared beginnings once (large causal models, CPU).")] = False,
    narrow: Annotated[bool, typer.Option(help="Compute the last block only where the head reads.")] = True,
    precision: Annotated[str | None, typer.Option(help="Of the model's answers: float32 or bfloat16.")] = None,
    executor: Annotated[Literal["local", "ray"], typer.Option(help="Who works: this machine, or Ray.")] = "local",
    address: Annotated[str, typer.Option(help="Of a Ray cluster: auto, HOST:6379; default starts one here.")] = "",
    retry_failed: Annotated[bool, typer.Option(help="Compute again what failed before.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print cells, skips, forwards and a rough time; run nothing.")] = False,
) -> None:
    """Run a suite: attributions, scores, table and page. Run it again to resume; nothing whole is computed twice.

    Example:  attrlab run adhoc --model ./my-model --dataset sst2:dev --data-dir ./data --method lime --metric auprc
    """
    from attrlab.bench import command, session
    from attrlab.bench import suite as suites
    from attrlab.bench.shortcuts import Shortcuts

    if timeout is not None and not 0 < timeout < math.inf:
        raise UserError(f"--timeout {timeout:g}: give a number of seconds above 0, or leave it out for no limit")
    if executor == "ray" and ":" in device:
        raise UserError(f"--device {device!r}: every Ray worker has an accelerator of its own; use --device cuda")
    if address and executor != "ray":
        raise UserError(f"--address {address!r} is that of a Ray cluster; add --executor ray, or leave it out")
    chosen = suites.override(
        suites.load(suite),
        methods=method,
        metrics=metric,
        models=model,
        datasets=dataset,
        limit=limit,
        seed=seed,
        precision=precision,
    )
    options = session.Options(
        device=device,
        token_budget=token_budget,
        timeout=timeout,
        retry_failed=retry_failed,
        workers=workers,
        shortcuts=Shortcuts(prefix=reuse, last_block=narrow),
        executor=executor,
        address=address,
    )
    if dry_run:
        command.dry_run(chosen, data_dir)
    else:
        command.run(chosen, out or Path("results") / chosen.name, data_dir, options)


@app.command()
def table(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder of a run.")],
    format_: Annotated[str, typer.Option("--format", help="md, csv, latex, html or json.")] = "md",
    timings: Annotated[bool, typer.Option(help="Leave measured time out with --no-timings.")] = True,
    model: Annotated[str | None, typer.Option(help="Only this model, as in the folder.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set part, as in the folder.")] = None,
) -> None:
    """Print the tables of a results folder: means with 95 % bootstrap intervals over examples."""
    from attrlab import leaderboard

    sys.stdout.write(leaderboard.render(leaderboard.read(folder, model, dataset), format_, timings=timings))


@app.command()
def pack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder of a run.")],
) -> None:
    """Write columnar copies (Parquet) of a folder's scores and attributions, which large boards are read from fast.

    `run` does so at its end. Files that change afterwards are read themselves: a copy is never out of date.
    """
    from attrlab import leaderboard

    leaderboard.pack(folder)


@app.command()
def check(
    thing: Annotated[str, typer.Argument(help="pkg.module:Thing, FILE.py:Thing or an id.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Check every method and metric of the catalogue.")] = False,
) -> None:
    """Test a method or metric against the public contract: shape, finiteness, seeds, batch invariance, ..."""
    from attrlab.bench import contract

    if bool(thing) == all_:
        raise UserError("name one thing to check (FILE.py:Thing, pkg.module:Thing, an id), or give --all")
    if not contract.report(thing or None):
        raise typer.Exit(1)


@app.command()
def explain(  # noqa: PLR0913, PLR0917 - one parameter per documented option
    model: Annotated[str, typer.Argument(help="Mini, local folder or hub id.")],
    text: Annotated[
        str, typer.Argument(help="The text to explain; a prompt with --target, a context with --question.")
    ],
    pair: Annotated[str | None, typer.Option(help="Second text of a pair task.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Explain a causal language model: why does it go on like this? As in ' is'.")
    ] = None,
    foil: Annotated[Repeated, typer.Option(help="Rather than this, of as many tokens; with --target.")] = None,
    question: Annotated[
        str | None, typer.Option(help="Explain an extractive question-answering model: its answer to this.")
    ] = None,
    method: Annotated[Repeated, typer.Option(help="Methods; default all of the catalogue.")] = None,
    dataset: Annotated[str, typer.Option(help="Data set a mini is trained on.")] = "lexicon",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local data sets.", envvar="ATTRLAB_DATA")] = None,
    html: Annotated[Path, typer.Option(help="Where to write the same as HTML.")] = Path("explanation.html"),
) -> None:
    """Show all methods side by side on one text: blue supports the predicted class, red speaks against it.

    Example:  attrlab explain ./my-gpt2 "The keys to the cabinet" --target " are" --foil " is"
    """
    from attrlab.bench import showing

    what = showing.subject(text, pair, target, foil or (), question)
    showing.show(model, what, method or [], (dataset, data_dir), html)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="Mini, local folder or hub id.")],
    dataset: Annotated[str, typer.Argument(help="NAME; its training part is used.")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local data sets.", envvar="ATTRLAB_DATA")] = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    steps: Annotated[int | None, typer.Option(min=1, help="Upper bound on steps; default by recipe.")] = None,
) -> None:
    """Fine-tune a classifier the way the minis are made; nothing more."""
    from attrlab.bench import command

    command.train(model, dataset, out, data_dir, device, steps)


@studies.command("lambda")
def study_lambda(  # noqa: PLR0913, PLR0917 - one parameter per documented option
    model: Annotated[Repeated, typer.Option(help="Mini, local folder or hub id; default three minis.")] = None,
    dataset: Annotated[str, typer.Option(help="Data set with planted words; minis are trained on it.")] = "and_pair",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with local data sets.", envvar="ATTRLAB_DATA")] = None,
    limit: Annotated[int, typer.Option(min=2, help="First N sentences with planted words, predicted right.")] = 32,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions with other draws.")] = 2,
    preset: Annotated[str, typer.Option(help="Budget of the optimisation: fast, default or full.")] = "default",
    lambda_: Annotated[
        list[float] | None, typer.Option("--lambda", help="Weights of the entropy; default 0.02 to 30.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="A text whose two --pair words are followed too.")] = None,
    pair: Annotated[str | None, typer.Option(help="Two words of --text: WORD,OTHER, as in year,did.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core for small models.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for page, figures, tables and numbers.")] = Path(
        "results/study-lambda"
    ),
) -> None:
    """What the weight lambda does to co-perturbation: interest, damage, recall; is there a best lambda?

    Example:  attrlab study lambda --text "In what year did it end?" --pair year,did
    """
    from attrlab.bench import study

    settings = study.Settings(
        models=tuple(model or study.MODELS),
        dataset=dataset,
        limit=limit,
        seeds=seeds,
        preset=preset,
        lams=tuple(lambda_ or study.LAMBDAS),
        words=study.named_words(text, pair),
    )
    study.run(settings, data_dir, out, workers)
