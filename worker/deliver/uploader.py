"""From the spool to the bucket, and the end of the job, on a thread of its own."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import redis

from pixelkiln.jobs.errors import SpecError, StorageAwayError, StorageRefusedError
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.jobs.storage.files import own_path, read, write
from pixelkiln.worker.deliver.commit import NotOursError, Pair
from pixelkiln.worker.deliver.png import spec_in
from pixelkiln.worker.deliver.sidecar import complete
from pixelkiln.worker.deliver.spool import Entry, Spool
from pixelkiln.worker.deliver.sweep import sweep
from pixelkiln.worker.queue.claim import Progress
from pixelkiln.worker.queue.claims import Adoption, Claims
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.queue.strays import Stray

log = logging.getLogger("kiln.delivery")

MAX_COPY = 256 * 2**20  # bytes of a file that is looked at before it is replaced
PATIENCE = 8.0  # seconds between tries at most
SWEEP = 10.0  # seconds between two questions for what others left


class Uploader(threading.Thread):
    """Stores what lies in the spool, oldest first, and settles the jobs.

    It goes on while `more` says that more may be spooled, and until the spool is empty or `abandon` is set.
    """

    def __init__(
        self,
        spool: Spool,
        claims: Claims,
        bucket: Bucket,
        heartbeat: Heartbeat,
        renders: Path | None,
        more: Callable[[], bool],
        abandon: threading.Event,
    ) -> None:
        super().__init__(name="upload", daemon=True)
        self._spool = spool
        self._claims = claims
        self._bucket = bucket
        self._heartbeat = heartbeat
        self._renders = renders
        self._more = more
        self._abandon = abandon
        self._woken = threading.Event()
        self._tries: Counter[str] = Counter()  # execution -> how often its picture was tried
        self._swept: list[Stray] = []  # looked at, of which Redis is to hear
        self._sweep_at = 0.0  # monotonic
        self.trouble: str | None = None  # why nothing can be stored, in one line
        self.refused = False  # it will not have it: no use in rendering more
        self.broken: BaseException | None = None  # the thread died of this

    def adopt(self) -> None:
        """Hold what the predecessor spooled, where it is still this worker's to store."""
        for entry in self._spool.entries():
            self._adopt(entry)  # what is not ours any more is cleared away when its turn comes

    def look(self) -> None:
        """Look into the spool now."""
        self._woken.set()

    def run(self) -> None:
        """Store what comes, until there is no more."""
        try:
            self._run()
        except BaseException as error:
            self.broken = error
            log.exception("the delivery thread died")

    def _run(self) -> None:
        delay = 0.0
        while not self._abandon.is_set():
            more = self._more()  # before the look: what comes after it is seen by the next one
            entries = self._spool.entries()
            if not entries and not more:
                return
            entries.sort(key=lambda entry: self._tries[entry.claim.execution])  # the stuck ones last
            try:
                self._give_back(self._spool.lost())
                for entry in entries:
                    if self._abandon.is_set():
                        return
                    self._tries[entry.claim.execution] += 1
                    self._upload(entry)
                    delay, self.trouble, self.refused = 0.0, None, False
            except (StorageAwayError, StorageRefusedError, redis.RedisError) as error:
                self._count(error, bool(entries))
                delay = min(PATIENCE, max(0.5, delay * 2))
                if self.trouble is None:
                    log.warning("nothing can be stored now: %s; %d wait", error, self._spool.waiting())
                self.trouble = str(error)
                self.refused = isinstance(error, StorageRefusedError)
                self._abandon.wait(delay * random.uniform(0.5, 1.0))
                continue
            if not entries:  # nothing is left to be in trouble about
                self.trouble, self.refused = None, False
            self._sweep()
            if self._woken.wait(1.0):
                self._woken.clear()

    def _count(self, error: Exception, delivering: bool) -> None:
        tally = self._claims.tally
        if isinstance(error, redis.RedisError):
            tally.add("kiln_redis_errors_total")
        else:
            refused = isinstance(error, StorageRefusedError)
            tally.add("kiln_storage_errors_total", "refused" if refused else "away")
        if delivering:
            tally.add("kiln_upload_retries_total")

    def _give_back(self, lost: list[Entry]) -> None:
        """Let pictures that are gone from the spool be rendered again."""
        for entry in lost:
            log.error("job %s: its spooled picture is gone; given back", entry.claim.job_id)
            self._claims.release(entry.claim)
            self._heartbeat.drop(entry.claim)
            self._spool.set_aside(entry.folder)

    def _sweep(self) -> None:
        """Clear away what workers left of jobs that were cancelled: every worker looks, in turns."""
        if time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + SWEEP
        try:
            self._swept, due = [], self._claims.strays.due(self._swept)
            for stray in due:
                sweep(self._bucket, self._claims.strays, stray)
                self._swept.append(stray)
        except (StorageAwayError, StorageRefusedError, redis.RedisError) as error:
            self._count(error, False)
            log.debug("not swept now: %s", error)  # it is looked at again

    def _upload(self, entry: Entry) -> None:
        """Picture, then sidecar, each read back, then the job's end. May be done again at any point."""
        claim, draft = entry.claim, entry.draft
        pair = Pair(self._bucket, draft.sidecar, lambda: self._ours(entry))
        try:
            if not self._ours(entry):
                raise NotOursError
            png = self._intact(entry)
            if png is None:
                return
            started = time.perf_counter()
            record = pair.commit(
                png, lambda: complete(draft.sidecar, draft.taken, time.perf_counter() - started)
            )
        except NotOursError:
            self._step_back(entry, pair)
            return
        except SpecError as error:
            log.warning("job %s: its picture is not stored: %s", claim.job_id, error)
            self._claims.fail(claim, str(error), draft.gpu_seconds)
            self._forget(entry)
            return
        result = {"png": pair.picture, "sidecar": pair.sidecar, "sha256": record.png.sha256}
        if self._claims.finish(claim, result, draft.gpu_seconds, *record.suspicious):
            log.info("job %s: stored as %s", claim.job_id, pair.picture)
            self._keep_copy(entry)
            self._forget(entry)
            return
        standing = self._adopt(entry)
        if standing == "gone":
            log.warning("job %s: stored, though Redis knows it no more", claim.job_id)
            self._forget(entry)
        elif standing != "owned":  # where it is, Redis went back: the entry's next turn ends the job
            self._step_back(entry, pair)

    def _ours(self, entry: Entry) -> bool:
        """Whether this worker is to store it: as the job's owner, or because Redis has forgotten the job."""
        return self._claims.holds(entry.claim) or self._adopt(entry) in {"owned", "gone"}

    def _adopt(self, entry: Entry) -> Adoption:
        """Own the job again where it waits, as after a restart, or after Redis lost what it knew."""
        cost = entry.draft.gpu_seconds
        standing = self._claims.adopt(entry.claim, cost, entry.draft.sidecar.spec)
        if standing == "owned":
            self._heartbeat.hold(entry.claim, Progress("delivering", cost=cost))
        return standing

    def _step_back(self, entry: Entry, pair: Pair) -> None:
        """The job is another worker's, or has ended: of one that nobody wants, nothing stays."""
        log.warning("job %s: not ours any more; its picture is not delivered", entry.claim.job_id)
        if self._claims.strays.abandoned(entry.claim.job_id):
            pair.withdraw()
        self._forget(entry)

    def _intact(self, entry: Entry) -> bytes | None:
        """The spooled picture; where it is not what was spooled, the job goes back to be rendered again."""
        try:
            png = entry.png()
            if hashlib.sha256(png).hexdigest() == entry.draft.sidecar.png.sha256:
                return png
            fault = "its bytes have changed"
        except OSError as error:
            fault = str(error)
        log.error("job %s: the spooled picture is damaged (%s); given back", entry.claim.job_id, fault)
        self._claims.release(entry.claim)
        self._heartbeat.drop(entry.claim)
        self._spool.set_aside(entry.folder)
        return None

    def _forget(self, entry: Entry) -> None:
        self._heartbeat.drop(entry.claim)
        self._spool.remove(entry)
        self._tries.pop(entry.claim.execution, None)

    def _keep_copy(self, entry: Entry) -> None:
        if self._renders is not None:
            try:
                self._renders.mkdir(parents=True, exist_ok=True)
                png = entry.png()
                name = f"{entry.claim.job_id}.png"
                write(own_path(self._renders, name, lambda path: _copied(path, png, entry)), png)
            except OSError as error:
                log.warning("job %s: no copy in %s (%s)", entry.claim.job_id, self._renders, error.strerror)


def _copied(path: Path, png: bytes, entry: Entry) -> bool:
    """Whether a file there is this picture, or another copy of the same job's."""
    body = read(path, MAX_COPY)
    if body is None or body == png:
        return body is not None
    spec = spec_in(body)
    return spec is not None and not spec.differs(entry.draft.sidecar.spec)
