"""Small pictures for the page, inside it: it works from a disk, whatever lies beside it."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from pixelkiln.jobs.batches.report.facts import THREADS, Facts, Told
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.storage.files import read
from pixelkiln.jobs.storage.objects import MAX_SIDECAR, Objects

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
    """Where in `folder` the pictures of jobs lie, whatever they are called: the sidecars beside them tell.

    Raises UsageError where there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; bring the pictures home first: kiln fetch")
    wanted, found = set(ids), {}
    for record in sorted(folder.glob("*.json")):
        picture = record.with_suffix(".png")
        try:
            job_id = json.loads(read(record, MAX_SIDECAR) or b"")["job"]["id"]
        except (ValueError, LookupError, TypeError, RecursionError):
            continue  # not a sidecar
        if isinstance(job_id, str) and job_id in wanted and picture.is_file():
            found[job_id] = picture
    return found


def link(path: Path, page: Path) -> str:
    """The address of a picture as a page beside it, or above or below it, writes it."""
    try:
        relative = Path(os.path.relpath(path.absolute(), page.absolute().parent))
    except ValueError:  # on another drive
        return path.absolute().as_uri()
    return quote(relative.as_posix())  # a colon in it, too, which would end a scheme
