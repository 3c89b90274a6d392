"""Walks the table of docs/control.md: every command, aimed at everything, in every phase of a job."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, KilnError, RenderSpec, Settings, keys
from pixelkiln.worker.queue.claim import Claim, Progress
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.service import Service
from tests.waiting import until
from tests.wire import Proxy
from tests.worker.working import working

PAGE = Path(__file__).parents[3] / "docs/control.md"
PHASES = ("queued", "loading", "rendering", "delivering", "storage away", "Redis away")
JOB: dict[str, Any] = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}
Rewire = Callable[..., tuple[Settings, Proxy]]


def table() -> dict[str, dict[str, str]]:
    """What the page promises: by command, then by phase."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().split("\n")
        if "|" in line
    ]
    assert rows[0] == ["command", *PHASES]
    return {row[0]: dict(zip(PHASES, row[1:], strict=True)) for row in rows[2:]}


PROMISED = table()
STAYING = [command for command in PROMISED if not command.startswith("drain")]
LEAVING = [
    command
    for command, cells in PROMISED.items()
    if command.startswith("drain") and "exit 2" not in cells.values()
]


class Gate:
    """Holds whoever comes through, once it is shut, until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def shut(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def __call__(self) -> None:
        if not self._open.is_set():
            self.reached.set()
            assert self._open.wait(60)


class Scene:
    """A service that can be stopped in any phase of a job, and the door of client alice."""

    def __init__(self, settings: Settings, rewire: Rewire, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = settings.model_copy(
            update={"client": "alice", "admin_key": SecretStr("the key of an admin"), "previews": False}
        )
        far, self.redis = rewire("redis", settings)
        far, self.s3 = rewire("s3", far)
        self.far, self.kiln = far, Kiln(settings)
        self.service = Service(far, ["demo"])
        self.idle = threading.Event()
        self.gates = {phase: Gate() for phase in ("loading", "rendering", "delivering")}
        self._watch(monkeypatch)

    def _watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the gates where the phases are, and see when a take finds nothing."""
        renderer, heartbeat, claims = self.service._renderer, self.service._heartbeat, self.service._claims
        load, report, take = renderer.residents.get, heartbeat.report, claims.take

        def loading(*arguments: object) -> object:
            self.gates["loading"]()
            return load(*arguments)  # type: ignore[arg-type]

        def reporting(claim: Claim, progress: Progress) -> None:
            report(claim, progress)
            if (progress.phase, progress.step) == ("rendering", 3):
                self.gates["rendering"]()

        def taking(*arguments: object, **named: object) -> Claim | None:
            found = take(*arguments, **named)  # type: ignore[arg-type]
            if found is None:
                self.idle.set()
            return found

        def storing(request: bytes, reply: bytes) -> bytes:
            self.gates["delivering"]()
            return reply

        monkeypatch.setattr(renderer.residents, "get", loading)
        monkeypatch.setattr(heartbeat, "report", reporting)
        monkeypatch.setattr(claims, "take", taking)
        self.s3.alter = storing

    def job_in(self, phase: str) -> str:
        """Submit alice's job and let it come as far as the phase."""
        if phase == "storage away":
            self.s3.cut()
            job_id = self.submit()
            until(
                lambda: self.service._delivery.trouble and self.service._spool.waiting(),
                "it waits for storage",
            )
            return job_id
        gate = self.gates["rendering" if phase in ("queued", "Redis away") else phase]
        gate.shut()
        if phase == "queued":
            self.submit(client="bob")
            assert gate.reached.wait(30)
        job_id = self.submit()
        assert gate.reached.wait(30) or phase == "queued"
        if phase == "Redis away":
            self.redis.cut()
        return job_id

    def submit(self, **fields: Any) -> str:
        return self.kiln.submit(RenderSpec.parse({**JOB, "client": "alice", **fields})).id

    def go_on(self) -> None:
        """Open what was shut, mend what was cut."""
        for gate in self.gates.values():
            gate.open()
        self.redis.mend()
        self.s3.mend()

    def command(self, text: str, job_id: str, door: Kiln) -> str:
        """Give the command of a row; '' or the exit code it ends with."""
        verb, whom, *now = text.split()
        names = {"client": "alice", "model": "demo", "worker": self.service.name}
        whom = re.sub(r"(\w+):NAME", lambda found: f"{found[1]}:{names[found[1]]}", whom)
        try:
            if verb == "cancel" and whom == "JOB":
                door.cancel([job_id])
            elif verb == "cancel":
                door.cancel_all(whom)
            elif verb == "drain":
                door.drain(whom.replace("JOB", job_id), now=bool(now))
            else:
                if verb == "resume" and whom != "JOB":
                    door.pause(whom)
                getattr(door, verb)(whom.replace("JOB", job_id))
        except KilnError as error:
            return f"exit {error.exit_code}"
        return ""

    def heard(self) -> None:
        """Wait until the worker knows the newest orders."""
        serial = self.kiln.redis.get("kiln:orders:serial") or b""
        assert isinstance(serial, bytes)
        until(lambda: self.service._control.standing.serial == serial.decode(), "the order is heard")

    def outcome(self, job_id: str) -> str:
        """How the job stands, once the worker has done with it what it does."""
        self.idle.clear()
        until(
            lambda: self.idle.is_set() or self.service._heartbeat._state.startswith("takes no jobs: the"),
            "it is idle",
        )
        until(lambda: not self.service._heartbeat.held(), "nothing is delivered any more")
        return self.standing(job_id)

    def standing(self, job_id: str) -> str:
        state = self.kiln.status(job_id).state
        pair = keys.PICTURE("alice", job_id), keys.SIDECAR("alice", job_id)
        there = [self.kiln.bucket.head(key) is not None for key in pair]
        assert there == [state == "finished"] * 2
        return {"finished": "rendered", "queued": "waits"}.get(state, state)


