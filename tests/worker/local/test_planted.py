"""What lies in the working folder, or in the servers' own, is never imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.planted import Planted
from tests.tiny import TINY_MODELS
from tests.waiting import until

KILN = Path(sys.executable).with_name("kiln")


def test_servers_and_worker_import_nothing_from_there(tmp_path: Path) -> None:
    planted = [Planted(tmp_path / name) for name in ("work", "work/.kiln/valkey", "work/.kiln/s3")]
    home = tmp_path / "work" / ".kiln"
    environment = os.environ | {"KILN_MODELS_DIR": str(TINY_MODELS), "HOME": str(tmp_path)}
    command = [KILN, "up", "--worker"]
    with subprocess.Popen(
        command, cwd=tmp_path / "work", env=environment, stderr=subprocess.DEVNULL
    ) as running:
        log = home / "worker.log"
        ready = "the worker is ready"
        try:
            until(
                lambda: running.poll() is not None or (log.exists() and "is ready" in log.read_text()), ready
            )
        finally:  # else the block's end would wait for it for ever
            running.send_signal(signal.SIGTERM)
        running.wait(60)
    assert "is ready" in log.read_text()
    assert [one.imported for one in planted] == [[]] * 3
