"""Pictures that wait: no more than they may, whatever keeps them, and the worker says what does."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.worker.deliver import uploader
from pixelkiln.worker.queue import heartbeat
from pixelkiln.worker.service import Service
from tests.chaos.http_relay import Fault, HttpRelay
from tests.worker.working import all_ended, working

AWAY = "cannot deliver: bucket"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.1)
    monkeypatch.setattr(heartbeat, "PUBLISH", 0.05)
    monkeypatch.setattr(uploader, "PATIENCE", 0.05)


def state(kiln: Kiln) -> str:
    return " ".join(worker.state for worker in kiln.farm().workers)


def spooled(settings: Settings) -> int:
    return len(list(settings.spool_dir.glob("done-*")))


class Script:
    """Steps, each begun when what the one before waited for has come."""

    def __init__(self, steps: Iterator[Callable[[], object]]) -> None:
        self._steps = steps
        self._awaited: Callable[[], object] = lambda: True

    def __call__(self) -> bool:
        """Whether the last step is done."""
        while self._awaited():
            try:
                self._awaited = next(self._steps)
            except StopIteration:
                return True
        return False


def test_storage_slower_than_rendering_holds_rendering_up(
    relayed: tuple[Settings, HttpRelay], submit: Callable[..., str], kiln: Kiln
) -> None:
    settings, relay = relayed
    ids = [submit() for _ in range(8)]
    most = 0

    def steps() -> Iterator[Callable[[], object]]:
        relay.hold()  # it answers nothing, and no error either
        yield lambda: state(kiln).startswith("takes no jobs: 3 pictures wait to be stored (storage is slower")
        relay.restore()
        relay.spoil(Fault("slow", 0.05, "PUT", times=0))
        yield all_ended(kiln, ids)

    script = Script(steps())

    def watched() -> bool:
        nonlocal most
        most = max(most, spooled(settings))
        assert most <= 3
        return script()

    working(Service(settings.model_copy(update={"spool_jobs": 3}), ["demo"]), watched)
    assert most == 3
    assert {kiln.status(job_id).state for job_id in ids} == {"finished"}


def test_a_worker_that_cannot_deliver_says_so_whatever_it_does(
    relayed: tuple[Settings, HttpRelay], submit: Callable[..., str], kiln: Kiln
) -> None:
    settings, relay = relayed
    ids = [submit()]

    def steps() -> Iterator[Callable[[], object]]:
        relay.refuse()
        yield lambda: state(kiln).startswith(f"idle; 1 to be stored; {AWAY}")
        ids.append(submit(width=256, height=256))
        yield lambda: state(kiln).startswith(f"rendering {ids[1]}; {AWAY}")
        relay.restore()
        yield all_ended(kiln, ids)
        yield lambda: state(kiln) == "idle"

    working(Service(settings, ["demo"]), Script(steps()))


def test_a_spool_folder_that_is_removed_costs_no_picture(
    relayed: tuple[Settings, HttpRelay],
    submit: Callable[..., str],
    kiln: Kiln,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, relay = relayed
    ids = [submit(), submit()]

    def steps() -> Iterator[Callable[[], object]]:
        relay.refuse()
        yield lambda: spooled(settings) == 2
        ids.append(submit(width=256, height=256))
        yield lambda: kiln.status(ids[2]).phase == "rendering"
        shutil.rmtree(settings.spool_dir)
        yield lambda: spooled(settings) == 3  # one written into the folder made again, two rendered again
        relay.restore()
        yield all_ended(kiln, ids)

    working(Service(settings, ["demo"]), Script(steps()))
    assert {kiln.status(job_id).state for job_id in ids} == {"finished"}
    assert [kiln.sidecar(job_id).job.attempt for job_id in ids] == [2, 2, 1]
    assert len([one for one in caplog.records if "had been removed; made again" in one.message]) == 1
    assert not [one for one in caplog.records if one.exc_info]


class ReadOnly:
    """A disk that became read-only: nothing below `root` is made, renamed or written any more."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        for name in ("mkdir", "rename", "replace", "write_text", "unlink"):
            self._guard(root, name, monkeypatch)

    def _guard(self, root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = getattr(Path, name)

        def guarded(path: Path, *arguments: object, **named: object) -> object:
            if self.on and path.is_relative_to(root):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return plain(path, *arguments, **named)

        monkeypatch.setattr(Path, name, guarded)


def test_a_read_only_spool_is_told_once_and_waited_for(
    relayed: tuple[Settings, HttpRelay],
    submit: Callable[..., str],
    kiln: Kiln,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, relay = relayed
    disk = ReadOnly(settings.spool_dir, monkeypatch)
    ids = [submit(), submit()]
    service = Service(settings, ["demo"])

    def steps() -> Iterator[Callable[[], object]]:
        relay.refuse()
        yield lambda: spooled(settings) == 2
        disk.on = True
        relay.restore()
        yield all_ended(kiln, ids)  # stored, though they cannot be taken out of the spool
        ids.append(submit())
        yield lambda: state(kiln).startswith(
            f"takes no jobs: the spool {settings.spool_dir} cannot be written: "
        )
        seen = service._heartbeat._beats
        yield lambda: service._heartbeat._beats > seen + 20
        disk.on = False
        yield all_ended(kiln, ids)
        yield lambda: spooled(settings) == 0

    working(service, Script(steps()))
    told = [one.message for one in caplog.records if "spool" in one.message]
    assert len([one for one in told if "cannot be removed" in one]) == 1
    assert len([one for one in told if "cannot be written: Read-only file system" in one]) == 1
    assert not [one for one in caplog.records if "not ours any more" in one.message]
    assert kiln.status(ids[2]).attempt <= 2  # taken once in vain, at most
