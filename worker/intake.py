"""Whether a worker takes a job now, and which."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import redis

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.errors import KilnError, NotReadyError
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.deliver.delivery import Delivery
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.engines.checkpoints.installed import Installed, installed
from pixelkiln.worker.host.hours import Hours
from pixelkiln.worker.queue.claim import Claim, new_execution
from pixelkiln.worker.queue.claims import Claims, NewOrdersError
from pixelkiln.worker.queue.control import Control
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.render.pace import Pace
from pixelkiln.worker.render.renderer import GiveBackError, Renderer

log = logging.getLogger("kiln.worker")

POLL = 1.0  # seconds an idle worker waits to be woken before it looks by itself
REST = 5.0  # seconds without taking jobs after a job had to be given back for want of its references
RETRY = 1.0  # seconds between tries while Redis is away
UNKNOWN = 0.1  # GPU seconds charged at a take: enough for idle workers to take from clients in turn
REREADS = 5  # of the orders in a row, until a job is taken by those known: someone plays with their serial


def chosen(settings: Settings, only: set[str]) -> dict[str, Installed]:
    """The checkpoints to serve, by kind: all that are installed, or those of the models named.

    Raises NotReadyError where there are none.
    """
    unknown = sorted(only - CATALOGUE.keys())
    if unknown:
        raise NotReadyError(f"no model {unknown[0]!r}; there are {', '.join(CATALOGUE)}")
    found = installed(settings.models_dir)
    kinds = {kind: one for kind, one in found.items() if not only or one.model in only}
    if not kinds:
        raise NotReadyError(
            f"no checkpoint of {', '.join(sorted(only))} in {settings.models_dir}; "
            f"get one with: kiln models pull {min(only)}"
        )
    return kinds


class Intake:
    """Takes jobs for one worker, of the kinds in `served`, unless something speaks against it."""

    def __init__(
        self,
        settings: Settings,
        served: Mapping[str, Installed],
        claims: Claims,
        control: Control,
        heartbeat: Heartbeat,
        renderer: Renderer,
        spool: Spool,
        delivery: Delivery,
    ) -> None:
        self._settings = settings
        self._served = served
        self._claims = claims
        self._control = control
        self._heartbeat = heartbeat
        self._renderer = renderer
        self._spool = spool
        self._delivery = delivery
        self.hours = Hours(settings.windows)
        self._pace = Pace()
        self._execution = new_execution()
        self._rest_until = 0.0  # monotonic; no job is taken before
        self._rest_reason = ""
        self._reread = 0  # times in a row that the orders were others again before a take
        self._refused = False  # Redis answers, but not with a job
        self._waiting = 0  # pictures not yet stored, when that was last looked at

    def unable(self) -> str | None:
        """Why no job is taken now, if so. Raises what a thread died of, and KilnError for a sick worker."""
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
        if (fault := self._spool.check()) is not None:
            return fault
        trouble = self._delivery.trouble
        if trouble is not None and self._delivery.refused:
            return trouble
        # Handed over before spooled, so that one on its way from there to here is not missed.
        self._waiting = self._delivery.handed + self._spool.waiting()
        if self._waiting >= self._settings.spool_jobs:
            why = trouble or "storage is slower than rendering"
            return f"{self._waiting} pictures wait to be stored ({why})"
        if self._served.keys() <= self.hours.left:
            return "none of its jobs would end before its window closes"
        if self._spool.free() < self._settings.spool_free:
            why = trouble or f"free some of {self._spool.root}, or set KILN_SPOOL_FREE"
            return f"the spool's disk is nearly full ({why})"
        return None

    def rest(self, reason: str) -> None:
        """Take no jobs for a while."""
        log.warning("takes no jobs for %.0f s: %s", REST, reason)
        self._rest_until, self._rest_reason = time.monotonic() + REST, reason

    @contextmanager
    def paced(self, claim: Claim, spec: RenderSpec) -> Iterator[None]:
        """Render a job in the block, and learn how long such a job takes.

        Raises GiveBackError for one that would not end in this worker's window, as far as is known; its kind
        is left to others until that has closed.
        """
        why = self.hours.too_late(claim.lane.kind, self._pace.seconds(spec))
        if why is not None:
            log.info("job %s: left to others, as its kind is until then: it %s", claim.job_id, why)
            raise GiveBackError
        yield
        self._heartbeat.tell(**self._pace.note(spec, self._renderer.meter.seconds))

    def take(self) -> Claim | None:
        """The next job, or None after waiting POLL seconds for one."""
        if not self._refused:
            more = [f"{self._waiting} to be stored"] if self._waiting else []
            if left := ", ".join(sorted(self.hours.left)):
                more.append(f"leaves {left} to others until its window has closed")
            self._heartbeat.say("; ".join(["idle", *more]))
        standing = self._control.standing
        if standing.here or standing.leave:  # heard since it was last looked at
            return None
        paused, late = standing.names("model"), self.hours.left
        try:
            claim = self._claims.take(
                [kind for kind, one in self._served.items() if one.model not in paused and kind not in late],
                self._renderer.residents.kinds,
                execution=self._execution,
                estimate=UNKNOWN,
                memory=self._renderer.budget.total,
                serial=standing.serial if self._reread < REREADS else None,
                without=standing.names("client"),
                handed=self._heartbeat.handed(),
            )
            self._execution, self._reread = new_execution(), 0
            if claim is None:
                self._claims.wait({one.model for one in self._served.values()}, POLL)
        except NewOrdersError:
            self._obey()
            return None
        except redis.ResponseError as error:
            self._claims.tally.add("kiln_redis_errors_total")
            if not self._refused:
                log.warning("takes no jobs: Redis refuses: %s", error)
            self._refused = True
            self._heartbeat.say(f"takes no jobs: Redis refuses: {error}")
            time.sleep(RETRY)
            return None
        except redis.RedisError as error:
            self._claims.tally.add("kiln_redis_errors_total")
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
