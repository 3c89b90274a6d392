"""What to write in place of a value or a name that is refused."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

_FLAGS = {"yes": "true", "on": "true", "no": "false", "off": "false"}  # as YAML had them before 1.2
_NUMBER = re.compile(r"-?\d{1,16}(\.\d{1,16})?")


def hint(field: str, value: object) -> str:
    """The end of a refusal that begins with what the field may be; '' where nothing plain is meant."""
    number = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if field == "seed" and _is_drawn(value, number):
        return "; leave it out, and one is drawn"
    if number:
        return f"; write {number[0]} without quotes"
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return f"; write {value.lower()} without quotes"
    if field == "keep_aspect" and isinstance(value, str) and value.lower() in _FLAGS:
        return f"; write {_FLAGS[value.lower()]}"
    if isinstance(value, float) and value.is_integer():
        return f"; write {value:.0f}"
    return ""


def nearest(name: str, known: Collection[str]) -> str:
    """The one of the names known that this one was probably meant to be; '' where none is like it."""
    return next(iter(get_close_matches(name[:60].casefold(), known, n=1, cutoff=0.7)), "")


def _is_drawn(value: object, number: re.Match[str] | None) -> bool:
    """Whether other programs take such a seed to mean any: -1, or a word."""
    if isinstance(value, str):
        return number is None or number[0].startswith("-")
    return isinstance(value, int | float) and value < 0


def glimpse(value: object) -> str:
    """A value as a refusal shows it."""
    if isinstance(value, int) and value.bit_length() > 200:  # Python refuses to write out the largest
        return "a number that long"
    return repr(value)
