"""For those who watch a server: whether it lives, whether it reaches what it serves, the farm's numbers."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from pixelkiln.jobs import keys
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import KilnError
from pixelkiln.jobs.web import problems
from pixelkiln.jobs.web.numbers import Numbers, Seen
from pixelkiln.jobs.web.once import Once
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.who import Admin

router = APIRouter(include_in_schema=False)

FRESH, STALE = 5.0, 30.0  # seconds
BUSY = "Redis or the bucket does not answer"


class Health:
    """What a server sees of its farm."""

    def __init__(self, kiln: Kiln) -> None:
        self._kiln = kiln
        self.faults = Once(self._faults, FRESH, STALE)
        self.numbers = Once(self._numbers, FRESH, STALE)

    def _faults(self) -> tuple[str | None, str | None]:
        """Why the queue cannot be used, and the bucket; None where it can."""
        return self._fault(self._kiln.queue.served), self._fault(self._ask_bucket)

    def _numbers(self) -> bytes:
        seen = Seen(storage=self._fault(self._ask_bucket) is None)
        try:
            seen.farm = self._kiln.farm()
            seen.pulse = self._kiln.queue.pulse([one.lane for one in seen.farm.lanes if one.queued])
        except KilnError as error:
            problems.log.debug("numbers: %s", error)
        return generate_latest(Numbers(seen))

    def _ask_bucket(self) -> object:
        return self._kiln.bucket.head(keys.PROBE(self._kiln.settings.client))

    @staticmethod
    def _fault(ask: Callable[[], object]) -> str | None:
        try:
            ask()
        except KilnError as error:
            return problems.of_error(error, admin=False)[1]  # anybody may ask: no addresses
        return None


@router.get("/healthz")
async def get_health() -> Response:
    """The process lives, whatever its threads wait for."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
def get_readiness(request: Request) -> Response:
    """Whether it reaches Redis and the bucket."""
    health: Health = request.app.state.health
    found = health.faults.get()
    why = [BUSY] if found is None else [one for one in found if one is not None]
    return PlainTextResponse("; ".join(why) + "\n", 503) if why else PlainTextResponse("ready\n")


@router.get("/metrics")
def get_metrics(request: Request, caller: Admin) -> Response:
    """The farm's numbers, for Prometheus; an admin's, since they are of all clients."""
    health: Health = request.app.state.health
    found = health.numbers.get()
    if found is None:
        raise ProblemError(503, BUSY, headers={"Retry-After": f"{problems.AGAIN}"})
    return Response(found, media_type=CONTENT_TYPE_LATEST)
