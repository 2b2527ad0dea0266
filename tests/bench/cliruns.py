"""What the tests of the command line share: a small untrained model in a folder, and ``attrlab`` called in-process."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from attrlab.bench import cli, minis
from attrlab.bench.testing import TEXTS
from attrlab.bench.zoo import BY_MINI


def save_model(folder: Path, *, mini="bert-base-mini", labels=("negative", "positive"), seed=0) -> Path:
    """An untrained classifier in the layout of ``save_pretrained``."""
    info = BY_MINI[mini]
    vocabulary = minis.tokenizer(info, TEXTS)
    minis.network(info, vocabulary, labels, seed).save_pretrained(folder)
    vocabulary.save_pretrained(folder)
    return folder


class Called(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line that a refused command prints."""
        assert self.code == 2, self
        assert self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.out + self.err
        return self.err


class Attrlab:
    """The command, called in this process from a folder of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path) -> None:
        self._patch, self._capsys, self.model = patch, capsys, model

    def __call__(self, *arguments: object) -> Called:
        """Calls the command with these arguments."""
        self._patch.setattr(sys, "argv", ["attrlab", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Called(ended.value.code or 0, *self._capsys.readouterr())

    def run(self, out: object, *arguments: object, model: object = None, dataset="lexicon", limit=4) -> Called:
        """Runs one model on one data set in this process."""
        fixed = ("run", "adhoc", "--workers", 1, "--out", out, "--model", model or self.model, "--dataset", dataset)
        return self(*fixed, "--limit", limit, *arguments)

    def records(self, out: object) -> list[dict[str, object]]:
        """The JSON table of a folder, without what is measured."""
        return json.loads(self.table(out))

    def table(self, out: object) -> str:
        """The same as text."""
        called = self("table", out, "--no-timings", "--format", "json")
        assert called.code == 0, called.err
        return called.out


def chunks(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification time and inode of every chunk of a results folder: equal if nothing was written again."""
    kinds = ("predictions", "attributions", "scores", "shifts")
    files = [path for kind in kinds for path in (folder / kind).glob("*.json")]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
