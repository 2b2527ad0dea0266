"""What is shipped is what is here, it works far from the checkout, and the linters really bite."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "methods", "metrics", "leaderboard")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CLI = "from attrlab.bench.cli import main; main()"


def call(*command: str | Path, cwd: Path, text: str | None = None, **environment: str) -> str:
    """Returns the standard output of a command that must succeed."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_below(folder: Path) -> set[str]:
    """Returns the paths of all files in a folder but hidden ones and caches of the interpreter."""
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {path for path in paths if not re.search(r"(^|/)(\.|__pycache__/)", path)}


def build(kind: str, source: Path, out: Path) -> Path:
    """Returns the wheel or sdist that setuptools makes of a source folder."""
    out.mkdir()
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    call(sys.executable, "-c", code, out, cwd=source)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made from a copy so that no build folder is left in the checkout."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in (*FOLDERS, "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    return build("sdist", copy, copy / "dist")


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder inside the source distribution."""
    out = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(out, filter="data")
    (folder,) = out.iterdir()
    return folder


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution: as an index would serve it."""
    return build("wheel", unpacked, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel in it; the libraries are borrowed from this one.

    They are borrowed by a path file: the path files of the lender, which may make the checkout importable, are not
    read then.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    install = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    call(sys.executable, "-m", "pip", "--python", home / "bin" / "python", *install, wheel, cwd=home)
    (packages,) = home.glob("lib/python*/site-packages")
    lenders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "borrowed.pth").write_text("\n".join(sorted(lenders)), encoding="utf-8")
    return home / "bin"


def test_sdist_holds_the_sources_and_the_tests(unpacked: Path) -> None:
    for folder in (*FOLDERS, "tests"):
        assert files_below(unpacked / folder) == files_below(ROOT / folder)
    for name in ("LICENSE", "README.md", "CITATION.cff", "Makefile", "constraints.txt", "pyproject.toml"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()


def test_wheel_holds_every_file_of_the_four_folders_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [archive.read(name) for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert names == {f"attrlab/{folder}/{path}" for folder in FOLDERS for path in files_below(ROOT / folder)}
    assert {f"attrlab/{folder}/py.typed" for folder in FOLDERS} <= names
    assert {"attrlab/bench/suites/demo.toml", "attrlab/leaderboard/page/page.html.j2"} <= names
    assert licences == [(ROOT / "LICENSE").read_bytes()]


def test_installed_command_works_from_another_folder(binaries: Path, tmp_path: Path) -> None:
    assert "demo" in call(binaries / "attrlab", "list", "suites", cwd=tmp_path)
    code = "import attrlab.bench.types, attrlab.leaderboard; print(attrlab.bench.types.__file__)"
    where = call(binaries / "python", "-c", code, cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(binaries.parent)


def test_users_own_metrics_and_bench_do_no_harm(binaries: Path, tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('imported {name}.py')", encoding="utf-8")
    assert "lime" in call(binaries / "python", "-c", CLI, "list", cwd=tmp_path)
    names = "\n".join(f"import attrlab.{folder}" for folder in FOLDERS)
    call(binaries / "python", "-c", f"{names}\nfrom attrlab.metrics import ranking", cwd=tmp_path)


def test_method_of_another_distribution_is_listed(binaries: Path, tmp_path: Path) -> None:
    info = tmp_path / "shouting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[attrlab.methods]\nloudest_word = shouting:Loudest\n", encoding="utf-8")
    listing = call(binaries / "attrlab", "list", "methods", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert "loudest_word" in listing
    assert "shouting:Loudest" in listing
    assert "loudest_word" not in call(binaries / "attrlab", "list", "methods", cwd=tmp_path)


def test_every_dependency_is_pinned_to_an_allowed_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {Requirement(line).name.lower(): line for line in lines if line and not line.startswith("#")}
    for line in pins.values():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9a-z.]+", line), "no local versions, links, paths or options"
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))]
    for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]):
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[wanted.name.lower()].partition("==")[2]), text


def test_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [PROJECT["version"]]
    assert re.findall(r"^license: (.+)$", citation, re.MULTILINE) == [PROJECT["license"]]


BRANCHES = "\n".join(f"    if n == {i}:\n        return {i}" for i in range(10))
BAD = {
    "C901": f'def f(n: int) -> int:\n    """Returns."""\n{BRANCHES}\n    return n',
    "PLR0913": 'def f(*, a: int, b: int, c: int, d: int, e: int, g: int, h: int, i: int) -> None:\n    """Does."""',
    "TID251": "from metrics.ranking import ranks",
    "TID252": "from .ranking import ranks",
    "T201": "print(1)",
    "D103": "def f() -> None:\n    pass",
    "ANN001": 'def f(a) -> None:\n    """Does."""',
    "ANN201": 'def f():\n    """Does."""',
    "E501": f"A = '{'a' * 120}'",
    "PTH123": "open('a')",
}


def lint(path: str, source: str) -> set[str]:
    """Returns the rules that fire on a source as if it lay at this path of the checkout."""
    command = ("ruff", "check", "--exit-zero", "--output-format", "json", "--stdin-filename", path, "-")
    return {found["code"] for found in json.loads(call(sys.executable, "-m", *command, cwd=ROOT, text=source))}


@pytest.mark.parametrize("rule", BAD)
def test_linter_fires(rule: str) -> None:
    assert rule in lint("methods/planted.py", BAD[rule])


def test_linter_bans_every_folder_as_a_package() -> None:
    for folder in FOLDERS:
        assert "TID251" in lint("methods/planted.py", f"import {folder}")
        assert "TID251" not in lint("methods/planted.py", f"import attrlab.{folder}")


def test_only_the_command_line_prints() -> None:
    assert "T201" not in lint("bench/cli.py", "print(1)")
    assert "T201" in lint("bench/command.py", "print(1)")


def test_type_checker_is_strict(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f(a):\n    return a\n\n\nx: list = []\n", encoding="utf-8")
    command = (sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(planted))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "[no-untyped-def]" in done.stdout
    assert "[type-arg]" in done.stdout
