"""A service's own process, run from its unit's command line with nothing else in its environment."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import Kiln
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.service import run
from pixelkiln.worker.commands.service.installation import Here, plan, record_path
from pixelkiln.worker.host.account import Account
from pixelkiln.worker.host.restarts import REFUSALS, Record
from pixelkiln.worker.host.systemd import unit_file
from tests.waiting import until

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def ann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Account.current()


@pytest.fixture
def start(ann: Account, environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Install the files, and start what the unit names."""
    env_path = tmp_path / "env"
    started: list[subprocess.Popen[bytes]] = []

    def begin(**changed: str) -> subprocess.Popen[bytes]:
        here = Here("linux", os.geteuid(), environment | changed)
        planned = plan(
            here, ann, ["worker"], agent=False, folder=tmp_path, environment=env_path, models=["demo"]
        )
        for file in planned.common:
            file.write()
        lines = unit_file(planned.definitions[0]).splitlines()
        unit = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        started.append(
            subprocess.Popen(
                shlex.split(unit["ExecStart"]),
                cwd=unit["WorkingDirectory"],
                env={"HOME": str(tmp_path), "PATH": os.defpath, "INVOCATION_ID": "x"},
                stderr=subprocess.PIPE,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()
    env_path.unlink()  # it holds the farm's secrets


def test_it_renders_a_job_and_leaves_with_0_when_told_to(
    start: Start, ann: Account, kiln: Kiln, settings: Settings
) -> None:
    process = start()
    job = kiln.submit(prompt="a red fox", model="demo", width=64, height=64)
    until(lambda: kiln.status(job.id).state == "finished", "the job has finished", 120)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()
    record = Record.read(record_path(ann, "worker"))
    assert record is not None
    assert record.kind == "left"


def test_a_wrong_password_is_given_up_in_the_end(start: Start, ann: Account, settings: Settings) -> None:
    assert settings.redis_url is not None
    head, _, tail = settings.redis_url.get_secret_value().rpartition("@")
    path = record_path(ann, "worker")
    Record("refused", "", refusals=REFUSALS - 1).write(path)
    process = start(KILN_REDIS_URL=f"{head}x@{tail}")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 78, said.decode()
    assert b"refuses the user or password" in said
    assert b"stays away until" in said
    record = Record.read(path)
    assert record is not None
    assert (record.kind, record.gave_up) == ("refused", True)


def test_servers_that_run_already_are_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pixelkiln.worker.local.instance.running", lambda home: object())
    with pytest.raises(NotReadyError, match="already run"):
        run.RUNS["up"](())


def test_the_servers_of_the_same_boot_are_given_time(tmp_path: Path) -> None:
    looked: list[float] = []
    local = Settings(home=tmp_path)
    run.await_servers(local, looked.append)
    assert sum(looked) == 20

    def comes(seconds: float) -> None:
        looked.append(seconds)
        url = SecretStr("redis://x")
        Instance(
            redis_url=url,
            s3_endpoint="x",
            bucket="x",
            access_key="x",
            secret_key=url,
            admin_key=url,
            pid=1,
            started=1,
        ).write(tmp_path)

    looked.clear()
    run.await_servers(local, comes)
    run.await_servers(Settings(redis_url=SecretStr("redis://nas")), comes)
    assert len(looked) == 1
