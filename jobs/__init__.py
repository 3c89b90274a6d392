"""The contract and the client side of pixelkiln: say what to render, watch it, bring it home."""

from __future__ import annotations

from jobs.client import Kiln, Submitted
from jobs.errors import JobFailedError, KilnError, NoSuchJobError, NotReadyError, SpecError, UsageError
from jobs.settings import Settings
from jobs.sidecar import Sidecar
from jobs.spec import RenderSpec
from jobs.status import JobStatus

__all__ = [
    "JobFailedError",
    "JobStatus",
    "Kiln",
    "KilnError",
    "NoSuchJobError",
    "NotReadyError",
    "RenderSpec",
    "Settings",
    "Sidecar",
    "SpecError",
    "Submitted",
    "UsageError",
]
