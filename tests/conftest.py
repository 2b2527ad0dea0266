"""The same surroundings for every test, on any machine: no network, no deadline, few threads, a cache of its own."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tiny models only lose by more threads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile(
    "attrlab", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("attrlab")

PARITY: pytest.StashKey[dict[tuple[str, str, str], tuple[float, float]]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that tests of parity with a reference read."""
    parser.addoption("--parity", help="JSON file to write how far methods and metrics are from their references to")


def _is_local(host: object) -> bool:
    return host in (None, "", b"", "localhost", b"localhost", "::1") or str(host).startswith("127.")


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Refuses every connection that leaves the machine, as if it had no network."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def local_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise ConnectionRefusedError(f"tests have no network: {address!r}")
        connect(self, address)

    def local_look_up(host: Any, *args: Any, **options: Any) -> Any:
        if not _is_local(host):
            raise socket.gaierror(f"tests have no network: {host!r}")
        return look_up(host, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_connect)
        patch.setattr(socket, "getaddrinfo", local_look_up)
        yield


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps trained minis out of the user's cache; set ATTRLAB_CACHE to keep them between runs of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        if "ATTRLAB_CACHE" not in os.environ:
            patch.setenv("ATTRLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Returns a function that asserts and keeps how far a method or metric is from its reference.

    ``parity("P8", "integrated_gradients", "captum LayerIntegratedGradients", error, 1e-8)``; several calls for the
    same three names keep the largest error.
    """

    def record(target: str, method: str, reference: str, error: float, tolerance: float) -> None:
        rows = request.config.stash.setdefault(PARITY, {})
        key = (target, method, reference)
        worst = max(float(error), rows.get(key, (0.0, tolerance))[0])
        rows[key] = (worst, tolerance)
        assert float(error) <= tolerance, f"{target}: {method} is {error:.3g} from {reference}; allowed {tolerance:g}"

    return record


def parity_rows(config: pytest.Config) -> list[tuple[str, str, str, float, float]]:
    """Returns the rows kept so far, in the order of the targets' numbers."""
    rows = config.stash.get(PARITY, {})
    return [(*key, *rows[key]) for key in sorted(rows, key=lambda key: (key[0][0], int(key[0][1:]), *key))]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the parity table of the run."""
    rows = parity_rows(config)
    if not rows:
        return
    terminalreporter.section("parity with references")
    widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
    for target, method, reference, error, tolerance in rows:
        names = [text.ljust(width) for text, width in zip((target, method, reference), widths, strict=True)]
        terminalreporter.line(f"{'  '.join(names)}  max error {error:8.2g}  tolerance {tolerance:g}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the parity rows where --parity says."""
    target = session.config.getoption("--parity")
    if target:
        names = ("target", "method", "reference", "error", "tolerance")
        rows = [dict(zip(names, row, strict=True)) for row in parity_rows(session.config)]
        Path(target).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
