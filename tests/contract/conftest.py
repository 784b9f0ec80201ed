"""What all tests of the contract have in common."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once: how long the pauses are is tested with the gateway."""
    monkeypatch.setattr("bridge.upstream.gateway._backoff", lambda _tries: 0.0)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"
