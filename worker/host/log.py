"""What a worker writes on stderr: a line an event, which launchd, systemd and a terminal all show."""

from __future__ import annotations

import logging
import os
from typing import Any

from pixelkiln.jobs.logs import JsonLines
from pixelkiln.jobs.plain import plain

LINE = 900  # characters at most


def log_to_stderr(level: int = logging.INFO, *, as_json: bool = False) -> None:
    """Write every logger's lines there, with the time; as JSON objects for programs."""
    stamped = "" if os.environ.get("INVOCATION_ID") else "%(asctime)s "  # systemd stamps lines itself
    logging.basicConfig(level=level, force=True)
    (handler,) = logging.getLogger().handlers
    lines = Lines(f"{stamped}%(levelname).1s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if as_json else lines)
    handler.addFilter(_brief)
    logging.getLogger("botocore").setLevel(logging.WARNING)


class Lines(logging.Formatter):
    """A line an event, whatever strangers wrote into it; a traceback follows on its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: D102, N802 - logging's
        return plain(super().formatMessage(record))[:LINE]

    def formatException(self, ei: Any) -> str:  # noqa: D102, N802 - logging's
        return "\n".join(plain(line) for line in super().formatException(ei).split("\n"))


def _brief(record: logging.LogRecord) -> bool:
    """RQ writes a traceback for each key that a stranger made another type; its line tells as much."""
    if record.name.startswith("rq."):
        record.exc_info = record.exc_text = None
    return True
