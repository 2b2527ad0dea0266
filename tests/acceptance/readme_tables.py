"""Writes the tables of methods and metrics into the README, from the catalogues and the errors that were measured.

    pytest tests/methods tests/metrics --parity parity.json && python tests/acceptance/readme_tables.py parity.json

`make tables` does both. A test compares the README with the catalogues, so the tables cannot fall behind them.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from attrlab.bench.facts import MethodFacts, MetricFacts
from attrlab.bench.registry import METHODS, METRICS
from attrlab.bench.types import Json

README = Path(__file__).parents[2] / "README.md"
PARITY = "parity: largest error ≤ tolerance"


class Part(NamedTuple):
    """One table of the README: between which marks it stands, its columns, and its rows by name."""

    what: str
    columns: tuple[str, ...]
    rows: Mapping[str, list[str]]

    @property
    def marks(self) -> tuple[str, str]:
        """The lines before and after the table."""
        return f"<!-- {self.what}: written by make tables -->\n", f"<!-- end of {self.what} -->\n"


def of_method(name: str, facts: MethodFacts) -> list[str]:
    """Returns what the catalogue says of a method, one text per column."""
    most = "at most " if facts.bound else ""
    cost = facts.forwards if facts.backwards == "0" else f"{facts.forwards} (+ {facts.backwards})"
    needs = [need for need in facts.needs if need != "causal"]
    return [
        f"`{name}`",
        facts.family,
        "±" if facts.signed else "≥ 0",
        "decoders" if "causal" in facts.needs else "all",
        ", ".join(needs) or "answers",
        most + product(cost),
        f"{facts.summary}; {facts.reference}",
    ]


def of_metric(name: str, facts: MetricFacts) -> list[str]:
    """Returns a metric's card, one text per column."""
    low, high = (f"{bound:g}".replace("inf", "∞") for bound in facts.bounds)
    closing = ")" if math.isinf(facts.bounds[1]) else "]"
    better = {True: "higher", False: "lower", None: "describes"}[facts.higher_is_better]
    own = f"; operator {', '.join(facts.operators)}" if facts.operators else ""
    again = f"; explains again: {', '.join(facts.replicates)}" if facts.replicates else ""
    asks = ("at most " if facts.bound else "") + product(facts.forwards)
    return [
        f"`{name}`",
        facts.family,
        f"{better} [{low}, {high}{closing}".replace("[-∞", "(-∞"),
        f"{facts.summary}: {facts.formula.replace('|', chr(92) + '|')}",
        "trains models" if facts.trains else asks + own + again,
        ", ".join(facts.invariances),
        facts.comparable,
        facts.caveat,
        facts.reference,
    ]


def product(formula: str) -> str:
    """Returns a formula of the catalogue as people write it."""
    return formula.replace("**", "^").replace("*", "·")


METHOD_COLUMNS = (
    "method",
    "family",
    "sign",
    "models",
    "needs",
    "forwards (+ backwards) per example",
    "what and whence",
)
METRIC_COLUMNS = (
    "metric", "family", "better, range", "what and how", "questions per example", "invariant to", "compare across",
    "beware", "source",
)  # fmt: skip
PARTS = (
    Part("methods", METHOD_COLUMNS, {name: of_method(name, facts) for name, facts in METHODS.entries().items()}),
    Part("metrics", METRIC_COLUMNS, {name: of_metric(name, facts) for name, facts in METRICS.entries().items()}),
)


def parity(rows: list[Json], name: str) -> str:
    """Returns what the parity tests measured of a component, whatever its parameters: reference, error, tolerance."""
    found: dict[str, Json] = {}
    for one in rows:
        place = f"{one['target']} {one['reference']}"
        if component_of(one) == name and one["error"] >= found.get(place, one)["error"]:
            found[place] = one
    return "<br>".join(f"{place}: {one['error']:.1g} ≤ {one['tolerance']:g}" for place, one in found.items())


def component_of(one: Json) -> str:
    """Returns the id of the method or metric that a parity row is about, which may name parameters as well."""
    return str(one["method"]).partition(":")[0]


def table(part: Part, errors: Callable[[str], str]) -> str:
    """Returns a table as Markdown, folded away under a line that says how many rows it has."""
    lines = [" | ".join((*part.columns, PARITY)), "|".join(["---"] * (len(part.columns) + 1))]
    lines += [" | ".join([*row, errors(name)]) for name, row in part.rows.items()]
    rows = "".join(f"| {line} |\n" for line in lines)
    return f"<details>\n<summary>All {len(part.rows)} {part.what}</summary>\n\n{rows}\n</details>\n"


def main() -> None:
    """Replaces what stands between the marks."""
    rows: list[Json] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    unknown = {component_of(one) for one in rows} - {name for part in PARTS for name in part.rows}
    if unknown:
        raise SystemExit(f"parity rows of what is in no catalogue: {', '.join(sorted(unknown))}")
    text = README.read_text("utf-8")
    for part in PARTS:
        start, end = part.marks
        before, _, rest = text.partition(start)
        written = table(part, lambda name: parity(rows, name))
        text = before + start + "\n" + written + "\n" + end + rest.partition(end)[2]
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
