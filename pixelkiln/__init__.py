"""Renders pictures on your own Macs, overnight, without watching: the door for programs that submit jobs.

from pixelkiln import Kiln

with Kiln() as kiln:
    job = kiln.submit(prompt="a lighthouse at dusk", model="demo")
    kiln.wait([job.id])
    kiln.fetch(job.id, "renders")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from pixelkiln.jobs import (
    Batch,
    BatchStatus,
    Box,
    BoxFields,
    CancelOutcome,
    CorruptObjectError,
    Entry,
    Farm,
    Fetched,
    JobFailedError,
    JobStatus,
    Kiln,
    KilnError,
    LaneStatus,
    Manifest,
    NoSuchJobError,
    NotReadyError,
    Order,
    OrderError,
    RenderSpec,
    Result,
    Settings,
    Sidecar,
    SpecError,
    SpecFields,
    StorageAwayError,
    StorageRefusedError,
    Submitted,
    Target,
    UsageError,
    WorkerStatus,
)

__all__ = [
    "Batch",
    "BatchStatus",
    "Box",
    "BoxFields",
    "CancelOutcome",
    "CorruptObjectError",
    "Entry",
    "Farm",
    "Fetched",
    "JobFailedError",
    "JobStatus",
    "Kiln",
    "KilnError",
    "LaneStatus",
    "Manifest",
    "NoSuchJobError",
    "NotReadyError",
    "Order",
    "OrderError",
    "RenderSpec",
    "Result",
    "Settings",
    "Sidecar",
    "SpecError",
    "SpecFields",
    "StorageAwayError",
    "StorageRefusedError",
    "Submitted",
    "Target",
    "UsageError",
    "WorkerStatus",
    "render",
]


def render(spec: Mapping[str, Any]) -> NoReturn:
    """The one function that a job may name, so that any RQ producer can enqueue `pixelkiln.render`.

    Never called: `kiln worker` reads the spec from the job's record and renders it itself.
    """
    raise KilnError("this job is for `kiln worker`, not for RQ's own; start one with: kiln worker")
