"""The README's tables say what the catalogues say, its parity figures are within tolerance, its examples work."""

import re
import sys
from pathlib import Path

import pytest

from attrlab.bench import contract

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "acceptance"))

from readme_tables import PARTS, README  # noqa: E402 - found through the line above


def written(part):
    """Returns the part's lines in the README, by name."""
    start, end = part.marks
    table = README.read_text("utf-8").partition(start)[2].partition(end)[0]
    return {line.split("|")[1].strip(" `"): line for line in table.splitlines() if line.startswith("| `")}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.what)
def test_everything_has_a_row_in_the_order_of_the_catalogue(part):
    assert list(written(part)) == list(part.rows)


@pytest.mark.parametrize(("part", "name"), [(part, name) for part in PARTS for name in part.rows], ids=str)
def test_a_row_says_what_the_catalogue_says(part, name):
    assert written(part)[name].startswith(f"| {' | '.join(part.rows[name])} |")


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.what)
def test_figures_of_parity_are_within_their_tolerances(part):
    cells = [line.rsplit(" | ", 1)[1] for line in written(part).values()]
    figures = re.findall(r": (\S+) ≤ ([^<| ]+)", " ".join(cells))
    assert len(figures) > 10
    assert all(float(error) <= float(tolerance) for error, tolerance in figures)


EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize(("index", "name"), [(0, "Mine"), (1, "Halved")])
def test_examples_keep_the_contract(index, name, tmp_path):
    (tmp_path / "example.py").write_text(EXAMPLES[index])
    found = contract.check(f"{tmp_path / 'example.py'}:{name}")
    assert len(found) > 20
    assert [finding for finding in found if finding.problem] == []
