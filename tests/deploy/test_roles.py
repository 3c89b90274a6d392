"""A farm in which everyone has only the credentials that `deploy/` gives: what each can do, and cannot."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image
from pydantic import SecretStr
from redis.exceptions import AuthenticationError, NoPermissionError
from rq import Queue as RQQueue
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, NotReadyError, Settings, UsageError, keys
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.errors import StorageRefusedError
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.commands.doctor.queue import look_at_queue
from pixelkiln.worker.commands.doctor.storage import look_at_bucket
from pixelkiln.worker.local.seaweed import BUCKET, Seaweed
from pixelkiln.worker.local.valkey import Valkey
from tests.tiny import TINY_MODELS
from tests.waiting import until

DEPLOY = Path(__file__).parents[2] / "deploy"
ADMIN_KEY = "an-admin-key-for-the-roles"
CLIENTS = ("alice", "bob")


def password(user: str) -> str:
    return f"the-password-of-{user}"


def acl() -> Iterator[list[str]]:
    """The lines of the ACL file, each with a password of its own."""
    for line in (DEPLOY / "users.acl.example").read_text().splitlines():
        if line.startswith("user "):
            _, user, *rules = line.split()
            yield [user, "reset", *(rule.replace("CHANGE-ME", password(user)) for rule in rules)]


def identities(way: str) -> dict[str, Any]:
    """SeaweedFS's configuration: by its own actions, or by the policies that S3 and MinIO take."""
    text = (DEPLOY / "seaweedfs.json.example").read_text()
    *common, producer = json.loads(text)["identities"]
    named = [*common, *(json.loads(json.dumps(producer).replace("CLIENT", client)) for client in CLIENTS)]
    policies = []
    for one in named:
        one["credentials"][0]["secretKey"] = password(one["name"])
        if way == "policies" and one["name"] != "admin":
            role, _, client = one["name"].partition("-")
            content = (DEPLOY / f"s3-{role}.json").read_text().replace("CLIENT", client)
            policies.append({"name": one["name"], "content": content})
            one["policyNames"] = [one["name"]]
            del one["actions"]
    return {"identities": named, "policies": policies}


class Shared(Seaweed):
    """SeaweedFS with the users of `deploy/` beside its own."""

    way = "actions"

    def configure(self) -> list[str]:
        arguments = super().configure()
        theirs = identities(self.way)
        (own,) = json.loads((self.folder / "s3.json").read_text())["identities"]
        theirs["identities"].append(own)
        self.write_private("s3.json", json.dumps(theirs))
        return arguments


