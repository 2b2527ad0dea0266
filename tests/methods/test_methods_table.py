"""The README's table of methods says what the catalogue says, and its parity figures are within their tolerances."""

import re
import sys
from pathlib import Path

import pytest

from attrlab.bench.registry import METHODS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "acceptance"))

from methods_table import END, START, row  # noqa: E402 - found through the line above

TABLE = (ROOT / "README.md").read_text("utf-8").partition(START)[2].partition(END)[0]
ROWS = {line.split("|")[1].strip(" `"): line for line in TABLE.splitlines() if line.startswith("| `")}


def test_every_method_has_a_row_in_the_order_of_the_catalogue():
    assert list(ROWS) == list(METHODS.entries())


@pytest.mark.parametrize("name", METHODS.entries())
def test_a_row_says_what_the_catalogue_says(name):
    assert ROWS[name].startswith(f"| {' | '.join(row(name, METHODS.entries()[name]))} |")


def test_figures_of_parity_are_within_their_tolerances():
    figures = re.findall(r": (\S+) ≤ ([^<| ]+)", TABLE)
    assert len(figures) > 20
    assert all(float(error) <= float(tolerance) for error, tolerance in figures)
