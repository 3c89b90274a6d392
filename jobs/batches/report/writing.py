"""A batch's report, gathered and written to a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Literal

from pixelkiln.jobs.batches.report.data import data
from pixelkiln.jobs.batches.report.facts import Facts, gather
from pixelkiln.jobs.batches.report.markdown import markdown
from pixelkiln.jobs.batches.report.page import page
from pixelkiln.jobs.batches.report.thumbnails import homes, link, thumbnails
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.plain import escaped
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.files import write

Format = Literal["html", "markdown", "json"]
SUFFIXES: dict[Format, str] = {"html": ".html", "markdown": ".md", "json": ".json"}


def report(
    kiln: Kiln,
    name: str,
    entries: Sequence[tuple[int, str, RenderSpec]],
    path: str | Path,
    *,
    format: Format = "html",
    pictures: str | Path | None = None,
    zone: tzinfo | None = None,
) -> Facts:
    """Write what became of a batch's jobs (number, id, spec) to `path`; what it tells.

    `pictures` is the folder to which they were brought home: thumbnails open them, by addresses relative to
    the page. Raises NotReadyError where Redis or the bucket does not answer, UsageError where there is no
    such folder or the file cannot be written.
    """
    path = Path(path)
    there = homes(Path(pictures), [job_id for _, job_id, _ in entries]) if pictures is not None else {}
    facts = gather(kiln, name, entries)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if format == "html":
            links = {job_id: link(picture, path) for job_id, picture in there.items()}
            text = page(facts, thumbnails(kiln.bucket, facts, there), links, zone)
        elif format == "markdown":
            text = markdown(facts, zone)
        else:
            text = escaped(json.dumps(data(facts), indent=1, ensure_ascii=False))
        write(path, text.encode("utf-8"))
    except OSError as error:
        raise UsageError(f"{error.filename or path}: {error.strerror}") from None
    return facts
