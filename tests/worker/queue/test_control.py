"""Orders: who is believed, and what lives on when nonsense is heard."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, NotReadyError, Settings, UsageError, keys
from pixelkiln.jobs.control.orders import (
    KEPT,
    MAX_ORDER,
    MOST_ORDERS,
    Order,
    Target,
    fingerprint,
    give,
    identity,
    obeys,
    seal,
)
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.queue.claims import Claims, NewOrdersError
from pixelkiln.worker.queue.control import TOLD, Control, worker_name
from pixelkiln.worker.queue.heartbeat import Heartbeat
from tests.waiting import until
from tests.wire import Proxy

KEY = b"a key of an admin"
NAME = "mini-3-a1b2c3"
Hear = Callable[..., Control]


class Looks(Heartbeat):
    """A heartbeat that notes who asks it to look."""

    def __init__(self, claims: Claims) -> None:
        super().__init__(claims, {}, Watchdog(60))
        self.looked: list[str | None] = []

    def look(self, job_id: str | None = None) -> None:
        self.looked.append(job_id)


@pytest.fixture
def admin(settings: Settings) -> Iterator[Kiln]:
    door = Kiln(settings.model_copy(update={"admin_key": SecretStr(KEY.decode())}))
    yield door
    door.redis.close()


@pytest.fixture
def hear(settings: Settings) -> Iterator[Hear]:
    """Listeners, started if asked to."""
    made: list[Control] = []

    def make(key: bytes | None = KEY, where: Settings = settings, start: bool = False) -> Control:
        claims = Claims(connect(where, timeout=3.0), NAME)
        made.append(Control(claims, NAME, key, Looks(claims)))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()
        if one.is_alive():
            one.join(5)


def put(kiln: Kiln, order: Order, key: bytes = KEY, field: str | None = None) -> None:
    kiln.redis.hset(keys.ORDERS, field or order.field, order.signed(key))


def of(verb: Any, target: str, at: float = 1.0, now: bool = False) -> Order:
    return Order(verb=verb, target=target, at=at, now=now)


def test_what_is_paused_stays_so_until_the_same_is_resumed(admin: Kiln, hear: Hear) -> None:
    ear = hear()
    for target in ("farm", "client:acme", "model:demo", f"worker:{NAME}", "worker:mini-3", "worker:mini-4"):
        admin.pause(target)
    ear.read()
    mine = {"farm", "client:acme", "model:demo", f"worker:{NAME}", "worker:mini-3"}
    assert {str(target) for target in ear.standing.paused} == mine
    assert ear.standing.here == "the farm is paused"
    assert hear().standing == ear.standing  # one that starts now
    admin.resume("farm")
    ear.read()
    assert ear.standing.here == "the worker is paused"
    for target in mine:
        admin.resume(target)
    ear.read()
    assert (ear.standing.paused, ear.standing.here, ear.standing.leave) == (frozenset(), "", 0)


def test_a_drain_is_for_those_that_run_when_it_is_given(admin: Kiln, hear: Hear) -> None:
    ear, other = hear(), hear()
    admin.drain("worker:mini-4")
    ear.read()
    assert ear.standing.leave == 0
    admin.drain("worker:mini-3")
    ear.read()
    assert ear.standing.leave == 1
    admin.drain("farm", now=True)
    other.read()
    assert other.standing.leave == 2
    assert hear().standing.leave == 0


def test_orders_are_told_at_once(admin: Kiln, hear: Hear) -> None:
    ear = hear(start=True)
    until(lambda: admin.redis.pubsub_numsub(keys.CALLS)[0][1], "it listens")
    admin.pause("client:acme")
    until(lambda: ear.standing.names("client") == ["acme"], "it has heard", 2.0)
    admin.redis.publish(keys.CALLS, "job:abc")
    heartbeat = ear._heartbeat
    assert isinstance(heartbeat, Looks)
    until(lambda: "abc" in heartbeat.looked, "it looks at the job", 2.0)


def test_only_an_admins_orders_count(
    admin: Kiln, hear: Hear, caplog: pytest.LogCaptureFixture, kiln: Kiln
) -> None:
    good = of("pause", "farm").signed(KEY)
    code, _, body = good.partition(b" ")
    forged = {
        "pause:farm": of("pause", "farm").signed(b"a key of another"),
        "pause:client:a": code + b" " + of("pause", "client:a").model_dump_json().encode(),
        "pause:client:b": good,  # moved
        "pause:client:c": body,
        "pause:client:d": b"",
        "pause:client:e": b"\xff\x00" * 40,
        "pause:client:f": good + b" ",
        "pause:model:demo": of("pause", "model:demo").signed(KEY)[:-1],
        "drain:farm": code.upper() + b" " + body,
        "x" * 100: good,
    }
    for field, text in forged.items():
        kiln.redis.hset(keys.ORDERS, field, text)
    kiln.redis.hset(keys.ORDERS, "drain:worker:mini-3", b"x" * (MAX_ORDER + 1))
    kiln.redis.hset(keys.ORDERS, "y" * 200, good)
    with caplog.at_level(logging.WARNING):
        ear = hear()
        for _ in range(3):
            ear.read()
    assert (ear.standing.paused, ear.standing.leave) == (frozenset(), 0)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(set(told)) == len({*forged.values()})
    admin.pause("farm")
    ear.read()
    assert ear.standing.here


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"verb": "shutdown"},
        {"target": "worker:../x"},
        {"target": "job:1"},
        {"verb": "drain", "target": "client:acme"},
        {"at": "now"},
        {"at": -1.0},
        {"at": 1e300},
        {"now": 1},
        {"exec": "os.system"},
    ],
)
def test_a_signed_order_is_checked_all_the_same(admin: Kiln, hear: Hear, change: dict[str, Any]) -> None:
    body = json.dumps({**of("pause", "farm").model_dump(), **change}).encode()
    text = hmac.new(KEY, body, hashlib.sha256).hexdigest().encode() + b" " + body
    admin.redis.hset(keys.ORDERS, "pause:farm", text)
    admin.redis.hset(keys.ORDERS, "drain:client:acme", text)
    ear = hear()
    assert (ear.standing.paused, ear.standing.leave) == (frozenset(), 0)


def test_an_order_put_back_does_not_come_into_force_again(admin: Kiln, hear: Hear) -> None:
    ear = hear()
    admin.pause("farm")
    old = admin.redis.hget(keys.ORDERS, "pause:farm")
    assert old is not None
    admin.resume("farm")
    ear.read()
    admin.redis.hset(keys.ORDERS, "pause:farm", old)
    ear.read()
    assert not ear.standing.here
    admin.pause("farm")
    ear.read()
    admin.redis.delete(keys.ORDERS, keys.SERIAL)  # who deletes them ends no pause
    ear.read()
    assert ear.standing.here


def test_an_order_is_newer_than_the_one_it_replaces_though_the_clock_was_set_back(
    admin: Kiln, hear: Hear
) -> None:
    ahead = admin.redis.time()[0] + 1000.0
    put(admin, of("pause", "farm", at=ahead))
    ear = hear()
    assert ear.standing.here
    assert admin.resume("farm").at > ahead
    ear.read()
    assert not ear.standing.here


def test_a_drain_that_a_worker_finds_as_it_starts_is_for_others_though_the_clock_was_set_back(
    admin: Kiln, hear: Hear
) -> None:
    put(admin, of("drain", "farm", at=admin.redis.time()[0] + 1000.0))
    ear = hear()
    assert ear.standing.leave == 0
    admin.drain("farm")
    ear.read()
    assert ear.standing.leave == 1


def test_without_a_key_no_order_counts_and_jobs_are_looked_at(admin: Kiln, hear: Hear) -> None:
    admin.pause("farm")
    admin.drain("farm")
    ear = hear(key=None, start=True)
    ear.read()
    assert (ear.standing.paused, ear.standing.leave, ear.standing.serial) == (frozenset(), 0, None)
    until(lambda: admin.redis.pubsub_numsub(keys.CALLS)[0][1], "it listens")
    admin.redis.publish(keys.CALLS, "job:abc")
    heartbeat = ear._heartbeat
    assert isinstance(heartbeat, Looks)
    until(lambda: "abc" in heartbeat.looked, "it looks at the job")


def test_nonsense_is_told_once_and_the_listener_lives_on(
    admin: Kiln, hear: Hear, caplog: pytest.LogCaptureFixture
) -> None:
    ear = hear(start=True)
    until(lambda: admin.redis.pubsub_numsub(keys.CALLS)[0][1], "it listens")
    nonsense: list[bytes] = [
        b"",
        b"\xff\xfe",
        b"shutdown",
        b'{"command": "kill-horse"}',
        b"job:",
        b"job:../../x",
        b"job:" + b"a" * 65,
        b"orders\n",
        b"\x1b[2J",
        b"x" * 2**20,
    ]
    with caplog.at_level(logging.WARNING):
        for text in nonsense * 3:
            admin.redis.publish(keys.CALLS, text)
        admin.pause("farm")
        until(lambda: ear.standing.here, "the order behind the nonsense is heard", 2.0)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(nonsense)
    assert not any(character < " " for line in told for character in line)
    with caplog.at_level(logging.WARNING):
        for i in range(5 * TOLD):
            admin.redis.publish(keys.CALLS, f"nonsense {i}")
        admin.resume("farm")
        until(lambda: not ear.standing.here, "it still hears", 5.0)
    assert len(caplog.records) == TOLD
    assert ear.is_alive()


def test_it_hears_again_after_redis_was_away(
    admin: Kiln, hear: Hear, rewire: Callable[..., tuple[Settings, Proxy]]
) -> None:
    far, proxy = rewire("redis")
    ear = hear(where=far, start=True)
    until(lambda: admin.redis.pubsub_numsub(keys.CALLS)[0][1], "it listens")
    proxy.cut()
    until(lambda: not admin.redis.pubsub_numsub(keys.CALLS)[0][1], "it is cut off")
    admin.pause("farm")
    assert not ear.standing.here
    proxy.mend()
    until(lambda: ear.standing.here, "it has read what it missed")


def test_no_job_is_taken_by_orders_that_are_not_in_force_any_more(
    admin: Kiln, hear: Hear, make_claims: Callable[..., Claims], submit: Callable[..., str]
) -> None:
    submit()
    ear = hear()
    admin.pause("client:default")
    claims, served = make_claims(), ["demo:bf16"]
    with pytest.raises(NewOrdersError):  # the very first
        claims.take(served, serial=ear.standing.serial)
    ear.read()
    first = ear.standing
    assert claims.take(served, serial=first.serial, without=first.names("client")) is None
    admin.resume("client:default")
    with pytest.raises(NewOrdersError):
        claims.take(served, serial=first.serial, without=first.names("client"))
    ear.read()
    taken = claims.take(served, serial=ear.standing.serial, without=ear.standing.names("client"))
    assert isinstance(taken, Claim)


def test_a_flood_of_orders_stops_nobody(
    admin: Kiln, hear: Hear, make_claims: Callable[..., Claims], submit: Callable[..., str]
) -> None:
    submit()
    admin.pause("client:acme")
    ear = hear()
    admin.redis.hset(keys.ORDERS, mapping={f"junk {i}": "x" for i in range(MOST_ORDERS)})
    admin.redis.set(keys.SERIAL, "forged")
    ear.read()
    assert ear.standing.names("client") == ["acme"]
    assert make_claims().take(["demo:bf16"], serial=ear.standing.serial) is not None


@pytest.mark.parametrize("command", ["SADD", "SET", "RPUSH"])
def test_orders_of_another_type_are_none(admin: Kiln, hear: Hear, command: str) -> None:
    ear = hear()
    for key in (keys.ORDERS, keys.SERIAL):
        admin.redis.execute_command(command, key, "x")  # type: ignore[no-untyped-call]
    ear.read()
    assert ear.standing.paused == frozenset()


def test_who_has_no_key_cannot_order(kiln: Kiln) -> None:
    with pytest.raises(NotReadyError, match="KILN_ADMIN_KEY"):
        kiln.pause("farm")


@pytest.mark.parametrize(
    "text", ["", "all", "farm:", "client:", "client:Acme", "worker:a b", "model:gpt", "job:1"]
)
def test_a_target_that_is_none_is_refused(admin: Kiln, text: str) -> None:
    with pytest.raises(UsageError):
        admin.pause(text)


def test_a_workers_name_can_be_given_in_orders() -> None:
    for machine in ("mini-3.local", "Zoë's Mac Studio", "", "-", "x" * 300):
        name = worker_name(machine, "a1b2c3")
        assert Target.parse(f"worker:{name}").covers(name)
    assert Target.parse("worker:mini-3").covers(worker_name("mini-3.local", "a1b2c3"))


def sealed(kiln: Kiln, farm: bytes) -> dict[str, bytes]:
    """The pause of the farm, given on another."""
    text = of("pause", "farm").signed(KEY)
    return {keys.ORDERS: text, keys.SEALS: seal(farm, text, KEY)}


@pytest.mark.parametrize("with_seal", [True, False])
def test_an_order_of_another_farm_is_none(
    admin: Kiln, hear: Hear, caplog: pytest.LogCaptureFixture, with_seal: bool
) -> None:
    ear = hear()
    taken = sealed(admin, b"0" * 32)
    for key in taken if with_seal else [keys.ORDERS]:
        admin.redis.hset(key, "pause:farm", taken[key])
    with caplog.at_level(logging.WARNING):
        ear.read()
        assert not hear().standing.here
    assert not ear.standing.here
    assert "it was given on another farm, or by pixelkiln 0.1" in caplog.text
    admin.pause("farm")
    ear.read()
    assert ear.standing.here
    admin.redis.hset(keys.SEALS, "pause:client:a", admin.redis.hget(keys.SEALS, "pause:farm") or b"")
    text = of("pause", "client:a").signed(KEY)
    admin.redis.hset(keys.ORDERS, "pause:client:a", text)  # under a seal of another order
    ear.read()
    assert ear.standing.names("client") == []


def test_orders_of_0_1_that_stand_when_the_farm_gets_its_identity_stay(admin: Kiln, hear: Hear) -> None:
    put(admin, of("pause", "client:acme"))
    put(admin, of("pause", "client:b"), key=b"a key of another")
    ear = hear()
    assert ear.standing.names("client") == ["acme"]
    farm = admin.redis.get(keys.FARM)
    put(admin, of("pause", "client:late"))  # by an admin of 0.1
    other = hear()
    assert (ear.standing, admin.redis.get(keys.FARM)) == (other.standing, farm)
    assert other.standing.names("client") == ["acme"]


def test_a_worker_of_0_1_reads_orders_as_before(admin: Kiln) -> None:
    given = admin.pause("farm")
    text = admin.redis.hget(keys.ORDERS, "pause:farm")
    assert text is not None
    code, _, body = text.partition(b" ")
    assert code == hmac.new(KEY, body, hashlib.sha256).hexdigest().encode()
    assert json.loads(body) == {
        "version": 1,
        "verb": "pause",
        "target": "farm",
        "now": False,
        "at": given.at,
    }


@pytest.mark.parametrize("command", ["SADD", "SET", "RPUSH"])
def test_an_identity_that_is_none_is_drawn_anew(admin: Kiln, hear: Hear, command: str) -> None:
    for key in (keys.FARM, keys.SEALS):
        admin.redis.execute_command(command, key, "x")  # type: ignore[no-untyped-call]
    ear = hear()
    admin.pause("farm")
    ear.read()
    assert ear.standing.here
    admin.redis.flushdb()
    ear.read()  # what it knows stands
    admin.resume("farm")
    ear.read()
    assert not ear.standing.here


def test_a_farm_has_one_identity_whoever_draws_it(admin: Kiln) -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = set(pool.map(lambda _: identity(admin.redis, KEY), range(16)))
    assert drawn == {admin.redis.get(keys.FARM)}


def test_who_will_not_obey_is_told_to_both_versions(admin: Kiln) -> None:
    old = hmac.new(KEY, b"fingerprint", hashlib.sha256).hexdigest()[:8]
    for shown, obeying in ((fingerprint(KEY), True), (old, True), ("", False), ("abcdabcd", False)):
        assert obeys(shown, KEY) == obeying
    assert fingerprint(KEY) != old


def test_giving_an_order_twice_is_one_order(admin: Kiln, hear: Hear) -> None:
    order = of("drain", "farm")
    first, second = (give(admin.redis, order, KEY) for _ in range(2))
    assert second.at > first.at
    ear = hear()
    assert ear.standing.leave == 0


def test_old_resumes_and_drains_are_not_kept_and_pauses_are(admin: Kiln, hear: Hear) -> None:
    long_ago = float(admin.redis.time()[0]) - KEPT - 60
    for i in range(70):
        put(admin, of("drain", f"worker:mini-{i}-x", at=long_ago))
        put(admin, of("resume", f"client:c{i}", at=long_ago))
    put(admin, of("pause", "client:acme", at=long_ago))
    admin.redis.hset(keys.ORDERS, "junk", "x")
    admin.drain("worker:mini-9")
    left = admin.redis.hkeys(keys.ORDERS)
    assert set(left) == {b"pause:client:acme", b"drain:worker:mini-9", b"junk"}
    ear = hear()
    assert ear.standing.names("client") == ["acme"]


def test_two_admins_at_once_give_two_orders(admin: Kiln, hear: Hear) -> None:
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda i: admin.pause("farm") if i % 2 else admin.resume("farm"), range(40)))
    assert len({order.at for order in given}) == len(given)
    newest = max(given, key=lambda order: order.at)
    assert bool(hear().standing.here) == (newest.verb == "pause")
