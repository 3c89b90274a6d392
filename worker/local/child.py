"""A worker as a child process that ends with its parent, however the parent ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pixelkiln.worker.local import guard

LEAVING = 60.0  # seconds a worker may take to finish its job and deliver it


@contextmanager
def worker_process(
    home: Path, spool: Path, renders: Path, log: Path, models: list[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `kiln worker` on the farm of `home` or of the environment; asked to leave at the end of the block.

    Ctrl-C in the terminal does not reach it: its parent decides. Its lines go to `log`.
    """
    places = {
        "KILN_HOME": str(home.absolute()),
        "KILN_SPOOL_DIR": str(spool.absolute()),
        "KILN_RENDERS_DIR": str(renders.absolute()),
    }
    # -P: a folder of our name in the working folder is not us.
    command = [sys.executable, "-P", "-m", "pixelkiln", "worker"]
    command += [part for model in models for part in ("--model", model)]
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(LEAVING), "[]", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=lines,
            env=os.environ | places,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()  # the guard asks it to leave, and insists after LEAVING seconds
        try:
            process.wait(LEAVING + 5)
        except BaseException:  # stuck, or Ctrl-C again
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
