"""What a file would enqueue, as data: nothing is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pixelkiln.jobs.batches.checking import Checked, repeated
from pixelkiln.jobs.batches.estimate import Estimate, estimate
from pixelkiln.jobs.batches.forecast import Outlook
from pixelkiln.jobs.batches.outlook import header, planned
from pixelkiln.jobs.batches.windows import zone_of
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.queue.queue import When

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln

FIRST = 5  # jobs that are shown


def estimated(kiln: Kiln, checked: Checked) -> tuple[Estimate | None, str]:
    """What the jobs may take; or None, and why that is not known."""
    specs = [one.spec for one in checked.asked]
    try:
        return (estimate(kiln, specs) if specs else Estimate()), ""
    except NotReadyError as error:
        return None, str(error)


def foreseen(
    kiln: Kiln, checked: Checked, when: When | None, due: datetime | timedelta | None
) -> Outlook | None:
    """Whether they will be ready when they are `due`; None where they are not, or nothing is known.

    Raises UsageError for a deadline that is over.
    """
    if due is None or not checked.asked:
        return None
    options = header(due, when, zone_of(kiln.settings.zone), datetime.now(UTC))
    try:
        return planned(kiln, [one.spec for one in checked.asked], options)
    except NotReadyError:
        return None


def plan(checked: Checked, found: Estimate | None, outlook: Outlook | None = None) -> dict[str, Any]:
    """The JSON form."""
    return {
        "jobs": len(checked.asked),
        "first": [one.spec.wire() for one in checked.asked[:FIRST]],
        "refused": refused(checked),
        "repeated": len(repeated(checked.rows)),
        "references": len(set(checked.pictures.values())),
        "estimate": found.as_dict() if found else None,
        "deadline": outlook.as_dict() if outlook else None,
    }


def refused(checked: Checked) -> list[dict[str, Any]]:
    """What is at fault, and where."""
    return [
        {"line": one.place.line, "field": one.place.column, "message": one.message} for one in checked.faults
    ]
