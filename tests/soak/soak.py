"""A long run of mixed jobs through one worker, whose memory is watched from outside."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from pixelkiln.jobs import Kiln
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.worker.engines.hidream.checkpoint import digest
from pixelkiln.worker.engines.hidream.convert import convert
from tests.tiny import TINY
from tests.waiting import until

GOLDEN = Path(__file__).parents[1] / "golden"
DEV = "hidream-o1-dev"  # the name under which the golden model is installed: its jobs may refer to pictures
RATE = 20.0  # samples a second
AHEAD = 10  # jobs that wait at least, while there are more to come
MIB = 2**20
MEMORY = 640 * MIB  # of the worker
REFUSED = re.compile(
    r"width, height: \d+ x \d+ at \S+ needs [\d.]+ GiB; this worker may use [\d.]+ GiB \(KILN_MEMORY\); "
    r"(\d+ x \d+.*|.* weights|nothing it has) would fit"
)


def install(models: Path) -> None:
    """The demo's model at four widths, and the golden one at two."""
    models.mkdir(exist_ok=True)
    if not (models / "demo").exists():
        (models / "demo").symlink_to(TINY)
    golden = models / "dev-bf16"
    shutil.copytree(GOLDEN / "tiny-hidream-o1", golden)
    facts = {"schema": 1, "model": DEV, "recipe": "dev", "bits": 16, "source": "test", "revision": "0"}
    (golden / "kiln.json").write_text(json.dumps({**facts, "digest": digest(golden)}))
    for bits in (8, 6, 4):
        convert(TINY, models / f"demo-q{bits}", bits)
    convert(golden, models / "dev-q6", 6)


def mix(folder: Path) -> list[dict[str, Any]]:
    """Twenty jobs of many sizes, widths and references; those that say `refused` cannot fit into MEMORY."""
    pictures = []
    for i, size in enumerate([(640, 480), (480, 640), (1500, 1000)]):
        pictures.append(folder / f"reference-{i}.png")
        Image.linear_gradient("L").resize(size).convert("RGB").save(pictures[-1])
    boxes = [{"x1": 0.1, "x2": 0.5, "y1": 0.1, "y2": 0.6}, {"x1": 0.5, "x2": 0.9, "y1": 0.3, "y2": 0.9}]

    def demo(width: int, height: int, quantization: str = "bf16", **more: Any) -> dict[str, Any]:
        return {"model": "demo", "width": width, "height": height, "quantization": quantization, **more}

    def edit(width: int, height: int, references: list[Path], **more: Any) -> dict[str, Any]:
        return demo(width, height, **more) | {"model": DEV, "references": references}

    return [
        demo(64, 64),
        demo(256, 256, "q8"),
        demo(128, 192, prompt="a fox, " * 100),
        edit(128, 96, pictures[:1]),
        demo(2048, 2048, refused=True),
        demo(192, 64, "q4"),
        demo(320, 256, "q6"),
        edit(128, 128, pictures[:2]),
        demo(64, 128, "q8"),
        edit(64, 64, pictures[:1], keep_aspect=True, refused=True),
        demo(512, 512),
        demo(96, 96, "q6"),
        edit(128, 128, pictures[:2], layout=boxes),
        demo(2048, 1024, "q4", refused=True),
        demo(256, 64, "q4", prompt="several boats " * 40),
        edit(96, 128, pictures[2:], quantization="q6"),
        demo(160, 160),
        edit(160, 96, [], quantization="q6"),
        demo(384, 384, "q8"),
        edit(1024, 1024, pictures, refused=True),
    ]


@dataclass(frozen=True, slots=True)
class Sample:
    """The worker's memory at one moment, in bytes, and how many jobs had ended by then."""

    ended: int
    resident: int
    own: int  # pages no other process shares


