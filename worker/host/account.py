"""Whose service it is, and writing that user's files as that user."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixelkiln.jobs.errors import UsageError


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    home: Path

    @classmethod
    def named(cls, name: str) -> Account:
        """The user of that name. Raises UsageError where there is none."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise UsageError(f"--user: there is no user {name!r} on this machine") from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir))

    @classmethod
    def current(cls) -> Account:
        """Whoever runs this process, with the home folder that the environment names."""
        entry = pwd.getpwuid(os.geteuid())
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, Path.home())


def chosen(name: str | None, euid: int, environ: Mapping[str, str]) -> Account:
    """Who the service runs as: the user named, else the one behind sudo, else the caller.

    Raises UsageError for root that nobody asked for: a worker needs none of root's powers.
    """
    if name is not None:
        return Account.named(name)
    if euid != 0:
        return Account.current()
    behind = environ.get("SUDO_USER", "")
    if behind and behind != "root":
        return Account.named(behind)
    raise UsageError("this would run as root; say who it is for: --user NAME  (--user root, if you mean it)")


@contextmanager
def acting_as(account: Account) -> Iterator[None]:
    """Within: root has but the user's rights, so that it neither owns nor follows anything of theirs."""
    if os.geteuid() != 0 or account.uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([account.gid])
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups[:16])  # macOS names more than it takes; root needs none
