"""Another server becomes the master, and the one before stays up as a replica: all go over to the new one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, NotReadyError, RenderSpec, Settings
from pixelkiln.jobs.queue.connection import NotServingError, check, connect
from pixelkiln.worker.commands.doctor.looks import examine
from pixelkiln.worker.local.valkey import Valkey
from pixelkiln.worker.queue.claim import Claim, Progress
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.service import Service
from tests.chaos.redis_relay import RedisRelay
from tests.waiting import until
from tests.wire import Proxy
from tests.worker.working import working

KEY = "an admin's key, for failovers"
NOWHERE = ("127.0.0.1", 1)


class Watch(Valkey):
    """A Sentinel over the service `farm`."""

    name = "Sentinel"
    ready = "Sentinel ID is"
    service: tuple[int, str] = (0, "")  # the master's port and password

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.kept.ports[0]}"

    def configure(self) -> list[str]:
        port, password = self.service
        lines = [
            f"bind 127.0.0.1\nport {self.kept.ports[0]}",
            f"sentinel monitor farm 127.0.0.1 {port} 1\nsentinel auth-pass farm {password}",
        ]
        self.write_private("valkey.conf", "\n".join(lines))
        return ["valkey.conf", "--sentinel"]


class Pair:
    """Two servers with one password: `old` is the master, `new` its replica."""

    def __init__(self, old: Valkey, new: Valkey) -> None:
        self.ports = [old.kept.ports[0], new.kept.ports[0]]
        self.password = old.kept.secrets[0]
        self.master = self.ports[0]  # where the relay leads to
        self.old, self.new = (redis.Redis.from_url(one.url, protocol=2) for one in (old, new))
        self.new.config_set("requirepass", self.password)
        for one in (self.old, self.new):
            one.config_set("masterauth", self.password)
            one.config_set("repl-diskless-sync-delay", 0)
            one.config_set("shutdown-timeout", 0)
        self.new.replicaof("127.0.0.1", self.ports[0])
        until(lambda: self.old.info("replication")["connected_slaves"], "the replica follows")
        until(lambda: self.new.info("replication")["master_link_status"] == "up", "it has all")

    def demote(self) -> None:
        """The master writes no more until its replica has all; as a replica it hears nothing more of it."""
        self.old.execute_command("FAILOVER")
        until(lambda: self.new.info("replication")["role"] == "master", "the replica is master")
        until(lambda: self.old.info("replication")["role"] == "slave", "the master is a replica")
        self.old.replicaof(*NOWHERE)

    def url(self, port: int) -> SecretStr:
        return SecretStr(f"redis://:{self.password}@127.0.0.1:{port}/0")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Valkey(tmp_path / "old") as old, Valkey(tmp_path / "new") as new:
        pair = Pair(old, new)
        yield pair
        pair.old.close()
        pair.new.close()


@pytest.fixture
def moved(pair: Pair, settings: Settings) -> Iterator[Settings]:
    """A farm whose address leads to `pair.master`, whichever that is when it is connected to."""
    relay = RedisRelay(lambda: pair.master)
    relay.start()
    yield settings.model_copy(update={"redis_url": pair.url(relay.port), "admin_key": SecretStr(KEY)})
    relay.stop()


@pytest.fixture
def watched(pair: Pair, settings: Settings, tmp_path: Path) -> Iterator[tuple[Settings, redis.Redis]]:
    """A farm whose address is a Sentinel's, behind one that is away; and the Sentinel."""
    watch = Watch(tmp_path / "watch")
    watch.service = pair.ports[0], pair.password
    with watch, redis.Redis.from_url(watch.url, protocol=2) as sentinel:
        until(lambda: sentinel.sentinel_slaves("farm"), "it knows the replica")
        hosts = f"127.0.0.1:1,127.0.0.1:{watch.kept.ports[0]}"
        url = SecretStr(f"valkey+sentinel://:{pair.password}@{hosts}/farm/0")
        yield settings.model_copy(update={"redis_url": url, "admin_key": SecretStr(KEY)}), sentinel


def spec(**fields: Any) -> RenderSpec:
    return RenderSpec.parse({"prompt": "a fox", "model": "demo", "width": 64, "height": 64, **fields})


def goes_on(settings: Settings, fail_over: Callable[[], None]) -> None:
    """A worker and a producer, with a failover while a job renders: no job is lost, nobody starts anew."""
    service = Service(settings, ["demo"])
    report, gone = service._heartbeat.report, threading.Event()

    def reported(claim: Claim, progress: Progress) -> None:
        report(claim, progress)
        assert not progress.step or gone.wait(
            60
        )  # however quick, it is not rendered before the server has changed

    service._heartbeat.report = reported  # type: ignore[method-assign]
    with Kiln(settings) as kiln:
        first = kiln.submit(spec(width=256, height=256)).id

        def done(job_id: str) -> bool:
            return kiln.status(job_id).state == "finished"

        def story() -> Iterator[bool]:
            yield from iter(lambda: bool(kiln.status(first).step), True)
            fail_over()
            gone.set()
            second = kiln.submit(spec(seed=2)).id
            yield from iter(lambda: done(first) and done(second), True)
            kiln.pause("farm")
            yield from iter(lambda: bool(service._control.standing.here), True)
            kiln.resume("farm")
            third = kiln.submit(spec(seed=3)).id
            yield from iter(lambda: done(third), True)

        steps = story()
        working(service, lambda: next(steps, True) is True)
        assert next(steps, None) is None
        workers = kiln.farm().workers
        assert workers == ()


