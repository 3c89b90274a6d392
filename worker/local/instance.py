"""Both servers together, as `kiln demo` and `kiln up` run them."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.home import check_home
from pixelkiln.jobs.instance import Instance
from pixelkiln.worker.local.seaweed import BUCKET, Seaweed
from pixelkiln.worker.local.valkey import Valkey


@dataclass(frozen=True)
class Local:
    """The servers that run, and how to reach them."""

    instance: Instance
    valkey: Valkey
    seaweed: Seaweed

    def check(self) -> None:
        """Raise NotReadyError, with its last words, if a server has ended."""
        self.valkey.check()
        self.seaweed.check()


def running(home: Path) -> Instance | None:
    """The instance that runs in `home`, if one does; the record that a killed one left does not count."""
    return Instance.read(home) if Valkey(home / "valkey").taken() else None


@contextmanager
def up(home: Path) -> Iterator[Local]:
    """Start both servers in `home`, and end them afterwards; `home/instance.json` says how to reach them.

    Both answer when the block begins. What they hold stays in `home` for the next time.
    Raises NotReadyError: another instance works there, the folder is another user's or cannot be written to,
    a server fails, or its address is taken.
    """
    valkey, seaweed = Valkey(home / "valkey"), Seaweed(home / "s3")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_home(home)  # another's would bring its own passwords
    except OSError as error:
        raise NotReadyError(
            f"{home} cannot be made ({error.strerror}); set KILN_HOME to a folder that you may write to"
        ) from None
    with ExitStack() as stack:
        for server in (valkey, seaweed):
            server.launch()
            stack.callback(server.stop)
        for server in (valkey, seaweed):
            server.wait()
        instance = Instance(
            redis_url=SecretStr(valkey.url),
            s3_endpoint=seaweed.endpoint,
            bucket=BUCKET,
            access_key=seaweed.access_key,
            secret_key=SecretStr(seaweed.secret_key),
            admin_key=SecretStr(_admin_key(home / "admin.key")),
            pid=os.getpid(),
            started=time.time(),
        )
        instance.write(home)
        stack.callback((home / "instance.json").unlink, missing_ok=True)
        yield Local(instance, valkey, seaweed)


def _admin_key(path: Path) -> str:
    """Kept from start to start: what was paused stays paused."""
    if not path.exists():
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.chmod(0o600)
        part.write_text(secrets.token_hex(32))
        part.replace(path)
    return path.read_text()
