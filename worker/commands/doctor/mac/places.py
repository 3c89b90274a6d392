"""Where the project and its files lie."""

from __future__ import annotations

import shutil
from pathlib import Path

from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.mac.looks import GIB, Look, Mac
from pixelkiln.worker.host.folders import protected
from pixelkiln.worker.host.mac.disk import container_free


def project() -> Path:
    """The checkout, or where the package is installed."""
    import pixelkiln

    return Path(str(pixelkiln.__file__)).parents[1]


def _folders(mac: Mac) -> list[Finding]:
    settings = mac.settings
    looked = {
        "the project": (project(), "move the checkout, for instance to ~/pixelkiln, and run ./kiln there"),
        "KILN_HOME": (settings.home, "KILN_HOME=~/.kiln/home"),
        "KILN_MODELS_DIR": (
            settings.models_dir,
            "KILN_MODELS_DIR=~/.kiln/models, where its folders are moved to",
        ),
        "KILN_SPOOL_DIR": (settings.spool_dir, "KILN_SPOOL_DIR=~/.kiln/spool"),
        "KILN_CACHE_DIR": (settings.cache_dir, "KILN_CACHE_DIR=~/.kiln/cache"),
        "KILN_RENDERS_DIR": (settings.renders_dir, "KILN_RENDERS_DIR=~/renders"),
    }
    found = []
    for name, (path, mend) in looked.items():
        why = protected(path.absolute(), mac.home) if path else None
        if why:
            found.append(Finding("warning", "folders", f"{name}: {why}", mend))
    return found or [Finding("ok", "folders", "none that macOS guards or iCloud uploads")]


def _disk(mac: Mac) -> list[Finding]:
    folder = mac.settings.spool_dir.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free, at_once = shutil.disk_usage(existing).free, container_free(existing, mac.ask)
    if at_once is None:
        return [
            Finding("ok", "disk", f"{free / GIB:.1f} GiB free by the file system; diskutil does not tell")
        ]
    found = f"{min(free, at_once) / GIB:.1f} GiB are free at once"
    if free - at_once > GIB:
        found += f"; {(free - at_once) / GIB:.1f} GiB more only once macOS clears snapshots and caches"
    if at_once < mac.settings.spool_free:
        mend = "tmutil deletelocalsnapshots / ; empty the Trash; or KILN_SPOOL_DIR on another disk"
        return [Finding("problem", "disk", found, mend)]
    return [Finding("ok", "disk", found)]


LOOKS = (
    Look(
        "folders",
        "whether any lies in Desktop, Documents, Downloads, iCloud or a volume",
        "pwd; ls -d ~/Library/Mobile\\ Documents",
        _folders,
    ),
    Look(
        "disk",
        "free space with and without what macOS could clear",
        "diskutil info -plist /System/Volumes/Data",
        _disk,
    ),
)
