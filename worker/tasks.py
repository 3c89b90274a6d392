"""The one function a job may name, so that any RQ producer can enqueue by `worker.tasks.render`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn


def render(spec: Mapping[str, Any]) -> NoReturn:
    """Never called by pixelkiln: `kiln worker` reads the spec from the job's record and renders it itself."""
    raise RuntimeError("this job is for `kiln worker`, not for RQ's own; start one with: kiln worker")
