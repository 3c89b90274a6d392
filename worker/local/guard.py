"""Runs one server and ends it when its owner is gone. A program of its own, on the standard library alone.

    python guard.py GRACE LEFTOVERS COMMAND…

The owner holds the other end of stdin. When it closes, because the owner is done or was killed, the server
gets SIGTERM and, GRACE seconds later, SIGKILL; then the files of LEFTOVERS (a JSON list) are removed. A pipe
does this on macOS too, where a process cannot ask to die with its parent. The first line on stdout is the
server's pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading


def main(grace: float, leftovers: list[str], command: list[str]) -> int:
    """Run `command` until it ends or stdin does. Returns its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # The locks stay with the server (close_fds): a folder is free only when nothing works in it any more.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, close_fds=False)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    threading.Thread(target=_end_with_owner, args=(server, grace), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # the owner may be gone already
        os.write(1, b"%d\n" % server.pid)
    status = server.wait()
    for path in leftovers:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 (importing pathlib would cost more than all the rest here)
    return status


def _end_with_owner(server: subprocess.Popen[bytes], grace: float) -> None:
    while os.read(0, 4096):
        pass
    server.terminate()
    try:
        server.wait(grace)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]))
