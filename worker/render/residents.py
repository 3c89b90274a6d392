"""The models in memory: as many as the budget holds beside the job at hand.

Used on one thread only, the one that loads them: MLX's arrays belong to the thread that made them.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from PIL import Image

from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker import engines
from pixelkiln.worker.engines.checkpoints.digests import Signature
from pixelkiln.worker.engines.checkpoints.installed import Installed
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.engine import CheckpointError, Engine, device_fault
from pixelkiln.worker.render.budget import Budget
from pixelkiln.worker.render.references import NoRoomError, References

log = logging.getLogger("kiln.residents")


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory, and the weights that were read for it."""

    installed: Installed
    engine: Engine
    digest: str
    weights: Signature

    def holds(self) -> bool:
        """Whether all weights are as they were loaded: some are read for a prompt, schedule or picture."""
        return engines.weights_of(self.installed.folder) == self.weights


class Residents:
    """Loads models and keeps them. Where one would not fit, what others keep for speed goes first, then whole
    models, the least recently used first: a job that fits alone always fits.
    """

    def __init__(
        self,
        budget: Budget,
        settings: Settings,
        references: References,
        told: Callable[..., None] = lambda **facts: None,
    ) -> None:
        self._budget = budget
        self._settings = settings
        self._references = references
        self._tell = told  # what a worker's record says of this, whenever it changes
        self._kept: OrderedDict[str, Resident] = OrderedDict()  # by kind, the last used last
        self._limits = ExitStack()  # MLX's, while there are models
        self.loads = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds in memory, the last used first."""
        return tuple(reversed(self._kept))

    @property
    def latest(self) -> Resident | None:
        """The one that was used last."""
        return next(reversed(self._kept.values()), None)

    def get(self, wanted: Installed, spec: RenderSpec) -> tuple[Resident, float]:
        """The model that renders `spec`, with room for that, and the seconds its loading took now.

        Raises TooLargeError and CheckpointError.
        """
        there, load = self._kept.get(wanted.kind), 0.0
        if there is not None and (there.installed != wanted or not there.holds()):
            self._drop(there)
            there = None
        if there is None:
            self._budget.refuse(spec)
            self.make_room(spec)
            self._references.shrink(max(0, self._spare(spec)))
            started = time.perf_counter()
            there = self._loaded(wanted, spec)
            load = time.perf_counter() - started
        self._budget.refuse(spec, there.engine)
        self._kept.move_to_end(wanted.kind)
        self.make_room(spec, there)
        return there, load

    def make_room(self, spec: RenderSpec, one: Resident | None = None) -> None:
        """Let others leave until `one`, or the model that is to be loaded, can render `spec`."""
        while self._spare(spec, one) < 0 and self._give_way(spec, one):
            pass

    def pictures(self, spec: RenderSpec, one: Resident) -> Sequence[Image.Image]:
        """See References.of; models other than `one` leave where their room is needed."""
        while True:
            try:
                return self._references.of(spec, max(0, self._spare(spec, one)))
            except NoRoomError:
                if not self._give_way(spec, one):
                    raise

    def _give_way(self, spec: RenderSpec, one: Resident | None = None) -> bool:
        """Free memory for `one` to render `spec`, or for the model that will; False where all is needed."""
        others = [kept for kept in self._kept.values() if kept is not one]
        idle = [kept.engine for kept in others]
        if one is not None and one.engine.held_bytes() > one.engine.bytes_needed(spec):
            idle.append(one.engine)
        for engine in idle:
            held = engine.held_bytes()
            engine.trim()
            if engine.held_bytes() < held:
                return True
        if others:
            self._drop(others[0])
        return bool(others)

    def begin(self, spec: RenderSpec, one: Resident) -> None:
        """Let `one` render `spec` beside the others and the references that are kept."""
        references = self._references.held()
        one.engine.allow(self._budget.share(spec) - self.beside(one) - references)
        engines.leave_room(self._spare(spec, one) - references)
        one.engine.reset_peak()

    def beside(self, one: Resident | None) -> int:
        """Bytes that models hold other than `one`."""
        return sum(kept.engine.held_bytes() for kept in self._kept.values() if kept is not one)

    def trim(self) -> None:
        """Free what all of them only keep for speed."""
        for kept in self._kept.values():
            kept.engine.trim()

    def unload(self) -> None:
        """Give the memory of all back."""
        for kept in list(self._kept.values()):
            self._drop(kept)
        self._limits.close()

    def forget(self) -> None:
        """Name none any more and close none: a broken device may never answer."""
        self._kept.clear()
        self._changed()

    def _spare(self, spec: RenderSpec, one: Resident | None = None) -> int:
        """Bytes left beside all models while `one` renders `spec`; below 0 where there are too few."""
        engine = one.engine if one else None
        needed = max(self._budget.rendering(spec, engine), engine.held_bytes() if engine else 0)
        return self._budget.share(spec) - self.beside(one) - needed

    def _changed(self) -> None:
        self._tell(kiln_resident=",".join(self.kinds))

    def _drop(self, one: Resident) -> None:
        log.info("%s leaves memory", one.installed.kind)
        del self._kept[one.installed.kind]
        one.engine.close()
        gc.collect()
        engines.give_back()
        self._changed()

    def _loaded(self, wanted: Installed, spec: RenderSpec) -> Resident:
        """Loaded beside the others, or alone where that fails: a device may have less than it says."""
        while True:
            if not self._kept:
                self._limits.close()
                self._limits.enter_context(engines.limits(self._budget.model))
            log.info("loading %s from %s", wanted.kind, wanted.folder)
            try:
                loaded = self._read(wanted, self._budget.share(spec) - self.beside(None))
                break
            except CheckpointError:
                raise
            except Exception as error:  # the device, the disk, the memory: no fault of the job's
                if device_fault(error):
                    raise
                log.exception("loading %s beside %s", wanted.kind, ", ".join(self._kept) or "none")
                if not self._kept:
                    raise CheckpointError(f"{wanted.folder}: {type(error).__name__}: {error}") from error
            self.unload()  # behind the handler, whose error holds what was read
        self._kept[wanted.kind] = loaded
        self._budget.learned(wanted.kind)
        self.loads += 1
        self._changed()
        return loaded

    def _read(self, wanted: Installed, budget: int) -> Resident:
        """An engine whose weights have the digest that is recorded, whatever their kiln.json says."""
        folder, settings = wanted.folder, self._settings
        if settings.check_digest:
            engines.check_digest(folder)
        weights = engines.weights_of(folder)
        digest = engines.digest(folder, settings.cache_dir)
        if digest != (said := Manifest.read(folder).digest):
            log.warning(
                "%s: its weights are not those that kiln.json names (%s, not %s); pictures tell the first;"
                " `kiln models convert` gives them a kiln.json of their own",
                *(folder, digest, said),
            )
        engine = engines.load(folder, budget, settings.arithmetic, settings.cache_dir)
        if engines.weights_of(folder) != weights:
            engine.close()
            raise CheckpointError(f"{folder}: its weights changed while they were loaded")
        return Resident(wanted, engine, digest, weights)
