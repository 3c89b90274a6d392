"""A claim: one execution's lease on one job, and what is told of its progress."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from pixelkiln.jobs.lanes import Lane


def stamp(moment: datetime | None = None) -> str:
    """A moment as RQ writes it: UTC, ISO 8601, microseconds."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Claim:
    """One execution's lease on one job."""

    job_id: str
    execution: str  # the fencing token
    lane: Lane
    data: bytes = b""  # RQ's payload, not parsed
    submitted_at: str = ""
    attempt: int = 1
    crashes: int = 0  # and lapses, before this attempt
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    handed: bool = False  # its picture is rendered: what comes is no fault of the job's


@dataclass(frozen=True, slots=True)
class Progress:
    """What `kiln status` shows of a started job, and what it costs."""

    phase: Literal["loading", "rendering", "delivering"]
    step: int = 0
    steps: int = 0
    cost: float | None = None  # GPU seconds, as far as is known; all of them once it is delivering
    off_recipe: str = ""  # how it departs from what its model was made for
    each: float = 0.0  # seconds the last step took; at step 0 the prompt's prefix, which is none

    def wire(self) -> str:
        """As it stands in RQ's `meta`."""
        off = {"off_recipe": self.off_recipe} if self.off_recipe else {}
        each = {"each": round(self.each, 3)} if self.each and self.step else {}
        return json.dumps({"phase": self.phase, "step": self.step, "steps": self.steps, **each, **off})


def new_execution() -> str:
    """A fresh execution id, which also makes a take repeatable."""
    return uuid.uuid4().hex
