"""From pixels to a stored picture, behind the render thread's back.

Two threads with the spool between them: one checks, encodes and spools; the other stores what lies in the
spool, oldest first, and settles the jobs. After a restart the second finds what the first left.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.sidecar import Checks, JobFacts, Png, Sidecar, Timings
from pixelkiln.jobs.storage.bucket import Bucket, StorageAwayError, StorageRefusedError
from pixelkiln.jobs.storage.files import own_path
from pixelkiln.worker.deliver.commit import Commit, NotOursError
from pixelkiln.worker.deliver.png import encode
from pixelkiln.worker.deliver.spool import Draft, Entry, Spool
from pixelkiln.worker.queue.claims import Claim, Claims, Progress, stamp
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.render.checks import check
from pixelkiln.worker.render.rendered import Rendered

log = logging.getLogger("kiln.delivery")

WAITING = 2  # rendered pictures held in memory before the render thread has to wait
PATIENCE = 8.0  # seconds between tries at most
LEAVING = 20.0  # seconds a worker that leaves goes on trying
HANGING = 2.0  # seconds it then waits for the request under way


@dataclass(frozen=True, slots=True)
class Machine:
    """What every sidecar of this worker says."""

    version: str
    versions: dict[str, str]
    host: dict[str, str]


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
        self._bucket = bucket
        self._heartbeat = heartbeat
        self._machine = machine
        self._renders = renders
        self._handed: queue.Queue[Rendered | None] = queue.Queue(WAITING)
        self._spooled = threading.Event()
        self._closing = threading.Event()
        self._abandon = threading.Event()
        self._threads = [
            threading.Thread(target=self._encode_all, name="encode", daemon=True),
            threading.Thread(target=self._store_all, name="store", daemon=True),
        ]
        self._tries: Counter[str] = Counter()  # execution -> how often its picture was tried
        self._orphans: set[str] = set()  # executions whose jobs Redis has forgotten: stored all the same
        self.trouble: str | None = None  # why nothing can be stored, in one line
        self.refused = False  # it will not have it: no use in rendering more
        self.broken: BaseException | None = None  # a thread of ours died of this

    def recover(self) -> None:
        """Go on with what the predecessor spooled, where it is still this worker's to store."""
        for entry in self._spool.entries():
            standing = self._claims.adopt(entry.claim)
            if standing == "owned":
                self._heartbeat.hold(entry.claim, Progress("delivering"))
            elif standing == "gone":
                self._orphans.add(entry.claim.execution)
            # What is not ours any more is cleared away, here and in the bucket, when its turn comes.

    def start(self) -> None:
        """Begin; the spool first."""
        for thread in self._threads:
            thread.start()

    def put(self, rendered: Rendered, leave: Callable[[], bool] = lambda: False) -> bool:
        """Hand over a picture; blocks while WAITING others are not spooled yet.

        False where `leave` said so before there was room: the job is still the caller's to give back.
        """
        self._heartbeat.report(rendered.claim, Progress("delivering"))
        while self.broken is None:
            try:
                self._handed.put(rendered, timeout=1.0)
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
        encode, store = self._threads
        deadline = time.monotonic() + LEAVING
        while encode.is_alive() or store.is_alive():
            if not self._abandon.is_set() and (leave_now() or time.monotonic() > deadline):
                self._abandon.set()
                deadline = time.monotonic() + HANGING
            elif self._abandon.is_set() and time.monotonic() > deadline:
                log.warning("a request to the bucket hangs; leaving all the same")
                return
            with suppress(queue.Full):
                self._handed.put_nowait(None)
            self._spooled.set()
            (encode if encode.is_alive() else store).join(0.1)

    def _encode_all(self) -> None:
        try:
            while (rendered := self._handed.get()) is not None:
                self._encode(rendered)
                self._spooled.set()
        except BaseException as error:  # the service must hear of it: a full disk, a bug
            self.broken = error
            log.exception("a picture could not be spooled")

    def _encode(self, rendered: Rendered) -> None:
        claim, spec = rendered.claim, rendered.spec
        started = time.perf_counter()
        checks = check(rendered.pixels, CATALOGUE[spec.model].grid)
        checked = time.perf_counter()
        png = encode(rendered.pixels, spec, rendered.facts, self._machine.version)
        encoded = time.perf_counter()
        for warning in checks.warnings:
            log.warning("job %s: the picture is %s", claim.job_id, warning)
        sidecar = self._sidecar(rendered, png, checks, checked - started, encoded - checked)
        gpu_seconds = rendered.prefix + sum(rendered.steps) + rendered.decode
        draft = Draft(lane=claim.lane.name, taken=rendered.taken, gpu_seconds=gpu_seconds, sidecar=sidecar)
        self._spool_it(draft, png)

    def _spool_it(self, draft: Draft, png: bytes) -> None:
        """Write it down, waiting for room where the disk has none: the picture is in memory until then."""
        while True:
            try:
                self._spool.put(draft, png)
            except OSError as error:
                if self.trouble is None:
                    log.error("job %s cannot be spooled: %s", draft.sidecar.job.id, error)
                self.trouble = f"spool {self._spool.root}: {error.strerror}"
                if self._abandon.wait(2.0):
                    return
            else:
                return

    def _sidecar(
        self, rendered: Rendered, png: bytes, checks: Checks, check_seconds: float, encode_seconds: float
    ) -> Sidecar:
        claim, spec = rendered.claim, rendered.spec
        height, width = rendered.pixels.shape[:2]
        return Sidecar(
            job=JobFacts(
                id=claim.job_id,
                client=spec.client,
                attempt=claim.attempt,
                execution=claim.execution,
                submitted_at=claim.submitted_at,
                started_at=stamp(claim.started),
                rendered_at=stamp(),
            ),
            spec=spec,
            model={"quantization": spec.quantization, **rendered.facts.record()},
            versions=self._machine.versions,
            host=self._machine.host,
            timings=Timings(
                queue_wait=queue_wait(claim),
                load=rendered.load,
                prefix=rendered.prefix,
                steps=rendered.steps,
                decode=rendered.decode,
                checks=check_seconds,
                encode=encode_seconds,
                upload=0.0,
                other=0.0,
                total=0.0,
            ),
            memory=rendered.memory,
            png=Png(
                key=keys.PICTURE(spec.client, claim.job_id),
                sha256=hashlib.sha256(png).hexdigest(),
                bytes=len(png),
                width=width,
                height=height,
            ),
            checks=checks,
            events=rendered.events,
        )

    def _store_all(self) -> None:
        delay = 0.0
        try:
            while not self._abandon.is_set():
                entries = self._spool.entries()
                if not entries and self._closing.is_set() and not self._threads[0].is_alive():
                    return
                entries.sort(key=lambda entry: self._tries[entry.claim.execution])  # the stuck ones last
                try:
                    for entry in entries:
                        if self._abandon.is_set():
                            return
                        self._tries[entry.claim.execution] += 1
                        self._store(entry)
                        delay, self.trouble, self.refused = 0.0, None, False
                except (StorageAwayError, StorageRefusedError, redis.RedisError) as error:
                    delay = min(PATIENCE, max(0.5, delay * 2))
                    if self.trouble is None:
                        log.warning("nothing can be stored now: %s; %d wait", error, self._spool.waiting())
                    self.trouble = str(error)
                    self.refused = isinstance(error, StorageRefusedError)
                    self._abandon.wait(delay * random.uniform(0.5, 1.0))
                    continue
                if not self._spooled.wait(1.0):
                    continue
                self._spooled.clear()
        except BaseException as error:
            self.broken = error
            log.exception("the delivery thread died")

    def _store(self, entry: Entry) -> None:
        """Picture, then sidecar, each read back, then the job's end. May be done again at any point."""
        claim = entry.claim
        picture, sidecar = entry.draft.sidecar.png.key, keys.SIDECAR(claim.lane.client, claim.job_id)
        deposit = Commit(self._bucket, sidecar, picture, lambda: self._ours(claim))
        try:
            if not self._ours(claim):
                raise NotOursError
            png = self._intact(entry)
            if png is None:
                return
            started = time.perf_counter()
            record = deposit.store(png, lambda: final(entry.draft, time.perf_counter() - started))
        except NotOursError:
            self._clear_cancelled(claim, picture, sidecar)
            self._step_back(entry)
            return
        result = {"png": picture, "sidecar": sidecar, "sha256": record.png.sha256}
        if self._claims.finish(claim, result, entry.draft.gpu_seconds):
            log.info("job %s: stored as %s", claim.job_id, picture)
            self._keep_copy(entry)
        elif claim.execution in self._orphans:
            log.warning("job %s: stored, though Redis knows it no more", claim.job_id)
        else:
            log.warning("job %s: ended by someone else while it was delivered", claim.job_id)
            self._clear_cancelled(claim, picture, sidecar)
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

    def _clear_cancelled(self, claim: Claim, picture: str, sidecar: str) -> None:
        """Take out of the bucket what this worker may have put there for a job that nobody wants any more."""
        if self._claims.cancelled(claim):
            self._bucket.delete(sidecar)
            self._bucket.delete(picture)

    def _ours(self, claim: Claim) -> bool:
        return claim.execution in self._orphans or self._claims.holds(claim)

    def _step_back(self, entry: Entry) -> None:
        log.warning("job %s: not ours any more; its picture is not delivered", entry.claim.job_id)
        self._forget(entry)

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


def final(draft: Draft, upload: float) -> Sidecar:
    """The sidecar of a picture that took `upload` seconds to be in the bucket, read back and compared."""
    timings = draft.sidecar.timings
    total = max(0.0, time.time() - draft.taken)  # the clock may have been set back
    named = timings.load + timings.prefix + sum(timings.steps) + timings.decode
    named += timings.checks + timings.encode + upload
    timings = timings.model_copy(update={"upload": upload, "total": total, "other": max(0.0, total - named)})
    return draft.sidecar.model_copy(update={"timings": timings})


def queue_wait(claim: Claim) -> float:
    """Seconds from submit to take, by the producer's and this machine's clocks; 0 where unknown."""
    try:
        submitted = datetime.fromisoformat(claim.submitted_at)
        return max(0.0, (claim.started - submitted).total_seconds())
    except (ValueError, TypeError):
        return 0.0
