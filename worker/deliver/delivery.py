"""From pixels to a stored picture, behind the render thread's back.

Two threads with the spool between them: one checks, encodes and spools; the other stores what lies in the
spool and settles the jobs. After a restart the second finds what the first left.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.deliver.encoder import Encoder
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.deliver.uploader import Uploader
from pixelkiln.worker.host.machine import Machine
from pixelkiln.worker.queue.claim import Progress
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.render.rendered import Rendered

log = logging.getLogger("kiln.delivery")

LEAVING = 20.0  # seconds a worker that leaves goes on trying
HANGING = 2.0  # seconds it then waits for the request under way


class Delivery:
    """Stores what the render thread hands over, and whatever its predecessor left in the spool."""

    def __init__(
        self,
        spool: Spool,
        claims: Claims,
        bucket: Bucket,
        heartbeat: Heartbeat,
        machine: Machine,
        renders: Path | None,
    ) -> None:
        self._spool = spool
        self._claims = claims
        self._heartbeat = heartbeat
        self._closing = threading.Event()
        self._abandon = threading.Event()
        self._uploader = Uploader(spool, claims, bucket, heartbeat, renders, self._more, self._abandon)
        self._encoder = Encoder(spool, machine, self._uploader.look, self._abandon)
        heartbeat.heed(lambda: self.trouble)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be spooled or stored, in one line, if so."""
        return self._encoder.trouble or self._uploader.trouble

    @property
    def refused(self) -> bool:
        """Whether no use is in rendering more: storage will not have it, or it cannot even be spooled."""
        return self._uploader.refused or self._encoder.trouble is not None

    @property
    def handed(self) -> int:
        """How many pictures are handed over and not yet in the spool."""
        return self._encoder.handed.unfinished_tasks

    @property
    def broken(self) -> BaseException | None:
        """What a thread of ours died of, if one did."""
        return self._encoder.broken or self._uploader.broken

    def recover(self) -> None:
        """Go on with what the predecessor spooled, where that is this worker's still; give the rest back."""
        self._uploader.adopt()
        spooled = {entry.claim.execution for entry in self._spool.entries()}
        for claim in reversed(self._spool.marked()):  # so that the first is first in its lane again
            if claim.execution not in spooled and self._claims.release(claim, crashed=not claim.handed):
                self._claims.tally.add("kiln_jobs_recovered_total")
                what = "was on its way to the spool" if claim.handed else "was rendering"
                log.warning("job %s: %s when this worker died; queued again", claim.job_id, what)
        self._spool.clear_marks()

    def start(self) -> None:
        """Begin; the spool first."""
        self._encoder.start()
        self._uploader.start()

    def put(self, rendered: Rendered, leave: Callable[[], bool] = lambda: False) -> bool:
        """Hand over a picture; blocks while as many wait to be encoded as memory has room for.

        From now on its job is blamed for nothing. False where `leave` said so before there was room: the job
        is still the caller's to give back.
        """
        self._spool.hand_over(rendered.claim)
        self._heartbeat.report(rendered.claim, Progress("delivering", cost=rendered.cost))
        while self.broken is None:
            try:
                self._encoder.handed.put(rendered, timeout=1.0)
            except queue.Full:
                if leave():
                    return False
            else:
                return True
        return False

    def close(self, leave_now: Callable[[], bool] = lambda: False) -> None:
        """Spool everything handed over and store it, then end the threads.

        Once `leave_now` says so, or after LEAVING seconds, pictures stay in the spool; one that could not be
        spooled is lost and its job still held. A request that hangs is left to end with the process.
        """
        self._closing.set()
        deadline = time.monotonic() + LEAVING
        while self._encoder.is_alive() or self._uploader.is_alive():
            if not self._abandon.is_set() and (leave_now() or time.monotonic() > deadline):
                self._abandon.set()
                deadline = time.monotonic() + HANGING
            elif self._abandon.is_set() and time.monotonic() > deadline:
                log.warning("a request to the bucket hangs; leaving all the same")
                return
            with suppress(queue.Full):
                self._encoder.handed.put_nowait(None)
            self._uploader.look()
            (self._encoder if self._encoder.is_alive() else self._uploader).join(0.1)

    def _more(self) -> bool:
        """Whether more may be spooled."""
        return not self._closing.is_set() or self._encoder.is_alive()
