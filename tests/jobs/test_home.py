"""What lies in a folder that others may write to: used only where it is ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import NotReadyError, Settings
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.queue.connection import redis_url

OTHER = 54321


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like /tmp, in which we work."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.chdir(shared)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return shared


@pytest.fixture
def home(shared: Path) -> Iterator[Path]:
    """An instance there."""
    home = shared / ".kiln"
    home.mkdir(mode=0o700)
    secret = SecretStr("0123456789abcdef")
    Instance(
        redis_url=SecretStr("redis://127.0.0.1:7000/0"),
        s3_endpoint="http://127.0.0.1:7001",
        bucket="pixelkiln",
        access_key="a",
        secret_key=secret,
        admin_key=secret,
        pid=1,
        started=1.0,
    ).write(home)
    assert redis_url(Settings()).endswith(":7000/0")
    yield home
    (home / "instance.json").unlink()  # it is open to others now, as no secret may be that a run leaves


def planted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it another user's; where we may not, make us another user."""
    if os.geteuid() == 0:
        os.chown(path, OTHER, OTHER, follow_symlinks=False)
    else:
        monkeypatch.setattr("os.geteuid", lambda: OTHER)


@pytest.mark.parametrize("what", [".", "instance.json"])
def test_an_instance_of_another_user_is_not_used(
    home: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(home / what, monkeypatch)
    with pytest.raises(NotReadyError, match=r"\.kiln.* belongs to another user \(uid \d+\): it is not used;"):
        redis_url(Settings())


@pytest.mark.parametrize("what", [".", "instance.json"])
@pytest.mark.parametrize("mode", [0o702, 0o720])
def test_nor_one_that_others_may_write_to(home: Path, what: str, mode: int) -> None:
    (home / what).chmod(mode)
    with pytest.raises(NotReadyError, match=r"\.kiln.* may be changed by others .*chmod go-w"):
        redis_url(Settings())


def test_nor_one_that_anothers_link_leads_to(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.rename(home.with_name("elsewhere"))
    home.symlink_to("elsewhere")
    assert redis_url(Settings()).endswith(":7000/0")  # a link of our own
    planted(home, monkeypatch)
    with pytest.raises(NotReadyError, match="belongs to another user"):
        redis_url(Settings())


def test_under_sudo_that_of_the_caller_is_ours(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = home.stat().st_uid or OTHER
    for path in (home, home / "instance.json"):
        if os.geteuid() == 0:
            os.chown(path, caller, caller)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(NotReadyError, match="belongs to another user"):
        redis_url(Settings())
    monkeypatch.setenv("SUDO_UID", str(caller))
    assert redis_url(Settings()).endswith(":7000/0")


def test_settings_of_another_user_are_not_used(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared / "kiln.toml"
    file.write_text('client = "ann"\n')
    assert Settings.load().client == "ann"
    file.chmod(0o666)
    with pytest.raises(UsageError, match=r"^kiln\.toml in .* may be changed by others"):
        Settings.load()
    file.chmod(0o664)  # by one's group it may: some have a umask of 002
    assert Settings.load().client == "ann"
    planted(file, monkeypatch)
    with pytest.raises(UsageError, match=r"^kiln\.toml in .* belongs to another user"):
        Settings.load()
