"""Checks JSON against types: what is read from a file is either as declared or refused with file and field."""

import dataclasses
import json
import math
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from attrlab.bench.errors import UserError
from attrlab.bench.types import SCHEMA, Floats

T = TypeVar("T")

Convert = Callable[[Any], Any]

_ADVICE = "the file is broken, delete it and run again"


class _WrongError(Exception):
    """A value of another kind than declared; the path to it grows on the way up, so that good values pay nothing."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message, self.path = message, path

    def inside(self, part: str) -> "_WrongError":
        return _WrongError(self.message, part + self.path)


def load_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a stored file of the schema that this version reads.

    Raises:
        UserError: If the file is broken, holds something else, or is of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); delete it and run again to write it anew") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a JSON object; delete it and run again")
    if content.get("schema") != SCHEMA:
        raise UserError(
            f"{path} has schema {content.get('schema')!r}, this version reads {SCHEMA}; "
            "read it with the attrlab that wrote it, or run again into a new folder"
        )
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def decode(kind: type[T], value: Any, where: str) -> T:
    """Returns a JSON value as an instance of a dataclass; unknown fields are ignored.

    Args:
        kind: A dataclass whose fields are scalars, ``Floats``, ``tuple[X, ...]``, ``dict[str, Any]``, ``X | None`` or
            dataclasses of these.
        value: What ``json`` read.
        where: The file, for the error message.

    Raises:
        UserError: If a value is of another kind or a required field is absent.
    """
    declared: Any = kind
    try:
        converted: T = _converter(declared)(value)
        return converted
    except _WrongError as error:
        raise UserError(f"{where}{error.path}: {error.message}; {_ADVICE}") from None


@cache
def _converter(kind: Any) -> Convert:
    if isinstance(kind, types.UnionType):
        inner = _converter(next(part for part in get_args(kind) if part is not types.NoneType))
        return lambda value: None if value is None else inner(value)
    if dataclasses.is_dataclass(kind):
        return _record(kind)
    if kind == Floats:
        return _floats
    if get_origin(kind) is tuple:
        return _sequence(_converter(get_args(kind)[0]))
    return _float if kind is float else _exactly(get_origin(kind) or kind)


def _wrong(value: Any, kind: Any) -> _WrongError:
    shown = repr(value) if len(repr(value)) < 60 else f"a {type(value).__name__}"
    return _WrongError(f"{shown} is not a {kind.__name__}")


def _exactly(kind: Any) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not kind:
            raise _wrong(value, kind)
        return value

    return convert


def _float(value: Any) -> float:
    # JSON has no infinity, but 1e999 is one to Python.
    if type(value) not in (float, int) or not math.isfinite(value):
        raise _wrong(value, float)
    return float(value)


def _floats(value: Any) -> Floats:
    return np.array(_sequence(_float)(value), dtype=np.float64)


def _sequence(inner: Convert) -> Convert:
    def convert(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _wrong(value, list)
        items: list[Any] = []
        try:
            items.extend(map(inner, value))
        except _WrongError as error:
            raise _first(inner, value, error) from None
        return tuple(items)

    return convert


def _first(inner: Convert, value: list[Any], error: _WrongError) -> _WrongError:
    """Returns the error of the first wrong item, with its place."""
    for i, item in enumerate(value):
        try:
            inner(item)
        except _WrongError as found:
            return found.inside(f"[{i}]")
    return error


def _record(kind: Any) -> Convert:
    hints = get_type_hints(kind)
    parts = [
        (
            part.name,
            _converter(hints[part.name]),
            part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING,
        )
        for part in dataclasses.fields(kind)
    ]

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise _wrong(value, dict)
        given = {}
        for name, inner, required in parts:
            if name in value:
                try:
                    given[name] = inner(value[name])
                except _WrongError as error:
                    raise error.inside(f": {name}") from None
            elif required:
                raise _WrongError(f"{name!r} is missing")
        return kind(**given)

    return convert
