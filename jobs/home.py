"""What lies in a folder that others may write to as well: whether it is ours, and whether its servers run."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from pixelkiln.jobs.errors import NotReadyError


def distrust(path: Path, writers: int = 0o022) -> str:
    """Why what lies at `path` may be another user's work; '' where only we, or root, can have put it there.

    A link must be ours, too. writers: those, as bits of a mode, who may not write to it. Under sudo "we" are
    also the user who called it. Raises OSError.
    """
    ours = {0, os.geteuid()}
    caller = os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and caller.isdecimal():
        ours.add(int(caller))
    target = path.stat()
    for found in (path.lstat(), target):
        if found.st_uid not in ours:
            return f"belongs to another user (uid {found.st_uid})"
    if target.st_mode & writers:
        return f"may be changed by others (mode {stat.S_IMODE(target.st_mode):04o}; mend: chmod go-w)"
    return ""


INSTANCES = Path(
    "~/.kiln/instances"
)  # one file for each folder where `kiln up` runs, with its name; this user's


@contextmanager
def remembered(home: Path) -> Iterator[None]:
    """While the block lasts, this user's commands in other folders find the servers of `home`."""
    folder = INSTANCES.expanduser()
    path = folder / sha256(str(home.absolute()).encode()).hexdigest()[:16]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(str(home.absolute()))
        part.replace(path)
    except OSError:  # they work all the same
        pass
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def elsewhere() -> list[Path]:
    """The folders where this user's `kiln up` was running when that was noted; it may have died."""
    folder, found = INSTANCES.expanduser(), []
    with suppress(OSError, RuntimeError):
        if not distrust(folder):
            for path in sorted(folder.iterdir()):
                with suppress(OSError, ValueError):
                    if path.suffix != ".part" and not distrust(path):
                        found.append(Path(path.read_text()))
    return found


def check_home(home: Path) -> None:
    """Raise NotReadyError where others may have put there what is in the folder of local servers.

    Raises OSError where there is no such folder.
    """
    if why := distrust(home):
        raise NotReadyError(f"{home} {why}: it is not used; set KILN_HOME to a folder of your own")


def serves(folder: Path, owner: int) -> bool:
    """Whether the process `owner` runs the server of `folder`, and that lives.

    By the locks that worker.local.lock describes: what a dead one left may name a port that anybody has now.
    """
    lock = folder / "lock"
    try:
        if int(lock.read_text()) != owner:
            return False
        os.kill(int((folder / "server.lock").read_text()), 0)
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ValueError):
        pass
    return False
