"""However the owner or a server ends, nothing acknowledged is lost and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import redis
from botocore.exceptions import BotoCoreError, ClientError

from pixelkiln.worker.local.instance import running, up
from pixelkiln.worker.local.lock import FolderInUseError
from pixelkiln.worker.local.seaweed import BUCKET
from pixelkiln.worker.local.server import ServerError
from tests.waiting import until
from tests.worker.local.others import another_seaweed

WRITES = 50  # acknowledged before the kill
OWNER = """
import sys
from pathlib import Path
from pixelkiln.worker.local.instance import up
with up(Path(sys.argv[1])) as local:
    print(local.valkey.pid, local.seaweed.pid, *local.seaweed.leftovers()[2:], flush=True)
    sys.stdin.read()
"""


def write_until_it_fails(write: Callable[[int], object], enough: threading.Barrier) -> int:
    """How many writes were acknowledged; meets the others at `enough` once there are `WRITES`."""
    count = 0
    while True:
        try:
            write(count)
        except (redis.RedisError, BotoCoreError, ClientError):
            return count
        count += 1
        if count == WRITES:
            enough.wait(30)


def test_servers_killed_under_writes_lose_nothing_acknowledged(tmp_path: Path) -> None:
    enough = threading.Barrier(3)
    with up(tmp_path) as local, ThreadPoolExecutor(2) as pool:
        valkey, bucket = redis.Redis.from_url(local.valkey.url), local.seaweed.connect()
        pushed = pool.submit(write_until_it_fails, lambda n: valkey.rpush("list", n), enough)
        stored = pool.submit(
            write_until_it_fails,
            lambda n: bucket.put_object(Bucket=BUCKET, Key=f"{n}", Body=b"%d" % n * 20_000),
            enough,
        )
        enough.wait(30)
        for server in (local.valkey, local.seaweed):
            os.kill(server.pid, signal.SIGKILL)
        pushes, objects = pushed.result(30), stored.result(30)
        while local.valkey.running():  # its guard notices within milliseconds
            pass
        with pytest.raises(ServerError, match="Valkey has ended"):
            local.check()
        valkey.close()
        bucket.close()
        first = local.instance
    with another_seaweed(), up(tmp_path) as local:
        assert local.instance.redis_url == first.redis_url  # a client of the first run goes on
        assert local.instance.s3_endpoint == first.s3_endpoint
        with redis.Redis.from_url(local.valkey.url) as valkey:
            assert [int(n) for n in valkey.lrange("list", 0, pushes - 1)] == list(range(pushes))
        bucket = local.seaweed.connect()
        for n in range(objects):
            assert bucket.get_object(Bucket=BUCKET, Key=f"{n}")["Body"].read() == b"%d" % n * 20_000
        bucket.close()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_servers_end_with_their_owner(tmp_path: Path, end: signal.Signals) -> None:
    home = tmp_path / "a home"
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        first, second, *sockets = owner.stdout.readline().split()
        processes = [psutil.Process(int(first)), psutil.Process(int(second))]
        guards = [process.parent() for process in processes]
        # The admin server is no part of what answers, and comes a moment later.
        until(lambda: all(Path(socket).exists() for socket in sockets), "all sockets are there")
        assert running(home) is not None
        with pytest.raises(FolderInUseError, match=f"in use by process {owner.pid}:"), up(home):
            pass
        owner.send_signal(end)
        owner.wait(30)
    assert running(home) is None
    if end == signal.SIGKILL:
        with up(home) as local:  # at once: its servers are ending still
            local.check()
            assert running(home) == local.instance
    assert not psutil.wait_procs([*processes, *guards], timeout=10)[1]
    assert not any(Path(socket).exists() for socket in sockets)
    assert not [*home.glob("instance.json*"), *home.glob("*/*lock")]
