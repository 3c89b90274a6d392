"""A folder jobs/, worker/ or pixelkiln/ where `kiln` is run is somebody else's, and is never imported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pixelkiln import Kiln, Settings
from pixelkiln.worker.host import keep_awake, programs
from pixelkiln.worker.local.child import worker_process
from tests.distribution.build import ROOT
from tests.waiting import until

KILN = Path(sys.executable).parent / "kiln"
PLANTED = """
import pathlib
pathlib.Path({mark!r}).touch()
raise SystemExit("the working folder was imported from")
"""


@pytest.fixture
def mark(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once something of the working folder, where we are now, was imported."""
    assert settings  # that fixture enters a folder, too
    mark = tmp_path / "imported"
    folder = tmp_path / "project"
    for name in ("jobs", "worker", "pixelkiln", "pixelkiln/jobs", "pixelkiln/worker"):
        (folder / name).mkdir(parents=True)
        for file in ("__init__.py", "__main__.py"):
            (folder / name / file).write_text(PLANTED.format(mark=str(mark)))
    monkeypatch.chdir(folder)
    return mark


def run(*command: str | Path, **environment: str) -> str:
    ran = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_what_is_planted_would_be_noticed(mark: Path) -> None:
    subprocess.run([sys.executable, "-c", "import jobs"], capture_output=True, check=False)
    assert mark.exists()


@pytest.mark.parametrize("path", [None, "", f"{os.pathsep}/nowhere", "."])
def test_no_program_there_is_run(mark: Path, monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    """Not even where PATH has an entry that means wherever one is."""
    if path is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", path)
    for name in ("planted", "systemd-inhibit", "true"):
        Path(name).write_text(f"#!/bin/sh\n: >'{mark}'\n")
        Path(name).chmod(0o755)
    assert programs.run("planted").code == programs.NOT_FOUND
    assert programs.stream("planted") == programs.NOT_FOUND
    assert programs.run("true").code == programs.stream("true") == 0
    command = keep_awake._command("-i")
    assert command is None or Path(command[0]).is_absolute()
    assert not mark.exists()


def test_the_console_script_imports_its_own(mark: Path) -> None:
    assert "properties" in json.loads(run(KILN, "schema"))
    assert not mark.exists()


@pytest.mark.parametrize("search", [{}, {"PYTHONPATH": f"{os.pathsep}/nowhere"}], ids=["plain", "PYTHONPATH"])
def test_the_launcher_hands_over_to_it(mark: Path, tmp_path: Path, search: dict[str, str]) -> None:
    checkout = tmp_path / "checkout"
    (checkout / ".venv" / "bin").mkdir(parents=True)
    names = ("pyproject.toml", "constraints.txt", "kiln")
    for name in names:
        shutil.copy(ROOT / name, checkout)
    for name in ("python", "kiln"):
        (checkout / ".venv" / "bin" / name).symlink_to(Path(sys.executable).parent / name)
    cat = subprocess.Popen(["cat", *(checkout / name for name in names)], stdout=subprocess.PIPE)
    holds = subprocess.check_output(["cksum"], stdin=cat.stdout, text=True)
    cat.communicate()
    (checkout / ".venv" / ".kiln").write_text(f"{checkout} {os.environ.get('UV_PYTHON', '')}\n{holds}")
    assert "properties" in json.loads(run(checkout / "kiln", "schema", **search))
    assert not mark.exists()


def test_nor_does_the_worker_that_demo_and_up_start(
    environment: dict[str, str], settings: Settings, kiln: Kiln, mark: Path
) -> None:
    assert Path.cwd() == mark.parent / "project"
    assert environment["KILN_HOME"]
    (job_id,) = run(KILN, "submit", "-m", "demo", "-s", "64x64", "a fox").split()
    home = settings.home
    home.mkdir()
    assert settings.renders_dir is not None
    with worker_process(home, settings.spool_dir, settings.renders_dir, home / "log", ["demo"]) as worker:
        until(lambda: worker.poll() is not None or kiln.status(job_id).ended, "the job has ended", 60)
    assert kiln.status(job_id).state == "finished", (home / "log").read_text()
    assert not mark.exists()
