"""The errors a user of pixelkiln can meet: one tree, which the exit codes of `kiln` follow.

Each one's message is a single line that says what is wrong, where, and what to do.
"""

from __future__ import annotations


class KilnError(Exception):
    """Something went wrong; the message says what, where and what to do."""

    exit_code = 1


class SpecError(KilnError):
    """A job's spec is refused: `field` names the part at fault. Nothing was enqueued."""

    exit_code = 2

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.place: int | None = None  # of the spec, from 0, where several were given in one call


class UsageError(KilnError):
    """A command or a call was given something it cannot use."""

    exit_code = 2


class NotReadyError(KilnError):
    """Redis, the bucket or another service is unreachable or not set up."""

    exit_code = 3


class StorageAwayError(NotReadyError):
    """The bucket cannot be reached, or answers that it cannot serve now: worth trying again."""


class StorageRefusedError(NotReadyError):
    """The bucket will not have this (credentials, bucket name): trying again cannot help."""


class NoSuchJobError(KilnError):
    """No job of that id is known to the queue or the bucket."""


class JobFailedError(KilnError):
    """A picture was asked for of a job that has none: it failed, was cancelled or has not finished."""


class CorruptObjectError(KilnError):
    """What the bucket gave back is not what was put there."""


class OrderError(KilnError):
    """What stands among the orders to workers is none, or was not signed with this farm's key."""
