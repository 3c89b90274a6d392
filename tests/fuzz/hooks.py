"""What schemathesis does beside: it asks about what is there, too, and counts. It alone imports this."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis

THERE: dict[str, list[str]] = json.loads(os.environ["FUZZ_THERE"])  # name in a path -> what is there
COUNTED = Path(os.environ["FUZZ_COUNTED"])
SIDE = 256  # pixels
COMMON = frozenset({"prompt", "width", "height", "seed", "priority", "labels", "n", "image"})
RARE = frozenset({"seeds", "size", "model", "quantization", "format"})  # right by chance

counted: Counter[tuple[str, int]] = Counter()


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Three times of four one that is there; the same for the same, so that what is found is found again."""
    return path_parameters and {name: _there(name, value) for name, value in path_parameters.items()}


def _there(name: str, value: Any) -> Any:
    known, kind = THERE.get(name), sum(map(ord, str(value)))
    return known[kind // 4 % len(known)] if known and kind % 4 else value


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Pictures are small, and half of what is asked is what every farm can do: the rest is hardly ever."""
    if isinstance(body, list):
        return [map_body(context, one) for one in body]
    if not isinstance(body, dict) or "prompt" not in body:
        return body
    if len(str(body)) % 2:
        body = {name: value for name, value in body.items() if name in COMMON} | {"model": "demo"}
    return body | {name: SIDE for name in ("width", "height") if _above(body.get(name), SIDE)}


def _above(value: Any, most: int) -> bool:
    return isinstance(value, int) and value > most


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Half of the files are sent without what is hardly ever right by chance."""
    if context.operation.path != "/v1/batches" or not query or len(str(query)) % 2:
        return query
    return {name: value for name, value in query.items() if name not in RARE}


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Count by route and status."""
    counted[f"{case.method.lower()} {case.operation.path}", response.status_code] += 1


@atexit.register
def tell() -> None:
    """For who ran it."""
    COUNTED.write_text(json.dumps([[*about, times] for about, times in counted.items()]))
