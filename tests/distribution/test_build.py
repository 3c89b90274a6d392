"""What is installed: one package, whole, the same from a checkout and from an sdist.

`python -m tests.distribution` installs it, too, and runs an app with it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.distribution.build import APP, ROOT, build, unpacked


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def shipped() -> set[str]:
    """The files that git knows of the package, by where they are imported."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "jobs", "worker", "pixelkiln"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = {line for line in listed.stdout.splitlines() if (ROOT / line).is_file()}
    return {one if one.startswith("pixelkiln/") else f"pixelkiln/{one}" for one in files}


def contents(wheel: Path) -> dict[str, str]:
    """Every file of a wheel, with its sha256."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}


def test_the_wheel_is_the_package_and_nothing_beside_it(wheel: Path) -> None:
    names = contents(wheel)
    assert {name.split("/")[0] for name in names} == {"pixelkiln", "pixelkiln-0.1.0.dist-info"}
    package = {name for name in names if name.startswith("pixelkiln/")}
    assert package == shipped()
    assert "pixelkiln/py.typed" in package
    assert "pixelkiln/jobs/queue/submit.lua" in package
    assert {"templates/base.html", "static/htmx.min.js"} <= {
        name.removeprefix("pixelkiln/jobs/web/page/") for name in package
    }
    assert "pixelkiln/worker/checkpoints/demo/model.safetensors.index.json" in package


def test_the_sdist_holds_each_file_once_and_no_links(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert all(one.isreg() for one in members)
    names = {one.name.partition("/")[2] for one in members}
    assert len(names) == len(members)
    assert {name for name in names if name.startswith("pixelkiln/")} == shipped()
    beside = {name for name in names if not name.startswith("pixelkiln/")}
    assert beside == {"pyproject.toml", "README.md", "LICENSE", ".gitignore", "PKG-INFO"}


def test_a_wheel_built_from_the_sdist_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    project = unpacked(sdist, tmp_path / "project")
    assert contents(build("wheel", project, tmp_path / "wheel")) == contents(wheel)


def test_packages_called_jobs_and_worker_stand_beside_it(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = """
import sys
site, app = sys.argv[1:]
sys.path[:0] = [app, site]
import jobs, worker, pixelkiln, pixelkiln.jobs.client, pixelkiln.worker.commands.app, pixelkiln.testing
assert (jobs.NAME, worker.NAME) == ("the app's jobs", "the app's worker")
assert pixelkiln.jobs.client.__file__.startswith(site), pixelkiln.jobs.client.__file__
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "site", APP], check=True, cwd=tmp_path)
