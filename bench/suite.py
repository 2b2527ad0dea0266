"""A suite: which models, data, methods and metrics are run, and with what settings. Validated TOML."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attrlab.bench.errors import UserError, unknown
from attrlab.bench.operators import FILLER, Operator
from attrlab.bench.scalars import SCALARS


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Explain(_Table):
    """What the methods explain: which class, by which scalar, and how their own removals are done.

    Attributes:
        target: ``predicted``, ``gold`` or ``fixed:K``, K being a class index of the model (methods spec 0.2).
        scalar: One of ``SCALARS``.
        operator: Removal operator of methods that name none.
    """

    target: str = Field("predicted", pattern=r"^(predicted|gold|fixed:\d+)$")
    scalar: Literal["contrast", "logit", "prob", "logprob", "logodds"] = SCALARS[0]  # type: ignore[assignment]
    operator: Operator = "replace"


class ReExplain(_Table):
    """How much the metrics that explain again may cost.

    Attributes:
        examples: First examples of the fixed order on which they run.
        seeds: Explanations compared by ``seed_consistency``, the first included.
        draws: Noised inputs per radius compared by ``noise_stability``, ``local_lipschitz`` and ``continuity``.
        variants: Rewordings compared by ``paraphrase_stability`` and ``typo_stability``.
    """

    examples: int = Field(8, ge=1)
    seeds: int = Field(3, ge=2)
    draws: int = Field(3, ge=1)
    variants: int = Field(3, ge=1)


class Suite(_Table):
    """Everything that decides what a run computes.

    Attributes:
        name: Its file's stem.
        title: One line for the page.
        description: A paragraph for the page.
        models: Names of minis, local folders or hub ids.
        datasets: ``NAME`` or ``NAME:PART``.
        methods: Command-line form, as in ``lime:samples=500``.
        metrics: Likewise.
        limit: First examples of each data set's fixed label-stratified order.
        seed: Of all draws of the methods.
        unit: What is scored: canonical words, or tokens.
        precision: In which the model answers questions; white-box methods work in float32, and so do
            models that a metric trains.
        operators: Removal operators of the erasure metrics.
        filler: Masked language model of the operator ``mlm``: local folder, hub id, or the one trained for it.
        chunk: Examples per stored file.
        explain: What the methods explain.
        re_explain: Budget of the metrics that explain again.
    """

    name: str = "adhoc"
    title: str = "Ad-hoc run"
    description: str = ""
    models: list[str] = []
    datasets: list[str] = []
    methods: list[str] = []
    metrics: list[str] = []
    limit: int = Field(100, ge=1)
    seed: int = Field(0, ge=0)
    unit: Literal["word", "token"] = "word"
    precision: Literal["float32", "bfloat16"] = "float32"
    operators: list[Operator] = Field(["delete", "replace"], min_length=1)
    filler: str = FILLER
    chunk: int = Field(16, ge=1)
    explain: Explain = Explain()
    re_explain: ReExplain = ReExplain()


def shipped() -> dict[str, Path]:
    """Returns the suites that come with the package, by name."""
    folder = Path(str(resources.files("attrlab.bench"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(name: str) -> Suite:
    """Returns a shipped suite by name, ``adhoc`` for an empty one, or the suite in a TOML file.

    Raises:
        UserError: If there is none, or its TOML is malformed; names the file, line and key.
    """
    if name == "adhoc":
        return Suite()
    known = shipped()
    if name in known:
        return _read(known[name])
    if name.endswith(".toml"):
        return _read(Path(name))
    raise unknown("suite", name, [*known, "adhoc"])


def _read(path: Path) -> Suite:
    try:
        text = path.read_bytes().decode("utf-8")
        values = tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(f"no such suite file: {str(path)!r}; shipped suites: {', '.join(shipped())}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise UserError(f"cannot read suite {str(path)!r}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(_locate(path, text, str(error))) from error
    try:
        return Suite(**{"name": path.stem, **values})
    except ValidationError as error:
        raise UserError(_explain(path, text, error)) from error


def _locate(path: Path, text: str, message: str) -> str:
    """Words a syntax error with its line; tomllib may only say that it came to the end."""
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", message)
    rows = text.rstrip().split("\n")
    line = int(place[1]) if place and place[1] else len(rows)
    reason = message.replace(place[0], "") if place else message
    return f"{path}, line {line}: malformed TOML: {reason}; the line is {rows[min(line, len(rows)) - 1].strip()!r}"


def _explain(path: Path, text: str, error: ValidationError) -> str:
    first: Any = error.errors()[0]
    keys = [part for part in first["loc"] if isinstance(part, str)]
    line = next(filter(None, (_line_of(key, text) for key in reversed(keys))), 0)
    if first["type"] == "extra_forbidden":
        tables: dict[str, type[BaseModel]] = {"explain": Explain, "re_explain": ReExplain}
        table = tables[keys[0]] if keys[1:] else Suite
        known = [".".join([*keys[:-1], key]) for key in table.model_fields]
        return f"{path}, line {line}: {unknown('key', '.'.join(keys), known)}"
    where = ".".join(str(part) for part in first["loc"])
    return f"{path}, line {line}: key {where!r}: {first['msg']}; got {first['input']!r}"


def _line_of(key: str, text: str) -> int:
    """Returns the first line that sets a key or opens its table, 0 if none starts with it (as in an inline table)."""
    start = re.compile(rf"\s*\[*\s*(?:[\w-]+\s*\.\s*)*[\"']?{re.escape(key)}\b")
    return next((number for number, row in enumerate(text.split("\n"), 1) if start.match(row)), 0)


def override(suite: Suite, **changes: Any) -> Suite:
    """Returns the suite with the given values replaced; None and empty lists leave the suite's own.

    Raises:
        UserError: If a value is not allowed.
    """
    given = {key: value for key, value in changes.items() if value is not None and value != []}
    try:
        return Suite(**{**suite.model_dump(), **given})
    except ValidationError as error:
        first: Any = error.errors()[0]
        raise UserError(f"--{first['loc'][0]}: {first['msg']}; got {first['input']!r}") from error
