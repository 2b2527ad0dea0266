"""One torch thread for every test of a method, whatever the surroundings say; and the table of parity errors."""

import json
from pathlib import Path

import pytest

from attrlab.bench import train

PARITY = pytest.StashKey()


@pytest.fixture(autouse=True)
def one_thread():
    with train.one_thread():
        yield


@pytest.fixture
def parity(request):
    """Returns a function that asserts and keeps how far a method is from its reference.

    ``parity("P8", "integrated_gradients", "captum LayerIntegratedGradients", error, 1e-8)``; several calls for the
    same three names keep the largest error.
    """

    def record(target, method, reference, error, tolerance):
        rows = request.config.stash.setdefault(PARITY, {})
        key = (target, method, reference)
        worst = max(float(error), rows.get(key, (0.0, tolerance))[0])
        rows[key] = (worst, tolerance)
        assert float(error) <= tolerance, f"{target}: {method} is {error:.3g} from {reference}; allowed {tolerance:g}"

    return record


def parity_rows(config):
    """Returns the rows kept so far, in the order of the targets' numbers."""
    rows = config.stash.get(PARITY, {})
    return [(*key, *rows[key]) for key in sorted(rows, key=lambda key: (int(key[0][1:]), *key))]


def pytest_terminal_summary(terminalreporter, config):
    rows = parity_rows(config)
    if not rows:
        return
    terminalreporter.section("parity with references")
    widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
    for target, method, reference, error, tolerance in rows:
        names = [text.ljust(width) for text, width in zip((target, method, reference), widths, strict=True)]
        terminalreporter.line(f"{'  '.join(names)}  max error {error:8.2g}  tolerance {tolerance:g}")


def pytest_sessionfinish(session):
    target = session.config.getoption("--parity")
    if target:
        names = ("target", "method", "reference", "error", "tolerance")
        rows = [dict(zip(names, row, strict=True)) for row in parity_rows(session.config)]
        Path(target).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
