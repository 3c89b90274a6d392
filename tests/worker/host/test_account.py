"""Whose a service is, and whose its files are."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from pixelkiln.jobs.errors import KilnError, UsageError
from pixelkiln.worker.host import env_file
from pixelkiln.worker.host.account import Account, acting_as, chosen
from pixelkiln.worker.host.managed import File


def test_root_is_never_meant_by_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Account, "named", staticmethod(asked.append))
    chosen(None, 0, {"SUDO_USER": "ann"})
    chosen("root", 0, {"SUDO_USER": "ann"})
    assert asked == ["ann", "root"]
    for environ in ({}, {"SUDO_USER": "root"}):
        with pytest.raises(UsageError, match="--user NAME"):
            chosen(None, 0, environ)
    assert chosen(None, 501, {"SUDO_USER": "ann"}).uid == os.geteuid()


def test_a_user_that_is_not_there_is_told() -> None:
    with pytest.raises(UsageError, match="no user"):
        Account.named("nobody-of-that-name")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_roots_hand_writes_the_users_files_as_the_user() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o711)
        ann = Account("ann", 54321, 54321, home / "ann")
        ann.home.mkdir()
        os.chown(ann.home, ann.uid, ann.gid)
        path = env_file.default_path(ann.home)
        File(path, 0o600, ann, "KILN_CLIENT=ann\n").write()
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (ann.uid, ann.gid, 0o600)
        assert path.parent.stat().st_uid == ann.uid
        with acting_as(ann):
            assert env_file.read(path, ann.uid) == {"KILN_CLIENT": "ann"}
        assert os.geteuid() == 0
        # A folder that the user made a link to one of root's: root does not write there on the user's behalf.
        (home / "roots").mkdir(mode=0o700)
        with acting_as(ann):
            (ann.home / "trap").symlink_to(home / "roots")
        with pytest.raises(KilnError, match="cannot be written"):
            File(ann.home / "trap" / "env", 0o600, ann, "x").write()