def test_all_leave_a_master_that_became_a_replica(moved: Settings, pair: Pair) -> None:
    def fail_over() -> None:
        pair.demote()
        pair.master = pair.ports[1]

    goes_on(moved, fail_over)


def test_all_follow_the_sentinels(watched: tuple[Settings, redis.Redis], pair: Pair) -> None:
    settings, sentinel = watched

    def fail_over() -> None:
        sentinel.execute_command("SENTINEL", "FAILOVER", "farm")
        until(lambda: sentinel.sentinel_get_master_addr_by_name("farm")[1] == pair.ports[1], "it fails over")
        pair.old.replicaof(*NOWHERE)

    goes_on(settings, fail_over)


def test_what_lay_in_the_pool_is_opened_anew_too(moved: Settings, pair: Pair) -> None:
    with connect(moved) as client:
        idle = [client.connection_pool.get_connection() for _ in range(3)]
        for one in idle:
            client.connection_pool.release(one)
        pair.demote()
        pair.master = pair.ports[1]
        with pytest.raises(NotServingError):
            client.set("kiln:now", "1")
        for _ in range(5):
            client.set("kiln:now", "2")
    assert pair.new.get("kiln:now") == b"2"


def test_a_transaction_is_not_carried_over_to_another_server(moved: Settings, pair: Pair) -> None:
    with connect(moved) as client, client.pipeline() as pipe:
        pipe.watch("kiln:now")  # type: ignore[no-untyped-call]
        pair.demote()
        pair.master = pair.ports[1]
        pipe.multi()
        pipe.set("kiln:now", "1")
        with pytest.raises(NotServingError):
            pipe.execute()
    assert pair.new.get("kiln:now") is None


def test_the_end_of_a_job_waits_for_the_new_master(
    moved: Settings, pair: Pair, make_claims: Callable[..., Claims]
) -> None:
    with Kiln(moved) as kiln:
        kiln.submit(spec())
    claims = make_claims(where=moved)
    claim = claims.take(["demo:bf16"])
    assert claim is not None
    pair.demote()
    for _ in range(2):
        with pytest.raises(NotServingError):  # not: the job is another's
            claims.finish(claim, {}, 1.0)
    pair.master = pair.ports[1]
    assert claims.finish(claim, {}, 1.0)


def test_a_wait_ends_with_the_master(moved: Settings, pair: Pair) -> None:
    with connect(moved) as client:
        client.ping()
        pair.demote()
        with pytest.raises(NotServingError):
            client.blpop(["kiln:bell:demo"], timeout=5)


@pytest.mark.parametrize(
    "answer",
    [
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "NOREPLICAS Not enough good replicas to write.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    ],
)
def test_whoever_serves_no_more_is_left(
    settings: Settings, rewire: Callable[..., tuple[Settings, Proxy]], answer: str
) -> None:
    far, proxy = rewire("redis")
    with connect(far) as client:
        client.ping()
        proxy.alter = lambda request, reply: f"-{answer}\r\n".encode()
        with pytest.raises(NotServingError):
            client.get("kiln:now")
        with Kiln(far) as kiln, pytest.raises(NotReadyError, match="does not serve now"):
            kiln.farm()
        proxy.alter = None
        assert client.ping()


def test_sentinels_that_know_nothing_say_so(watched: tuple[Settings, redis.Redis], pair: Pair) -> None:
    settings, _ = watched
    assert settings.redis_url is not None
    url = settings.redis_url.get_secret_value()
    for changed, told in (
        (url.replace("/farm/", "/other/"), "knows a master named 'other'"),
        (f"redis+sentinel://:{pair.password}@127.0.0.1:1/farm", "answers"),
    ):
        with Kiln(settings.model_copy(update={"redis_url": SecretStr(changed)})) as kiln:
            with pytest.raises(redis.ConnectionError, match=f"^no Sentinel {told}$"):
                kiln.redis.ping()
            with pytest.raises(NotReadyError) as caught:
                kiln.farm()
            assert pair.password not in str(caught.value)


class Clustered(Valkey):
    """A node of a cluster."""

    def configure(self) -> list[str]:
        return [*super().configure(), "--cluster-enabled", "yes"]

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


def test_a_cluster_is_refused_in_words(settings: Settings, tmp_path: Path) -> None:
    with Clustered(tmp_path / "cluster") as node:
        far = settings.model_copy(update={"redis_url": SecretStr(node.url)})
        with Kiln(far) as kiln, connect(far) as client:
            acts = [
                partial(kiln.submit, spec()),
                partial(Service, far, ["demo"]),
                partial(check, far, client),
            ]
            for act in acts:
                with pytest.raises(NotReadyError, match="is part of a cluster"):
                    act()
            assert client.dbsize() == 0
        found = {finding.what: finding for finding in examine(far)}
        assert found["redis"].state == "problem"
        assert "is part of a cluster" in found["redis"].found
