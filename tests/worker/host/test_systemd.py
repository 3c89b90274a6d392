"""What systemd reads, looked at by systemd itself where it is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from pixelkiln.worker.host.account import Account
from pixelkiln.worker.host.managed import ROLES, Definition
from pixelkiln.worker.host.systemd import unit_file

DEPLOY = Path(__file__).parents[3] / "deploy"


def sample(folder: str = "/home/ann/pixelkiln", program: str = "/home/ann/pixelkiln/kiln") -> Definition:
    """As Ann's machine would have it, from a checkout in her home folder."""
    words = ["service", "run", "worker", "--env-file", "/home/ann/.config/pixelkiln/env", "--gave-up", "78"]
    ann = Account("ann", 1000, 1000, Path("/home/ann"))
    return Definition(ROLES["worker"], ann, (program, *words), Path(folder), None)


def test_the_file_in_deploy_is_what_install_writes() -> None:
    assert (DEPLOY / "pixelkiln-worker.service").read_text() == unit_file(sample())


def test_which_endings_are_not_restarted() -> None:
    lines = unit_file(sample()).splitlines()
    assert "Restart=on-failure" in lines  # so not after exit code 0
    assert "RestartPreventExitStatus=2 78" in lines
    assert "TimeoutStopSec=600" in lines
    assert "StartLimitIntervalSec=0" in lines  # but for ever after others


@pytest.mark.parametrize("odd", ["plain", "with space", "100%d", "a$b", 'a"b', "a\\b", "a'b"])
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path, odd: str) -> None:
    folder = tmp_path / odd
    folder.mkdir()
    program = folder / "kiln"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "pixelkiln-worker.service"
    unit.write_text(unit_file(sample(str(folder), str(program))))
    with (
        tempfile.TemporaryDirectory() as short
    ):  # sockets of other units lie there, by names of 108 bytes at most
        looked = subprocess.run(
            ["systemd-analyze", "verify", "--user", str(unit)],
            capture_output=True,
            text=True,
            env=os.environ | {"XDG_RUNTIME_DIR": short},
            timeout=60,
        )
    assert (looked.returncode, looked.stdout + looked.stderr) == (0, "")
