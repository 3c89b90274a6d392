"""Named points between taking a job and forgetting it, at which a worker is made to die or to freeze.

The product knows nothing of them: they are put round its functions in a worker's own process.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker import engines
from pixelkiln.worker.deliver import encoder
from pixelkiln.worker.deliver.delivery import Delivery
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.host import durable
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.queue.settlement import Settlement

Where = Callable[[tuple[Any, ...]], bool]  # whether a call with these arguments is the one meant


@dataclass(frozen=True, slots=True)
class Point:
    """Just before or after the first call of `owner.name` that fits `where`."""

    owner: Any
    name: str
    after: bool
    where: Where = lambda _: True


def _step(index: int) -> Where:
    """Heartbeat.report of one finished step."""
    return lambda a: len(a) > 2 and a[2].phase == "rendering" and a[2].step == index


def _key(end: str) -> Where:
    """A call of Bucket on one kind of object."""
    return lambda a: str(a[1]).endswith(end)


def _file(name: str) -> Where:
    """A write of one file of a spooled picture."""
    return lambda a: Path(a[0]).name == name


def _points() -> dict[str, Point]:
    png, sidecar = _key("image.png"), _key("sidecar.json")
    image, draft = _file("image.png"), _file("draft.json")
    return {
        "take.after": Point(Claims, "take", True),
        "mark.before": Point(Spool, "mark", False),
        "mark.after": Point(Spool, "mark", True),
        "load.before": Point(engines, "load", False),
        "load.after": Point(engines, "load", True),
        "prefix": Point(Heartbeat, "report", True, _step(0)),
        "step.first": Point(Heartbeat, "report", True, _step(1)),
        "step.last": Point(Heartbeat, "report", True, _step(28)),
        "hand-over.before": Point(Delivery, "put", False),
        "hand-over.after": Point(Delivery, "put", True),
        "encode.before": Point(encoder, "encode", False),
        "encode.after": Point(encoder, "encode", True),
        "spool.before": Point(Spool, "put", False),
        "spool.picture": Point(durable, "write", True, image),
        "spool.draft.before": Point(durable, "write", False, draft),
        "spool.draft.after": Point(durable, "write", True, draft),
        "spool.renamed": Point(durable, "sync_path", False, lambda a: not a[0].name.startswith("part-")),
        "spool.after": Point(Spool, "put", True),
        "png.before": Point(Bucket, "put", False, png),
        "png.after": Point(Bucket, "put", True, png),
        "sidecar.before": Point(Bucket, "put", False, sidecar),
        "sidecar.after": Point(Bucket, "put", True, sidecar),
        "finish.before": Point(Claims, "finish", False),
        "finish.queued": Point(Settlement, "_bookkeep", True),
        "finish.after": Point(Claims, "finish", True),
        "drop.before": Point(Heartbeat, "drop", False),
        "remove.before": Point(Spool, "remove", False),
        "remove.half": Point(shutil, "rmtree", False, lambda a: _halve(a[0])),
        "remove.after": Point(Spool, "remove", True),
    }


POINTS = _points()
FAILING = ("take.after", "mark.after", "fail.before", "fail.queued", "fail.after")  # on the way of a bad spec
POINTS |= {
    "fail.before": Point(Claims, "fail", False),
    "fail.queued": Point(Settlement, "_bookkeep", True),
    "fail.after": Point(Claims, "fail", True),
}


def arm(name: str, number: signal.Signals) -> None:
    """Send this process `number` when it reaches the point, once."""
    point = POINTS[name]
    plain = getattr(point.owner, point.name)
    armed = [True]

    def strike(arguments: tuple[Any, ...], answer: Any) -> None:
        missed = point.name == "take" and answer is None  # nothing was taken
        if armed and not missed and point.where(arguments):
            armed.clear()
            os.kill(os.getpid(), number)

    @functools.wraps(plain)
    def struck(*arguments: Any, **named: Any) -> Any:
        if not point.after:
            strike(arguments, "")
        answer = plain(*arguments, **named)
        if point.after:
            strike(arguments, answer)
        return answer

    setattr(point.owner, point.name, struck)


def _halve(folder: Path) -> bool:
    """Remove one file of a spooled picture, as a removal that was killed does."""
    if "done-" not in str(folder) and "gone-" not in str(folder):
        return False
    (Path(folder) / "draft.json").unlink()
    return True
