"""Writes the table of methods into the README, from the catalogue and the errors that the parity tests measured.

    pytest tests/methods --parity parity.json && python tests/acceptance/methods_table.py parity.json

`make methods` does both. A test compares the README with the catalogue, so the table cannot fall behind it.
"""

import json
import sys
from pathlib import Path

from attrlab.bench.facts import MethodFacts
from attrlab.bench.registry import METHODS
from attrlab.bench.types import Json

README = Path(__file__).parents[2] / "README.md"
START, END = "<!-- methods: written by make methods -->\n", "<!-- end of methods -->\n"
COLUMNS = ("method", "family", "sign", "models", "needs", "forwards (+ backwards) per example", "what and whence")


def row(name: str, facts: MethodFacts) -> list[str]:
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
        most + cost.replace("**", "^").replace("*", "·"),
        f"{facts.summary}; {facts.reference}",
    ]


def parity(rows: list[Json], name: str) -> str:
    """Returns what the parity tests measured of a method, whatever its parameters: reference, error and tolerance."""
    found: dict[str, Json] = {}
    for one in rows:
        place = f"{one['target']} {one['reference']}"
        if method_of(one) == name and one["error"] >= found.get(place, one)["error"]:
            found[place] = one
    return "<br>".join(f"{place}: {one['error']:.1g} ≤ {one['tolerance']:g}" for place, one in found.items())


def method_of(one: Json) -> str:
    """Returns the id of the method that a parity row is about, which may name parameters as well."""
    return str(one["method"]).partition(":")[0]


def table(rows: list[Json]) -> str:
    """Returns the table as Markdown."""
    lines = [" | ".join((*COLUMNS, "parity: largest error ≤ tolerance")), "|".join(["---"] * (len(COLUMNS) + 1))]
    lines += [" | ".join([*row(name, facts), parity(rows, name)]) for name, facts in METHODS.entries().items()]
    return "".join(f"| {line} |\n" for line in lines)


def main() -> None:
    """Replaces what stands between the two marks."""
    rows: list[Json] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    unknown = {method_of(one) for one in rows} - set(METHODS.entries())
    if unknown:
        raise SystemExit(f"parity rows of methods that are not in the catalogue: {', '.join(sorted(unknown))}")
    before, _, rest = README.read_text("utf-8").partition(START)
    after = rest.partition(END)[2]
    README.write_text(before + START + "\n" + table(rows) + "\n" + END + after, "utf-8")


if __name__ == "__main__":
    main()
