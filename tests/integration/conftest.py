"""Real things for integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import engine as engines
from dockerparts import Certificates
from dockersite import Site
from scriptrules.executors import docker as docker_executor


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of an engine that listens with TLS, and of its client."""
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def far_engine(certificates: Certificates) -> Iterator[engines.PrivateEngine]:
    """A second engine, reached by TLS on loopback, with an image that only it has."""
    if reason := engines.missing():
        pytest.skip(reason)
    made = engines.PrivateEngine(tls=certificates)
    try:
        made.start()
        made.load_image("far:test")
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def engine() -> Iterator[engines.PrivateEngine]:
    """A running Docker engine with the image `engines.IMAGE`."""
    if reason := engines.missing():
        pytest.skip(reason)
    made = engines.PrivateEngine()
    try:
        made.start()
        made.load_image()
        yield made
    finally:
        made.remove()


@pytest.fixture
def site(engine: engines.PrivateEngine, tmp_path: Path) -> Iterator[Site]:
    """A store of its own on the engine; its containers are removed afterwards."""
    made = Site(engine, tmp_path)
    yield made
    with engine.client() as client:
        for name in made.names():
            client.remove_container(name, force=True)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of the engine are not to be read here, as those of another machine."""
    monkeypatch.setattr(docker_executor, "layer_of", lambda found: "/no/such/folder")


@pytest.fixture(scope="session")
def swarm() -> Iterator[engines.PrivateEngine]:
    """A running swarm of one node with two GPUs, as it says, and the image `engines.IMAGE`."""
    if reason := engines.missing():
        pytest.skip(reason)
    made = engines.PrivateEngine(live_restore=False, gpus=2)
    try:
        made.start()
        made.load_image()
        made.start_swarm()
        yield made
    finally:
        made.remove()
