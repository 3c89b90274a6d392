"""`kiln service` on a Mac, good and broken: what it installs, waits for and refuses."""

from __future__ import annotations

import os
import plistlib
import stat
import sys
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from tests.worker.commands.service.machines import AGENT, DAEMON, SECRET, UID, Mac


def test_a_daemon_is_installed_in_two_steps(mac: Mac) -> None:
    url = f"redis://:{SECRET}@nas:6379/0"
    code, said = mac.kiln("install", KILN_REDIS_URL=url, AWS_PROFILE="kiln", OTHER="x")
    assert code == 2
    assert f"sudo {quote(sys.executable)} -BP -m pixelkiln service install" in said
    assert f"would write {mac.plist} (mode 0644, owner root)" in said
    assert "would run launchctl bootstrap system" in said
    assert mac.system.calls() == []  # nothing yet that needs root
    assert not mac.plist.exists()
    assert stat.S_IMODE(mac.env.stat().st_mode) == 0o600
    assert [line for line in mac.env.read_text().splitlines() if not line.startswith("#")] == [
        "AWS_PROFILE=kiln",
        f"KILN_REDIS_URL={url}",
    ]

    code, said = mac.kiln("install", root=True)  # sudo kept none of the variables
    assert code == 0
    assert "LaunchDaemon): running, process 4001" in said
    assert mac.system.calls() == [
        ["launchctl", "enable", DAEMON],
        ["launchctl", "bootstrap", "system", str(mac.plist)],
    ]
    entries = plistlib.loads(mac.plist.read_bytes())
    assert entries["UserName"] == "ann"
    assert SECRET not in mac.plist.read_text()
    log = Path(entries["StandardOutPath"])
    assert log == mac.home / "Library/Logs/pixelkiln/worker.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_installing_again_changes_nothing(mac: Mac) -> None:
    mac.kiln("install", KILN_CLIENT="ann")
    mac.installed()
    os.utime(mac.env, (1, 1))
    before = mac.plist.read_bytes(), mac.env.read_bytes()
    code, said = mac.kiln("install", root=True)
    assert (code, mac.system.calls()) == (0, [])
    assert "runs already, unchanged" in said
    assert mac.kiln("install", KILN_CLIENT="ann")[0] == 0  # nor does it ask for sudo
    assert (mac.plist.read_bytes(), mac.env.read_bytes()) == before


def test_installing_over_a_changed_one_waits_for_the_running_job(mac: Mac) -> None:
    mac.installed()
    mac.system.set(drain=12, settle=3)
    code, said = mac.kiln("install", "--model", "demo", root=True)
    assert code == 0
    assert "the end of com.pixelkiln.worker: 0 s of at most 630" in said
    assert "10 s of at most 630" in said
    verbs = [call[1] for call in mac.system.calls()]
    assert verbs == ["bootout", "enable", *["bootstrap"] * 4]  # refused with 5, 37 and 5
    assert mac.system.get("jobs")[DAEMON]["program"][-2:] == ["--model", "demo"]
    assert mac.system.get("jobs")[DAEMON]["pid"] == 4002


def test_a_changed_env_file_is_put_in_force(mac: Mac) -> None:
    mac.installed()
    os.utime(mac.env, (1, 1))
    code, said = mac.kiln("install", KILN_CLIENT="other")
    assert code == 2
    assert "kept in" in said
    assert mac.kiln("install", root=True)[0] == 0  # the process is older than the file
    mac.system.set(etime="00:00")
    mac.kiln("install", KILN_CLIENT="third")
    mac.system.set(etime="05:00", calls=[])
    assert mac.kiln("install", root=True)[0] == 0
    assert ["launchctl", "bootout", DAEMON] in mac.system.calls()


def test_what_was_written_by_hand_stays_in_the_env_file(mac: Mac) -> None:
    mac.installed()
    mac.env.write_text("# mine\nKILN_CLIENT=a\nKILN_MEMORY='24 GiB'\n")
    mac.kiln("install", KILN_CLIENT="b")
    assert mac.env.read_text() == "# mine\nKILN_MEMORY='24 GiB'\nKILN_CLIENT=b\n"


def test_a_dry_run_shows_all_and_changes_nothing(mac: Mac) -> None:
    url = f"redis://:{SECRET}@nas/0"
    code, said = mac.kiln("install", "--dry-run", "--agent", KILN_REDIS_URL=url)
    assert code == 0
    assert f"would write {mac.env} (mode 0600, owner ann)" in said
    assert "KILN_REDIS_URL (values are not shown)" in said
    assert "<key>KeepAlive</key>" in said
    assert f"would run launchctl bootstrap gui/{UID}" in said
    assert not mac.env.exists()
    assert mac.system.calls() == []


def test_an_agent_needs_no_root_and_is_warned_of_the_network(mac: Mac) -> None:
    code, said = mac.kiln("install", "--agent")
    assert code == 0
    assert "errno 65" in said
    assert "Privacy & Security > Local Network" in said
    assert "UserName" not in plistlib.loads(
        (mac.home / f"Library/LaunchAgents/{mac.plist.name}").read_bytes()
    )
    assert AGENT in mac.system.get("jobs")


def test_an_agent_makes_way_for_a_daemon(mac: Mac) -> None:
    mac.kiln("install", "--agent")
    code, said = mac.kiln("install", root=True)
    assert code == 0
    assert "makes way" in said
    assert list(mac.system.get("jobs")) == [DAEMON]
    assert not (mac.home / f"Library/LaunchAgents/{mac.plist.name}").exists()
    code, said = mac.kiln("install", "--agent")
    assert code == 2
    assert "sudo kiln service uninstall" in said


