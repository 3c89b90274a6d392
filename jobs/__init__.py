"""The contract and the client side of pixelkiln: say what to render, watch it, bring it home."""

from __future__ import annotations

from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.jobs.batches.fetching import Fetched
from pixelkiln.jobs.batches.manifest import Entry, Manifest
from pixelkiln.jobs.batches.standing import BatchStatus
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.control.orders import Order, Target
from pixelkiln.jobs.errors import (
    CorruptObjectError,
    JobFailedError,
    KilnError,
    NoSuchJobError,
    NotReadyError,
    OrderError,
    SpecError,
    StorageAwayError,
    StorageRefusedError,
    UsageError,
)
from pixelkiln.jobs.fields import BoxFields, SpecFields
from pixelkiln.jobs.queue.farm import Farm, LaneStatus, WorkerStatus
from pixelkiln.jobs.queue.queue import CancelOutcome, Submitted
from pixelkiln.jobs.queue.status import JobStatus, Result
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.spec import Box, RenderSpec

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
]
