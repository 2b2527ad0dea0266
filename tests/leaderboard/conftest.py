"""Results folders that every test of the leaderboard may start from."""

from pathlib import Path

import pytest
from stored import Folder


@pytest.fixture
def small(tmp_path: Path) -> Folder:
    """Two models, four methods (random is not the first), one data set."""
    return Folder(tmp_path / "results", models=2, methods=4, examples=12, chunk=6).add("lexicon:test")


@pytest.fixture
def large(tmp_path: Path) -> Folder:
    """Nine models, eleven methods, few examples."""
    return Folder(tmp_path / "large", models=9, methods=11, examples=8).add("lexicon:test")
