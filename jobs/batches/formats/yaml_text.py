"""YAML 1.2 by its core schema: `no` is text, `1e3` a number; what 1.1 and 1.2 read differently is refused.

Aliases, tags and several documents are refused, so that a file is no larger than it looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixelkiln.jobs.batches.formats.document import Lined, rows_of
from pixelkiln.jobs.batches.rows import MAX_DEPTH, MAX_FIELDS, MAX_JOBS, Fault, FaultyRowsError, Place, Row
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.hints import glimpse

MAX_NUMBER = 400  # characters
MAX_PARTS = 10 * MAX_JOBS  # lists and mappings of a file
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"[-+]?0[0-7]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def read(text: str, folder: Path) -> Iterator[Row]:
    """The rows of a YAML file. Raises FaultyRowsError for what is none, or more than it looks."""
    import yaml  # few commands need it

    events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    reader = _Reader(events)
    try:
        line, value = reader.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = f"is not YAML: {error.problem or error.context}; put a prompt with : # or braces in quotes"
        raise FaultyRowsError([Fault(Place(mark.line + 1 if mark else None), told)]) from None
    except yaml.YAMLError as error:  # a character that no YAML has
        told = " ".join(str(error).split())
        raise FaultyRowsError([Fault(Place(reader.line), f"is not YAML: {told}")]) from None
    except UsageError as error:
        raise FaultyRowsError([Fault(Place(reader.line), str(error))]) from None
    return rows_of(value, line, folder)


class _Reader:
    """Makes values of a parser's events."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self.line = 1  # of the last event
        self._parts = 0

    def document(self) -> tuple[int, Any]:
        """The one document's first line and value. Raises UsageError."""
        kinds = []
        found: tuple[int, Any] = (1, None)
        for event in self._events:
            self.line = event.start_mark.line + 1
            kind = type(event).__name__
            kinds.append(kind)
            if kinds.count("DocumentStartEvent") > 1:
                raise UsageError("a second document begins here; one file is one list of jobs")
            if kind not in ("StreamStartEvent", "StreamEndEvent", "DocumentStartEvent", "DocumentEndEvent"):
                line = self.line
                found = line, self._value(event, 0)
        return found

    def _next(self) -> Any:
        event = next(self._events)
        self.line = event.start_mark.line + 1
        return event

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event).__name__
        if kind == "AliasEvent":
            raise UsageError(f"*{event.anchor[:40]} is an alias; write it out, or once under defaults:")
        if event.tag not in (None, "!"):
            raise UsageError(f"{event.tag[:60]} is a tag; leave it out")
        if depth > MAX_DEPTH:
            raise UsageError(f"is more than {MAX_DEPTH} levels deep")
        if kind == "ScalarEvent":
            return scalar(event.value) if event.implicit[0] and not event.style else event.value
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise UsageError(f"more than {MAX_PARTS:,} lists and mappings; split the file")
        if kind == "SequenceStartEvent":
            found = Lined()
            while type(event := self._next()).__name__ != "SequenceEndEvent":
                line = self.line
                found.add(self._value(event, depth + 1), line)
            return found
        return self._mapping(depth)

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while type(event := self._next()).__name__ != "MappingEndEvent":
            if type(event).__name__ != "ScalarEvent":
                raise UsageError("a name is text; braces that belong to a prompt stand in quotes")
            name = event.value
            if name == "<<" and not event.style:
                raise UsageError("<< merges; write it out, or once under defaults:")
            if name in found:
                raise UsageError(f"{glimpse(name)[:60]} stands there twice; keep one of them")
            if len(found) == MAX_FIELDS:
                raise UsageError(f"has more than {MAX_FIELDS:,} names; a row has {MAX_FIELDS:,} at most")
            found[name] = self._value(self._next(), depth + 1)
        return found


def scalar(text: str) -> Any:
    """What a plain scalar is by YAML 1.2's core schema. Raises UsageError where 1.1 has another number."""
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if len(text) > MAX_NUMBER:
        return text
    if _OCTAL.fullmatch(text) and int(text, 8) != int(text):
        raise UsageError(f"{text[:40]} is {int(text)} or, to older readers, {int(text, 8)}; write which")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
