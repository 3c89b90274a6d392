"""Building what is installed: the sdist and the wheels, by the build backend alone."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = Path(__file__).parent / "app"


def build(kind: str, project: Path, folder: Path) -> Path:
    """The 'sdist' or 'wheel' of a project, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


def unpacked(sdist: Path, folder: Path) -> Path:
    """The project that an sdist holds."""
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and newer
        archive.extractall(folder)
    (project,) = folder.iterdir()
    return project
