"""What lies in a folder that others may write to as well: whether it is ours, and whether its servers run."""

from __future__ import annotations

import fcntl
import os
import stat
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
