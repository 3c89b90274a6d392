"""What is done with the models in memory: one job at a time, measured, within the budget.

Used on one thread only, the one that loaded the model: MLX's arrays belong to the thread that made them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.sidecar import Memory
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.installed import Installed
from pixelkiln.worker.engines.engine import EngineError, Step, device_fault
from pixelkiln.worker.host import machine
from pixelkiln.worker.host.tally import Tally
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.render.budget import Budget
from pixelkiln.worker.render.checks import check
from pixelkiln.worker.render.health import FAILURES, Health
from pixelkiln.worker.render.meter import Meter
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.rendered import Rendered
from pixelkiln.worker.render.residents import Residents

log = logging.getLogger("kiln.renderer")

CANARY_SIDE = 128  # pixels


class GiveBackError(Exception):
    """The running job is to be given back."""


class Renderer:
    """Renders with the checkpoints in `served`, by kind; `told` hears what is in memory, and how much."""

    def __init__(
        self,
        served: Mapping[str, Installed],
        settings: Settings,
        references: References,
        watchdog: Watchdog,
        told: Callable[..., None] = lambda **facts: None,
        tally: Tally | None = None,
    ) -> None:
        self._served = served
        self._tally = tally or Tally()
        self.budget = Budget(served, settings)
        self.residents = Residents(self.budget, settings, references, told)
        self._watchdog = watchdog
        self._told = told
        self.meter = Meter()  # started by whoever takes a job
        self._health = Health()
        self.unwell: str | None = None  # why it should be given no more jobs
        self.peak = 0  # bytes that MLX held for a job at most

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
            self.residents.forget()
            self._give_up(f"the GPU failed ({fault}); started again, it may be well")
            raise fault from error

    def _rendered(
        self, claim: Claim, spec: RenderSpec, taken: float, report: Callable[[Step], bool]
    ) -> Rendered:
        with self._watched(f"job {claim.job_id}, loading"):
            with self.meter.stopped():
                model, load = self.residents.get(self._served[f"{spec.model}:{spec.quantization}"], spec)
            pictures = self.residents.pictures(spec, model)
        length = len(spec.prompt.encode()).bit_length()  # 16,000 tokens take what 100 never did
        size = (model.installed, spec.width, spec.height, len(spec.references), length)
        swapped = machine.swap_ins()
        self.residents.begin(spec, model)
        seconds: list[float] = []  # not the steps: each holds an array as large as the picture, its preview
        last: Step | None = None
        parts = model.engine.render(spec, pictures)
        while last is None or last.index < last.total:
            sort = "prompt" if not seconds else "coarse step" if len(seconds) <= spec.coarse_steps else "step"
            with self._watched(f"job {claim.job_id}, {sort} {len(seconds)}", (sort, size)):
                last = next(parts, None)
            if last is None:
                raise EngineError("the engine ended without a picture")
            seconds.append(last.seconds)
            with self._watched(f"job {claim.job_id}, preview {last.index}", ("report", size)):
                go_on = report(last)  # a preview is computed too
            self._told(**self.budget.now())
            if not go_on:
                raise GiveBackError
        memory = Memory(
            peak_mlx=model.engine.peak_bytes() - self.residents.beside(model),
            peak_resident=machine.peak_resident(),
            swap_ins=machine.swap_ins() - swapped,
        )
        prefix, *steps = seconds
        events = self._health.rendered(size, steps[spec.coarse_steps :], memory.swap_ins)
        for event in events:
            log.warning("job %s: %s", claim.job_id, event)
        if last.pixels is None or last.facts is None:
            raise EngineError("the engine's last step brought no picture")
        self._count(spec, load, steps, memory)
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
            facts=replace(last.facts, digest=model.digest),
            events=events,
        )

    def _count(self, spec: RenderSpec, load: float, steps: Sequence[float], memory: Memory) -> None:
        kind = spec.model, spec.quantization
        self._tally.took("kiln_step_seconds", *kind, seconds=steps)
        self._tally.took("kiln_image_seconds", *kind, seconds=[self.meter.seconds])
        if load:
            self._tally.took("kiln_model_load_seconds", *kind, seconds=[load])
        self._tally.add("kiln_swap_in_bytes_total", by=memory.swap_ins)
        self.peak = max(self.peak, memory.peak_mlx)

    def failed(self) -> None:
        """Note a job that failed through no fault of its spec."""
        self._health.failed()

    def heal(self) -> None:
        """Act on what the last jobs tell: ask a canary, free caches, load anew, or give up."""
        self._told(**self.budget.now())
        cure = self._health.cure()
        if cure == "canary":
            self._ask_canary()
        elif cure == "trim":
            log.warning("%s; freeing caches", self._health.story)
            self.residents.trim()
        elif cure == "reload":
            log.warning("%s; models are loaded anew for the next jobs", self._health.story)
            self.unload()
        elif cure == "stop":
            self._give_up(f"{self._health.story}; restart the worker, and see what else the machine runs")

    def unload(self) -> None:
        """Give the models' memory back."""
        self.residents.unload()

    def _ask_canary(self) -> None:
        """Several jobs failed in a row: is it them, or us? A small picture by the last one's model tells."""
        latest = self.residents.latest
        if latest is None:
            self._give_up(
                f"{FAILURES} jobs failed in a row and no model can be loaded; see the log, restart the worker"
            )
            return
        log.warning("%d jobs failed in a row; rendering a canary", FAILURES)
        model = CATALOGUE[latest.installed.model]
        side = model.nearest(CANARY_SIDE)
        spec = RenderSpec(prompt="a canary", model=model.name, width=side, height=side, seed=1)
        try:
            with self._watched("a canary"):
                self.residents.make_room(spec, latest)
                self.residents.begin(spec, latest)
                pixels = [step.pixels for step in latest.engine.render(spec)][-1]
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
        finally:
            if size:
                self._tally.add("kiln_gpu_busy_seconds_total", by=time.perf_counter() - started)
        self._watchdog.end(size, time.perf_counter() - started if size else None)