@pytest.mark.parametrize("drain", [1, 12])
def test_uninstall_waits_until_the_process_is_gone(mac: Mac, drain: int) -> None:
    mac.installed()
    mac.system.set(drain=drain, bootout_code=36)
    code, said = mac.kiln("uninstall", root=True)
    assert (code, mac.system.get("jobs"), mac.plist.exists()) == (0, {}, False)
    assert ("10 s of at most 630" in said) == (drain == 12)
    assert mac.env.exists()
    code, said = mac.kiln("uninstall", root=True)
    assert (code, "nothing is installed" in said) == (0, True)
    assert mac.kiln("status")[0] == 3


def test_a_second_interrupt_gives_up_waiting(mac: Mac) -> None:
    mac.installed()
    mac.system.set(drain=100)

    def interrupt() -> None:
        raise KeyboardInterrupt

    mac.slept = interrupt
    code, said = mac.kiln("uninstall", root=True)
    assert code == 1
    assert "Ctrl-C again stops waiting" in said
    assert "gave up waiting" in said
    assert not mac.plist.exists()  # it will not come back, all the same
    assert mac.status()["state"] == "stopping"


def test_one_that_never_ends_is_not_waited_for_for_ever(mac: Mac) -> None:
    mac.installed()
    mac.system.set(drain=10_000)
    mac.slept = lambda: mac.pass_time(99)
    code, said = mac.kiln("restart", root=True)
    assert code == 1
    assert "still going on after 630 s" in said


def test_restart_loads_the_file_anew(mac: Mac) -> None:
    mac.installed()
    assert mac.kiln("restart")[0] == 2  # root's
    assert mac.kiln("restart", root=True)[0] == 0
    assert [call[1] for call in mac.system.calls()] == ["bootout", "enable", "bootstrap"]
    assert mac.status()["pid"] == 4002


def test_the_servers_are_a_service_of_their_own(mac: Mac) -> None:
    assert mac.kiln("install", "--up", "--worker", root=True)[0] == 0
    assert list(mac.system.get("jobs")) == ["system/com.pixelkiln.up", DAEMON]
    code, said = mac.kiln("status")
    assert code == 0
    assert "up  running" in said
    mac.system.set(calls=[])
    mac.kiln("uninstall", root=True)
    assert [call[2] for call in mac.system.calls()] == [DAEMON, "system/com.pixelkiln.up"]


BROKEN: dict[str, tuple[dict[str, Any], list[str], dict[str, str], int, str]] = {
    "nobody logged in": ({"gui": False}, ["--agent"], {}, 3, "not logged in at this Mac's screen"),
    "never lets go": ({"settle": 1000}, ["--agent"], {}, 1, "Login Items & Extensions"),
    "no such model": ({}, ["--model", "nonsense"], {}, 2, "no model 'nonsense'"),
    "wrong setting": ({}, ["--agent"], {"KILN_RESULT_DAYS": "0"}, 2, "KILN_RESULT_DAYS"),
    "own servers and others": (
        {},
        ["--agent", "--up"],
        {"KILN_REDIS_URL": "redis://nas/0"},
        2,
        "--up brings",
    ),
    "no such folder": ({}, ["--agent", "--folder", "nowhere"], {}, 2, "is not a folder"),
    "several lines": ({}, ["--agent"], {"KILN_CLIENT": "a\nb"}, 2, "several lines"),
    "models in Documents": (
        {},
        ["--agent"],
        {"KILN_MODELS_DIR": "~/Documents/models"},
        2,
        "set KILN_MODELS_DIR=",
    ),
    "spool in iCloud": (
        {},
        ["--agent"],
        {"KILN_SPOOL_DIR": "~/Library/Mobile Documents/x/spool"},
        2,
        "cloud folder",
    ),
    "renders on a stick": ({}, ["--agent"], {"KILN_RENDERS_DIR": "/Volumes/Stick/r"}, 2, "other volumes"),
    "user of an agent": ({}, ["--agent", "--user", "ann"], {}, 2, "--user is for"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_set_up_is_refused_with_its_mend(mac: Mac, case: str) -> None:
    state, words, variables, expected, mend = BROKEN[case]
    mac.system.set(**state)
    mac.slept = lambda: mac.pass_time(9)
    code, said = mac.kiln("install", *words, **variables)
    assert (code, mend in said) == (expected, True), said


def test_a_checkout_on_the_desktop_is_refused(mac: Mac) -> None:
    mac.checkout = mac.home / "Desktop" / "pixelkiln"
    mac.checkout.mkdir(parents=True)
    code, said = mac.kiln("install", "--dry-run")
    assert code == 2
    assert f"mv '{mac.checkout}' '{mac.home}/pixelkiln'" in said
    assert ".venv and .kiln" in said
    assert "exit code 126" in said


def test_root_alone_must_say_whose_daemon_it_is(mac: Mac) -> None:
    code, said = mac.kiln("install", root=True, SUDO_USER="")
    assert code == 2
    assert "--user NAME" in said
    code, said = mac.kiln("install", "--agent", root=True)
    assert (code, "without sudo" in said) == (2, True)


@pytest.mark.parametrize(
    ("breaks", "mend"), [("mode", "chmod 600"), ("link", "is a link"), ("line", "line 1")]
)
def test_an_unsafe_env_file_is_refused(mac: Mac, breaks: str, mend: str) -> None:
    mac.env.parent.mkdir(parents=True)
    if breaks == "link":
        (mac.home / "elsewhere").touch(0o600)
        mac.env.symlink_to(mac.home / "elsewhere")
    else:
        mac.env.touch(0o600)
        mac.env.write_text(f"KLIN_REDIS_URL={SECRET}\n")
        mac.env.chmod(0o644 if breaks == "mode" else 0o600)
    code, said = mac.kiln("install", "--agent")
    assert (code, mend in said) == (2, True)