class Farm:
    """Both servers, and what each role is given."""

    def __init__(self, folder: Path, valkey: Valkey, seaweed: Seaweed) -> None:
        self.folder, self._valkey, self._seaweed = folder, valkey, seaweed

    def settings(self, user: str, client: str = "default", **more: Any) -> Settings:
        url = f"redis://{user}:{password(user)}@127.0.0.1:{self._valkey.kept.ports[0]}/0"
        return Settings(
            redis_url=SecretStr(url),
            s3_endpoint=self._seaweed.endpoint,
            s3_bucket=BUCKET,
            client=client,
            home=self.folder / user,
            models_dir=TINY_MODELS,
            spool_dir=self.folder / "spool",
            **more,
        )

    def environment(self, user: str) -> dict[str, str]:
        """For a process of `user`'s that may hear orders."""
        settings = self.settings(user)
        assert settings.redis_url is not None
        names = ("home", "models_dir", "spool_dir", "s3_endpoint", "s3_bucket")
        variables = {f"KILN_{name.upper()}": str(getattr(settings, name)) for name in names}
        return (
            dict(os.environ)
            | variables
            | {
                "KILN_REDIS_URL": settings.redis_url.get_secret_value(),
                "KILN_ADMIN_KEY": ADMIN_KEY,
                "AWS_ACCESS_KEY_ID": user,
                "AWS_SECRET_ACCESS_KEY": password(user),
            }
        )

    def bucket(self, user: str, client: str = "default") -> Bucket:
        """The bucket as `user` has it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", user)
            patch.setenv("AWS_SECRET_ACCESS_KEY", password(user))
            return Bucket.open(self.settings("producer", client), attempts=1)

    def producer(self, client: str) -> Kiln:
        """The door of a client that has its own keys alone."""
        door = Kiln(self.settings("producer", client))
        door._bucket = self.bucket(f"producer-{client}", client)
        return door


@pytest.fixture(scope="module", params=["actions", "policies"])
def farm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("roles")
    seaweed = Shared(folder / "s3")
    seaweed.way = request.param
    with Valkey(folder / "valkey") as valkey, seaweed:
        with redis.Redis.from_url(valkey.url) as owner:
            for user, *rules in acl():
                if user != "default":  # by which the server is asked whether it answers
                    owner.execute_command("ACL", "SETUSER", user, *rules)
        yield Farm(folder, valkey, seaweed)


@pytest.fixture
def worker(farm: Farm) -> Iterator[subprocess.Popen[bytes]]:
    log = farm.folder / "worker.log"
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pixelkiln", "worker", "-m", "demo"],
            env=farm.environment("worker"),
            stderr=lines,
        )
    until(lambda: " is ready: " in log.read_text() or process.poll() is not None, "the worker is ready")
    assert process.poll() is None, log.read_text()
    yield process
    process.kill()
    process.wait()


def small(**more: Any) -> dict[str, Any]:
    return {"prompt": "a fox", "model": "demo", "width": 64, "height": 64, **more}


def test_everyone_does_their_part(farm: Farm, worker: subprocess.Popen[bytes], tmp_path: Path) -> None:
    alice, bob = (farm.producer(client) for client in CLIENTS)
    admin = Kiln(farm.settings("admin", admin_key=SecretStr(ADMIN_KEY)))
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    reference = alice.upload(tmp_path / "red.png")
    assert alice.upload(tmp_path / "red.png") == reference  # which is there already
    assert farm.bucket("worker").get(f"refs/alice/{reference}") == (tmp_path / "red.png").read_bytes()

    job_id = alice.submit(**small()).id
    assert [status.state for status in alice.wait([job_id])] == ["finished"]
    assert alice.fetch(job_id, tmp_path).exists()
    with pytest.raises(StorageRefusedError):
        bob.fetch(job_id, tmp_path)
    assert bob.cancel([job_id]) == {job_id: "foreign"}
    alice.redis.delete(f"rq:job:{job_id}")  # as when its days are over
    assert alice.status(job_id).state == "finished"  # by the sidecar
    assert len(alice.farm().workers) == 1

    assert bob.retry([job_id]) == {job_id: "unknown"}
    again = alice.submit(**small()).id
    alice.wait([again])
    first = alice.sidecar(again).job.execution
    assert bob.retry([again]) == {again: "foreign"}
    assert bob.queue.retry([again], "alice", again=True) == {again: "finished"}  # who lies may do that
    alice.wait([again])
    assert alice.sidecar(again).job.execution == first  # and replaces nothing
    with pytest.raises(StorageRefusedError):
        bob.bucket.put(keys.AGAIN("alice", again), first.encode(), "text/plain")
    assert alice.retry([again], again=True) == {again: "again"}
    alice.wait([again])
    assert alice.sidecar(again).job.execution != first

    night = alice.batch([small(prompt="night 1"), small(prompt="night 2")], name="night")
    assert "unstored" not in night.manifest.options
    assert [status.state for status in night.wait()] == ["finished"] * 2
    assert len(alice.open_batch("night").fetch(tmp_path / "night").paths) == 2
    made = alice.thumbnail(last := alice.status(again))
    assert alice.thumbnail(last, make=False) == made  # it was kept
    for key in (keys.MANIFEST("alice", "night"), keys.THUMBNAIL("alice", again, "0" * 16)):
        with pytest.raises(StorageRefusedError):
            bob.bucket.get(key)
    admin.pause(Target("farm"))
    late = alice.batch([small(prompt="late")], name="late")
    assert (late.pause(), late.prioritize("high"), late.resume()) == (1, 1, 1)  # without a key
    assert late.cancel() == {late.ids[0]: "queued"}
    waiting = alice.submit(**small()).id
    until(lambda: any("paused" in one.state for one in alice.farm().workers), "the worker pauses")
    assert alice.status(waiting).state == "queued"
    assert bob.cancel([waiting]) == {waiting: "foreign"}
    assert alice.cancel([waiting]) == {waiting: "queued"}
    running = alice.submit(**small(width=512, height=512)).id
    admin.resume(Target("farm"))
    until(lambda: alice.status(running).step > 1, "it renders")
    assert alice.cancel([running]) == {running: "started"}
    assert alice.farm().workers
    last = bob.submit(**small()).id
    assert [status.state for status in bob.wait([last])] == ["finished"]
    admin.drain(Target("farm"))
    assert worker.wait(60) == 0
    for door in (alice, bob, admin):
        door.redis.close()


def test_a_producer_gives_no_orders(farm: Farm) -> None:
    alice = farm.producer("alice")
    with pytest.raises((UsageError, NotReadyError), match="KILN_ADMIN_KEY"):
        alice.pause(Target("farm"))
    thief = Kiln(farm.settings("producer", admin_key=SecretStr(ADMIN_KEY)))
    with pytest.raises(NotReadyError, match="does not permit this user that"):
        thief.pause(Target("farm"))


Act = Callable[[redis.Redis], object]


@pytest.mark.parametrize(
    ("user", "act"),
    [
        ("producer", lambda r: r.hset("kiln:orders", "pause:farm", "x")),
        ("producer", lambda r: r.delete("kiln:orders")),
        ("producer", lambda r: r.set("kiln:orders:serial", "x")),
        ("producer", lambda r: r.rename("rq:queues", "kiln:orders")),
        ("producer", lambda r: r.eval("redis.call('SET', 'kiln:now', 0)", 0)),
        ("producer", lambda r: r.hset("kiln:clocks", "alice", 0)),
        ("producer", lambda r: r.hset("kiln:execution:job:e1", "handed", 1)),
        ("producer", lambda r: r.hset("kiln:strays", "alice:fox", "1 e")),
        ("producer", lambda r: r.zadd("kiln:sweeps", {"alice:fox": 1})),
        ("producer", lambda r: r.set("anything", "x")),
        ("producer", lambda r: r.keys("*")),
        ("producer", lambda r: r.flushdb()),
        ("producer", lambda r: r.config_get("*")),
        ("producer", lambda r: r.acl_list()),
        ("producer", lambda r: r.publish("rq:pubsub:worker", "x")),
        ("producer", lambda r: r.monitor().__enter__()),
        ("worker", lambda r: r.set("anything", "x")),
        ("worker", lambda r: r.keys("*")),
        ("worker", lambda r: r.flushdb()),
        ("worker", lambda r: r.config_set("appendonly", "no")),
        ("worker", lambda r: r.acl_list()),
        ("worker", lambda r: r.shutdown()),
        ("worker", lambda r: r.slaveof("127.0.0.1", 1)),
    ],
)
def test_what_redis_forbids(farm: Farm, user: str, act: Act) -> None:
    with (
        connect(farm.settings(user)) as client,
        pytest.raises((NoPermissionError, redis.ResponseError)) as caught,
    ):
        act(client)
    assert re.search(r"no permissions|NOPERM|ACL failure|can't access", str(caught.value), re.IGNORECASE)


@pytest.mark.parametrize("user", ["producer", "worker"])
@pytest.mark.parametrize(
    "command",
    [
        "SCRIPT DEBUG SYNC",  # holds the server for as long as the socket is open
        "SCRIPT FLUSH",
        "SCRIPT KILL",
        "SCRIPT EXISTS x",
        "EVAL return(1) 0",
        "EVAL_RO return(1) 0",
        "FCALL x 0",
        "FUNCTION LOAD x",
        "FUNCTION KILL",
        "CLIENT TRACKING ON BCAST",  # tells the name of every key that changes
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
        "CLIENT PAUSE 60000",
        "CLIENT UNBLOCK 1",
        "CLIENT NO-EVICT ON",
        "CLIENT REPLY OFF",
        "CLIENT SETNAME kiln",
        "PSUBSCRIBE *",
        "SSUBSCRIBE kiln:calls",
        "PUBSUB CHANNELS",
        "MONITOR",
        "KEYS *",
        "SCAN 0",
        "RANDOMKEY",
        "DBSIZE",
        "OBJECT FREQ rq:queues",
        "DUMP rq:queues",
        "RESTORE rq:queues 0 x",
        "COPY rq:queues rq:x",
        "RENAME rq:queues rq:x",
        "MOVE rq:queues 1",
        "SORT rq:queues",
        "SORT_RO rq:queues",
        "LCS rq:a rq:b",
        "SETRANGE rq:x 536870000 x",  # half a gigabyte in one call
        "BITFIELD rq:x SET u8 4294967000 1",
        "SUNIONSTORE rq:x rq:queues",
        "ZUNIONSTORE rq:x 1 rq:queues",
        "MEMORY STATS",
        "MEMORY DOCTOR",
        "WAIT 1 0",
        "FLUSHDB",
        "SWAPDB 0 1",
        "CONFIG GET *",
        "ACL WHOAMI",
        "COMMAND",
        "SLOWLOG GET",
        "LATENCY RESET",
        "CLUSTER INFO",
        "REPLICAOF NO ONE",
        "SHUTDOWN",
    ],
)
def test_nobody_but_the_admin_may(farm: Farm, user: str, command: str) -> None:
    with connect(farm.settings(user)) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("user", ["producer", "worker"])
def test_every_role_is_told_by_doctor_what_it_may_and_what_is_kept(farm: Farm, user: str) -> None:
    """By INFO: the configuration is the admin's to read, so that how soon a write is synced stays unknown."""
    client = "alice" if user == "producer" else "default"
    found, *warnings = look_at_queue(farm.settings(user, client))
    assert (found.state, warnings[0].what) == ("ok", "redis memory")
    assert (
        f", a {user}'s rights) answers, append-only file (how soon it is synced, an admin may" in found.found
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "worker" if user == "worker" else "producer-alice")
        patch.setenv("AWS_SECRET_ACCESS_KEY", password(os.environ["AWS_ACCESS_KEY_ID"]))
        found, *warnings = look_at_bucket(farm.settings(user, client))
    assert f"(a {user}'s rights)" in found.found
    assert [one.state for one in warnings] == ["warning"] * (user == "producer")


