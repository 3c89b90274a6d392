"""The sections of a report, in lines of text."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from pixelkiln.jobs import network
from pixelkiln.jobs.errors import KilnError
from pixelkiln.jobs.queue.connection import redis_url
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker import engines
from pixelkiln.worker.commands.doctor.looks import examine
from pixelkiln.worker.commands.doctor.report import families, trial
from pixelkiln.worker.engines.checkpoints.installed import installed
from pixelkiln.worker.engines.engine import Engine
from pixelkiln.worker.host import machine
from pixelkiln.worker.render.budget import Budget

MIB = 2**20
RENDERS = 10
BENCH = 1024  # pixels a side at most, of what is benched
DEMO = "demo:bf16"
HIDDEN = {"redis_url", "s3_endpoint", "admin_key", "client", "s3_bucket", "worker_name"}  # told otherwise


class Context:
    """What sections share: the settings, and the demo's engine once it is loaded."""

    def __init__(
        self, settings: Settings, soak: float, golden: Path | None, progress: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self.soak = soak
        self.golden = golden
        self.progress = progress
        self.engine: Engine | None = None
        self.scope = ExitStack()  # of what lasts as long as the engine
        self.start = trial.Memory.now()

    def close(self) -> None:
        """Free what is loaded."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None
        self.scope.close()


def _machine(context: Context) -> Iterator[str]:
    facts = engines.device_facts()
    yield f"written: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    yield f"system: {platform.platform()} {platform.machine()}"
    if sys.platform == "darwin":
        yield f"macOS: {platform.mac_ver()[0]}"
    yield f"chip: {machine.chip()}, {machine.memory_bytes() / 2**30:.1f} GiB"
    yield f"python: {sys.version.split()[0]}, {platform.python_implementation()}"
    yield ", ".join(f"{name} {number}" for name, number in machine.versions().items())
    for package in ("mlx", "mlx-metal", "mlx-cpu"):
        if tag := machine.wheel_tag(package):
            yield f"wheel of {package}: {tag}"
    yield f"MLX's device: {facts.device} {facts.architecture}, Metal {'is' if facts.metal else 'is not'} used"
    if facts.limit:
        yield f"Metal's working-set limit: {facts.limit / 2**30:.2f} GiB"


def _settings(context: Context) -> Iterator[str]:
    settings = context.settings
    try:
        yield f"Redis: {_whereabouts(redis_url(settings))}"
    except KilnError as error:
        yield f"Redis: {error}"
    yield f"S3: {_whereabouts(settings.s3_endpoint) if settings.s3_endpoint else 'none named'}"
    for name in ("admin_key", "worker_name"):
        yield f"{name}: {'none' if getattr(settings, name) is None else 'set'}"
    for name in type(settings).model_fields:
        if name not in HIDDEN:
            yield f"{name}: {getattr(settings, name)}{' (set)' * (name in settings.model_fields_set)}"


def _whereabouts(url: str | None) -> str:
    if network.loopback(url):
        return "on this machine"
    return "in the local network" if network.in_local_network(url) else "elsewhere"


def _findings(context: Context) -> Iterator[str]:
    for finding in examine(context.settings):
        yield f"{finding.state:8} {finding.what}: {finding.found}"
        if finding.mend:
            yield f"         mend: {finding.mend}"
    if sys.platform != "darwin":
        yield "not a Mac: what doctor looks at there was not looked at"


def _verified(context: Context) -> Iterator[str]:
    found = families.goldens(context.golden)
    if not found:
        yield "no goldens here: they are in a checkout's tests/golden, not in the wheel (--golden FOLDER)"
    for golden in found:
        started = time.perf_counter()
        cases = families.verify(golden)
        good = sum(ok for _, ok, _ in cases)
        yield f"{golden.name}: {good} of {len(cases)} hold, {time.perf_counter() - started:.1f} s"
        for name, ok, words in cases:
            yield f"  {'ok  ' if ok else 'DIFFERS'} {name}: {words}"


def _benched(context: Context) -> Iterator[str]:
    served = installed(context.settings.models_dir)
    largest = Budget(served, context.settings).largest()
    for kind, one in served.items():
        side = min(largest[kind], BENCH if one.model != "demo" else 256)
        context.progress(f"bench of {kind}")
        if not side:
            yield f"{kind}: does not fit into what a worker may use here, or is damaged"
            continue
        yield f"{kind}:"
        try:
            yield from (f"  {line}" for line in families.bench(one.folder, side, context.settings))
        except Exception as error:  # the other checkpoints are benched all the same
            yield f"  failed: {type(error).__name__}: {error}"


def _explored(context: Context) -> Iterator[str]:
    for kind, one in installed(context.settings.models_dir).items():
        lines = families.explored(one.folder, context.settings)
        yield f"{kind}:{'' if lines else ' not explored: kiln models bench FOLDER --explore'}"
        yield from (f"  {line}" for line in lines)


def _rendered(context: Context) -> Iterator[str]:
    folder = installed(context.settings.models_dir)[DEMO].folder
    started = time.perf_counter()
    context.engine = trial.load(folder, context.settings, context.scope)
    yield f"loaded in {time.perf_counter() - started:.2f} s"
    for number in range(RENDERS):
        yield _shown(trial.shoot(context.engine, number))
        context.progress(f"render {number + 1} of {RENDERS}")


def _soaked(context: Context) -> Iterator[str]:
    if context.engine is None:
        yield "not made: the demo's model is not loaded"
        return
    told = [0.0]

    def tell(gone: float) -> None:
        if gone - told[0] >= 15:
            told[0] = gone
            context.progress(f"soak, {gone:.0f} of {context.soak:.0f} s")

    before = trial.Memory.now()
    shots = trial.soak(context.engine, context.soak, tell)
    after = trial.Memory.now()
    quarter = max(1, len(shots) // 4)
    first, last = (median(shot.step for shot in part) for part in (shots[:quarter], shots[-quarter:]))
    yield f"{len(shots)} renders in {sum(shot.seconds for shot in shots):.0f} s without a pause"
    change = f"{last / first - 1:+.1%}"
    yield f"median step: {first:.4f} s in the first quarter, {last:.4f} s in the last ({change})"
    peaks = [shot.peak / MIB for shot in shots]
    yield f"peak: {min(peaks):.1f}-{max(peaks):.1f} MiB"
    yield f"resident: {before.resident / MIB:.0f} MiB before, {after.resident / MIB:.0f} MiB after"
    yield f"read from swap meanwhile: {(after.swapped - before.swapped) / MIB:.1f} MiB, by the whole machine"


def _memory(context: Context) -> Iterator[str]:
    context.close()
    for name, memory in (("at the start", context.start), ("at the end", trial.Memory.now())):
        yield (
            f"{name}: MLX holds {memory.active / MIB:.1f} MiB and caches {memory.cached / MIB:.1f} MiB;"
            f" resident {memory.resident / MIB:.0f} MiB"
        )


def _shown(shot: trial.Shot) -> str:
    return (
        f"{shot.seconds:.2f} s, {shot.step:.4f} s/step, peak {shot.peak / MIB:.1f} MiB,"
        f" resident {shot.resident / MIB:.0f} MiB, mean level {shot.mean:.1f}"
    )


SECTIONS: tuple[tuple[str, Callable[[Context], Iterator[str]]], ...] = (
    ("machine", _machine),
    ("settings", _settings),
    ("doctor", _findings),
    ("models verify", _verified),
    ("models bench", _benched),
    ("models bench --explore", _explored),
    (f"{RENDERS} demo renders", _rendered),
    ("soak", _soaked),
    ("memory", _memory),
)
