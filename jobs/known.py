"""Ids that producers give: each is one picture's for good, so it is looked up what it stands for already."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from pixelkiln.jobs.asked import Asked
from pixelkiln.jobs.errors import CorruptObjectError, NotReadyError, SpecError
from pixelkiln.jobs.queue.queue import Queue, Submitted, When
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.objects import Objects, get_committed

log = logging.getLogger("kiln.submit")

THREADS = 8  # that ask the bucket
PATIENCE = 3.0  # seconds without an answer, until jobs are submitted without it: delivery looks again
BLIND = 60.0  # seconds in which a bucket that did not answer is not asked again


def same_job(job_id: str, wanted: RenderSpec, there: RenderSpec, filled: Collection[str] = ()) -> RenderSpec:
    """`there`, what the id stands for, if it is what is `wanted`.

    A seed that is not named may be any, and so may the fields that were `filled` in.

    Raises SpecError where it is another picture.
    """
    free = {*filled, "seed"} if wanted.seed is None else {*filled}
    differs = [name for name in wanted.differs(there) if name not in free]
    if "client" in differs:
        raise SpecError("id", f"{job_id} is another client's; submit under another id")
    if differs:
        raise SpecError(
            "id",
            f"{job_id} was used before, for another picture (another {', '.join(differs)});"
            " submit under another id",
        )
    return there


class GivenIds:
    """Submits jobs under ids that their producer chose and may have used before."""

    def __init__(self, queue: Queue, bucket: Callable[[], Objects]) -> None:
        self._queue = queue
        self._bucket = bucket
        self._blind_until = 0.0  # monotonic

    def submit(
        self, names: Sequence[str], wanted: Sequence[Asked], batch: str | None, not_before: When | None = None
    ) -> list[Submitted]:
        """Enqueue those that neither the queue nor the bucket knows; an equal spec is the same job.

        A seed that is absent is derived from the id, so that the same submit again is an equal spec.
        Raises SpecError where an id stands for another spec: nothing was sent, unless somebody else used it
        in this very moment.
        """
        specs: dict[str, RenderSpec] = {}
        for name, one in zip(names, wanted, strict=True):
            same_job(name, one.spec, specs.setdefault(name, one.spec.with_seed(name)), one.filled)
        asked = dict(zip(names, wanted, strict=True))
        known = self._queued(asked)
        known |= self._stored({name: one for name, one in asked.items() if name not in known})
        new = [(name, spec) for name, spec in specs.items() if name not in known]
        flags = self._queue.add(new, batch, not_before=not_before) if new else []
        created = {name: flag for (name, _), flag in zip(new, flags, strict=True)}
        late = [name for name, flag in created.items() if not flag]  # or its reply was lost, and it is ours
        known |= self._queued({name: asked[name] for name in late}) if late else {}
        return [
            Submitted(name, known.get(name, specs[name]), created.pop(name, False), asked[name].filled)
            for name in names
        ]

    def _queued(self, asked: Mapping[str, Asked]) -> dict[str, RenderSpec]:
        """What the queue knows of those asked for. Raises SpecError."""
        found = {}
        for name, there in self._queue.specs(list(asked)).items():
            if there is None:
                raise SpecError(
                    "id", f"{name} is taken by a record in Redis that cannot be read; submit under another id"
                )
            found[name] = same_job(name, asked[name].spec, there, asked[name].filled)
        return found

    def _stored(self, asked: Mapping[str, Asked]) -> dict[str, RenderSpec]:
        """What sidecars know of them, as far as the bucket lets itself be asked. Raises SpecError."""
        if not asked or time.monotonic() < self._blind_until:
            return {}
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        answers: queue.SimpleQueue[tuple[str, RenderSpec | Exception | None]] = queue.SimpleQueue()
        enough = threading.Event()
        for name in asked:
            waiting.put(name)

        def ask() -> None:
            while not enough.is_set():
                try:
                    name = waiting.get_nowait()
                except queue.Empty:
                    return
                answers.put((name, self._stored_one(asked[name].spec.client, name)))

        for _ in range(min(THREADS, len(asked))):
            threading.Thread(
                target=ask, daemon=True
            ).start()  # one that hangs shall keep no program from ending
        found = {}
        try:
            for _ in asked:
                name, there = answers.get(timeout=PATIENCE)
                if isinstance(there, Exception):
                    raise there
                if there is not None:
                    found[name] = same_job(name, asked[name].spec, there, asked[name].filled)
        except (NotReadyError, queue.Empty) as error:
            log.debug("given ids are not looked for in the bucket: %s", error)
            self._blind_until = time.monotonic() + BLIND
        finally:
            enough.set()
        return found

    def _stored_one(self, client: str, job_id: str) -> RenderSpec | Exception | None:
        try:
            sidecar = get_committed(self._bucket(), client, job_id)
        except CorruptObjectError:
            return None  # whoever delivers replaces it
        except Exception as error:
            return error
        return sidecar.spec if sidecar else None
