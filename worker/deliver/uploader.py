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

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import StorageAwayError, StorageRefusedError
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.jobs.storage.files import own_path
from pixelkiln.worker.deliver.commit import NotOursError, Pair
from pixelkiln.worker.deliver.sidecar import complete
from pixelkiln.worker.deliver.spool import Entry, Spool
from pixelkiln.worker.queue.claim import Claim, Progress
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.heartbeat import Heartbeat

log = logging.getLogger("kiln.delivery")

PATIENCE = 8.0  # seconds between tries at most


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
        self._orphans: set[str] = set()  # executions whose jobs Redis has forgotten: stored all the same
        self.trouble: str | None = None  # why nothing can be stored, in one line
        self.refused = False  # it will not have it: no use in rendering more
        self.broken: BaseException | None = None  # the thread died of this

    def adopt(self) -> None:
        """Hold what the predecessor spooled, where it is still this worker's to store."""
        for entry in self._spool.entries():
            cost = entry.draft.gpu_seconds
            standing = self._claims.adopt(entry.claim, cost)
            if standing == "owned":
                self._heartbeat.hold(entry.claim, Progress("delivering", cost=cost))
            elif standing == "gone":
                self._orphans.add(entry.claim.execution)
            # What is not ours any more is cleared away, here and in the bucket, when its turn comes.

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
                delay = min(PATIENCE, max(0.5, delay * 2))
                if self.trouble is None:
                    log.warning("nothing can be stored now: %s; %d wait", error, self._spool.waiting())
                self.trouble = str(error)
                self.refused = isinstance(error, StorageRefusedError)
                self._abandon.wait(delay * random.uniform(0.5, 1.0))
                continue
            if not entries:  # nothing is left to be in trouble about
                self.trouble, self.refused = None, False
            if self._woken.wait(1.0):
                self._woken.clear()

    def _give_back(self, lost: list[Entry]) -> None:
        """Let pictures that are gone from the spool be rendered again."""
        for entry in lost:
            log.error("job %s: its spooled picture is gone; given back", entry.claim.job_id)
            self._claims.release(entry.claim)
            self._heartbeat.drop(entry.claim)
            self._spool.set_aside(entry.folder)

    def _upload(self, entry: Entry) -> None:
        """Picture, then sidecar, each read back, then the job's end. May be done again at any point."""
        claim, draft = entry.claim, entry.draft
        pair = Pair(
            self._bucket,
            picture=draft.sidecar.png.key,
            sidecar=keys.SIDECAR(claim.lane.client, claim.job_id),
            ours=lambda: self._ours(claim),
        )
        try:
            if not self._ours(claim):
                raise NotOursError
            png = self._intact(entry)
            if png is None:
                return
            started = time.perf_counter()
            record = pair.commit(
                png, lambda: complete(draft.sidecar, draft.taken, time.perf_counter() - started)
            )
        except NotOursError:
            self._clear_cancelled(claim, pair)
            log.warning("job %s: not ours any more; its picture is not delivered", claim.job_id)
            self._forget(entry)
            return
        result = {"png": pair.picture, "sidecar": pair.sidecar, "sha256": record.png.sha256}
        if self._claims.finish(claim, result, draft.gpu_seconds):
            log.info("job %s: stored as %s", claim.job_id, pair.picture)
            self._keep_copy(entry)
        elif claim.execution in self._orphans:
            log.warning("job %s: stored, though Redis knows it no more", claim.job_id)
        else:
            log.warning("job %s: ended by someone else while it was delivered", claim.job_id)
            self._clear_cancelled(claim, pair)
        self._forget(entry)

    def _ours(self, claim: Claim) -> bool:
        return claim.execution in self._orphans or self._claims.holds(claim)

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

    def _clear_cancelled(self, claim: Claim, pair: Pair) -> None:
        """Take out of the bucket what this worker may have put there for a job that nobody wants any more."""
        if self._claims.cancelled(claim):
            pair.delete()

    def _forget(self, entry: Entry) -> None:
        self._heartbeat.drop(entry.claim)
        self._spool.remove(entry)
        self._tries.pop(entry.claim.execution, None)

    def _keep_copy(self, entry: Entry) -> None:
        if self._renders is not None:
            try:
                self._renders.mkdir(parents=True, exist_ok=True)
                own_path(self._renders, f"{entry.claim.job_id}.png").write_bytes(entry.png())
            except OSError as error:
                log.warning("job %s: no copy in %s (%s)", entry.claim.job_id, self._renders, error.strerror)
