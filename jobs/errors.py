"""The errors a user of pixelkiln can meet. Each one's message is a single line that says what to do."""

from __future__ import annotations


class KilnError(Exception):
    """Something went wrong; the message says what, where and what to do."""

    exit_code = 1


class SpecError(KilnError):
    """A job's spec is refused: `field` names the part at fault."""

    exit_code = 2

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class UsageError(KilnError):
    """A command was given something it cannot use."""

    exit_code = 2


class NotReadyError(KilnError):
    """Redis, the bucket or another service is unreachable or not set up."""

    exit_code = 3


class NoSuchJobError(KilnError):
    """No job of that id is known to the queue or the bucket."""


class JobFailedError(KilnError):
    """A job that was waited for ended as failed or cancelled."""
