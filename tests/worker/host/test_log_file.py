"""A log that starts a new file by itself, under the process that writes into it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pixelkiln.worker.host.log_file import rotate


def test_nothing_is_lost_and_few_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)  # as launchd opens it
    other = os.dup(fd)
    for number in range(6):
        os.write(fd, b"line %d\n" % number * 3)
        assert rotate(path, (fd, other), limit=10, kept=3)
        assert not rotate(path, (fd, other), limit=10, kept=3)
    os.write(other, b"now\n")
    assert path.read_text() == "now\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        path.name,
        *(f"{path.name}.{n}" for n in (1, 2, 3)),
    ]
    assert (tmp_path / "worker.log.1").read_text() == "line 5\n" * 3
    assert (tmp_path / "worker.log.3").read_text() == "line 3\n" * 3
    os.close(fd)
    os.close(other)


def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    assert not rotate(path, limit=1)
    path.write_text("much")
    assert not rotate(path, limit=1)  # a terminal has our lines
    assert path.read_text() == "much"
