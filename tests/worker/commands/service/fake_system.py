"""launchctl, systemctl and their like as small programs that speak as the real ones do in public transcripts.

What they know lies in one JSON file, so that bootstrap, bootout and print agree with each other, and a test
can set a machine up and look at it afterwards.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from shlex import quote
from typing import Any

HEAD = """import json, os, sys
from pathlib import Path
STATE = Path({state!r})
state = json.loads(STATE.read_text())
words = sys.argv[1:]
state["calls"].append([Path(sys.argv[0]).name, *words])
def end(code=0, out="", err=""):
    STATE.write_text(json.dumps(state))
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.exit(code)
"""

LAUNCHCTL = """
jobs, verb = state["jobs"], words[0]
def unknown(target):
    domain, _, label = target.rpartition("/")
    where = "system" if domain == "system" else f"user gui: {domain.partition('/')[2]}"
    end(113, err=f'Bad request.\\nCould not find service "{label}" in domain for {where}\\n')
def full(target, job):
    pid = f"\\tpid = {job['pid']}\\n" if job.get("pid") else ""
    last = job.get("last", "last exit code = (never exited)")
    return (f"{target} = {{\\n\\tactive count = {1 if pid else 0}\\n\\tpath = {job['path']}\\n"
        f"\\ttype = {'LaunchDaemon' if target.startswith('system') else 'LaunchAgent'}\\n"
        f"\\tstate = {job['state']}\\n\\n\\tprogram = {job['program'][0]}\\n\\targuments = {{\\n"
        + "".join(f"\\t\\t{one}\\n" for one in job["program"]) + "\\t}\\n\\n"
        "\\tdefault environment = {\\n\\t\\tPATH => /usr/bin:/bin:/usr/sbin:/sbin\\n\\t}\\n\\n"
        "\\tenvironment = {\\n\\t\\tXPC_SERVICE_NAME => x\\n\\t\\tstate = (a trap)\\n\\t}\\n\\n"
        "\\tdomain = gui/501 [100002]\\n\\tasid = 100002\\n\\tminimum runtime = 30\\n\\texit timeout = 600\\n"
        f"\\truns = {job['runs']}\\n{pid}\\timmediate reason = speculative\\n\\tforks = 12\\n\\t{last}\\n\\n"
        "\\tresource coalition = {\\n\\t\\tID = 1114\\n\\t\\tstate = active\\n"
        "\\t\\tactive count = 1\\n\\t}\\n\\n"
        "\\tspawn type = interactive (4)\\n\\tproperties = keepalive | runatload | inferred program\\n}\\n")
if verb == "print":
    job = jobs.get(words[1])
    if job is None:
        unknown(words[1])
    text = full(words[1], job)
    if job["state"] == "SIGTERMed":
        job["left"] -= 1
        if job["left"] <= 0:
            del jobs[words[1]]
    end(out=text)
if verb == "print-disabled":
    rows = "".join(f'\\t\\t"{one}" => {state["disabled_word"]}\\n' for one in state["disabled"])
    end(out=f'\\n\\tdisabled services = {{\\n\\t\\t"com.apple.ftpd" => enabled\\n{rows}\\t}}\\n')
if verb == "enable":
    label = words[1].rpartition("/")[2]
    state["disabled"] = [one for one in state["disabled"] if one != label]
    end()
if verb == "bootout":
    job = jobs.get(words[1])
    if job is None:
        end(3, err="Boot-out failed: 3: No such process\\n")
    if not job.get("pid"):
        del jobs[words[1]]
        end()
    job |= {"state": "SIGTERMed", "left": state["drain"]}
    if state["bootout_code"]:
        end(36, err="Boot-out failed: 36: Operation now in progress\\n")
    end()
if verb == "bootstrap":
    import plistlib
    domain, path = words[1:]
    if domain.startswith("gui/") and not state["gui"]:
        end(125, err="Bootstrap failed: 125: Domain does not support specified action\\n")
    entries = plistlib.loads(Path(path).read_bytes())
    target = f"{domain}/{entries['Label']}"
    if Path(path).stat().st_mode & 0o022:
        end(122, err="Bootstrap failed: 122: Path had bad ownership/permissions\\n")
    busy = ("Bootstrap failed: 5: Input/output error\\n"
        "Try re-running the command as root for richer errors.\\n")
    if target in jobs:
        end(5, err=busy)
    if entries["Label"] in state["disabled"]:
        end(5, err=busy)
    if state["settle"]:
        state["settle"] -= 1
        end(*((37, "", "Bootstrap failed: 37: Operation already in progress\\n") if state["settle"] % 2
              else (5, "", busy)))
    state["started"] += 1
    job = {"state": "running", "pid": 4000 + state["started"], "runs": 1, "path": path,
           "program": entries["ProgramArguments"]}
    jobs[target] = job | state["outcome"]
    end()
