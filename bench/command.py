"""What ``run`` and ``train`` do, with progress bars."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attrlab import leaderboard
from attrlab.bench import checkpoint as checkpoints
from attrlab.bench import data, estimate, executor, masked_mini, plan, record, retrain, session
from attrlab.bench import run as runner
from attrlab.bench import train as trainer
from attrlab.bench.checkpoint import Checkpoint
from attrlab.bench.data import Dataset
from attrlab.bench.errors import UserError
from attrlab.bench.operators import FILLER
from attrlab.bench.store import Store, write_text
from attrlab.bench.suite import Suite
from attrlab.bench.supplies import PERMUTED
from attrlab.bench.zoo import BY_MINI, BY_REPO

console = Console(stderr=True)


class Bar:
    """A progress bar with the time that is left; silent where there is no terminal."""

    def __init__(self, bars: Progress, what: str, total: int) -> None:
        self._bars = bars
        self._task: TaskID = bars.add_task(what, total=total)

    def now(self, what: str) -> None:
        """What is being worked on."""
        self._bars.update(self._task, description=what)

    def done(self, chunks: int = 1) -> None:
        """So many steps are finished."""
        self._bars.advance(self._task, chunks)

    def at(self, step: int, steps: int) -> None:
        """Step ``step`` of ``steps`` is finished."""
        self._bars.update(self._task, completed=step, total=steps)


@contextmanager
def bars() -> Iterator[Progress]:
    """Shows progress bars on standard error while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        yield progress


def trained(name: str, dataset: Dataset, data_dir: Path | None) -> Checkpoint:
    """Returns a mini trained on the training part of a data set, from the cache or on the spot; or ``FILLER``.

    A name that ends in ``PERMUTED`` is that of a mini trained on the same texts with their labels permuted.
    """
    train = plan.training_part(dataset, data_dir)
    if train is None:
        raise UserError(f"data set {dataset.name!r} has no training part to train the mini {name!r} on")
    with bars() as progress:
        bar = Bar(progress, f"training {name} on {train.name}", 1)
        make = masked_mini.mini if name == FILLER else trainer.mini
        learned = trainer.permuted(train, seed=0) if name.endswith(PERMUTED) else train
        return make(name.removesuffix(PERMUTED), learned, dataset, bar.at)


def train_minis(suite: Suite, data_dir: Path | None, options: session.Options) -> None:
    """Trains the minis of a suite that are not cached, several at once; the plan finds them afterwards."""
    names = sorted(
        (name for name in dict.fromkeys(suite.models) if checkpoints.is_mini(name)),
        key=lambda name: -BY_MINI[name].parameters,
    )
    if not names:
        return
    plan.make(suite, data_dir, lambda _name, _dataset: None)  # a mistake shows now, not after minutes of training
    work = [(name, dataset, data_dir) for name in names for dataset in dict.fromkeys(suite.datasets)]
    with bars() as progress:
        bar = Bar(progress, "training minis", len(work))
        executor.Local(options.workers or os.cpu_count() or 1).each(train_one, work, bar)


def train_one(work: tuple[str, str, Path | None], progress: executor.Progress) -> None:
    """Trains one mini on one data set, if that has a training part and it is not cached."""
    name, dataset_name, data_dir = work
    dataset = data.load(dataset_name, data_dir=data_dir)
    progress.now(f"training {name} on {dataset.info.name}")
    train = plan.training_part(dataset, data_dir)
    if train is not None:
        trainer.mini(name, train, dataset)
    progress.done()


def check_device(name: str) -> None:
    """Makes sure that torch can compute on a device.

    Raises:
        UserError: If there is no such device here.
    """
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        here += ["mps"] if torch.backends.mps.is_available() else []
        raise UserError(f"no such device: {name!r}; --device here is one of: {', '.join(here)}") from error


