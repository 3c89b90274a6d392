"""The contract and the client side of pixelkiln: say what to render, watch it, bring it home."""

from __future__ import annotations

from pixelkiln.jobs.client import Kiln, Submitted
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
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.spec import Box, RenderSpec

__all__ = [
    "Box",
    "CorruptObjectError",
    "JobFailedError",
    "JobStatus",
    "Kiln",
    "KilnError",
    "NoSuchJobError",
    "NotReadyError",
    "Order",
    "OrderError",
    "RenderSpec",
    "Settings",
    "Sidecar",
    "SpecError",
    "StorageAwayError",
    "StorageRefusedError",
    "Submitted",
    "Target",
    "UsageError",
]
