"""Folders in which a worker that launchd starts should not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelkiln.worker.host.folders import protected


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("Documents/pixelkiln", "~/Documents"),
        ("documents/pixelkiln", "~/Documents"),  # a Mac's disk does not tell cases apart
        ("Desktop", "~/Desktop"),
        ("Downloads/a/b", "~/Downloads"),
        ("Library/Mobile Documents/com~apple~CloudDocs/pixelkiln", "in the cloud"),
        ("Library/CloudStorage/Dropbox/pixelkiln", "in the cloud"),
    ],
)
def test_guarded_folders(tmp_path: Path, folder: str, why: str) -> None:
    assert why in (protected(tmp_path / folder, tmp_path) or "")


def test_volumes() -> None:
    assert "volumes" in (protected(Path("/Volumes/Disk/pixelkiln"), Path("/Users/ann")) or "")


@pytest.mark.parametrize("folder", ["pixelkiln", "", "Documents2", "src/Documents", "Library", ".kiln"])
def test_other_folders(tmp_path: Path, folder: str) -> None:
    assert protected(tmp_path / folder, tmp_path) is None


def test_a_link_into_one(tmp_path: Path) -> None:
    (tmp_path / "Documents").mkdir()
    (tmp_path / "pixelkiln").symlink_to(tmp_path / "Documents")
    assert protected(tmp_path / "pixelkiln" / ".venv", tmp_path)
