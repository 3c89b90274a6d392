"""What a file would enqueue, as data: nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pixelkiln.jobs.batches.checking import Checked, repeated
from pixelkiln.jobs.batches.estimate import Estimate, estimate
from pixelkiln.jobs.errors import NotReadyError

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


def plan(checked: Checked, found: Estimate | None) -> dict[str, Any]:
    """The JSON form."""
    return {
        "jobs": len(checked.asked),
        "first": [one.spec.wire() for one in checked.asked[:FIRST]],
        "refused": refused(checked),
        "repeated": len(repeated(checked.rows)),
        "references": len(set(checked.pictures.values())),
        "estimate": found.as_dict() if found else None,
    }


def refused(checked: Checked) -> list[dict[str, Any]]:
    """What is at fault, and where."""
    return [
        {"line": one.place.line, "field": one.place.column, "message": one.message} for one in checked.faults
    ]
