"""Finds methods and metrics: facts that need no import, names with hints, parameters, plug-ins.

A component is named by its catalogue id (``lime``), by an entry point of an installed package, or by where it
is (``pkg.module:Thing`` or ``FILE.py:Thing``); parameters follow a colon: ``lime:samples=500,kernel_width=10``.
"""

import hashlib
import importlib
import importlib.metadata
import inspect
import re
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from attrlab.bench.errors import UserError, unknown
from attrlab.bench.facts import MethodFacts, MetricFacts, Param

FactsT = TypeVar("FactsT", bound=MethodFacts | MetricFacts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Component(Generic[FactsT]):
    """A method or metric with its parameters, not yet imported.

    Attributes:
        id: Catalogue id, entry-point name or location.
        facts: Its facts.
        params: The parameters that were given, in the order of their names.
        origin: Distribution and version, or hash of the source file, for a plug-in; empty for our own.
    """

    id: str
    facts: FactsT
    params: Mapping[str, Param] = field(default_factory=dict)
    origin: str = ""

    @property
    def name(self) -> str:
        """The component in command-line form, as in ``lime:samples=500``."""
        settings = ",".join(f"{key}={_show(value)}" for key, value in self.params.items())
        return f"{self.id}:{settings}" if settings else self.id

    def key(self) -> dict[str, Any]:
        """What of this component enters the key of a result."""
        return {
            "id": self.id,
            "version": self.facts.version,
            "params": dict(self.params),
            "origin": self.origin,
        }

    def build(self) -> Any:
        """Imports the class and returns an instance with the parameters set.

        Raises:
            UserError: If a value is refused by the class.
        """
        try:
            return load(self.facts.where)(**self.params)
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.name}: {error}") from error

    def check_offers(self, *functions: str) -> None:
        """Builds the component, so that bad parameters show now, and refuses what is no method or metric.

        Raises:
            UserError: If it offers none of the functions.
        """
        if not any(hasattr(self.build(), function) for function in functions):
            raise UserError(
                f"{self.id!r} has no {'() and no '.join(functions)}(); see 'Bring your method' in the README"
            )


@dataclass(frozen=True, slots=True)
class Registry(Generic[FactsT]):
    """All components of one kind, found through the catalogue and entry points.

    Attributes:
        kind: ``method`` or ``metric``.
        catalogue: Module that holds ``CATALOGUE``, a mapping from id to facts.
        facts_type: Type of the facts.
    """

    kind: str
    catalogue: str
    facts_type: type[FactsT]

    def entries(self) -> dict[str, FactsT]:
        """Returns the catalogue, in its order (imports no method or metric)."""
        entries: dict[str, FactsT] = dict(importlib.import_module(self.catalogue).CATALOGUE)
        return entries

    def plugins(self) -> dict[str, importlib.metadata.EntryPoint]:
        """Returns the entry points of installed packages, by name."""
        points = importlib.metadata.entry_points(group=f"attrlab.{self.kind}s")
        return {point.name: point for point in points}

    def find(self, text: str) -> Component[FactsT]:
        """Returns the component that ``text`` names, parameters checked against its constructor.

        Raises:
            UserError: If there is no such component or parameter, or a value does not parse.
        """
        load.cache_clear()  # a file may have been edited since
        name, settings = _split(text)
        entries, plugins = self.entries(), self.plugins()
        if name in entries:
            found = Component(id=name, facts=entries[name])
        elif name in plugins:
            point = plugins[name]
            dist = f"{point.dist.name}=={point.dist.version}" if point.dist else ""
            found = self._plugin(name, point.value, f"{dist} {_source_hash(load(point.value))}".strip())
        elif name.partition(":")[0] in {*entries, *plugins}:
            raise UserError(f"{text!r} is not of the form {name.partition(':')[0]}:param=value,param=value")
        elif ":" in name:
            found = self._plugin(name, name, _source_hash(load(name)))
        else:
            raise unknown(self.kind, name, [*entries, *plugins])
        params = _parse(settings, load(found.facts.where), text) if settings else {}
        facts = found.facts
        if inspect.isfunction(facts_of := getattr(load(facts.where), "facts", None)):
            facts = facts_of(facts, **params)  # a method made of another one, whose facts these are
        return Component(id=found.id, facts=facts, params=params, origin=found.origin)

    def _plugin(self, name: str, where: str, origin: str) -> Component[FactsT]:
        thing = load(where)
        declared = getattr(thing, "facts", None)
        fields: dict[str, Any] = {"where": where, "summary": (inspect.getdoc(thing) or "").partition("\n")[0]}
        if isinstance(declared, Mapping):
            allowed = self.facts_type.__dataclass_fields__
            for key in declared:
                if key not in allowed:
                    raise unknown(f"fact of {name}", key, allowed)
            fields |= dict(declared)
        if self.kind == "method" and hasattr(thing, "attribute"):
            fields.setdefault("needs", ("embeddings",))
        return Component(id=name, facts=self.facts_type(**fields), origin=origin)


METHODS = Registry("method", "attrlab.methods", MethodFacts)
METRICS = Registry("metric", "attrlab.metrics", MetricFacts)


@cache
def load(where: str) -> Any:
    """Imports ``pkg.module:Thing`` or ``FILE.py:Thing``.

    Raises:
        UserError: If the file, module or attribute does not exist, or importing it fails.
    """
    place, _, attribute = where.rpartition(":")
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"cannot import {place!r}: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise UserError(f"{place!r} has no {attribute!r}; it defines: {', '.join(_classes(module)) or 'no class'}")
    return getattr(module, attribute)


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"no such file: {str(path)!r}; give the path of the Python file that holds the class")
    return _module(path.resolve(), path.read_bytes())


@cache
def _module(path: Path, content: bytes) -> Any:
    """Runs a file as a module, once per content: an import may answer with the byte code of an older version."""
    name = f"attrlab_plugin_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(content, str(path), "exec"), vars(module))
    return module


def _classes(module: Any) -> list[str]:
    return sorted(name for name, value in vars(module).items() if inspect.isclass(value))


def _source_hash(thing: Any) -> str:
    source = inspect.getsourcefile(thing)
    content = Path(source).read_bytes() if source else repr(thing).encode()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _split(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"(?P<name>.+?)(:(?P<settings>[A-Za-z_]\w*=.*))?", text)
    if not match:
        raise UserError(f"{text!r} is not of the form name or name:param=value,param=value")
    return match["name"], match["settings"] or ""


def _parse(settings: str, thing: Any, text: str) -> dict[str, Param]:
    """Returns the parameters that differ from the constructor's defaults, sorted by name."""
    signature = inspect.signature(thing).parameters
    params: dict[str, Param] = {}
    for setting in settings.split(","):
        key, equals, raw = setting.partition("=")
        if not equals:
            raise UserError(f"{text!r}: {setting!r} is not of the form param=value")
        if key not in signature:
            raise unknown(f"parameter of {text.partition(':')[0]}", key, signature)
        value = _convert(raw, signature[key].default, f"{text!r}: {key}")
        if value != signature[key].default:
            params[key] = value
    return dict(sorted(params.items()))


def _convert(raw: str, default: Any, where: str) -> Param:
    kind = type(default) if isinstance(default, bool | int | float) else str
    if kind is bool:
        if raw not in ("true", "false"):
            raise UserError(f"{where}={raw!r}; allowed: true, false")
        return raw == "true"
    try:
        return kind(raw)
    except ValueError:
        raise UserError(f"{where}={raw!r} is not {'a whole number' if kind is int else 'a number'}") from None


def _show(value: Param) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
