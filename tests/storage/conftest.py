"""A misbehaving way to the S3 server, and the store behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batchgen.storage.store import Store
from tests.storage.faultproxy import Faults, faulty


@pytest.fixture
def store(s3_url: str) -> Store:
    return Store.open(s3_url, patience=20)


@pytest.fixture
def faults(s3_environment, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """From here on this process reaches the server through the proxy."""
    with faulty(s3_environment.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setattr("batchgen.storage.store.FIRST_DELAY", 0.02)
        yield proxy
