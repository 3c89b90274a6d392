"""Seeds as people write them: `1-8`, `1-8, 20`, or a list of these."""

from __future__ import annotations

import re
from typing import Any

from pixelkiln.jobs.batches.rows import MAX_JOBS
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.hints import glimpse

_ONE = re.compile(r"\d{1,16}")
_RANGE = re.compile(r"(\d{1,16})\s*-\s*(\d{1,16})")


def parse_seeds(value: Any) -> list[Any]:
    """The seeds of a text or a list.

    Raises UsageError for what may be a seed or a count, for a range that runs backwards, and for more seeds
    than a file may have jobs.
    """
    if isinstance(value, int) or (isinstance(value, str) and _ONE.fullmatch(value.strip())):
        one = str(value).strip()
        raise UsageError(f"{one} may be one seed or so many; write seed: {one}, or seeds: 1-{one}")
    if not isinstance(value, str | list):
        raise UsageError("must be a range or a list, for instance 1-8")
    found: list[Any] = []
    for one in re.split(r"[,;]", value) if isinstance(value, str) else value:
        found += _range(one) if isinstance(one, str) else [one]
        if len(found) > MAX_JOBS:
            raise UsageError(f"{len(found):,} seeds or more; a file has {MAX_JOBS:,} jobs at most")
    return found


def _range(text: str) -> range:
    text = text.strip()
    if _ONE.fullmatch(text):
        return range(int(text), int(text) + 1)
    found = _RANGE.fullmatch(text)
    if not found:
        raise UsageError(f"{glimpse(text)[:60]} is no range of seeds, for instance 1-8")
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise UsageError(f"{text} runs backwards; write {last}-{first}")
    if last - first >= MAX_JOBS:
        raise UsageError(f"{text} are {last - first + 1:,} seeds; a file has {MAX_JOBS:,} jobs at most")
    return range(first, last + 1)