@pytest.mark.parametrize("command", ["BLPOP kiln:bell:demo 1", "SUBSCRIBE kiln:calls", "GET kiln:mail"])
def test_a_producer_may_not(farm: Farm, command: str) -> None:
    with connect(farm.settings("producer")) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())  # type: ignore[no-untyped-call]


def test_roles_may_what_their_scripts_call(farm: Farm) -> None:
    with redis.Redis.from_url(farm._valkey.url, decode_responses=True) as owner:
        known = set(owner.execute_command("COMMAND LIST"))  # type: ignore[no-untyped-call]
    rules = {user: rules for user, *rules in acl()}
    for user, folders in (("producer", ["jobs/queue"]), ("worker", ["jobs/queue", "worker/queue/lua"])):
        scripts = [path for folder in folders for path in (DEPLOY.parent / folder).glob("*.lua")]
        words = {word.lower() for path in scripts for word in re.findall(r"'([A-Z]+)'", path.read_text())}
        called = words & known
        assert {"hset", "lpush", "type"} <= called
        assert called <= {rule[1:] for rule in rules[user] if rule[0] == "+"}


def test_a_producer_may_use_rq_itself(farm: Farm) -> None:
    with connect(farm.settings("producer")) as client:
        queue = RQQueue("kiln:demo:bf16:normal:rq", connection=client, serializer=JSONSerializer)
        first = queue.enqueue("pixelkiln.render", {"prompt": "a fox", "model": "demo"}, meta={"a": 1})
        then = queue.enqueue("pixelkiln.render", {"prompt": "a fox", "model": "demo"}, depends_on=first)
        first.meta["b"] = 2
        first.save_meta()
        assert first.get_status(refresh=True) == "queued"
        assert then.get_status() == "deferred"
        assert first.latest_result() is None
        assert queue.get_job_ids() == [first.id]
        assert queue.fetch_job(first.id) == first
        assert first.get_position() == 0
        assert queue.count == 1
        for registry in (queue.failed_job_registry, queue.finished_job_registry, queue.started_job_registry):
            assert registry.get_job_ids() == []
        assert queue in RQQueue.all(connection=client, serializer=JSONSerializer)
        first.cancel()
        first.requeue() if first.is_failed else None
        then.delete()
        first.delete()
        assert queue.get_job_ids() == []


