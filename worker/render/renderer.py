"""The resident model and what is done with it: one job at a time, measured, within the budget.

Used on one thread only, the one that loaded the model: MLX's arrays belong to the thread that made them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.sidecar import Memory
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker import engines
from pixelkiln.worker.engines.checkpoints.digests import Signature
from pixelkiln.worker.engines.checkpoints.installed import Installed
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.engine import CheckpointError, Engine, EngineError, Step, device_fault
from pixelkiln.worker.host import machine
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.render.budget import Budget
from pixelkiln.worker.render.checks import check
from pixelkiln.worker.render.health import FAILURES, Health
from pixelkiln.worker.render.meter import Meter
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.rendered import Rendered

log = logging.getLogger("kiln.renderer")

CANARY_SIDE = 128  # pixels


class GiveBackError(Exception):
    """The running job is to be given back."""


class Renderer:
    """Keeps at most one model in memory. `served` are the checkpoints it may load, by kind."""

    def __init__(
        self, served: Mapping[str, Installed], settings: Settings, references: References, watchdog: Watchdog
    ) -> None:
        self._served = served
        self._settings = settings
        self.budget = Budget(served, settings)
        self._references = references
        self._watchdog = watchdog
        self.meter = Meter()  # started by whoever takes a job
        self._health = Health()
        self._engine: Engine | None = None
        self._resident: Installed | None = None
        self._digest = ""  # of its weights as they were read
        self._weights: Signature = []
        self.loads = 0
        self.unwell: str | None = None  # why it should be given no more jobs

    @property
    def resident(self) -> str:
        """The kind in memory, or ''."""
        return self._resident.kind if self._resident else ""

    def render(
        self, claim: Claim, spec: RenderSpec, taken: float, report: Callable[[Step], bool]
    ) -> Rendered:
        """The picture of a job that was taken at `taken`, in seconds since the epoch, with what was measured.

        `report` hears of each step and says whether to go on. Raises GiveBackError where it does not,
        SpecError for what cannot be done or does not fit, EngineError, and the bucket's for references. After
        a DeviceError it can render no more.
        """
        try:
            return self._rendered(claim, spec, taken, report)
        except RuntimeError as error:
            fault = device_fault(error)
            if fault is None:
                raise
            self._engine = self._resident = None  # not closed: a broken device may never answer
            self._give_up(f"the GPU failed ({fault}); started again, it may be well")
            raise fault from error

    def _rendered(
        self, claim: Claim, spec: RenderSpec, taken: float, report: Callable[[Step], bool]
    ) -> Rendered:
        with self._watched(f"job {claim.job_id}, loading"):
            self.budget.refuse(spec)
            with self.meter.stopped():
                engine, load = self._engine_for(spec)
            self.budget.refuse(spec, engine)
            pictures = self._references.of(spec, self.budget.room(spec, engine))
        length = len(spec.prompt.encode()).bit_length()  # 16,000 tokens take what 100 never did
        size = (self._resident, spec.width, spec.height, len(spec.references), length)
        swapped = machine.swap_ins()
        engine.reset_peak()
        seconds: list[float] = []  # not the steps: each holds an array as large as the picture, its preview
        last: Step | None = None
        parts = engine.render(spec, pictures)
        while last is None or last.index < last.total:
            sort = "prompt" if not seconds else "coarse step" if len(seconds) <= spec.coarse_steps else "step"
            with self._watched(f"job {claim.job_id}, {sort} {len(seconds)}", (sort, size)):
                last = next(parts, None)
            if last is None:
                raise EngineError("the engine ended without a picture")
            seconds.append(last.seconds)
            with self._watched(f"job {claim.job_id}, preview {last.index}", ("report", size)):
                go_on = report(last)  # a preview is computed too
            if not go_on:
                raise GiveBackError
        memory = Memory(
            peak_mlx=engine.peak_bytes(),
            peak_resident=machine.peak_resident(),
            swap_ins=machine.swap_ins() - swapped,
        )
        prefix, *steps = seconds
        events = self._health.rendered(size, steps[spec.coarse_steps :], memory.swap_ins)
        for event in events:
            log.warning("job %s: %s", claim.job_id, event)
        if last.pixels is None or last.facts is None:
            raise EngineError("the engine's last step brought no picture")
        return Rendered(
            claim=claim,
            spec=spec,
            pixels=last.pixels,
            taken=taken,
            load=load,
            prefix=prefix,
            steps=steps,
            decode=last.decode_seconds,
            cost=self.meter.seconds,
            memory=memory,
            facts=replace(last.facts, digest=self._digest),
            events=events,
        )

    def failed(self) -> None:
        """Note a job that failed through no fault of its spec."""
        self._health.failed()

    def heal(self) -> None:
        """Act on what the last jobs tell: ask a canary, free caches, load anew, or give up."""
        cure = self._health.cure()
        if cure == "canary":
            self._ask_canary()
        elif cure == "trim" and self._engine is not None:
            log.warning("%s; freeing caches", self._health.story)
            self._engine.trim()
        elif cure == "reload":
            log.warning("%s; the model is loaded anew for the next job", self._health.story)
            self.unload()
        elif cure == "stop":
            self._give_up(f"{self._health.story}; restart the worker, and see what else the machine runs")

    def unload(self) -> None:
        """Give the model's memory back."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._resident = None

    def _engine_for(self, spec: RenderSpec) -> tuple[Engine, float]:
        """The engine that renders `spec`, and the seconds its loading took now; never two models at once."""
        wanted = self._served[f"{spec.model}:{spec.quantization}"]
        if self._engine is not None and self._resident == wanted and self._holds(wanted, spec):
            return self._engine, 0.0
        self.unload()
        log.info("loading %s from %s", wanted.kind, wanted.folder)
        started = time.perf_counter()
        try:
            self._engine = self._loaded(wanted)
        except CheckpointError:
            raise
        except Exception as error:  # the device, the disk, the memory: no fault of the job's
            if device_fault(error):
                raise
            log.exception("loading %s", wanted.kind)
            raise CheckpointError(f"{wanted.folder}: {type(error).__name__}: {error}") from error
        self._resident = wanted
        self.budget.learned(wanted.kind)
        self.loads += 1
        return self._engine, time.perf_counter() - started

    def _loaded(self, wanted: Installed) -> Engine:
        """An engine whose weights have the digest that is recorded, whatever their kiln.json says."""
        if self._settings.check_digest:
            engines.check_digest(wanted.folder)
        self._weights = engines.weights_of(wanted.folder)
        self._digest = engines.digest(wanted.folder, self._settings.cache_dir)
        if self._digest != (said := Manifest.read(wanted.folder).digest):
            log.warning(
                "%s: its weights are not those that kiln.json names (%s, not %s); pictures tell the first;"
                " `kiln models convert` gives them a kiln.json of their own",
                *(wanted.folder, self._digest, said),
            )
        engine = engines.load(
            wanted.folder, self.budget.model, self._settings.arithmetic, self._settings.cache_dir
        )
        if engines.weights_of(wanted.folder) != self._weights:
            engine.close()
            raise CheckpointError(f"{wanted.folder}: its weights changed while they were loaded")
        return engine

    def _holds(self, resident: Installed, spec: RenderSpec) -> bool:
        """Whether all that renders `spec` is as it was loaded: some weights are read for references only."""
        return not spec.references or engines.weights_of(resident.folder) == self._weights

    def _ask_canary(self) -> None:
        """Several jobs failed in a row: is it them, or us? A small picture that must come out tells."""
        if self._resident is None or self._engine is None:
            self._give_up(
                f"{FAILURES} jobs failed in a row and no model can be loaded; see the log, restart the worker"
            )
            return
        log.warning("%d jobs failed in a row; rendering a canary", FAILURES)
        model = CATALOGUE[self._resident.model]
        side = model.nearest(CANARY_SIDE)
        spec = RenderSpec(prompt="a canary", model=model.name, width=side, height=side, seed=1)
        try:
            with self._watched("a canary"):
                pixels = [step.pixels for step in self._engine.render(spec)][-1]
            shows = pixels is not None and not check(pixels, model.grid).warnings
            found = "" if shows else "its picture shows nothing"
        except Exception as error:  # whatever went wrong, the canary did not come out
            found = f"{type(error).__name__}: {error}"
        if found:
            self._give_up(
                f"{FAILURES} jobs failed in a row and so did a canary ({found}); restart the worker"
            )
        else:
            log.warning("the canary is well: the jobs were at fault")

    def _give_up(self, reason: str) -> None:
        self.unwell = f"unwell: {reason}"
        log.error(self.unwell)

    @contextmanager
    def _watched(self, what: str, size: object = None) -> Iterator[None]:
        """Let the watchdog time the block; one that ends is a measure for the next of its `size`."""
        self._watchdog.begin(what, size)
        started = time.perf_counter()
        try:
            yield
        except BaseException:
            self._watchdog.end()
            raise
        self._watchdog.end(size, time.perf_counter() - started if size else None)
