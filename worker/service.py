"""The long-lived worker: takes jobs one at a time, keeps models resident, renders, hands over to delivery.

Everything here happens on the main thread, which renders: MLX's arrays belong to the thread that made them.
"""

from __future__ import annotations

import logging
import secrets
import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType

import redis

from pixelkiln.jobs.control.orders import admin_key
from pixelkiln.jobs.errors import SpecError, StorageAwayError, StorageRefusedError
from pixelkiln.jobs.logs import name_worker
from pixelkiln.jobs.queue.connection import check, connect, explain, explained
from pixelkiln.jobs.queue.record import read_spec
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.deliver.delivery import Delivery
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.engines.engine import CheckpointError, DeviceError, EngineError, Step
from pixelkiln.worker.host.keep_awake import KeepAwake
from pixelkiln.worker.host.machine import Machine
from pixelkiln.worker.host.machine import name as machine_name
from pixelkiln.worker.host.tally import Tally
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.intake import Intake, chosen
from pixelkiln.worker.metrics import Parts, watching
from pixelkiln.worker.queue.claim import Claim, Progress
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.control import Control, worker_name
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.render.budget import TooLargeError
from pixelkiln.worker.render.preview import Previews
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.rendered import Rendered
from pixelkiln.worker.render.renderer import GiveBackError, Renderer
from pixelkiln.worker.telling.teller import Teller

log = logging.getLogger("kiln.worker")

LINGER = 60.0  # idle seconds after which the machine may sleep, where KILN_KEEP_AWAKE lets it
RETRY = 1.0  # seconds between tries while Redis is away
ATTEMPTS = 20  # of a job whose references cannot be fetched, until it fails: others wait behind it
BEAT_TIMEOUT = 3.0  # seconds the heartbeat's calls may take
# Connections of each of two clients: one waits for jobs, or listens, one is for the other threads, one more
# for settling, which may need two. So no thread waits for another for longer than a call takes.
SHARED = 3


