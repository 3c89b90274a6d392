"""Where a service on a Mac must not live, and a worker should not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelkiln.worker.host.folders import badly_placed, protected

PLACES = {
    "Desktop/pixelkiln": "refused",
    "desktop/pixelkiln": "refused",  # APFS takes it for the same
    "Documents": "refused",
    "Downloads/models": "refused",
    "Library/Mobile Documents/com~apple~CloudDocs/kiln": "refused",
    "Library/CloudStorage/Dropbox/kiln": "refused",
    "/Volumes/Stick/models": "refused",
    "pixelkiln": None,
    "Desktopish/pixelkiln": None,
    ".kiln/models": None,
    "/opt/pixelkiln": None,
}


@pytest.mark.parametrize("place", PLACES)
def test_places(tmp_path: Path, place: str) -> None:
    found = badly_placed({"models": tmp_path / place}, tmp_path, "darwin")
    assert [one.severity for one in found] == ([PLACES[place]] if PLACES[place] else [])
    assert badly_placed({"models": tmp_path / place}, tmp_path, "linux") == []
    for one in found:
        assert f"set KILN_MODELS_DIR={tmp_path / '.kiln/models'}" in one.mend


def test_a_daemon_is_only_warned_of_other_volumes(tmp_path: Path) -> None:
    volumes = {"models": Path("/Volumes/SSD/models")}
    (place,) = badly_placed(volumes, tmp_path, "darwin", agent=False)
    assert place.severity == "warning"
    assert "mounted" in str(place)


def test_a_link_counts_where_it_lies_and_where_it_leads(tmp_path: Path) -> None:
    for folder in ("Documents/models", "elsewhere", "Desktop"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "models").symlink_to(tmp_path / "Documents/models")
    (tmp_path / "Desktop/spool").symlink_to(tmp_path / "elsewhere")
    folders = {"models": tmp_path / "models", "spool": tmp_path / "Desktop/spool"}
    assert [one.used_for for one in badly_placed(folders, tmp_path, "darwin")] == ["models", "spool"]


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("Documents/pixelkiln", "~/Documents"),
        ("documents/pixelkiln", "~/Documents"),  # a Mac's disk does not tell cases apart
        ("Desktop", "~/Desktop"),
        ("Downloads/a/b", "~/Downloads"),
        ("Library/Mobile Documents/com~apple~CloudDocs/pixelkiln", "a cloud folder"),
        ("Library/CloudStorage/Dropbox/pixelkiln", "a cloud folder"),
    ],
)
def test_guarded_folders(tmp_path: Path, folder: str, why: str) -> None:
    assert why in (protected(tmp_path / folder, tmp_path) or "")


def test_volumes() -> None:
    assert "volumes" in (protected(Path("/Volumes/Disk/pixelkiln"), Path("/Users/ann")) or "")


@pytest.mark.parametrize("folder", ["pixelkiln", "", "Documents2", "src/Documents", "Library", ".kiln"])
def test_other_folders(tmp_path: Path, folder: str) -> None:
    assert protected(tmp_path / folder, tmp_path) is None


def test_a_link_into_a_guarded_one(tmp_path: Path) -> None:
    (tmp_path / "Documents").mkdir()
    (tmp_path / "pixelkiln").symlink_to(tmp_path / "Documents")
    assert protected(tmp_path / "pixelkiln" / ".venv", tmp_path)
