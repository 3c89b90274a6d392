"""The record that lies beside each picture, `sidecar.json`: what was run, where, and how long it took.

The sidecar is the commit: a picture whose sidecar is in the bucket is finished, one without is not.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pixelkiln.jobs.plain import MAX_TEXT, plain
from pixelkiln.jobs.spec import RenderSpec

BETWEEN = "; "  # what was found in a picture, where it is one text


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class JobFacts(_Record):
    """Which job this was, and which try at it."""

    id: str
    client: str
    attempt: int  # 1 for a job that was taken once
    execution: str
    submitted_at: str  # UTC, ISO 8601
    started_at: str
    rendered_at: str


class Timings(_Record):
    """Wall seconds of each part; `other` is what the named parts leave of `total` (waits between them)."""

    queue_wait: float  # from submit to take; not part of the total
    load: float  # of the model, where this job caused it
    prefix: float  # of the prompt, once per render; 0 where it was still cached
    steps: list[float]  # each evaluated
    decode: float
    checks: float
    encode: float
    upload: float  # of the picture, read back and compared
    other: float
    total: float  # from take to the picture being in the bucket


class Memory(_Record):
    """What was held in memory, and read back from swap, while the picture rendered."""

    peak_mlx: int  # bytes MLX held at most during this job, without other models in memory
    peak_resident: int  # bytes the process held at most so far
    swap_ins: int  # bytes the machine read back from swap while it rendered


class Png(_Record):
    """The picture as an object in the bucket."""

    key: str
    sha256: str
    bytes: int
    width: int
    height: int


class Checks(_Record):
    """Statistics of the picture, on the 0 to 255 scale of luma (Rec. 709)."""

    luma_mean: float
    luma_spread: float  # standard deviation
    seam_score: float  # mean step across the model's grid over the mean step beside it; 1 is seamless
    warnings: list[str] = []  # black, flat, dark


class Sidecar(_Record):
    """Schema v1."""

    schema_version: Literal[1] = 1
    job: JobFacts
    spec: RenderSpec
    model: dict[str, str]  # quantization, recipe, digest, source, …; steps, guidance and scheduler that ran
    versions: dict[str, str]
    host: dict[str, str]  # name, worker, system, chip, memory in bytes
    timings: Timings
    memory: Memory
    png: Png
    checks: Checks
    events: list[dict[str, Any]] = []

    @property
    def suspicious(self) -> tuple[str, ...]:
        """What the checks found in the picture, as a job's status has it."""
        return doubts_in(BETWEEN.join(self.checks.warnings))


def doubts_in(text: str) -> tuple[str, ...]:
    """What a record's `kiln_suspicious` says; of what anybody may have written no more than can be shown."""
    return tuple(one for one in plain(text)[:MAX_TEXT].split(BETWEEN) if one)
