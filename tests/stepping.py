"""A Valkey whose clock can be set: Debian's libfaketime reads from a file what to add to the time.

Its monotonic clock goes on as it is, as where an administrator or a time server sets a machine's clock.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from pixelkiln.worker.local.valkey import Valkey

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class SteppingValkey(Valkey):
    """See Valkey; where LIBRARIES is empty it cannot be started."""

    def set_ahead(self, seconds: float) -> None:
        """Let its clock say so much more than this machine's from now on; less, if negative."""
        part = self.folder / "ahead.part"
        part.write_text(f"{seconds:+.3f}")
        part.replace(self.folder / "ahead")  # whole: it is read at each look at the time

    def _find_binary(self) -> Path:
        """A script that becomes the server, since a server's environment is bare."""
        self.set_ahead(0.0)
        environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / "ahead"),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        script = self.folder / "stepping"
        words = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
        words.append(f'exec {shlex.quote(str(super()._find_binary()))} "$@"')
        script.write_text("\n".join(["#!/bin/sh", *words, ""]))
        script.chmod(0o700)
        return script
