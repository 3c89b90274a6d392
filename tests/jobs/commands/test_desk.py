"""The command that the desk's settings name, run when a watched batch has ended."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from pixelkiln.jobs import Kiln
from pixelkiln.jobs.commands import desk
from tests.jobs.commands.running import Run

WRITE = "import json, os, sys; json.dump([sys.argv[2:], dict(os.environ)], open(sys.argv[1], 'w'))"


@pytest.fixture
def night(kiln: Kiln) -> Kiln:
    kiln.batch([{"prompt": "a fox", "model": "demo"}, {"prompt": "a hare", "model": "demo"}], name="night")
    kiln.cancel(kiln.open_batch("night").ids)
    return kiln


def command(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    monkeypatch.setenv("KILN_ON_BATCH_DONE", shlex.join(map(str, words)))


def test_it_is_told_of_the_batch_and_nothing_secret(
    night: Kiln, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_ADMIN_KEY", "a key that nobody else shall have")
    command(monkeypatch, sys.executable, "-c", WRITE, tmp_path / "told", "$(not a shell)")
    ran = run("watch", "night")
    assert (ran.code, ran.err) == (1, "")
    arguments, environment = json.loads((tmp_path / "told").read_text())
    assert arguments == ["$(not a shell)", "night: 2 cancelled"]
    ours = {name for name in environment if name.startswith(("KILN_", "AWS_"))}
    assert ours == {"KILN_BATCH", "KILN_BATCH_TOTALS"}
    assert environment["KILN_BATCH"] == "night"
    totals = {"total": 2, "finished": 0, "failed": 0, "cancelled": 2, "missing": 0, "suspicious": 0}
    assert json.loads(environment["KILN_BATCH_TOTALS"]) == totals


def test_it_runs_where_a_batch_is_waited_for(
    night: Kiln, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.txt").write_text("a fox\n")
    command(monkeypatch, sys.executable, "-c", WRITE, tmp_path / "told")
    run("batch", tmp_path / "none.txt", "-m", "demo", "--name", "other")
    assert not (tmp_path / "told").exists()  # nobody waits
    night.cancel(night.open_batch("other").ids)
    run("watch", night.open_batch("other").ids[0])
    assert not (tmp_path / "told").exists()  # a job is no batch
    run("watch", "other")
    assert json.loads((tmp_path / "told").read_text())[0] == ["other: 1 cancelled"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["/not/there"], "/not/there cannot be run (No such file or directory)"),
        ([sys.executable, "-c", "raise SystemExit('it broke')"], "ended with 1: it broke"),
        ([sys.executable, "-c", "import threading; threading.Event().wait()"], "did not end within 0 s"),
    ],
)
def test_its_failure_is_one_line_and_changes_nothing(
    night: Kiln, run: Run, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "within" in told:
        monkeypatch.setattr(desk, "PATIENCE", 0.1)
    command(monkeypatch, *words)
    ran = run("watch", "night")
    assert ran.code == 1
    assert ran.err.startswith("kiln: KILN_ON_BATCH_DONE: ")
    assert ran.err.endswith(f"{told}\n")
    assert len(ran.err.splitlines()) == 1
