"""A farm under attack: one real worker, traps that tell of foreign code, and what a producer may write."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.queue.record import FUNCTION
from tests.waiting import until

LANE = "kiln:demo:bf16:normal:default"
SPEC: dict[str, Any] = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}
CANARY = "canary_of_the_hostile_suite"


def payload(*arguments: Any, function: Any = FUNCTION, instance: Any = None, **named: Any) -> bytes:
    """RQ's `data` field, as its JSONSerializer writes it; by default a sound spec."""
    return json.dumps([function, instance, list(arguments) or [SPEC], named]).encode()


def spec(**fields: Any) -> bytes:
    """A job's data: a sound spec, but for these fields."""
    return payload({**SPEC, **fields})


class Traps:
    """Whatever would be run or called leaves a trace here."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "mark"
        self.modules = folder / "modules"
        self.modules.mkdir()
        leave = f"open({str(self.mark)!r}, 'a').write(__name__)"
        (self.modules / f"{CANARY}.py").write_text(f"{leave}\ndef run(*a, **k):\n    {leave}\n")
        self.called: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def sprung(self) -> list[str]:
        """What was run or called, if anything."""
        return self.called + ([self.mark.read_text()] if self.mark.exists() else [])

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, address = self._listener.accept()
                self.called.append(f"connection from {address}")
                connection.close()


class Touch:
    """Unpickled, it leaves the mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Forger:
    """A producer with write access to all of Redis."""

    def __init__(self, connection: redis.Redis, traps: Traps) -> None:
        self.redis = connection
        self.traps = traps
        self.worker = b""  # the key of RQ's record of the real worker

    def put(
        self,
        job_id: str | bytes,
        data: bytes | None = None,
        lane: str | bytes = LANE,
        *,
        queued: int = 1,
        **fields: Any,
    ) -> None:
        """A job's record, as RQ writes it but for `fields` (None leaves one out), its id `queued` times."""
        origin = lane.encode() if isinstance(lane, str) else lane
        record = {"status": "queued", "origin": origin, "data": spec() if data is None else data, **fields}
        name = job_id.encode() if isinstance(job_id, str) else job_id
        kept: Mapping[Any, Any] = {field: value for field, value in record.items() if value is not None}
        if kept:
            self.redis.hset(b"rq:job:" + name, mapping=kept)  # type: ignore[arg-type]
        self.push(name, origin, queued)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is written in the block comes to be in one transaction."""
        connection = self.redis
        with connection.pipeline() as self.redis:  # type: ignore[assignment]
            try:
                yield
                self.redis.execute()  # type: ignore[attr-defined]
            finally:
                self.redis = connection

    def push(self, job_id: str | bytes, lane: str | bytes = LANE, times: int = 1) -> None:
        """An id into a lane, whatever its record."""
        origin = lane.encode() if isinstance(lane, str) else lane
        self.redis.sadd("rq:queues", b"rq:queue:" + origin)
        for _ in range(times):
            self.redis.rpush(b"rq:queue:" + origin, job_id)

    def result(self, job_id: str, at: str = "*", **fields: Any) -> None:
        """An entry of RQ's stream of results."""
        self.redis.xadd(f"rq:results:{job_id}", fields, id=at)


class Worker:
    """`kiln worker -m demo` as a process of its own, with the canary on its path."""

    def __init__(self, settings: Settings, traps: Traps, folder: Path) -> None:
        self.folder = folder
        self.log = folder.with_name("worker.log")
        folder.mkdir()
        assert settings.redis_url is not None
        environment = {
            **os.environ,
            "KILN_REDIS_URL": settings.redis_url.get_secret_value(),
            "KILN_S3_ENDPOINT": str(settings.s3_endpoint),
            "KILN_S3_BUCKET": settings.s3_bucket,
            "KILN_HOME": str(settings.home),
            "KILN_MODELS_DIR": str(settings.models_dir),
            "KILN_SPOOL_DIR": str(settings.spool_dir),
            "KILN_RENDERS_DIR": str(settings.renders_dir),
            "KILN_ADMIN_KEY": "of the hostile suite, which never signs",
            "KILN_CACHE_DIR": str(folder / "cache"),
            "PYTHONPATH": str(traps.modules),
        }
        code = "import sys; sys.argv[1:] = ['worker', '-m', 'demo']; import pixelkiln.__main__"
        with self.log.open("wb") as lines:
            self.child = subprocess.Popen(
                [sys.executable, "-c", code],
                env=environment,
                cwd=folder,
                stderr=lines,
                stdin=subprocess.DEVNULL,
            )
        until(lambda: b"is ready" in self.log.read_bytes() or self.child.poll() is not None, "it is ready")
        assert self.child.poll() is None, self.log.read_text()

    def files(self) -> set[str]:
        """Every file under its folder, but for what it keeps for itself."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def close(self) -> None:
        self.child.kill()
        self.child.wait()


def objects(kiln: Kiln) -> dict[str, str]:
    """Every object in the bucket by its key, with its etag."""
    pages = kiln.bucket._client.get_paginator("list_objects_v2").paginate(Bucket=kiln.bucket.name)
    return {one["Key"]: one["ETag"] for page in pages for one in page.get("Contents", [])}


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