@pytest.fixture
def scene(settings: Settings, rewire: Rewire, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    waits = {"delivery.LEAVING": 1.0, "delivery.HANGING": 0.2, "uploader.PATIENCE": 0.1}
    for name, seconds in waits.items():
        monkeypatch.setattr(f"pixelkiln.worker.deliver.{name}", seconds)
    monkeypatch.setattr("pixelkiln.worker.intake.POLL", 0.1)
    made = Scene(settings, rewire, monkeypatch)
    yield made
    made.go_on()
    made.kiln.redis.close()


@pytest.mark.parametrize("phase", PHASES[:-1])
def test_what_a_worker_does_that_stays(scene: Scene, phase: str) -> None:
    found: dict[str, str] = {}

    def walk() -> bool:
        for command in STAYING:
            job_id = scene.job_in(phase)
            answer = scene.command(command, job_id, scene.kiln)
            if not command.startswith("cancel"):
                scene.heard()
            scene.go_on()
            found[command] = answer or scene.outcome(job_id)
            if command.startswith("pause") and not answer:
                scene.command(command.replace("pause", "resume"), job_id, scene.kiln)
            until(lambda: scene.kiln.status(job_id).ended, f"{command}: the job ends, paused no more")  # noqa: B023
        return True

    working(scene.service, walk)
    assert found == {command: PROMISED[command][phase] for command in STAYING}


@pytest.mark.parametrize("phase", PHASES[:-1])
@pytest.mark.parametrize("command", LEAVING)
def test_what_a_worker_does_that_leaves(scene: Scene, phase: str, command: str) -> None:
    ids: list[str] = []

    def give() -> bool:
        ids.append(scene.job_in(phase))
        assert scene.command(command, ids[0], scene.kiln) == ""
        scene.heard()
        if phase == "delivering" and "--now" in command:
            scene.s3.cut()  # what hangs there would end with the process
        if phase != "storage away":
            for gate in scene.gates.values():
                gate.open()
        until(lambda: not scene.service._heartbeat.is_alive(), "it leaves by itself", 30)
        return True

    working(scene.service, give)
    scene.go_on()
    if list(scene.far.spool_dir.rglob("*.png")):  # stored already, perhaps, and not settled
        other = Service(scene.far, ["demo"])
        working(other, lambda: scene.kiln.status(ids[0]).ended)
        assert (scene.standing(ids[0]), other._renderer.residents.loads) == ("rendered", 0)
        standing = "spooled"
    else:
        standing = scene.standing(ids[0])
    record = scene.kiln.status(ids[0])
    if standing == "waits" and record.attempt:
        assert scene.kiln.redis.lindex(f"rq:queue:{record.lane}", 0) == ids[0].encode()
        standing = "given back"
    assert standing == PROMISED[command][phase]


def test_without_redis_nothing_is_ordered_and_the_worker_goes_on(scene: Scene) -> None:
    door, found = Kiln(scene.far), {}
    job_id = ""

    def walk() -> bool:
        nonlocal job_id
        job_id = scene.job_in("Redis away")
        for command in PROMISED:
            found[command] = scene.command(command, job_id, door)
        scene.go_on()
        until(lambda: scene.kiln.status(job_id).ended, "the job ends")
        return True

    working(scene.service, walk)
    assert found == {command: cells["Redis away"] for command, cells in PROMISED.items()}
    assert scene.standing(job_id) == "rendered"


def test_a_cancelled_render_stops_within_a_step(scene: Scene) -> None:
    steps: list[int] = []
    report = scene.service._heartbeat.report
    job_id = scene.submit(width=1024, height=1024)  # whose steps take long enough

    def reporting(claim: Claim, progress: Progress) -> None:
        report(claim, progress)
        if progress.phase == "rendering" and claim.job_id == job_id:
            steps.append(progress.step)
            if progress.step == 2:
                scene.kiln.cancel([job_id])

    scene.service._heartbeat.report = reporting  # type: ignore[method-assign]
    working(scene.service, lambda: steps and scene.idle.is_set())
    assert scene.standing(job_id) == "cancelled"
    assert steps in ([0, 1, 2], [0, 1, 2, 3])


def test_cancelling_all_of_a_client_leaves_the_others_alone(settings: Settings, kiln: Kiln) -> None:
    alice, bob = (Kiln(settings.model_copy(update={"client": name})) for name in ("alice", "bob"))
    hers = [job.id for job in alice.submit_many([JOB] * 300)]
    his = [job.id for job in bob.submit_many([{**JOB, "priority": p} for p in ("high", "normal", "low")])]
    with suppress(KilnError):
        bob.cancel_all("client:alice")
    assert bob.cancel_all("farm") == dict.fromkeys(his, "queued")
    assert {one.state for one in alice.statuses(hers).values() if one} == {"queued"}
    assert alice.cancel_all("model:demo") == dict.fromkeys(hers, "queued")
    assert alice.cancel_all("farm") == {}
    again = [job.id for job in bob.submit_many([JOB] * 2)]
    assert alice.cancel_all("client:bob", any_client=True) == dict.fromkeys(again, "queued")
    assert {lane.queued for lane in kiln.farm().lanes} == {0}


def test_cancelling_what_a_dead_worker_held_leaves_its_next_worker_alone(
    make_claims: Callable[..., Claims], submit: Callable[..., str], kiln: Kiln
) -> None:
    job_id = submit()
    dead, successor, other = (make_claims(name) for name in ("mini-3-aaa", "mini-3-bbb", "mini-4-ccc"))
    claim = dead.take(["demo:bf16"])
    assert claim is not None
    for name in ("mini-3-aaa", "mini-3-bbb", "mini-4-ccc"):
        kiln.redis.sadd("rq:workers", f"rq:worker:{name}")
    assert successor.release(claim, crashed=True)
    assert kiln.redis.smembers("rq:worker:mini-3-aaa:executions") == set()
    kiln.redis.sadd("rq:worker:mini-3-aaa:executions", f"{job_id}:{claim.execution}")  # as were it left there
    assert other.take(["demo:bf16"]) is not None
    assert kiln.cancel_all("worker:mini-3") == {}
    assert kiln.cancel_all("worker:mini-4") == {job_id: "started"}


def test_forged_records_keep_nobodys_jobs_from_being_cancelled(
    kiln: Kiln, submit: Callable[..., str]
) -> None:
    ids = [submit(f"j{i}") for i in range(5)]
    kiln.redis.hset("rq:job:j0", "status", b"\xff")
    kiln.redis.hdel("rq:job:j1", "status")
    kiln.redis.hset("kiln:own:j2", "a", "b")
    kiln.redis.sadd("rq:workers", "rq:worker:w-1")
    kiln.redis.set("rq:worker:w-1:executions", "x")
    assert kiln.cancel_all("worker:w") == {}
    assert kiln.cancel_all("farm") == dict.fromkeys(ids, "queued")
    assert {one.state for one in kiln.statuses(ids).values() if one} == {"cancelled"}
