"""Requests under an Idempotency-Key: sent again one is the same jobs, and no other goes under its key."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import Header

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.web.problems import ProblemError

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="the same request sent again under it is the same jobs, and none is made twice;"
        " another one is refused",
    ),
]


def keyed(client: str, key: str, place: int) -> str:
    """The id of a job that was sent under an Idempotency-Key: always the same."""
    return _digest(f"{client}\0{key}\0{place}")[:32]


def note(kiln: Kiln, key: str, asked: Any) -> bool:
    """Let a key stand for what is asked for, in JSON and bytes, from before the first job of it is made.

    Whether it did so before: then the request was sent again. Raises ProblemError where it stands for
    something else.
    """
    meant = _digest(json.dumps(asked, sort_keys=True, default=lambda data: hashlib.sha256(data).hexdigest()))
    before = kiln.queue.note(kiln.settings.client, _digest(key)[:32], meant)
    if before not in ("", meant):
        raise used()
    return before == meant


def used() -> ProblemError:
    """What is said of a key that stands for something else."""
    field = "Idempotency-Key"
    return ProblemError(422, f"{field}: was used before, for another request; take a new one", field)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