def run(suite: Suite, out: Path, data_dir: Path | None, options: session.Options) -> None:
    """Runs a suite into a folder, then writes its tables and page and says where they are."""
    if options.executor == "local":
        check_device(options.device)
    store = Store(out)
    with store.locked():
        start = time.perf_counter()
        train_minis(suite, data_dir, options)
        ready = plan.make(suite, data_dir, lambda name, dataset: trained(name, dataset, data_dir))
        prepared = time.perf_counter()
        record.write(ready, store, options)
        with bars() as progress:
            bar = Bar(progress, "starting", runner.count_chunks(ready))
            runner.execute(ready, store, options, bar)
            retrain.execute(ready, data_dir, store, options, lambda what, total: Bar(progress, what, total))
        board = leaderboard.pack(out)
        for name, format_ in (("index.html", "html"), ("table.md", "md"), ("table.csv", "csv"), ("table.tex", "latex")):
            write_text(out / name, leaderboard.render(board, format_))
        more = _write_curves(board, out) + _write_judged(board, out)
    seconds = time.perf_counter() - start
    Console().print(leaderboard.terminal(board))
    failed = sum(record_["status"] == "failed" for record_ in leaderboard.records(board))
    print_line(
        f"{store.fresh} chunks computed, {store.found} found whole; "
        f"{seconds:.0f} s, {prepared - start:.0f} s of them to load data and train models"
    )
    print_line(f"page: {out / 'index.html'}{more}   tables: {out}/table.{{md,csv,tex}}   failed cells: {failed}")


def _write_curves(board: leaderboard.Board, out: Path) -> str:
    """Writes the page of ROAR where that ran; returns where it is, as a line, or nothing."""
    from attrlab.leaderboard import roar, roar_page

    panels = roar.panels(out)
    if not panels:
        return ""
    write_text(out / "roar.html", roar_page.page(board, panels))
    return f"   curves: {out / 'roar.html'}"


def _write_judged(board: leaderboard.Board, out: Path) -> str:
    """Writes the page of the metrics judged where the run has what they are judged by; returns where it is."""
    from attrlab.leaderboard import judged_page
    from attrlab.leaderboard.judged import judged_at_all

    if not judged_at_all(board):
        return ""
    write_text(out / "judged.html", judged_page.page(board))
    return f"   metrics judged: {out / 'judged.html'}"


def print_line(text: str) -> None:
    """Prints one line as it is, unwrapped."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


def dry_run(suite: Suite, data_dir: Path | None) -> None:
    """Prints the cells of a suite, what is skipped and why, the forwards and a rough time."""
    Console().print(estimate.overview(plan.make(suite, data_dir, lambda _name, _dataset: None)))


def train(model: str, dataset: str, out: Path, data_dir: Path | None, device: str, steps: int | None) -> None:
    """Fine-tunes a model on the training part of a data set and writes it to a folder."""
    from dataclasses import replace

    check_device(device)
    test = data.load(dataset, data_dir=data_dir)
    part = plan.training_part(test, data_dir)
    if part is None:
        raise UserError(f"data set {dataset!r} has no training part")
    if checkpoints.is_mini(model):
        found = trained(model, test, data_dir)
        loaded, card = checkpoints.load(found, device), dict(found.card or {})
    else:
        base = checkpoints.find(model)
        info = base.info or BY_REPO["google-bert/bert-base-uncased"]
        recipe = trainer.fine_tuning_recipe(info.fine_tuning, len(part.examples))
        recipe = replace(recipe, steps=min(steps or recipe.steps, recipe.steps))
        loaded = checkpoints.load(base, device, head=test.info.labels)
        trainer.append_readout(loaded)
        with bars() as progress:
            bar = Bar(progress, f"training {model} on {part.name}", recipe.steps)
            card = {"base": model, **trainer.fit(loaded, part, test, recipe, bar.at)}
    trainer.save(loaded, card, out)
    print_line(f"{out}: held-out accuracy {card['heldout_accuracy']:.4f} on {card['heldout']}, {card['steps']} steps")
