"""Commands, run in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pixelkiln.worker.commands.app import main
from tests.jobs.commands.running import Ran, Run


@pytest.fixture
def run(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run one command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def act(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["kiln", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Ran(int(end.value.code or 0), *capsys.readouterr())

    return act
