"""The whole way, from queue to bucket, on the demo's small model."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image
from rq import Queue
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, KilnError, NotReadyError, Settings, Sidecar
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.farm import WorkerStatus
from pixelkiln.jobs.queue.record import FUNCTION
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.engines.hidream.checkpoint import digest
from pixelkiln.worker.host.keep_awake import KeepAwake
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.service import ATTEMPTS, Service
from tests.waiting import until
from tests.wire import Proxy
from tests.worker.working import Work, all_ended, working

Rewire = Callable[..., tuple[Settings, Proxy]]
GOLDEN = Path(__file__).parents[1] / "golden"
LANE = Lane("demo", "bf16", "normal", "default")


def picture(kiln: Kiln, job_id: str) -> bytes:
    body = kiln.bucket.get(kiln.sidecar(job_id).png.key)
    assert body is not None
    return body


def test_one_spec_is_one_picture_and_another_seed_another(
    submit: Callable[..., str], work: Work, kiln: Kiln
) -> None:
    ids = [submit(seed=0), submit(seed=1), submit(seed=0, prompt="another"), submit(seed=0)]
    ids += [submit(prompt="a <|tms_token|> typed in", seed=0), submit(prompt="a  typed in", seed=0)]
    work(all_ended(kiln, ids))
    assert {kiln.status(job_id).state for job_id in ids} == {"finished"}
    first, other_seed, other_prompt, again, typed, without = (picture(kiln, job_id) for job_id in ids)
    assert again == first
    pixels = [
        Image.open(io.BytesIO(png)).tobytes() for png in (first, other_seed, other_prompt, typed, without)
    ]
    assert len(set(pixels)) == len(pixels)


def test_the_sidecar_tells_all(submit: Callable[..., str], work: Work, kiln: Kiln, tmp_path: Path) -> None:
    job_id = submit(labels={"a": "b"}, seed=3)
    work(all_ended(kiln, [job_id]))
    path = kiln.fetch(job_id, tmp_path / "home")
    sidecar = kiln.sidecar(job_id)
    assert Sidecar.model_validate_json(path.with_suffix(".json").read_bytes()) == sidecar
    assert (sidecar.spec.seed, sidecar.spec.labels) == (3, {"a": "b"})
    assert sidecar.job.id == job_id
    assert sidecar.job.attempt == 1
    assert sidecar.job.submitted_at <= sidecar.job.started_at <= sidecar.job.rendered_at
    assert sidecar.model["digest"].startswith("sha256:")
    assert sidecar.model["quantization"] == "bf16"
    assert sidecar.model["recipe"] == "dev"
    ran = {name: sidecar.model[name] for name in ("steps", "guidance", "scheduler")}
    assert ran == {"steps": "28", "guidance": "0.0", "scheduler": "flash"}
    assert {"pixelkiln", "mlx", "python"} <= sidecar.versions.keys()
    assert all(sidecar.host[key] for key in ("name", "worker", "system", "chip", "memory"))
    assert sidecar.memory.peak_mlx > 100_000
    assert sidecar.memory.peak_resident > sidecar.memory.peak_mlx
    assert sidecar.memory.swap_ins >= 0
    times = sidecar.timings
    assert len(times.steps) == 28
    assert all(step > 0 for step in times.steps)
    named = (
        times.load
        + times.prefix
        + sum(times.steps)
        + times.decode
        + times.checks
        + times.encode
        + times.upload
    )
    assert times.load > 0
    assert named + times.other == pytest.approx(times.total, rel=0.05)
    assert times.other >= 0
    png = path.read_bytes()
    assert sidecar.png.sha256 == hashlib.sha256(png).hexdigest()
    assert sidecar.png.bytes == len(png)
    assert Image.open(io.BytesIO(png)).size == (sidecar.png.width, sidecar.png.height) == (64, 64)
    assert sidecar.checks.luma_spread > 0


def test_forged_jobs_fail_with_their_line_and_the_worker_goes_on(
    submit: Callable[..., str], work: Work, kiln: Kiln, tmp_path: Path
) -> None:
    mark = tmp_path / "called"
    queue = Queue(LANE.name, connection=kiln.redis, serializer=JSONSerializer)
    wide = queue.enqueue(FUNCTION, {"prompt": "x", "model": "demo", "width": 100})
    code = queue.enqueue("os.system", f"touch {mark}")
    pickled = Queue(LANE.name, connection=kiln.redis).enqueue(FUNCTION, {"prompt": "x", "model": "demo"})
    kiln.redis.hset("rq:job:bare", mapping={"status": "queued", "origin": LANE.name})
    kiln.redis.lpush(f"rq:queue:{LANE}", "bare", b"\xff", "../up", "gone")
    plain = queue.enqueue(FUNCTION, {"prompt": "x", "model": "demo", "width": 64, "height": 64})
    last = submit()
    work(all_ended(kiln, [last]))
    not_rqs = "spec: the job's data is not what RQ's JSONSerializer writes"
    told = {
        wide.id: "width: 100 is not a multiple of 32; the nearest are 96 and 128",
        code.id: "function: is 'os.system'; the only one is 'pixelkiln.render'",
        pickled.id: not_rqs,
        "bare": not_rqs,
    }
    for job_id, line in told.items():
        found = kiln.status(job_id)
        assert (found.state, found.error) == ("failed", line)
    assert not mark.exists()
    assert kiln.status(last).state == "finished"
    sidecar = kiln.sidecar(plain.id)
    assert sidecar.spec.seed == sidecar.spec.model_copy(update={"seed": None}).with_seed(plain.id).seed


def test_a_hundred_jobs_are_one_load_and_no_more_memory(service: Service, work: Work, kiln: Kiln) -> None:
    jobs = kiln.submit_many(
        [
            {"prompt": f"picture {i}", "model": "demo", "width": 64, "height": 64, "steps": 4}
            for i in range(100)
        ]
    )
    resident: dict[int, int] = {}

    def done() -> bool:
        finished = kiln.redis.zcard(f"rq:finished:{LANE}")
        resident.setdefault(finished, psutil.Process().memory_info().rss)
        return finished == len(jobs)

    work(done)
    assert service._renderer.residents.loads == 1
    assert sum(kiln.sidecar(job.id).timings.load > 0 for job in jobs[::10]) == 1
    settled = [size for count, size in resident.items() if 30 <= count <= 50]
    final = [size for count, size in resident.items() if count > 80]
    assert min(final) - max(settled) < 16 * 2**20


def test_a_long_prompt_is_not_timed_by_short_ones(
    service: Service, submit: Callable[..., str], work: Work, kiln: Kiln
) -> None:
    ids = [submit(), submit(prompt="fox " * 100)]
    work(all_ended(kiln, ids))
    assert {kiln.status(job_id).state for job_id in ids} == {"finished"}
    timed = service._renderer._watchdog._slowest
    assert len([one for one in timed if isinstance(one, tuple) and one[0] == "prompt"]) == 2


def test_a_job_that_cannot_fit_is_refused_with_what_would(
    settings: Settings, submit: Callable[..., str], kiln: Kiln
) -> None:
    small = Service(settings.model_copy(update={"memory": 2**20}), ["demo"])
    job_id = submit()
    working(small, all_ended(kiln, [job_id]))
    found = kiln.status(job_id)
    assert found.state == "failed"
    assert "KILN_MEMORY" in found.error


def test_a_job_that_fits_another_worker_waits_for_it(
    settings: Settings, submit: Callable[..., str], kiln: Kiln
) -> None:
    about = {"queues": "demo:bf16", "kiln_memory": str(2**40)}
    kiln.redis.hset("rq:worker:larger", mapping=about)
    kiln.redis.sadd("rq:workers", "rq:worker:larger")
    job_id = submit()
    small = Service(settings.model_copy(update={"memory": 2**20}), ["demo"])
    working(small, lambda: kiln.redis.hexists(f"rq:job:{job_id}", "kiln_needs"))
    assert kiln.status(job_id).state == "queued"
    working(Service(settings, ["demo"]), all_ended(kiln, [job_id]))
    assert kiln.status(job_id).state == "finished"


def test_workers_tell_what_they_have_memory_for(
    settings: Settings, submit: Callable[..., str], kiln: Kiln
) -> None:
    service = Service(settings.model_copy(update={"memory": 2**20}), ["demo"])
    told: list[WorkerStatus] = []

    def seen() -> bool:
        told.extend(kiln.farm().workers)
        return bool(told)

    working(service, seen)
    assert (told[0].memory, told[0].largest) == (2**20, {"demo:bf16": 0})


def test_redis_away_at_the_start_is_one_line(rewire: Rewire) -> None:
    settings, proxy = rewire("redis")
    spool = Spool(settings.spool_dir)
    spool.mark(Claim("job-1", "e1", LANE))
    spool.close()
    service = Service(settings, ["demo"])
    proxy.cut()
    with pytest.raises(NotReadyError, match=r"^Redis at redis://[^@]* is unreachable"):
        service.run()
    proxy.mend()
    Service(settings, ["demo"])._spool.close()  # the folder is free again


def test_a_second_worker_needs_a_spool_of_its_own(service: Service, settings: Settings) -> None:
    with pytest.raises(
        NotReadyError, match=r"spool is in use by .*; give each .*its own KILN_SPOOL_DIR"
    ) as caught:
        Service(settings, ["demo"])
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    service._spool.close()


def test_a_worker_whose_heartbeat_died_leaves(service: Service) -> None:
    service._heartbeat._beats = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        service.run()


@pytest.mark.parametrize(("attempts", "state"), [(ATTEMPTS - 2, "queued"), (ATTEMPTS - 1, "failed")])
def test_a_reference_that_never_comes_holds_its_lane_up_for_a_while_only(
    rewire: Rewire, kiln: Kiln, tmp_path: Path, attempts: int, state: str
) -> None:
    settings, proxy = rewire("s3")
    folder = tmp_path / "models" / "tiny"
    shutil.copytree(GOLDEN / "tiny-hidream-o1", folder)
    facts = {"schema": 1, "model": "hidream-o1-dev", "recipe": "dev", "bits": 16}
    about = {**facts, "source": "test", "revision": "0", "digest": digest(folder)}
    (folder / "kiln.json").write_text(json.dumps(about))
    reference = tmp_path / "red.png"
    Image.new("RGB", (64, 64), "red").save(reference)
    job_id = kiln.submit(
        model="hidream-o1-dev",
        quantization="bf16",
        prompt="x",
        references=[reference],
        width=128,
        height=96,
        seed=1,
    ).id
    kiln.redis.hset(f"rq:job:{job_id}", "kiln_attempts", attempts)
    service = Service(settings, ["hidream-o1-dev"])
    proxy.cut()
    working(service, lambda: kiln.status(job_id).state == state and kiln.status(job_id).attempt > attempts)
    found = kiln.status(job_id)
    assert found.state == state
    assert found.error.startswith("its references could not be fetched, tried 20 times: ") == (
        state == "failed"
    )


def test_a_worker_that_can_load_nothing_leaves_so_that_it_is_started_again(
    settings: Settings, submit: Callable[..., str], kiln: Kiln
) -> None:
    service = Service(settings.model_copy(update={"arithmetic": "unheard of"}), ["demo"])
    ids = [submit() for _ in range(3)]
    with pytest.raises(KilnError, match=r"^no checkpoint can be loaded; ") as caught:
        service.run()
    assert caught.value.exit_code == 1
    assert [kiln.status(job_id).state for job_id in ids] == ["queued"] * 3  # not one of them was at fault
    assert kiln.farm().workers == ()
    Service(settings, ["demo"])._spool.close()  # the folder is free again


def test_the_machine_may_sleep_while_no_jobs_are_taken(settings: Settings) -> None:
    service = Service(settings.model_copy(update={"keep_awake": "working"}), ["demo"])
    service._intake.rest("a test")
    service._keep_awake._child = inhibitor = subprocess.Popen(["sleep", "600"])
    working(service, lambda: inhibitor.poll() is not None)
    assert inhibitor.poll() is not None


# --- as a process of its own, to be sent signals


class Process:
    """`kiln worker`, which tells at its end what it has imported."""

    CODE = (
        "import atexit, sys; atexit.register(lambda: print('imported:', *sys.modules, file=sys.stderr));"
        "sys.argv[1:] = ['worker', '--model', 'demo']; from pixelkiln.worker.commands.app import main; main()"
    )

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as lines:
            self.child = subprocess.Popen(
                [sys.executable, "-c", self.CODE], env=environment, stderr=lines, stdin=subprocess.DEVNULL
            )
        until(lambda: "is ready" in self.said() or self.child.poll() is not None, "the worker is ready")
        assert self.child.poll() is None, self.said()

    def said(self) -> str:
        return self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def ended(self) -> int:
        return self.child.wait(60)


@pytest.fixture
def launch(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def act() -> Process:
        started.append(Process(environment, tmp_path / f"worker-{len(started)}.log"))
        return started[-1]

    yield act
    for process in started:
        process.child.kill()
        process.child.wait()


BIG = {"width": 448, "height": 448}


def rendering(kiln: Kiln, job_id: str) -> None:
    until(lambda: kiln.status(job_id).phase == "rendering" and kiln.status(job_id).step, "it renders")


def test_one_sigterm_finishes_the_job_and_leaves(
    launch: Callable[[], Process], submit: Callable[..., str], kiln: Kiln
) -> None:
    worker = launch()
    running, waiting = submit(id="running", **BIG), submit(id="waiting")
    rendering(kiln, running)
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert kiln.status(running).state == "finished"
    assert kiln.status(waiting).state == "queued"
    assert kiln.farm().workers == ()
    imported = set(worker.said().rpartition("imported: ")[2].split())
    assert "mlx.core" in imported
    assert not {"torch", "tensorflow", "jax"} & imported
    others = re.compile(r"pixelkiln\.worker\.engines\.(flux2|qwen_image|z_image)\.(?!family$)")
    assert not list(filter(others.match, imported))  # it serves a model of HiDream's


def test_a_second_sigterm_gives_the_job_back_and_a_kill_is_recovered_from(
    launch: Callable[[], Process], submit: Callable[..., str], kiln: Kiln, settings: Settings
) -> None:
    job_id = submit(seed=5, **BIG)
    worker = launch()
    rendering(kiln, job_id)
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)  # two of one kind, sent at once, may arrive as one
    assert worker.ended() == 0
    found = kiln.status(job_id)
    assert (found.state, found.attempt, found.worker) == ("queued", 1, "")
    assert "Traceback" not in worker.said()

    worker = launch()
    rendering(kiln, job_id)
    worker.signal(signal.SIGKILL)
    worker.ended()
    assert kiln.status(job_id).state == "started"

    worker = launch()
    until(lambda: kiln.status(job_id).state == "finished", "the next one renders it")
    assert "was rendering when this worker died; queued again" in worker.said()
    assert kiln.sidecar(job_id).job.attempt == 3
    worker.signal(signal.SIGINT)
    assert worker.ended() == 0
    assert [path.name for path in settings.spool_dir.glob("*-*")] == []
    assert json.loads((settings.spool_dir / "inflight.json").read_text()) == []


def test_an_idle_worker_keeps_awake_as_it_was_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(KeepAwake, "idle", lambda awake: told.append(awake._mode))
    service = Service(settings.model_copy(update={"keep_awake": "always"}), ["demo"])
    working(service, lambda: told)
    assert set(told) == {"always"}


def test_a_worker_goes_by_the_name_it_is_given(settings: Settings, kiln: Kiln) -> None:
    service = Service(settings.model_copy(update={"worker_name": "mini-1"}), ["demo"])
    working(service, lambda: kiln.farm().workers)
    assert re.fullmatch(r"mini-1-[0-9a-f]{6}", service.name)
    assert Target.parse("worker:mini-1").covers(service.name)