class Watch(threading.Thread):
    """Looks at a process RATE times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._stop_asked = threading.Event()
        self.ended = 0
        self.samples: list[Sample] = []

    def run(self) -> None:
        while not self._stop_asked.wait(1 / RATE):
            try:
                now = self._process.memory_full_info()
            except psutil.NoSuchProcess:
                return
            self.samples.append(Sample(self.ended, now.rss, now.uss))

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


@dataclass(frozen=True)
class Report:
    """What one run showed."""

    memory: int  # bytes the worker was given
    samples: list[Sample]
    peaks: list[int]  # MLX's, by the sidecars of the finished
    statuses: list[JobStatus]  # in the order submitted
    refusable: list[bool]
    refusals: list[float]  # seconds from submit to failed, of jobs sent to the idle worker, one by one
    refused_inside: list[float]  # seconds of them from take to settled
    seconds: float

    def part(self, first: bool) -> list[Sample]:
        """The samples while the first, or the last, hundred of the jobs ran; or half, where they are few."""
        count = len(self.statuses)
        size = min(100, count // 2)
        return [one for one in self.samples if (one.ended < size if first else one.ended >= count - size)]

    def faults(self, noise: int = 0) -> list[str]:
        """What broke a promise; the last jobs may hold `noise` bytes more than the first."""
        found = []
        for status, refusable in zip(self.statuses, self.refusable, strict=True):
            if refusable and not (status.state == "failed" and REFUSED.fullmatch(status.error)):
                found.append(f"{status.id} should be refused: {status.state}, {status.error}")
            if not refusable and status.state != "finished":
                found.append(f"{status.id} should be finished: {status.state}, {status.error}")
        for what, most in (
            ("resident", max(one.resident for one in self.samples)),
            ("MLX's peak", max(self.peaks)),
        ):
            if most > self.memory:
                found.append(f"{what} {most / MIB:.0f} MiB is more than {self.memory / MIB:.0f}")
        first, last = (max(one.resident for one in self.part(part)) for part in (True, False))
        if last > first + noise:
            found.append(f"the last jobs held {last / MIB:.1f} MiB at most, the first {first / MIB:.1f}")
        return found

    def lines(self) -> Iterator[str]:
        """For people."""
        states = [status.state for status in self.statuses]
        yield f"{len(states)} jobs in {self.seconds:.0f} s: {states.count('finished')} finished, " + (
            f"{sum(self.refusable)} could not fit; {len(self.samples)} samples"
        )
        yield (
            f"KILN_MEMORY {self.memory / MIB:.0f} MiB; MLX's peaks: at most {max(self.peaks) / MIB:.0f}, "
            + (f"median {statistics.median(self.peaks) / MIB:.0f}")
        )
        for name, part in (("all", self.samples), ("first", self.part(True)), ("last", self.part(False))):
            resident, own = [one.resident for one in part], [one.own for one in part]
            yield f"  {name:5} resident: at most {max(resident) / MIB:6.1f}, median " + (
                f"{statistics.median(resident) / MIB:6.1f};  unshared: at most {max(own) / MIB:6.1f}, "
                f"median {statistics.median(own) / MIB:6.1f}"
            )
        for name, seconds in (
            ("submit to failed", self.refusals),
            ("of it from take to settled", self.refused_inside),
        ):
            spread = f"{min(seconds) * 1e3:.1f}-{max(seconds) * 1e3:.1f}"
            yield f"  refusal, {name}: {statistics.median(seconds) * 1e3:.1f} ms ({spread})"


def soak(
    kiln: Kiln,
    environment: Mapping[str, str],
    folder: Path,
    cycle: list[dict[str, Any]],
    count: int,
    memory: int,
) -> Report:
    """Send `count` jobs, of `cycle` over and over, through a worker that may use `memory` bytes."""
    log = folder / "worker.log"
    with log.open("wb") as lines:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "pixelkiln", "worker"],
            env={**environment, "KILN_MEMORY": str(memory), "KILN_CACHE_DIR": str(folder / "cache")},
            stdin=subprocess.DEVNULL,
            stderr=lines,
        )
    try:
        until(lambda: " is ready: " in log.read_text() or worker.poll() is not None, "the worker is ready")
        assert worker.poll() is None, log.read_text()
        return _run(kiln, worker.pid, cycle, count, memory)
    finally:
        worker.kill()
        worker.wait()


def _run(kiln: Kiln, pid: int, cycle: list[dict[str, Any]], count: int, memory: int) -> Report:
    refusals, inside = _refusals(kiln)
    watch = Watch(pid)
    watch.start()
    started = time.monotonic()
    wanted = [cycle[i % len(cycle)] for i in range(count)]
    ids: list[str] = []
    waiting: list[str] = []
    ended: dict[str, JobStatus] = {}
    while len(ended) < count:
        if len(waiting) < AHEAD and len(ids) < count:
            chunk = range(len(ids), min(count, len(ids) + len(cycle)))
            specs = [{"prompt": f"picture {i}", "seed": i, **wanted[i]} for i in chunk]
            for spec in specs:
                spec.pop("refused", None)
            sent = [job.id for job in kiln.submit_many(specs, ids=[f"soak-{i}" for i in chunk])]
            ids += sent
            waiting += sent
        found = kiln.statuses(waiting)
        ended |= {job_id: status for job_id, status in found.items() if status is not None and status.ended}
        waiting = [job_id for job_id in waiting if job_id not in ended]
        watch.ended = len(ended)
        assert watch.is_alive(), "the worker has ended"
        time.sleep(0.02)
    seconds = time.monotonic() - started
    watch.stop()
    finished = [job_id for job_id in ids if ended[job_id].state == "finished"]
    return Report(
        memory=memory,
        samples=watch.samples,
        peaks=[kiln.sidecar(job_id).memory.peak_mlx for job_id in finished],
        statuses=[ended[job_id] for job_id in ids],
        refusable=[bool(one.get("refused")) for one in wanted],
        refusals=refusals,
        refused_inside=inside,
        seconds=seconds,
    )


def _refusals(kiln: Kiln) -> tuple[list[float], list[float]]:
    """Seconds that it takes to be refused by an idle worker that has not loaded a model yet."""
    whole, inside = [], []
    for _ in range(11):
        started = time.perf_counter()
        job_id = kiln.submit(prompt="x", model="demo", width=2048, height=2048).id
        while not (status := kiln.status(job_id)).ended:
            assert time.perf_counter() - started < 60, status
            time.sleep(0.001)
        whole.append(time.perf_counter() - started)
        took = datetime.fromisoformat(status.ended_at) - datetime.fromisoformat(status.started_at)
        inside.append(took.total_seconds())
    return whole[1:], inside[1:]
