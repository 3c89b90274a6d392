"""Pictures as a zip that is made while it is sent: never all of it in memory, nor on a disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from pixelkiln.jobs.batches.names import DEFAULT, ENDING, Template
from pixelkiln.jobs.errors import KilnError, NotReadyError
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.web.page.pictures import Card, Pictures

MISSING = "missing.txt"


class _Pipe(io.RawIOBase):
    """What ZipFile writes, taken out as it comes; it cannot go back, and ZipFile sees that."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take a part."""
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """What came since it was last asked for."""
        found = b"".join(self._parts)
        self._parts.clear()
        return found


def zipped(pictures: Pictures) -> Iterator[bytes]:
    """All of them, named as `kiln fetch` does, each with its record; what cannot be had is named at the end.

    Those of a batch are numbered by its rows, others as they come.
    Where the bucket goes away it breaks off: a zip without its end is refused by whoever opens it.
    """
    pipe, names, missing = _Pipe(), Template.parse(DEFAULT), list[str]()
    with ZipFile(pipe, "w", ZIP_STORED) as archive:
        rows = pictures.rows()
        for at, card in enumerate(pictures.all(), 1):
            try:
                sidecar = pictures.kiln.sidecar_of(card.status)
                name = names.stem(rows.get(card.id, at), card.id, sidecar.spec)
                for _ in _picture(archive, pictures, card, sidecar, name):
                    yield pipe.taken()
            except NotReadyError:
                raise
            except KilnError as error:
                missing.append(f"{card.id}: {error}")
        if missing:
            archive.writestr(_entry(MISSING, datetime.now(UTC)), "\n".join(missing) + "\n")
    yield pipe.taken()


def _picture(archive: ZipFile, pictures: Pictures, card: Card, sidecar: Sidecar, name: str) -> Iterator[None]:
    try:
        when = datetime.fromisoformat(sidecar.job.rendered_at)
    except ValueError:
        when = datetime.now(UTC)
    entry = _entry(name + ENDING, when)
    entry.file_size = sidecar.png.bytes
    parts = pictures.kiln.picture(sidecar)  # raises before anything is written
    with archive.open(entry, "w") as file:
        for part in parts:
            file.write(part)
            yield
    record = _entry(f"{name}.json", when)
    record.compress_type = ZIP_DEFLATED
    archive.writestr(record, sidecar.model_dump_json(indent=1))
    yield


def _entry(name: str, when: datetime) -> ZipInfo:
    made = when.astimezone()
    entry = ZipInfo(name, (max(made.year, 1980), *made.timetuple()[1:6]))
    entry.external_attr = 0o644 << 16
    return entry
