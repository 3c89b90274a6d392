"""Answers that are sent in parts, as they are made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain


def begun(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same, its first part made: what fails until then fails before the answer begins."""
    return chain([next(parts, b"")], parts)
