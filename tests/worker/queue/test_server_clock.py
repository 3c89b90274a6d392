"""Redis's clock is set while jobs are held: the living keep theirs, and those of the dead come back.

On a Valkey under libfaketime. What a step leaves is also written directly, in the tests of what meets it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis
from pydantic import SecretStr
from typer.testing import CliRunner

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.worker.commands.app import app
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue import heartbeat as module
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.control import Control
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.queue.server_clock import STEP, ServerClock
from tests.stepping import LIBRARIES, SteppingValkey
from tests.waiting import until
from tests.worker.queue.farm import DEMO, Make, Submit, taken, took

HOURS = 6 * 3600.0
KEY = b"a key of an admin"
Step = Callable[[float], None]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteppingValkey]:
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed")
    with SteppingValkey(tmp_path_factory.mktemp("stepping")) as server:
        yield server


@pytest.fixture
def settings(settings: Settings, valkey: SteppingValkey) -> Settings:
    """The farm's Redis is one whose clock can be set."""
    valkey.set_ahead(0.0)
    with redis.Redis.from_url(valkey.url) as connection:
        connection.flushall()
    return settings.model_copy(update={"redis_url": SecretStr(valkey.url)})


@pytest.fixture
def step(valkey: SteppingValkey, kiln: Kiln) -> Step:
    """Set its clock, by so many seconds."""
    ahead = [0.0]

    def act(seconds: float) -> None:
        ahead[0] += seconds
        valkey.set_ahead(ahead[0])
        until(lambda: abs(kiln.redis.time()[0] - time.time() - ahead[0]) < 2.0, "it has that time")

    return act


@pytest.fixture
def heart(make_claims: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Heartbeat]:
    """Heartbeats of workers that have been up for long; they beat when told to."""
    monkeypatch.setattr(module, "GRACE", 3600.0)

    def make(name: str) -> Heartbeat:
        heartbeat = Heartbeat(make_claims(name), {"queues": DEMO[0]}, Watchdog(900.0))
        heartbeat._beat(full=True)
        heartbeat._reap_from = 0.0
        return heartbeat

    return make


@pytest.mark.parametrize("seconds", [HOURS, -HOURS, 30 * 86_400.0, -30 * 86_400.0])
def test_the_living_keep_their_jobs_and_those_of_the_dead_come_back(
    claims: Claims, submit: Submit, kiln: Kiln, heart: Callable[[str], Heartbeat], step: Step, seconds: float
) -> None:
    dead, living = submit(), submit()
    lives, reaper = heart("lives"), heart("reaper")
    assert taken(claims) == dead
    lives.hold(took(claims))
    step(seconds)
    reaper._beat(full=True)  # before the living has renewed by the new time
    assert [kiln.status(one).state for one in (dead, living)] == ["started", "started"]
    lives._beat(full=True)
    reaper._beat(full=True)
    assert [kiln.status(one).state for one in (dead, living)] == ["started", "started"]
    reaper._reap_from = 0.0  # the grace is over
    reaper._beat(full=True)
    assert [kiln.status(one).state for one in (dead, living)] == ["queued", "started"]
    assert kiln.redis.hget(keys.BLAME(living), "lapses") is None


@pytest.mark.parametrize("seconds", [HOURS, -HOURS])
def test_a_step_between_the_look_at_the_clock_and_the_reaping_takes_nothing(
    claims: Claims, submit: Submit, kiln: Kiln, step: Step, seconds: float
) -> None:
    job_id = submit()
    took(claims)
    clock = ServerClock(kiln.redis)
    assert clock.step() == 0.0
    step(seconds)
    assert claims.reap(clock) == []
    assert kiln.status(job_id).state == "started"
    assert clock.step() == pytest.approx(seconds, abs=STEP)
    assert clock.step() == 0.0
    assert claims.reap(clock) == [job_id]


def test_reap_waits_anew_where_the_clock_is_set_while_it_waits(
    claims: Claims,
    submit: Submit,
    kiln: Kiln,
    settings: Settings,
    step: Step,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead, living = submit(), submit()
    assert taken(claims) == dead
    claim = took(claims)
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            step(-HOURS)
        else:
            claims.renew([(claim, None)])

    monkeypatch.setattr(Settings, "load", classmethod(lambda cls: settings))
    monkeypatch.setattr("pixelkiln.worker.commands.worker.sleep", nap)
    result = CliRunner().invoke(app, ["reap"])
    assert result.output.splitlines() == [f"{dead}  queued again"]
    assert kiln.status(living).state == "started"
    assert len(naps) == 2


def test_a_drain_is_heard_after_the_clock_was_set_back(
    settings: Settings, make_claims: Make, step: Step
) -> None:
    admin = Kiln(settings.model_copy(update={"admin_key": SecretStr(KEY.decode())}))

    def ear() -> Control:
        claims = make_claims("mini-3-a1b2c3")
        return Control(claims, claims.worker, KEY, Heartbeat(claims, {}, Watchdog(900.0)))

    admin.drain("worker:mini-3")
    first = ear()
    assert first.standing.leave == 0
    step(-HOURS)
    second = ear()  # to which that drain looks like one of the future
    assert second.standing.leave == 0
    first.read()
    admin.drain("farm")
    for one in (first, second):
        one.read()
        assert one.standing.leave == 1
    admin.redis.close()


def test_a_step_is_told_once() -> None:
    """A slow reply or a slow clock is no step; what was set is told once, to the second."""

    class Server:
        def __init__(self) -> None:
            self.says = 1000.0

        def time(self) -> tuple[int, int]:
            return int(self.says), int(self.says % 1 * 1e6)

    server, now = Server(), [50.0]
    clock = ServerClock(server, lambda: now[0])  # type: ignore[arg-type]
    assert clock.now() == 1000.0
    for passed, says, told in [
        (3.0, 1003.0, 0.0),
        (3.0, 1006.0 + STEP - 1, 0.0),
        (0.0, 5000.0, 5000.0 - 1005.0 - STEP),
        (3.0, 5003.0, 0.0),
        (3.0, 1000.0, -4006.0),
    ]:
        now[0] += passed
        server.says = says
        assert clock.step() == pytest.approx(told)
        assert clock.now() == pytest.approx(says)
