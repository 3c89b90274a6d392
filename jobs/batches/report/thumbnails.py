"""Small pictures for the page, inside it: it works from a disk, whatever lies beside it."""

from __future__ import annotations

import base64
import csv
import io
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from pixelkiln.jobs.batches.report.facts import THREADS, Facts, Told
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.storage.objects import Objects

SIDE = 320  # pixels: twice what the contact sheet shows, for fine screens
QUALITY = 70
MANY = 1000  # of a larger batch the first so many are shown, suspicious ones before all others


def thumbnails(bucket: Objects, facts: Facts, homes: Mapping[str, Path]) -> dict[str, str]:
    """By job id a WebP as a data address, of pictures at home or in the bucket; none of what is in neither.

    Raises NotReadyError where the bucket does not answer.
    """
    shown = sorted(facts.of("finished"), key=lambda one: not one.suspicious)[:MANY]

    def small(one: Told) -> str:
        home = homes.get(one.id)
        try:
            body = home.read_bytes() if home else None
        except OSError:
            body = None
        if body is None and one.stored and one.sidecar:
            body = bucket.get(one.sidecar.png.key)
        return _small(body) if body else ""

    with ThreadPoolExecutor(THREADS) as threads:
        made = zip(shown, threads.map(small, shown), strict=True)
        return {one.id: address for one, address in made if address}


def _small(body: bytes) -> str:
    """A picture's own smaller one; '' where it is none."""
    try:
        with Image.open(io.BytesIO(body), formats=["PNG"]) as image:
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            image.convert("RGB").save(out, "WEBP", quality=QUALITY, method=4)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def homes(folder: Path, ids: Iterable[str]) -> dict[str, Path]:
    """Where in `folder` the pictures of jobs lie: by its index.csv, else as ID.png.

    Raises UsageError where there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; bring the pictures home first")
    listed: dict[str, str] = {}
    index = folder / "index.csv"
    if index.is_file():
        with index.open(encoding="utf-8-sig", newline="", errors="replace") as lines:
            listed = {row.get("id") or "": row.get("file") or "" for row in csv.DictReader(lines)}
    found = {}
    for job_id in ids:
        path = folder / (listed.get(job_id) or f"{job_id}.png")
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):  # an index is only a file
            found[job_id] = path
    return found


def link(path: Path, page: Path) -> str:
    """The address of a picture as a page beside it, or above or below it, writes it."""
    try:
        relative = Path(os.path.relpath(path.absolute(), page.absolute().parent))
    except ValueError:  # on another drive
        return path.absolute().as_uri()
    return quote(relative.as_posix())  # a colon in it, too, which would end a scheme
