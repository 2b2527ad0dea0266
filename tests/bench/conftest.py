"""The command line in-process, on an untrained model."""

import pytest
from cliruns import Attrlab, save_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder of an untrained two-class model whose labels are those of ``lexicon`` and ``sst2``."""
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def attrlab(monkeypatch, capsys, tmp_path, model):
    """The command, called from an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("ATTRLAB_DATA", raising=False)
    return Attrlab(monkeypatch, capsys, model)
