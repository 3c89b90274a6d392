"""What `kiln service` says of services, and how it fares on Linux."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from pixelkiln.worker.commands.service.installation import record_path
from pixelkiln.worker.host.restarts import Record
from tests.worker.commands.service.machines import AGENT, DAEMON, Linux, Mac

STATES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str, str]] = {
    "runs": ({"last": "last terminating signal = Terminated: 15"}, None, "running", "before it was up"),
    "crashed": (
        {"state": "spawn scheduled", "pid": None, "last": "last terminating signal = Abort trap: 6"},
        None,
        "waiting",
        "Metal",
    ),
    "killed": (
        {"state": "spawn scheduled", "pid": None, "last": "last terminating signal = Killed: 9"},
        None,
        "waiting",
        "out of memory",
    ),
    "watchdog": (
        {"state": "spawn scheduled", "pid": None, "last": "last exit code = 75"},
        None,
        "waiting",
        "watchdog",
    ),
    "config": (
        {"state": "spawn scheduled", "pid": None, "last": "last exit code = 78: EX_CONFIG"},
        None,
        "waiting",
        "EX_CONFIG",
    ),
    "protected": (
        {"state": "not running", "pid": None, "last": "last exit code = 126"},
        None,
        "waiting",
        "protected folder",
    ),
    "redis away": (
        {"state": "spawn scheduled", "pid": None, "last": "last exit code = 3"},
        {"kind": "passing", "reason": "Redis is unreachable"},
        "waiting",
        "not ready",
    ),
    "drained": (
        {"state": "not running", "pid": None, "last": "last exit code = 0"},
        {"kind": "left"},
        "stopped",
        "told to",
    ),
    "gave up": (
        {"state": "not running", "pid": None, "last": "last exit code = 0"},
        {"kind": "refused", "reason": "refuses the password", "gave_up": True},
        "gave up",
        "cannot help",
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_status_names_the_state_and_what_the_last_exit_means(mac: Mac, case: str) -> None:
    job, record, state, means = STATES[case]
    mac.installed()
    (mac.home / "Library/Logs/pixelkiln/worker.log").write_text("one\ntwo\n")
    mac.system.change(DAEMON, **job)
    if record is not None:
        Record(**record).write(record_path(mac.ann, "worker"))
    told = mac.status()
    assert told["state"] == state
    assert means in told["last_exit"]["meaning"]
    assert told["reason"] == (record or {}).get("reason", "")
    assert told["last_lines"] == ([] if state == "running" else ["one", "two"])
    code, said = mac.kiln("status")
    assert code == (0 if state == "running" else 3)
    assert f"worker  {state}  (LaunchDaemon)" in said
    assert ("process    4001 since 20" in said) == (state == "running")


def test_status_of_an_agent_that_reaches_no_one_tells_of_the_network(mac: Mac) -> None:
    mac.kiln("install", "--agent")
    mac.system.change(AGENT, state="spawn scheduled", pid=None, last="last exit code = 3")
    Record("passing", "Redis at redis://nas is unreachable").write(record_path(mac.ann, "worker"))
    assert "Local Network" in mac.status()["reason"]


@pytest.mark.parametrize("word", ["disabled", "true"])
def test_one_that_is_disabled_or_not_loaded_is_told_so(mac: Mac, word: str) -> None:
    mac.installed()
    mac.system.set(jobs={})
    assert mac.status()["state"] == "unloaded"
    mac.system.set(disabled=["com.pixelkiln.worker"], disabled_word=word)
    assert mac.status()["state"] == "disabled"
    assert mac.kiln("restart", root=True)[0] == 0  # an explicit wish
    assert mac.status()["state"] == "running"


def test_logs_are_the_files_last_lines(mac: Mac) -> None:
    mac.installed()
    (mac.home / "Library/Logs/pixelkiln/worker.log").write_text("one\ntwo\nthree\n")
    assert mac.kiln("logs", "-n", "2") == (0, "two\nthree\n")


def test_a_user_unit_on_linux(linux: Linux) -> None:
    linux.system.set(linger=False)
    code, said = linux.kiln("install", "--up", "--worker", KILN_CLIENT="ann")
    assert code == 0
    assert "loginctl enable-linger ann" in said
    unit = linux.home / ".config/systemd/user/pixelkiln-worker.service"
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert linux.system.get("enabled") == ["pixelkiln-up.service", "pixelkiln-worker.service"]
    assert linux.kiln("status")[0] == 0
    os.utime(linux.env, (1, 1))
    linux.system.set(calls=[])
    assert linux.kiln("install", "--up", "--worker", KILN_CLIENT="ann")[0] == 0
    assert [call for call in linux.system.calls() if call[0] == "systemctl"] == []
    linux.system.set(drain=12)
    code, said = linux.kiln("restart", "--worker")
    assert (code, "10 s of at most 630" in said) == (0, True)
    assert linux.kiln("uninstall")[0] == 0
    assert not unit.exists()
    assert linux.system.get("enabled") == []


def test_linux_without_a_session_says_what_to_do(linux: Linux) -> None:
    linux.system.set(bus=False)
    code, said = linux.kiln("install")
    assert (code, "enable-linger ann" in said) == (3, True)
    assert linux.kiln("install", "--dry-run")[0] == 0
    assert "No medium found" in linux.kiln("status")[1]
    code, said = linux.kiln("install", root=True, SUDO_USER="ann")
    assert (code, "without sudo" in said) == (2, True)


LINUX: dict[str, tuple[dict[str, str], bool, str, str]] = {
    "gave up": (
        {"ActiveState": "failed", "ExecMainCode": "1", "ExecMainStatus": "78"},
        True,
        "gave up",
        "cannot help",
    ),
    "between tries": (
        {"ActiveState": "activating", "SubState": "auto-restart", "ExecMainCode": "1", "ExecMainStatus": "3"},
        False,
        "waiting",
        "not ready",
    ),
    "killed": (
        {"ActiveState": "activating", "SubState": "auto-restart", "ExecMainCode": "2", "ExecMainStatus": "9"},
        False,
        "waiting",
        "killed",
    ),
    "moved": (
        {"ActiveState": "failed", "ExecMainCode": "1", "ExecMainStatus": "203"},
        False,
        "crashed",
        "moved",
    ),
    "drained": (
        {"ActiveState": "inactive", "ExecMainCode": "1", "ExecMainStatus": "0"},
        False,
        "stopped",
        "told to",
    ),
    "masked": ({"LoadState": "masked"}, False, "disabled", ""),
}


@pytest.mark.parametrize("case", LINUX)
def test_status_on_linux(linux: Linux, case: str) -> None:
    job, gave_up, state, means = LINUX[case]
    linux.kiln("install")
    linux.system.set(jobs={"pixelkiln-worker.service": {"MainPID": "0"} | job})
    if gave_up:
        Record("lasting", "no", True).write(record_path(linux.ann, "worker"))
    told = linux.status()
    assert told["state"] == state
    assert means in told["last_exit"]["meaning"]
