"""The long-lived worker: takes jobs one at a time, keeps a model resident, renders, hands over to delivery.

Everything here happens on the main thread, which is the one that loads and renders: MLX's arrays belong to
the thread that made them.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import redis

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.control.orders import admin_key
from pixelkiln.jobs.errors import KilnError, NotReadyError, SpecError
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.connection import connect, explained
from pixelkiln.jobs.queue.record import read_spec
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.bucket import Bucket, StorageAwayError, StorageRefusedError
from pixelkiln.worker.deliver.delivery import Delivery
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.engines.checkpoints.installed import Installed, installed
from pixelkiln.worker.engines.engine import CheckpointError, EngineError, Step
from pixelkiln.worker.host.keep_awake import KeepAwake
from pixelkiln.worker.host.machine import Machine
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claims import Claim, Claims, NewOrdersError, Progress, new_execution
from pixelkiln.worker.queue.control import Control, worker_name
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.render.budget import TooLargeError
from pixelkiln.worker.render.preview import Previews
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.rendered import Rendered
from pixelkiln.worker.render.renderer import GiveBackError, Renderer

log = logging.getLogger("kiln.worker")

POLL = 1.0  # seconds an idle worker waits for a ring before it looks by itself
LINGER = 60.0  # idle seconds after which the machine may sleep
REST = 5.0  # seconds without taking jobs after a job had to be given back: no references, no spool
ROOM = 64 * 2**20  # bytes the spool's disk must have for the pictures under way, even if storage is well
REREADS = 5  # of the orders in a row, until a job is taken by those known: someone plays with their serial
RETRY = 1.0  # seconds between tries while Redis is away
ATTEMPTS = 20  # of a job whose references cannot be fetched, until it fails: others wait behind it
LINE = 900  # characters of a log's line
BEAT_TIMEOUT = 3.0  # seconds the heartbeat's calls may take


class Service:
    """One worker. Build it, then `run` on the main thread.

    Raises NotReadyError where Redis, the bucket, the spool or a model is missing.
    """

    def __init__(self, settings: Settings, only: Iterable[str] = ()) -> None:
        self._settings = settings
        self.name = worker_name(platform.node(), secrets.token_hex(3))
        self._served = self._choose(set(only))
        self._redis = connect(settings)
        with explained(settings):
            self._redis.ping()
        bucket = Bucket.open(settings, attempts=1)
        bucket.check()
        self._spool = Spool(settings.spool_dir)
        self._claims = self._own_claims(10.0)
        watchdog = Watchdog(settings.stall_seconds)
        self._renderer = Renderer(self._served, settings, References(bucket), watchdog)
        machine = Machine.of(self.name)
        about = {"queues": ",".join(sorted(self._served)), "version": machine.version}
        about |= self._renderer.budget.about()
        self._heartbeat = Heartbeat(self._own_claims(BEAT_TIMEOUT), about, watchdog)
        ear = self._own_claims(BEAT_TIMEOUT)
        with explained(settings):
            self._control = Control(ear, self.name, admin_key(settings), self._heartbeat)
        renders = settings.renders_dir
        self._delivery = Delivery(
            self._spool, self._own_claims(10.0), bucket, self._heartbeat, machine, renders
        )
        self._previews = Previews(connect(settings, timeout=BEAT_TIMEOUT)) if settings.previews else None
        self._keep_awake = KeepAwake()
        self._asked_to_leave = 0  # how often; written by signal handlers only
        self._execution = new_execution()
        self._estimate = 30.0  # GPU seconds of the next job, for its client's account until it is known
        self._rest_until = 0.0  # monotonic; no job is taken before
        self._rest_reason = ""
        self._reread = 0  # times in a row that the orders were others again before a take
        self._refused = False  # Redis answers, but not with a job

    def run(self) -> None:
        """Work until asked to leave: SIGTERM, SIGINT or an order finishes the running job, two give it back.

        Raises KilnError where the worker is unwell, once what it rendered is delivered: started again, it may
        be well.
        """
        try:
            self._recover()
        except BaseException:
            self._spool.close()  # with all that it holds: the next start goes on there
            raise
        before = {s: signal.signal(s, self._leave) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._heartbeat.start()
            self._control.start()
            self._delivery.start()
            if self._previews is not None:
                self._previews.start()
            log.info("%s is ready: %s", self.name, ", ".join(sorted(self._served)))
            self._work()
        finally:
            self._close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _work(self) -> None:
        idle_since = time.monotonic()
        while not self._leaving:
            reason = self._unable()
            if reason is not None:
                self._heartbeat.say(f"takes no jobs: {reason}")
                self._keep_awake.release()
                time.sleep(0.2)
                continue
            claim = self._take()
            if claim is not None:
                self._keep_awake.hold()
                self._serve(claim)
                self._renderer.heal()
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > LINGER:
                self._keep_awake.release()

    @property
    def _leaving(self) -> int:
        """How urgently it was asked to leave: 0 not at all, 1 when the running job is done, 2 now."""
        return max(self._asked_to_leave, self._control.standing.leave)

    def _take(self) -> Claim | None:
        """The next job, or None after waiting POLL seconds for one."""
        if not self._refused:
            self._heartbeat.say("idle")
        standing = self._control.standing
        if standing.here or standing.leave:  # heard since it was last looked at
            return None
        paused = standing.names("model")
        try:
            claim = self._claims.take(
                [kind for kind, one in self._served.items() if one.model not in paused],
                self._renderer.resident,
                execution=self._execution,
                estimate=self._estimate,
                memory=self._renderer.budget.total,
                serial=standing.serial if self._reread < REREADS else None,
                without=standing.names("client"),
            )
            self._execution, self._reread = new_execution(), 0
            if claim is None:
                self._claims.wait({one.model for one in self._served.values()}, POLL)
        except NewOrdersError:
            self._obey()
            return None
        except redis.ResponseError as error:
            if not self._refused:
                log.warning("takes no jobs: Redis refuses: %s", error)
            self._refused = True
            self._heartbeat.say(f"takes no jobs: Redis refuses: {error}")
            time.sleep(RETRY)
            return None
        except redis.RedisError as error:
            log.debug("take: %s", error)
            time.sleep(RETRY)
            return None
        self._refused = False
        return claim

    def _obey(self) -> None:
        """Read the orders that came since; nothing is taken by those before."""
        self._reread += 1
        try:
            self._control.read()
        except redis.RedisError as error:
            log.debug("orders: %s", error)
            time.sleep(RETRY)

    def _serve(self, claim: Claim) -> None:
        """Bring one job to its end, or give it back."""
        taken = time.time()
        self._heartbeat.hold(claim, Progress("loading"))
        try:
            self._mark(claim)
            spec = read_spec(claim.data, claim.lane, claim.job_id)
            rendered = self._render(claim, spec, taken)
            if not self._delivery.put(rendered, lambda: self._leaving > 1):
                raise GiveBackError
        except GiveBackError:
            self._give_back(claim)
        except TooLargeError as error:
            self._leave_to_larger(claim, error)
        except SpecError as error:
            self._fail(claim, str(error))
        except (StorageAwayError, StorageRefusedError) as error:
            if claim.attempt >= ATTEMPTS:
                self._fail(
                    claim, f"its references could not be fetched, tried {claim.attempt} times: {error}"
                )
                return
            log.warning("job %s: its references cannot be fetched now: %s", claim.job_id, error)
            self._give_back(claim)
            self._rest("the bucket does not give the references of jobs")
        except CheckpointError as error:
            self._withdraw(claim, error)
        except EngineError as error:
            self._renderer.failed()
            self._fail(claim, str(error))
        except Exception as error:
            self._renderer.failed()
            log.exception("job %s failed", claim.job_id)
            self._fail(claim, f"{type(error).__name__}: {error}")

    def _render(self, claim: Claim, spec: RenderSpec, taken: float) -> Rendered:
        """See Renderer.render; each step is published, and says whether to go on."""

        def report(step: Step) -> bool:
            self._heartbeat.report(claim, Progress("rendering", step.index, step.total))
            if self._previews is not None:
                self._previews.offer(claim, step)
            return self._leaving < 2 and not self._heartbeat.lost(claim)

        self._heartbeat.say(f"rendering {claim.job_id}")
        rendered = self._renderer.render(claim, spec, taken, report)
        self._estimate = rendered.prefix + sum(rendered.steps)
        return rendered

    def _give_back(self, claim: Claim) -> None:
        if self._heartbeat.lost(claim):
            log.warning("job %s is not ours any more; stopped", claim.job_id)
        else:
            log.info("job %s: given back to its lane", claim.job_id)
            self._until_answered(lambda: self._claims.release(claim))
        self._let_go(claim)

    def _leave_to_larger(self, claim: Claim, error: TooLargeError) -> None:
        """A job that does not fit here goes to a worker that has more memory, if one lives; else it fails."""
        answers: list[str] = []

        def ask() -> bool:
            answers.append(self._claims.leave(claim, error.needed))
            return True

        self._until_answered(ask)
        if answers[-1:] in ([], ["alone"]):
            self._fail(claim, str(error))
        else:
            log.info("job %s: left to a worker with more memory: %s", claim.job_id, error)
            self._let_go(claim)

    def _fail(self, claim: Claim, reason: str) -> None:
        log.warning("job %s failed: %s", claim.job_id, reason)
        self._until_answered(lambda: self._claims.fail(claim, reason))
        self._let_go(claim)

    def _withdraw(self, claim: Claim, error: CheckpointError) -> None:
        """A checkpoint is broken: its jobs wait for a worker that has a whole one."""
        kind = claim.lane.kind
        log.error("%s cannot be loaded and is not served any more: %s", kind, error)
        self._served.pop(kind, None)
        self._until_answered(lambda: self._claims.release(claim))
        self._let_go(claim)

    def _mark(self, claim: Claim) -> None:
        """Note on disk that the job is being rendered. Raises GiveBackError where that cannot be done."""
        try:
            self._spool.mark(claim)
        except OSError as error:
            self._rest(f"the spool {self._spool.root} cannot be written ({error.strerror})")
            raise GiveBackError from None

    def _rest(self, reason: str) -> None:
        """Take no jobs for a while."""
        log.warning("takes no jobs for %.0f s: %s", REST, reason)
        self._rest_until, self._rest_reason = time.monotonic() + REST, reason

    def _let_go(self, claim: Claim) -> None:
        self._heartbeat.drop(claim)
        self._spool.unmark(claim)

    def _until_answered(self, call: Callable[[], bool]) -> None:
        """Make a repeatable call until Redis answers it, or until asked to leave twice."""
        told = False
        while True:
            try:
                call()
                return
            except redis.RedisError as error:
                if isinstance(error, redis.ResponseError) and not told:
                    log.warning("Redis refuses, tried until it does not: %s", error)
                    told = True
                if self._leaving > 1:
                    return
                time.sleep(RETRY)

    def _unable(self) -> str | None:
        """Why this worker takes no jobs now, if so."""
        if self._delivery.broken is not None:
            raise self._delivery.broken
        if self._heartbeat.broken is not None:
            raise self._heartbeat.broken
        if self._renderer.unwell is not None:
            raise KilnError(self._renderer.unwell)
        if not self._served:
            raise KilnError("no checkpoint can be loaded; see the log above and `kiln doctor`")
        if self._control.standing.here:
            return self._control.standing.here
        if time.monotonic() < self._rest_until:
            return self._rest_reason
        trouble = self._delivery.trouble
        if self._spool.free() < min(ROOM, self._settings.spool_free):
            return f"the disk of the spool {self._spool.root} is full; free some of it"
        if trouble is None or self._delivery.refused:
            return trouble
        if self._spool.waiting() >= self._settings.spool_jobs:
            return f"{self._settings.spool_jobs} pictures wait to be stored ({trouble})"
        if self._spool.free() < self._settings.spool_free:
            return f"the spool's disk is nearly full ({trouble})"
        return None

    def _recover(self) -> None:
        """What the predecessor on this spool left: pictures go on to the bucket, jobs back to their lanes."""
        with explained(self._settings):
            self._delivery.recover()
            spooled = {entry.claim.execution for entry in self._spool.entries()}
            for claim in self._spool.marked():
                if claim.execution not in spooled and self._claims.release(claim, crashed=True):
                    log.warning("job %s: was rendering when this worker died; queued again", claim.job_id)
            self._spool.clear_marks()

    def _close(self) -> None:
        """Deliver or spool what was rendered, give the rest back, end the threads."""
        self._delivery.close(lambda: self._leaving > 1)
        if left := self._spool.waiting():
            log.info("%d pictures stay in the spool; they are delivered at the next start", left)
        for claim in self._heartbeat.held():
            self._until_answered(lambda claim=claim: self._claims.release(claim))  # type: ignore[misc]
        if self._previews is not None and self._previews.is_alive():
            self._previews.stop()
        self._control.stop()
        self._heartbeat.stop()
        self._keep_awake.release()
        self._renderer.unload()
        self._spool.close()

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_leave += 1

    def _own_claims(self, timeout: float) -> Claims:
        """Claims on a connection of its own: threads do not wait for each other's calls."""
        return Claims(connect(self._settings, timeout=timeout), self.name, days=self._settings.result_days)

    def _choose(self, only: set[str]) -> dict[str, Installed]:
        """The checkpoints to serve, by kind: all that are installed, or those of the models named."""
        unknown = sorted(only - CATALOGUE.keys())
        if unknown:
            raise NotReadyError(f"no model {unknown[0]!r}; there are {', '.join(CATALOGUE)}")
        found = installed(self._settings.models_dir)
        chosen = {kind: one for kind, one in found.items() if not only or one.model in only}
        if not chosen:
            raise NotReadyError(
                f"no checkpoint of {', '.join(sorted(only))} in {self._settings.models_dir}; "
                f"get one with: kiln models pull {min(only)}"
            )
        return chosen


def log_to_stderr(level: int = logging.INFO) -> None:
    """One line an event, with the time: what launchd and a terminal both show."""
    stamped = "" if os.environ.get("INVOCATION_ID") else "%(asctime)s "  # systemd stamps lines itself
    logging.basicConfig(level=level, force=True)
    (handler,) = logging.getLogger().handlers
    handler.setFormatter(Lines(f"{stamped}%(levelname).1s %(name)s: %(message)s"))
    handler.addFilter(_brief)
    logging.getLogger("botocore").setLevel(logging.WARNING)


def _brief(record: logging.LogRecord) -> bool:
    """RQ writes a traceback for each key that a stranger made another type; its line tells as much."""
    if record.name.startswith("rq."):
        record.exc_info = record.exc_text = None
    return True


class Lines(logging.Formatter):
    """A line an event, whatever strangers wrote into it; a traceback follows on its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: D102, N802 - logging's
        return plain(super().formatMessage(record))[:LINE]

    def formatException(self, ei: Any) -> str:  # noqa: D102, N802 - logging's
        return "\n".join(plain(line) for line in super().formatException(ei).split("\n"))
