"""A spool as version 0.1 left it, killed while storage was away: today's worker goes on with it.

`samples/0.1` was written by the code of commit 47f0e8a: one picture waited, another job was being rendered.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.jobs import Kiln, RenderSpec, Settings
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.service import Service
from tests.worker.working import working

SAMPLE = Path(__file__).parent / "samples" / "0.1"
LANE = Lane("demo", "bf16", "normal", "v0-1")
SPOOLED = "51d7ec991e354a87a3d0d659713285ba"  # executions
RENDERING = "a272e4f9c63e4f5698a2d83eec93e688"


@pytest.fixture
def left(settings: Settings) -> dict[str, Any]:
    """Put the sample where a worker's spool is; the draft of the picture that waited there."""
    shutil.copytree(SAMPLE, settings.spool_dir)
    (draft,) = SAMPLE.glob("done-*/draft.json")
    found: dict[str, Any] = json.loads(draft.read_text())
    return found


def test_it_is_read(left: dict[str, Any], settings: Settings) -> None:
    spool = Spool(settings.spool_dir)
    (entry,) = spool.entries()
    assert as_then(entry.draft.model_dump(mode="json"), left) == left
    assert (entry.claim.job_id, entry.claim.execution, entry.claim.lane) == ("spooled", SPOOLED, LANE)
    (mark,) = spool.marked()
    assert (mark.job_id, mark.execution, mark.lane) == ("rendering", RENDERING, LANE)
    assert not mark.handed
    spool.close()


def test_it_is_delivered_and_what_was_under_way_is_rendered(
    left: dict[str, Any], settings: Settings, claims: Claims, kiln: Kiln
) -> None:
    for job_id, execution in (("spooled", SPOOLED), ("rendering", RENDERING)):
        kiln.submit(RenderSpec.model_validate_json(json.dumps(left["sidecar"]["spec"])), id=job_id)
        assert claims.take([LANE.kind], execution=execution) is not None
    service = Service(settings, ["demo"])
    working(service, lambda: all(kiln.status(job_id).ended for job_id in ("spooled", "rendering")))
    assert stored(kiln, left) == left
    assert (kiln.status("spooled").state, kiln.status("rendering").state) == ("finished", "finished")
    assert kiln.sidecar("rendering").job.attempt == 2
    assert [path.name for path in settings.spool_dir.glob("*-*")] == []


def test_it_is_delivered_where_redis_knows_the_job_no_more(
    left: dict[str, Any], settings: Settings, kiln: Kiln
) -> None:
    kiln.bucket.delete("jobs/v0-1/spooled/sidecar.json")
    kiln.bucket.delete("jobs/v0-1/spooled/image.png")
    service = Service(settings, ["demo"])
    working(service, lambda: kiln.bucket.head("jobs/v0-1/spooled/sidecar.json"))
    assert stored(kiln, left) == left
    assert [path.name for path in settings.spool_dir.glob("*-*")] == []


def stored(kiln: Kiln, left: dict[str, Any]) -> dict[str, Any]:
    """The draft as the bucket's sidecar tells it, which has measured the upload; its picture is beside it."""
    sidecar = Sidecar.model_validate_json(kiln.bucket.get("jobs/v0-1/spooled/sidecar.json") or b"")
    png = kiln.bucket.get("jobs/v0-1/spooled/image.png")
    assert hashlib.sha256(png or b"").hexdigest() == sidecar.png.sha256
    assert sidecar.timings.total > sidecar.timings.upload > 0
    told: dict[str, Any] = as_then({**left, "sidecar": sidecar.model_dump(mode="json")}, left)
    for measured in ("upload", "other", "total"):
        told["sidecar"]["timings"][measured] = left["sidecar"]["timings"][measured]
    return told


def as_then(now: Any, then: Any) -> Any:
    """What a record says of all that it said then; it may have gained fields."""
    return {key: as_then(now[key], then[key]) for key in then} if isinstance(then, dict) else now
