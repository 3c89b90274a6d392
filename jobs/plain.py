"""What strangers wrote, made fit to be shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MAX_TEXT = 500  # characters that are shown of a field

# Escape sequences begin with a control character; the others turn lines round, end them, or are not seen.
_UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)


def plain(text: str) -> str:
    """The text on one line, so that printing it only prints."""
    return _UNFIT.sub("\ufffd", text)


def escaped(json_text: str) -> str:
    """JSON that says the same, and whose printing only prints: what is unfit in it is written as \\uXXXX."""
    return _UNFIT.sub(lambda one: one[0] if one[0] == "\n" else f"\\u{ord(one[0]):04x}", json_text)


def text(value: bytes) -> str:
    """A field of a record as text that may be printed, cut where it is too long."""
    return plain(value[: 4 * MAX_TEXT].decode("utf-8", "replace"))[:MAX_TEXT]


def mapping(value: bytes) -> Mapping[str, Any]:
    """The JSON object that a field holds, its names fit to be shown; an empty one where it holds none."""
    try:
        found = json.loads(value[:MAX_TEXT])
    except (ValueError, RecursionError):
        return {}
    return {plain(name): one for name, one in found.items()} if isinstance(found, dict) else {}


def seconds(value: object) -> float:
    """The time that a field holds, a year at most; 0 where it holds none."""
    return float(value) if isinstance(value, int | float) and 0 <= value < 3e7 else 0.0  # nor nan


def count(value: object) -> int:
    """The number that a field holds; 0 where it holds none, or one below."""
    try:
        return max(0, int(value))  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return 0
