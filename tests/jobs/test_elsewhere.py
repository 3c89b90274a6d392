"""From another folder, commands find this user's instance, or say where it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, NotReadyError, Settings, home
from pixelkiln.jobs.home import elsewhere, remembered
from pixelkiln.worker.local.instance import Local, up


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(home, "INSTANCES", tmp_path / "user" / "instances")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "user" / "instances"


def place(servers: Local) -> Path:
    return servers.valkey.folder.parent


def test_the_one_that_runs_is_found_while_it_runs(servers: Local, notes: Path) -> None:
    assert Settings.load().home == Path(".kiln")
    with remembered(place(servers)):
        assert notes.stat().st_mode & 0o777 == 0o700
        assert [path.stat().st_mode & 0o777 for path in notes.iterdir()] == [0o600]
        with Kiln() as kiln:
            assert kiln.redis.ping()
            assert kiln.settings.home == place(servers)
        assert Settings.here().home == Path(".kiln")  # `kiln up` starts one of this folder
    assert Settings.load().home == Path(".kiln")
    assert list(notes.iterdir()) == []


@pytest.mark.parametrize("said", ["redis_url", "home", "instance"])
def test_what_is_said_here_comes_first(servers: Local, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    if said == "redis_url":
        monkeypatch.setenv("KILN_REDIS_URL", "redis://h")
    elif said == "home":
        monkeypatch.setenv("KILN_HOME", ".kiln")
    else:
        Path(".kiln").mkdir()
        Path(".kiln/instance.json").touch()
    with remembered(place(servers)):
        assert Settings.load().home == Path(".kiln")


def test_one_that_died_is_not_taken(tmp_path: Path) -> None:
    with remembered(tmp_path / "gone"):
        assert elsewhere() == [tmp_path / "gone"]
        assert Settings.load().home == Path(".kiln")


def test_of_several_one_is_to_be_named(servers: Local, tmp_path: Path) -> None:
    with up(tmp_path / "second"), remembered(tmp_path / "second"), remembered(place(servers)):
        with pytest.raises(NotReadyError, match="set KILN_HOME to one of them") as caught:
            Settings.load()
        assert str(tmp_path / "second") in str(caught.value)
        assert str(place(servers)) in str(caught.value)


@pytest.mark.parametrize("what", ["the folder", "a note"])
def test_what_others_may_have_written_is_not_followed(servers: Local, notes: Path, what: str) -> None:
    with remembered(place(servers)):
        (notes if what == "the folder" else next(notes.iterdir())).chmod(0o777)
        assert elsewhere() == []
        assert Settings.load().home == Path(".kiln")


def test_a_user_without_a_folder_has_an_instance_all_the_same(notes: Path, tmp_path: Path) -> None:
    notes.parent.mkdir()
    notes.touch()  # in its place
    with remembered(tmp_path / "gone"):
        assert elsewhere() == []


def test_the_url_is_the_instances(servers: Local) -> None:
    from pixelkiln.jobs.queue.connection import redis_url

    with remembered(place(servers)):
        found = SecretStr(redis_url(Settings.load()))
    assert found == servers.instance.redis_url