VALKEY = str(Valkey(Path())._find_binary())


@pytest.mark.parametrize("server", [VALKEY, shutil.which("redis-server") or "redis-server"])
def test_a_server_starts_with_the_files(server: str, tmp_path: Path) -> None:
    if shutil.which(server) is None:
        pytest.skip("Debian's redis-server is not installed")
    lines = [" ".join(["user", user, *rules[1:]]) for user, *rules in acl()]  # its comments must go
    (tmp_path / "users.acl").write_text("\n".join(lines))
    (tmp_path / "users.acl").chmod(0o600)
    compose = (DEPLOY / "compose.yaml").read_text()
    memory = re.findall(r"(--maxmemory\S*) (?:\$\{VALKEY_MEMORY:-)?([^}\s]+)", compose)
    assert [name for name, _ in memory] == ["--maxmemory", "--maxmemory-clients", "--maxmemory-policy"]
    arguments = [word for pair in memory for word in pair]
    arguments += [
        "--port",
        "0",
        "--unixsocket",
        str(tmp_path / "s"),
        "--aclfile",
        str(tmp_path / "users.acl"),
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([server, *arguments], cwd=tmp_path, stdout=log, stderr=log)
    try:
        until(lambda: (tmp_path / "s").exists() or process.poll() is not None, "it listens")
        assert process.poll() is None, (tmp_path / "log").read_text()
        for user in ("producer", "worker", "admin"):
            with redis.Redis(
                unix_socket_path=str(tmp_path / "s"), username=user, password=password(user)
            ) as client:
                assert client.ping()
                if user == "admin":
                    kept = client.config_get("maxmemory*")
                    assert (kept["maxmemory"], kept["maxmemory-clients"]) == (str(2**30), "20%")
    finally:
        (tmp_path / "users.acl").unlink()
        process.kill()
        process.wait()


def test_without_a_password_there_is_nothing(farm: Farm) -> None:
    url = f"redis://127.0.0.1:{farm._valkey.kept.ports[0]}/0"
    with redis.Redis.from_url(url) as nobody, pytest.raises(AuthenticationError):
        nobody.get("rq:queues")
    assert ["default", "reset", "off"] in list(acl())


@pytest.mark.parametrize(
    ("user", "action", "key"),
    [
        ("producer-alice", "get", "jobs/bob/1/image.png"),
        ("producer-alice", "get", "jobs/alice2/1/image.png"),
        ("producer-alice", "get", "refs/bob/1"),
        ("producer-alice", "put", "jobs/alice/1/image.png"),
        ("producer-alice", "put", "jobs/alice/1/sidecar.json"),
        ("producer-alice", "put", "refs/bob/1"),
        ("producer-alice", "put", "elsewhere"),
        ("producer-alice", "delete", "jobs/alice/1/image.png"),
        ("worker", "put", "refs/alice/1"),
        ("worker", "put", "elsewhere"),
        ("worker", "delete", "refs/alice/1"),
        ("worker", "get", "elsewhere"),
        ("nobody", "get", "jobs/alice/1/image.png"),
    ],
)
def test_what_the_bucket_forbids(farm: Farm, user: str, action: str, key: str) -> None:
    bucket = farm.bucket(user)
    arguments = (b"x", "text/plain") if action == "put" else ()
    with pytest.raises(StorageRefusedError):
        getattr(bucket, action)(key, *arguments)


@pytest.mark.parametrize(
    ("user", "client"), [("producer-alice", "alice"), ("worker", "default"), ("admin", "x")]
)
def test_each_sees_that_the_bucket_answers(farm: Farm, user: str, client: str) -> None:
    farm.bucket(user, client).check()
    with pytest.raises(StorageRefusedError):
        farm.bucket("nobody", client).check()


def test_every_placeholder_is_one_to_be_replaced() -> None:
    for name in ("users.acl.example", "seaweedfs.json.example"):
        assert "CHANGE-ME" in (DEPLOY / name).read_text()
    assert "CLIENT/" in (DEPLOY / "s3-producer.json").read_text()


def test_a_producer_without_the_package(farm: Farm, worker: subprocess.Popen[bytes]) -> None:
    """Of docs/wire.md: its four commands are a producer's, and so is what a job ended with."""
    lane, job_id = "kiln:demo:bf16:normal:alice", "by-hand"
    spec = small(client="alice")
    data = json.dumps(["pixelkiln.render", None, [spec], {}])
    with connect(farm.settings("producer")) as client:
        client.sadd("rq:queues", f"rq:queue:{lane}")
        client.rpush(f"rq:queue:{lane}", job_id)
        client.hset(f"rq:job:{job_id}", mapping={"data": data, "origin": lane, "status": "queued"})
        client.lpush("kiln:mail", lane)
        until(lambda: client.hget(f"rq:job:{job_id}", "status") == b"finished", "it is rendered")
        result = json.loads(client.hget(f"rq:job:{job_id}", "kiln_result") or b"")
    assert result["png"] == "jobs/alice/by-hand/image.png"
    assert worker.poll() is None
