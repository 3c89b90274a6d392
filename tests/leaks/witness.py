"""Keeps what a run shows and no file holds: what commands printed, and command lines of processes."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.worker.local.instance import Local

EVERY = 0.3  # seconds between looks at the processes
PROCESSES = Path("/proc")  # macOS has none


class Witness(threading.Thread):
    """Notes, into files of `folder`, what it sees while it runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="witness", daemon=True)
        self._printed = (folder / "printed.txt").open("ab")
        self._processes = folder / "processes.txt"
        self.seen: set[bytes] = set()
        self._stop_asked = threading.Event()

    def note(self, *texts: Any) -> None:
        """Keep what was printed."""
        for text in texts:
            if text:
                self._printed.write(text if isinstance(text, bytes) else str(text).encode())
                self._printed.write(b"\n")

    def run(self) -> None:
        while True:
            for folder in PROCESSES.iterdir() if PROCESSES.exists() else ():
                if folder.name.isdigit():
                    with suppress(OSError):  # it has ended
                        self.seen.add((folder / "cmdline").read_bytes())
            if self._stop_asked.wait(EVERY):
                return

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()
        self._printed.close()
        self._processes.write_bytes(b"\n".join(sorted(self.seen)))


@contextmanager
def witnessed(folder: Path) -> Iterator[Witness]:
    """Within: a witness hears what pytest captures and what children print."""
    witness = Witness(folder)
    readouterr, communicate = pytest.CaptureFixture.readouterr, subprocess.Popen.communicate

    def read(self: Any) -> Any:
        answer = readouterr(self)
        witness.note(*answer)
        return answer

    def talk(self: Any, *arguments: Any, **named: Any) -> Any:
        witness.note(repr(self.args))  # it may end before the processes are looked at
        answer = communicate(self, *arguments, **named)
        witness.note(*answer)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytest.CaptureFixture, "readouterr", read)
        patch.setattr(subprocess.Popen, "communicate", talk)
        witness.start()
        try:
            yield witness
        finally:
            witness.stop()


def keep_objects(local: Local, folder: Path) -> None:
    """Copy every object of the bucket into `folder`: its server may pack what it writes."""
    client = local.seaweed.connect()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=local.instance.bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    for number, key in enumerate(keys):
        body = client.get_object(Bucket=local.instance.bucket, Key=key)["Body"].read()
        (folder / str(number)).write_bytes(key.encode() + b"\n" + body)
    client.close()
