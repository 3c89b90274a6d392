"""Other users of this machine: they may have a port that was our servers', and hear what is sent there."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from pixelkiln.jobs import Settings
from pixelkiln.jobs.errors import NotReadyError, StorageAwayError
from pixelkiln.jobs.home import serves
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.local import server as servers
from pixelkiln.worker.local.instance import up
from pixelkiln.worker.local.server import Kept
from pixelkiln.worker.local.valkey import Valkey
from tests.waiting import until
from tests.worker.local.others import stranger_at

SECRET = "secret-of-a-kind-1"


def sends_nothing(client: redis.Redis, bucket: Bucket, instance: Instance) -> None:
    """Neither goes to whoever has the instance's ports now."""
    urls = instance.redis_url.get_secret_value(), instance.s3_endpoint
    with ExitStack() as stack:
        heard = [stack.enter_context(stranger_at(urlsplit(url).port or 0)) for url in urls]
        with pytest.raises(redis.ConnectionError, match="no servers run in"):
            client.ping()
        with pytest.raises(StorageAwayError, match="is unreachable: no servers run in"):
            bucket.put("key", b"a picture", "image/png")
        assert heard == [[], []]


def test_nothing_is_sent_where_dead_servers_listened(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with up(tmp_path) as local:
        client, bucket = connect(settings), Bucket.open(settings, attempts=1)
        client.ping()
        bucket.check()
        for server in (local.valkey, local.seaweed):  # their owner lives, and has not noticed yet
            os.kill(server.pid, signal.SIGKILL)
            until(lambda server=server: not server.running(), "its guard is gone")  # type: ignore[misc]
        sends_nothing(client, bucket, local.instance)
    local.instance.write(tmp_path)  # as a killed owner leaves it
    sends_nothing(client, bucket, local.instance)
    sends_nothing(connect(settings), Bucket.open(settings, attempts=1), local.instance)
    client.close()
    bucket.close()


def test_nor_where_another_takes_the_port_as_a_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Valkey(tmp_path)
    (port,) = servers.free_ports(1)
    monkeypatch.setattr(server, "_recall", lambda: Kept([port], [SECRET]))
    with stranger_at(port) as heard, server:
        assert server.kept.ports != [port]
        assert heard == []


def test_what_an_earlier_owner_wrote_is_not_this_ones(tmp_path: Path) -> None:
    with Valkey(tmp_path):
        assert serves(tmp_path, os.getpid())
        assert not serves(tmp_path, os.getppid())
    assert not serves(tmp_path, os.getpid())
    (tmp_path / "lock").write_text(str(os.getpid()))
    (tmp_path / "server.lock").write_text(str(os.getpid()))
    assert not serves(tmp_path, os.getpid())  # nobody holds it


def test_servers_are_not_started_in_a_folder_that_others_may_write_to(tmp_path: Path) -> None:
    home = tmp_path / ".kiln"
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(NotReadyError, match=r"may be changed by others.*KILN_HOME"), up(home):
        pass
    assert not list(home.iterdir())
