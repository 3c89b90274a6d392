"""What launchd reads, and what its launchctl says."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from pixelkiln.worker.host.account import Account
from pixelkiln.worker.host.launchd import Launchd, disabled, property_list, read_print
from pixelkiln.worker.host.managed import ROLES, Definition
from pixelkiln.worker.host.programs import Answer

DEPLOY = Path(__file__).parents[3] / "deploy"
ANN = Account("ann", 501, 20, Path("/Users/ann"))

# launchd.plist(5), those that a worker could want: a key that launchd does not know is ignored in silence.
KEYS = {
    "Label": str,
    "UserName": str,
    "GroupName": str,
    "ProgramArguments": list,
    "WorkingDirectory": str,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Umask": int,
    "StandardOutPath": str,
    "StandardErrorPath": str,
}


def sample(name: str = "worker") -> Definition:
    """As Ann's Mac would have it, from a checkout in her home folder."""
    env, log = "/Users/ann/.config/pixelkiln/env", f"/Users/ann/Library/Logs/pixelkiln/{name}.log"
    words = ["service", "run", name, "--env-file", env, "--log", log, "--gave-up", "0"]
    command = ("/Users/ann/pixelkiln/kiln", *words)
    return Definition(ROLES[name], ANN, command, Path("/Users/ann/pixelkiln"), Path(log))


@pytest.mark.parametrize("agent", [False, True])
@pytest.mark.parametrize("name", ROLES)
def test_the_property_list_has_only_keys_that_launchd_knows(name: str, agent: bool) -> None:
    text = property_list(sample(name), agent=agent)
    entries = plistlib.loads(text.encode())
    assert {key: type(value) for key, value in entries.items()} == {key: KEYS[key] for key in entries}
    assert plistlib.loads(plistlib.dumps(entries)) == entries
    assert entries["Label"] == f"com.pixelkiln.{name}"
    assert entries["KeepAlive"] == {"SuccessfulExit": False}
    assert entries["ProcessType"] in {"Background", "Standard", "Adaptive", "Interactive"}
    assert entries["Umask"] == 0o077
    assert entries["ExitTimeOut"] == (600 if name == "worker" else 60)
    assert entries.get("UserName") == (None if agent else "ann")
    assert all(isinstance(word, str) for word in entries["ProgramArguments"])
    assert "/opt/homebrew/bin" in entries["EnvironmentVariables"]["PATH"]


def test_the_file_in_deploy_is_what_install_writes() -> None:
    path = DEPLOY / "com.pixelkiln.worker.plist"
    assert path.read_text() == property_list(sample(), agent=False)


PRINTED = """\
system/com.pixelkiln.worker = {{
\tactive count = 1
\tpath = /Library/LaunchDaemons/com.pixelkiln.worker.plist
\ttype = LaunchDaemon
\tstate = {state}

\tprogram = /Users/ann/pixelkiln/kiln
\targuments = {{
\t\t/Users/ann/pixelkiln/kiln
\t\tstate = running
\t}}

\tenvironment = {{
\t\tOSLogRateLimit => 64
\t}}

\tdomain = system
\tusername = ann
\tminimum runtime = 30
\texit timeout = 600
\truns = 3
{more}
\tresource coalition = {{
\t\tID = 1114
\t\tstate = active
\t\tactive count = 1
\t}}

\tproperties = keepalive | runatload | inferred program
}}
"""


@pytest.mark.parametrize(
    ("state", "more", "name", "pid", "code", "signal"),
    [
        (
            "running",
            "\tpid = 16090\n\tlast terminating signal = Terminated: 15\n",
            "running",
            16090,
            None,
            15,
        ),
        ("running", "\tpid = 7\n\tlast exit code = (never exited)\n", "running", 7, None, None),
        ("SIGTERMed", "\tpid = 7\n", "stopping", 7, None, None),
        ("spawn scheduled", "\tlast exit code = 78: EX_CONFIG\n", "waiting", None, 78, None),
        ("not running", "\tlast exit code = 3\n", "waiting", None, 3, None),
        ("not running", "\tlast terminating signal = Killed: 9\n", "waiting", None, None, 9),
        ("not running", "\tlast exit code = 0\n", "stopped", None, 0, None),
        ("not running", "", "stopped", None, None, None),
        ("xpcproxy", "\tpid = 9\n", "waiting", 9, None, None),
    ],
)
def test_what_print_says(
    state: str, more: str, name: str, pid: int | None, code: int | None, signal: int | None
) -> None:
    found = read_print(PRINTED.format(state=state, more=more))
    assert (found.name, found.pid, found.code, found.signal) == (name, pid, code, signal)
    assert found.restarts == 2


def test_disabled_services_of_old_and_new_systems() -> None:
    lines = ['"a" => disabled', '"b" => enabled', '"c" => true', '"d" => false']
    rows = "\tdisabled services = {\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"
    assert disabled(rows) == {"a", "c"}


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (125, "Bootstrap failed: 125: Domain does not support specified action", "not logged in"),
        (112, "Could not find domain for user gui: 501", "not logged in"),
        (1, "Boot-out failed: 1: Operation not permitted", "use sudo"),
        (122, "Bootstrap failed: 122: Path had bad ownership/permissions", "install it again"),
        (5, "Bootstrap failed: 5: Input/output error", "Login Items"),
    ],
)
def test_refusals_are_explained(code: int, said: str, words: str) -> None:
    launchd = Launchd(lambda *command: Answer(0, "", ""), ANN, agent=True)
    assert words in str(launchd.refusal(Answer(code, "", said)))
