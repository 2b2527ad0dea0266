"""The same surroundings for every test, on any machine: no network, no deadline, few threads, a cache of its own."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tiny models only lose by more threads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile(
    "attrlab", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("attrlab")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that the tests of the methods read."""
    parser.addoption("--parity", help="JSON file to write how far the methods are from their references to")


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
