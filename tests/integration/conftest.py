"""Real things for integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import engine as engines


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
