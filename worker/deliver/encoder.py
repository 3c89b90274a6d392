"""From pixels to a picture in the spool, on a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.worker.deliver.png import encode
from pixelkiln.worker.deliver.sidecar import assemble
from pixelkiln.worker.deliver.spool import Draft, Spool
from pixelkiln.worker.host.machine import Machine
from pixelkiln.worker.render.checks import check
from pixelkiln.worker.render.rendered import Rendered

log = logging.getLogger("kiln.delivery")

WAITING = 2  # rendered pictures held in memory before the render thread has to wait
AGAIN = 2.0  # seconds between tries to write to the spool


class Encoder(threading.Thread):
    """Checks, encodes and spools what is `handed` to it, until it is handed None.

    `spooled` is called after each. Once `abandon` is set, it waits no longer for a spool that cannot be
    written.
    """

    def __init__(
        self, spool: Spool, machine: Machine, spooled: Callable[[], None], abandon: threading.Event
    ) -> None:
        super().__init__(name="encode", daemon=True)
        self._spool = spool
        self._machine = machine
        self._spooled = spooled
        self._abandon = abandon
        self.handed: queue.Queue[Rendered | None] = queue.Queue(WAITING)
        self.trouble: str | None = None  # why nothing can be spooled, in one line
        self.broken: BaseException | None = None  # the thread died of this

    def run(self) -> None:
        """Take what is handed over until there is no more."""
        try:
            while (rendered := self.handed.get()) is not None:
                self.encode(rendered)
                self.handed.task_done()
                self._spooled()
        except BaseException as error:  # the service must hear of it: it is a bug
            self.broken = error
            log.exception("a picture could not be spooled")

    def encode(self, rendered: Rendered) -> None:
        """Check, encode and spool one picture."""
        claim = rendered.claim
        started = time.perf_counter()
        checks = check(rendered.pixels, CATALOGUE[rendered.spec.model].grid)
        checked = time.perf_counter()
        png = encode(rendered.pixels, rendered.spec, rendered.facts, self._machine.version)
        encoded = time.perf_counter()
        for warning in checks.warnings:
            log.warning("job %s: the picture is %s", claim.job_id, warning)
        seconds = {"checking": checked - started, "encoding": encoded - checked}
        draft = Draft(
            lane=claim.lane,
            taken=rendered.taken,
            gpu_seconds=rendered.cost,
            sidecar=assemble(rendered, png, checks, self._machine, **seconds),
        )
        self._put(draft, png)

    def _put(self, draft: Draft, png: bytes) -> None:
        """Write it down, waiting for room where the disk has none: the picture is in memory until then."""
        while True:
            try:
                self._spool.put(draft, png)
            except OSError as error:
                if self.trouble is None:
                    log.error("job %s cannot be spooled: %s", draft.sidecar.job.id, error)
                self.trouble = f"spool {self._spool.root}: {error.strerror}"
                if self._abandon.wait(AGAIN):
                    return
            else:
                self.trouble = None
                return
