"""`kiln serve` as a service: how it is installed, and its process."""

from __future__ import annotations

import os
import plistlib
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from pixelkiln.worker.commands.service.installation import Here, plan, record_path
from pixelkiln.worker.host.account import Account
from pixelkiln.worker.host.restarts import Record
from pixelkiln.worker.host.systemd import unit_file
from tests.waiting import until
from tests.worker.commands.service.machines import Linux, Mac
from tests.worker.watched import get


def test_a_daemon_of_its_own_beside_the_worker(mac: Mac) -> None:
    mac.installed()
    code, said = mac.kiln("install", "--serve", root=True)
    assert code == 0, said
    entries = plistlib.loads((mac.daemons / "com.pixelkiln.serve.plist").read_bytes())
    words = entries["ProgramArguments"]
    assert words[words.index("serve") - 2 : words.index("serve") + 1] == ["service", "run", "serve"]
    assert entries["UserName"] == "ann"
    assert {path.name for path in mac.daemons.iterdir()} == {
        "com.pixelkiln.worker.plist",
        "com.pixelkiln.serve.plist",
    }
    assert mac.kiln("uninstall", "--serve", root=True)[0] == 0
    assert [path.name for path in mac.daemons.iterdir()] == ["com.pixelkiln.worker.plist"]


def test_a_user_unit_on_linux(linux: Linux) -> None:
    assert linux.kiln("install", "--up", "--serve", KILN_SERVE_PORT="9000")[0] == 0
    assert "KILN_SERVE_PORT=9000" in linux.env.read_text()
    assert (linux.home / ".config/systemd/user/pixelkiln-serve.service").exists()
    assert linux.kiln("restart", "--serve")[0] == 0
    code, said = linux.kiln("uninstall")
    assert code == 0
    assert said.index("serve is uninstalled") < said.index("up is uninstalled")  # which it needs


def test_its_process_serves_and_leaves_with_0(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ann, env_path, log = Account.current(), tmp_path / "env", tmp_path / "log"
    planned = plan(
        Here("linux", os.geteuid(), environment | {"KILN_SERVE_PORT": "0"}),
        ann,
        ["serve"],
        agent=False,
        folder=tmp_path,
        environment=env_path,
        models=[],
    )
    for file in planned.common:
        file.write()
    unit = dict(line.split("=", 1) for line in unit_file(planned.definitions[0]).splitlines() if "=" in line)
    with (
        log.open("wb") as lines,
        subprocess.Popen(
            shlex.split(unit["ExecStart"]),
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": os.defpath, "INVOCATION_ID": "x"},
            stderr=lines,
        ) as process,
    ):
        try:
            until(lambda: "http://" in log.read_text() or process.poll() is not None, "it listens")
            found = re.search(r"http://\S+", log.read_text())
            assert found, log.read_text()
            assert get(found[0], "/readyz") == (200, "ready\n")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
            env_path.unlink()  # it holds the farm's secrets
    record = Record.read(record_path(ann, "serve"))
    assert record is not None
    assert record.kind == "left"
