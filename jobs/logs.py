"""Logs for programs: one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from pixelkiln.jobs.plain import plain

LINE = 4000  # characters of a message, and of a traceback, at most
ABOUT_A_JOB = "job %s"  # what a message begins with whose first argument is a job's id


class JsonLines(logging.Formatter):
    """`time` (UTC, ISO 8601), `level`, `logger`, `message`; `job`, `worker` and `error` where there are any.

    The error is a traceback, in the same line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.worker = ""  # which one writes here

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever strangers wrote into it."""
        told = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": plain(record.getMessage())[:LINE],
        }
        if self.worker:
            told["worker"] = self.worker
        if str(record.msg).startswith(ABOUT_A_JOB) and isinstance(record.args, tuple) and record.args:
            told["job"] = plain(str(record.args[0]))[:LINE]
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)[-LINE:]
        return json.dumps(told)


def name_worker(name: str) -> None:
    """Let all lines of this process, where they are JSON, name the worker that it is."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonLines):
            handler.formatter.worker = name