class Service:
    """One worker. Build it, then `run` on the main thread.

    Raises NotReadyError where Redis, the bucket, the spool or a model is missing.
    """

    def __init__(self, settings: Settings, only: Iterable[str] = ()) -> None:
        self._settings, self._tally = settings, Tally()
        self.name = worker_name(machine_name(settings.worker_name), secrets.token_hex(3))
        name_worker(self.name)
        self._served = chosen(settings, set(only))
        jobs = connect(settings, most=SHARED)  # takes, deliveries, previews
        beats = connect(settings, timeout=BEAT_TIMEOUT, most=SHARED)  # the heartbeat; orders, which listen
        check(settings, jobs)
        bucket = Bucket.open(settings, attempts=1)
        bucket.check()
        self._spool = Spool(settings.spool_dir)
        self._claims = self._own_claims(jobs)
        watchdog = Watchdog(settings.stall_seconds)
        machine = Machine.of(self.name)
        about = {"queues": ",".join(sorted(self._served)), "version": machine.version}
        said = partial(explain, settings)
        self._heartbeat = Heartbeat(self._own_claims(beats), about, watchdog, explain=said)
        tell = self._heartbeat.tell
        self._renderer = Renderer(self._served, settings, References(bucket), watchdog, tell, self._tally)
        tell(**self._renderer.budget.about())
        with explained(settings):
            self._control = Control(self._own_claims(beats), self.name, admin_key(settings), self._heartbeat)
        own = self._own_claims(jobs)
        self._delivery = Delivery(self._spool, own, bucket, self._heartbeat, machine, settings.renders_dir)
        self._intake = Intake(
            settings,
            self._served,
            self._claims,
            self._control,
            self._heartbeat,
            self._renderer,
            self._spool,
            self._delivery,
        )
        self._previews = Previews(jobs) if settings.previews else None
        parts = Parts(self._heartbeat, self._control, self._renderer, self._spool, self._delivery)
        watch = watching(settings, self.name, self._served, parts, self._tally)
        self._beside = [one for one in (self._previews, Teller.of(settings, self.name), watch) if one]
        self._keep_awake = KeepAwake(settings.keep_awake)
        self._asked_to_leave = 0  # how often; written by signal handlers only

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
            for one in self._beside:
                one.start()
            log.info("%s is ready: %s", self.name, ", ".join(sorted(self._served)))
            self._work()
        finally:
            self._close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _work(self) -> None:
        idle_since = time.monotonic() - LINGER
        while not self._leaving:
            reason, asleep = self._intake.unable(), self._intake.hours.asleep()
            self._heartbeat.tell(**self._intake.hours.about())
            if asleep or reason:
                self._heartbeat.say(asleep or f"takes no jobs: {reason}")
                self._keep_awake.release() if asleep else self._keep_awake.idle()
                time.sleep(0.2)
                continue
            claim = self._intake.take()
            if claim is not None:
                self._keep_awake.hold()
                self._serve(claim)
                self._renderer.heal()
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > LINGER:
                self._keep_awake.idle()

    @property
    def _leaving(self) -> int:
        """How urgently it was asked to leave: 0 not at all, 1 when the running job is done, 2 now."""
        return max(self._asked_to_leave, self._control.standing.leave)

    def _serve(self, claim: Claim) -> None:
        """Bring one job to its end, or give it back."""
        taken = time.time()
        self._renderer.meter.start()
        self._heartbeat.hold(claim, Progress("loading"))
        try:
            self._mark(claim)
            spec = read_spec(claim.data, claim.lane, claim.job_id)
            with self._intake.paced(claim, spec):
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
                tried = f"tried {claim.attempt} times"
                return self._fail(claim, f"its references could not be fetched, {tried}: {error}")
            log.warning("job %s: its references cannot be fetched now: %s", claim.job_id, error)
            self._give_back(claim)
            self._intake.rest("the bucket does not give the references of jobs")
        except CheckpointError as error:
            self._withdraw(claim, error)
        except DeviceError as error:
            log.error("job %s: given back, and this worker leaves: %s", claim.job_id, error)
            self._until_answered(lambda: self._claims.release(claim, crashed=True))
            self._let_go(claim)
        except EngineError as error:
            self._renderer.failed()
            self._fail(claim, str(error))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of native code is no Exception
            self._renderer.failed()
            log.exception("job %s failed", claim.job_id)
            self._fail(claim, f"{type(error).__name__}: {error}")

    def _render(self, claim: Claim, spec: RenderSpec, taken: float) -> Rendered:
        """See Renderer.render; each step is published, and says whether to go on."""

        def report(step: Step) -> bool:
            at, cost = (step.index, step.total), self._renderer.meter.cost(step)
            self._heartbeat.report(claim, Progress("rendering", *at, cost, spec.off_recipe, step.seconds))
            if self._previews is not None:
                self._previews.offer(claim, step)
            stop = self._leaving > 1 or self._intake.hours.asleep() is not None
            return not (stop or self._heartbeat.lost(claim))

        self._heartbeat.say(f"rendering {claim.job_id}")
        return self._renderer.render(claim, spec, taken, report)

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
        seconds = self._renderer.meter.seconds
        self._until_answered(lambda: self._claims.fail(claim, reason, seconds))
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
            self._spool.failed(error)
            raise GiveBackError from None

    def _let_go(self, claim: Claim) -> None:
        self._heartbeat.drop(claim)
        self._spool.unmark(claim)

    def _until_answered(self, call: Callable[[], bool]) -> bool:
        """Make a repeatable call until Redis answers it, or until asked to leave twice: whether it did."""
        told = False
        while True:
            try:
                call()
                return True
            except redis.RedisError as error:
                if isinstance(error, redis.ResponseError) and not told:
                    log.warning("Redis refuses, tried until it does not: %s", error)
                    told = True
                if self._leaving > 1:
                    return False
                time.sleep(RETRY)

    def _recover(self) -> None:
        """What the predecessor on this spool left: pictures go on to the bucket, jobs back to their lanes."""
        with explained(self._settings):
            self._delivery.recover()

    def _close(self) -> None:
        """Deliver or spool what was rendered, give the rest back, end the threads."""
        self._delivery.close(lambda: self._leaving > 1)
        if left := self._spool.waiting():
            log.info("%d pictures stay in the spool; they are delivered at the next start", left)
        for claim in self._heartbeat.held():
            if self._until_answered(lambda claim=claim: self._claims.release(claim)):  # type: ignore[misc]
                self._spool.unmark(claim)
        for one in self._beside:
            if one.is_alive():
                one.stop()
        self._control.stop()
        self._heartbeat.stop()
        self._keep_awake.release()
        self._renderer.unload()
        self._spool.close()

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_leave += 1

    def _own_claims(self, connection: redis.Redis) -> Claims:
        """Claims for one thread: a look under way is its own, connections are shared."""
        return Claims(connection, self.name, days=self._settings.result_days, tally=self._tally)
