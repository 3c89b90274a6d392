"""A Mac and a Linux machine for `kiln service`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.commands.service.machines import Linux, Mac


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Mac:
    return Mac(tmp_path, monkeypatch, capfd)


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Linux:
    return Linux(tmp_path, monkeypatch, capfd)
