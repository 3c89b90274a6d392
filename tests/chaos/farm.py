"""The servers of one run, and the doors to them: one for the harness, one through the relays for workers."""

from __future__ import annotations

import os
import secrets
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.local.seaweed import BUCKET
from pixelkiln.worker.local.server import Server
from pixelkiln.worker.local.valkey import Valkey
from tests.chaos.child import Orders
from tests.chaos.clocks import SteppedValkey, faketime
from tests.chaos.http_relay import HttpRelay
from tests.chaos.redis_relay import RedisRelay
from tests.tiny import TINY_MODELS

SPOOL_FREE = 2**20  # bytes a spool's disk must keep free here


class Store(Protocol):
    """An S3 server."""

    pid: int

    @property
    def endpoint(self) -> str: ...
    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...

    def launch(self) -> None: ...
    def wait(self, patience: float = 60.0) -> None: ...
    def stop(self) -> None: ...


class Farm:
    """A running Valkey and S3 store, relays before both, and the folder everything lies in."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store
        self.admin_key = secrets.token_hex(16)
        self.valkey = (SteppedValkey if faketime() else Valkey)(folder / "valkey")
        self.to_redis = RedisRelay(lambda: self.valkey.kept.ports[0])
        self.to_s3 = HttpRelay(lambda: int(store.endpoint.rpartition(":")[2]))

    def start(self) -> None:
        """Start Valkey and the relays; the store runs already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.environ["AWS_ACCESS_KEY_ID"] = self.store.access_key
        os.environ["AWS_SECRET_ACCESS_KEY"] = self.store.secret_key
        self.valkey.launch()
        self.valkey.wait()
        for relay in (self.to_redis, self.to_s3):
            relay.start()

    def stop(self) -> None:
        """End what `start` started."""
        for relay in (self.to_redis, self.to_s3):
            relay.stop()
        self.valkey.stop()

    def __enter__(self) -> Farm:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def settings(self, **more: Any) -> Settings:
        """As the harness sees the farm: past the relays."""
        return Settings(
            redis_url=SecretStr(self.valkey.url),
            s3_endpoint=self.store.endpoint,
            admin_key=SecretStr(self.admin_key),
            **more,
        )

    def _direct(self) -> dict[str, str]:
        return {"redis_url": self.valkey.url, "s3_endpoint": self.store.endpoint}

    def kiln(self, client: str = "default") -> Kiln:
        """A producer's door, past the relays."""
        return Kiln(self.settings(client=client))

    def bucket(self) -> Bucket:
        """The bucket, past the relays."""
        return Bucket.open(self.settings())

    def orders(self, slot: str, spool: Path | None = None, direct: bool = False, **more: Any) -> Orders:
        """What a worker of this farm is told; `direct`: to go past the relays."""
        home = self.folder / slot
        home.mkdir(exist_ok=True)
        settings = {
            "redis_url": f"redis://:{self.valkey.kept.secrets[0]}@127.0.0.1:{self.to_redis.port}/0",
            "s3_endpoint": f"http://127.0.0.1:{self.to_s3.port}",
            **(self._direct() if direct else {}),
            "s3_bucket": BUCKET,
            "admin_key": self.admin_key,
            "spool_dir": str(spool or home / "spool"),
            "spool_free": SPOOL_FREE,
            "models_dir": str(TINY_MODELS),
            "home": str(home),
        }
        return Orders(
            slot=slot,
            settings=settings,
            access_key=self.store.access_key,
            secret_key=self.store.secret_key,
            log=str(home / "log"),
            journal=str(home / "journal"),
            **more,
        )


def crash(server: Store | Server) -> None:
    """Kill a server's process at once."""
    with suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGKILL)


def revive(server: Store | Server) -> None:
    """Start a server again on what it left."""
    server.stop()
    server.launch()
    server.wait()