end(64, err=f"Unrecognized subcommand: {verb}\\n")
"""

SYSTEMCTL = """
assert words[0] == "--user", words
if not state["bus"]:
    end(1, err="Failed to connect to bus: No medium found\\n")
verb, jobs = words[1], state["jobs"]
name = next((one for one in words if one.endswith(".service")), "")
unit = Path(os.environ["HOME"]) / ".config/systemd/user" / name
if verb == "show":
    job = jobs.get(name, {})
    if job.get("ActiveState") == "deactivating":
        job["left"] -= 1
        if job["left"] <= 0:
            job |= {"ActiveState": "inactive", "MainPID": "0", "ExecMainCode": "1", "ExecMainStatus": "0"}
    shown = {"LoadState": "loaded" if unit.exists() else "not-found", "ActiveState": "inactive",
             "SubState": "dead", "MainPID": "0", "ExecMainCode": "0", "ExecMainStatus": "0", "NRestarts": "0",
             "UnitFileState": "enabled" if name in state["enabled"] else "disabled"} | job
    end(out="".join(f"{key}={value}\\n" for key, value in shown.items() if key != "left"))
if verb == "enable":
    if not unit.exists():
        end(1, err=f"Failed to enable unit: Unit file {name} does not exist.\\n")
    state["enabled"].append(name)
    end(err=f"Created symlink {unit.parent}/default.target.wants/{name} -> {unit}.\\n")
if verb == "disable":
    state["enabled"] = [one for one in state["enabled"] if one != name]
if verb == "start":
    state["started"] += 1
    jobs[name] = {"ActiveState": "active", "SubState": "running", "MainPID": str(4000 + state["started"])}
    jobs[name] |= state["outcome"]
if verb == "stop":
    if name not in jobs:
        end(5, err=f"Failed to stop {name}: Unit {name} not loaded.\\n")
    if jobs[name]["ActiveState"] == "active":
        jobs[name] |= {"ActiveState": "deactivating", "left": state["drain"]}
    else:
        jobs[name] |= {"ActiveState": "inactive"}
end()
"""

PS = """
end(out=f"   {state['etime']}\\n") if state["etime"] else end(1)
"""

LOGINCTL = """
end(out="yes\\n" if state["linger"] else "no\\n")
"""

NOTHING = """
end()
"""

PROGRAMS = {
    "launchctl": LAUNCHCTL,
    "systemctl": SYSTEMCTL,
    "ps": PS,
    "loginctl": LOGINCTL,
    "journalctl": NOTHING,
}


class FakeSystem:
    """The programs in a folder for PATH, and what they know."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._state = folder / "state.json"
        self.set(
            jobs={},
            calls=[],
            disabled=[],
            disabled_word="disabled",
            enabled=[],
            gui=True,  # somebody is logged in at the screen
            bus=True,  # systemd has a session of the user
            drain=3,  # looks at a service until its running job has ended
            settle=0,  # bootstraps that are refused after a bootout
            bootout_code=0,
            outcome={},  # what becomes of a service that is started
            started=0,
            etime="05:00",
            linger=True,
        )
        for name, text in PROGRAMS.items():
            path = self.bin / name
            program = self.bin.parent / "programs" / path.name
            program.parent.mkdir(exist_ok=True)
            program.write_text(HEAD.format(state=str(self._state)) + text)
            # By sh: the first line of a script cannot name a Python in a folder with a space.
            path.write_text(f'#!/bin/sh\nexec {quote(sys.executable)} -IS {quote(str(program))} "$@"\n')
            path.chmod(0o755)

    def set(self, **values: Any) -> None:
        known = json.loads(self._state.read_text()) if self._state.exists() else {}
        self._state.write_text(json.dumps(known | values))

    def get(self, name: str) -> Any:
        return json.loads(self._state.read_text())[name]

    def change(self, target: str, **values: Any) -> None:
        """Something happens to a service."""
        jobs = self.get("jobs")
        jobs[target] |= values
        self.set(jobs=jobs)

    def calls(self, program: str = "") -> list[list[str]]:
        """The commands that were run and change something, or those of one program."""
        quiet = ({"print", "print-disabled"}, {"show"})
        return [
            call
            for call in self.get("calls")
            if (call[0] == program)
            or (not program and call[0] != "ps" and not set(call[1:3]) & (quiet[0] | quiet[1]))
        ]
