"""The rules of the design that no linter knows: who imports whom, how long things are, what loads lazily."""

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "methods", "metrics", "leaderboard")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SHOWS_RESULTS = {
    "bench/cli.py",
    "bench/cli_folders.py",
    "bench/cli_questionnaire.py",
    "bench/command.py",
    "bench/showing.py",
    "bench/study.py",
}
"""The modules behind the command line: the only ones of bench that know the leaderboard."""
ARROWS = {
    "bench": {"attrlab.bench"},
    "methods": {"attrlab.bench", "attrlab.methods"},
    "metrics": {"attrlab.bench", "attrlab.metrics"},
    "leaderboard": {
        "attrlab.bench.errors",
        "attrlab.bench.inputs",
        "attrlab.bench.store",
        "attrlab.bench.types",
        "attrlab.leaderboard",
    },
}
"""What each folder may import of ours."""
TOUCHES_MODELS = {
    "bench/attending.py",
    "bench/checkpoint.py",
    "bench/minis.py",
    "bench/language.py",
    "bench/model.py",
    "bench/pooled.py",
    "bench/train.py",
    "bench/wired.py",
}
HEAVY = {"captum", "datasets", "lime", "scipy", "shap", "sklearn", "tokenizers", "torch", "transformers"}
LINES, TEST_LINES, BODY_LINES = 300, 500, 40


def imported(source: str) -> set[str]:
    """Returns the dotted names that a source imports, at the top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return names


def inside(name: str, packages: Iterable[str]) -> bool:
    """Returns whether a dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def against_the_arrows(path: str, source: str) -> set[str]:
    """Returns what a module imports of ours and must not."""
    allowed = ARROWS[path.partition("/")[0]] | ({"attrlab.leaderboard"} if path in SHOWS_RESULTS else set())
    return {name for name in imported(source) if inside(name, ["attrlab", *FOLDERS]) and not inside(name, allowed)}


def forbidden_libraries(path: str, source: str) -> set[str]:
    """Returns the libraries that a module imports, at the top or inside functions, and must not."""
    banned = set() if path in TOUCHES_MODELS else {"tokenizers", "transformers"}
    if path.startswith("leaderboard/"):
        banned |= HEAVY - {"scipy"}  # which functions import when they are called
    if path.startswith("metrics/"):
        banned |= {"torch"}
    return {name for name in imported(source) if inside(name, banned)}


def bodies(source: str) -> Iterator[tuple[str, int]]:
    """Yields the name of every function and the number of lines of its body, docstring left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def relative(path: Path) -> str:
    """Returns a path as seen from the root of the checkout."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_follow_the_arrows(path: Path) -> None:
    assert not against_the_arrows(relative(path), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    assert not forbidden_libraries(relative(path), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("bench/run.py", "from attrlab.methods.lime import Lime"),
        ("bench/run.py", "from attrlab import metrics"),
        ("bench/run.py", "def f():\n    import attrlab.leaderboard"),
        ("bench/run.py", "import metrics.erasure"),
        ("methods/lime.py", "from attrlab.metrics import CATALOGUE"),
        ("metrics/cost.py", "import attrlab.leaderboard.tables"),
        ("leaderboard/load.py", "from attrlab.bench.engine import Engine"),
        ("leaderboard/load.py", "from attrlab.bench import plan"),
    ],
)
def test_a_planted_arrow_is_found(path: str, line: str) -> None:
    assert against_the_arrows(path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("bench/cli.py", "from attrlab import leaderboard"),
        ("methods/lime.py", "from attrlab.bench.types import Game"),
        ("leaderboard/load.py", "from attrlab.bench import types"),
        ("leaderboard/load.py", "import benchmarks"),
    ],
)
def test_an_allowed_arrow_is_not_reported(path: str, line: str) -> None:
    assert not against_the_arrows(path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("bench/engine.py", "def f():\n    from transformers import AutoModel"),
        ("methods/lime.py", "import tokenizers"),
        ("metrics/cost.py", "import torch"),
        ("leaderboard/load.py", "import torch.nn"),
        ("leaderboard/load.py", "def f():\n    from sklearn.metrics import auc"),
    ],
)
def test_a_planted_library_is_found(path: str, line: str) -> None:
    assert forbidden_libraries(path, line)


@pytest.mark.parametrize("path", MODULES + TESTS, ids=relative)
def test_nothing_grows_too_long(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    lines = len(source.splitlines())
    assert lines <= (TEST_LINES if path in TESTS else LINES)
    assert [(name, length) for name, length in bodies(source) if length > BODY_LINES] == []


COUNTED = '''
def f():
    """Long

    docstring."""
    a = 1

    return (
        a
    )

async def g():
    pass
'''


def test_a_body_is_counted_without_its_docstring() -> None:
    assert list(bodies(COUNTED)) == [("f", 5), ("g", 1)]


def test_packages_list_equals_the_folders_on_disk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {relative(path.parent) for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")}
    assert folders == set(FOLDERS), "keep the folders flat: a sub-folder would be missing from the wheel"
    assert set(settings["packages"]) == {f"attrlab.{folder}" for folder in folders}
    assert settings["package-dir"] == {f"attrlab.{folder}": folder for folder in folders}


def loaded_by(code: str) -> set[str]:
    """Returns the heavy libraries that a fresh interpreter has loaded after running ``code``."""
    report = f"\nimport json, sys\nprint()\nprint(json.dumps(sorted({HEAVY!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_heavy_libraries_are_seen() -> None:
    assert "torch" in loaded_by("import attrlab.bench.model")


@pytest.mark.parametrize("listing", ["", "methods", "metrics", "models", "datasets", "suites"])
def test_list_loads_no_heavy_library(listing: str) -> None:
    arguments = ["attrlab", "list", listing][: 3 if listing else 2]
    code = f"""
import sys
from attrlab.bench.cli import main
sys.argv = {arguments!r}
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert loaded_by(code) == set()


def test_table_loads_no_heavy_library() -> None:
    modules = [f"attrlab.leaderboard.{path.stem}" for path in MODULES if path.parent.name == "leaderboard"]
    code = "\n".join(f"import {name.removesuffix('.__init__')}" for name in ["attrlab.bench.cli", *modules])
    assert loaded_by(code) == set()
