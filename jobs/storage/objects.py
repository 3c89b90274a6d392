"""What Kiln asks of a bucket: the farm's is a Bucket; a program's own tests have one in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import CorruptObjectError, SpecError, UsageError
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.status import Result
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.storage.files import holds, own_path, read, write

if TYPE_CHECKING:
    from pixelkiln.jobs.storage.bucket import Stored

MAX_SIDECAR = 4 * 2**20  # bytes
FRESH = timedelta(hours=12)  # after which a reference that is used again is stored again


class Objects(Protocol):
    """Objects by key. Every method raises StorageAwayError or StorageRefusedError where it cannot answer."""

    def head(self, key: str) -> Stored | None:
        """What lies at `key`, if anything."""
        ...

    def get(self, key: str) -> bytes | None:
        """The object at `key`, or None."""
        ...

    def stream(self, key: str, first: int = 0, last: int | None = None) -> tuple[int, Iterator[bytes]] | None:
        """The object at `key`, or None: its size, and its bytes from `first` to `last` as they come."""
        ...

    def put(self, key: str, body: bytes, content_type: str, *, if_absent: bool = False) -> bool:
        """Store `body`; False where something lies at `key` and it was to be left."""
        ...

    def link(self, key: str, seconds: int) -> str:
        """An address at which the object can be had without credentials, for so long."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


def put_reference(
    objects: Objects, path: str | Path, client: str, fault: Callable[[tuple[int, int]], str] | None = None
) -> str:
    """Store a reference picture of a client's, once by content; its sha256, which specs name it by.

    Raises as read_reference.
    """
    name, body = read_reference(path, fault)
    key = keys.REFERENCE(client, name)
    there = objects.head(key)
    if there is None:
        objects.put(key, body, "application/octet-stream", if_absent=True)
    elif there.modified and datetime.now(UTC) - there.modified > FRESH:  # lest it is pruned under a new job
        objects.put(key, body, "application/octet-stream")
    return name


def read_reference(
    path: str | Path, fault: Callable[[tuple[int, int]], str] | None = None
) -> tuple[str, bytes]:
    """The sha256 and the bytes of a reference picture.

    `fault` tells of its width and height what is wrong with them, if anything. Raises SpecError where it is
    not a picture that a worker would take.
    """
    from pixelkiln.jobs.storage.pictures import read_picture  # Pillow, which few commands need

    try:
        body = Path(path).read_bytes()
    except OSError as error:
        raise SpecError("references", f"{path}: {error.strerror}") from None
    field = f"references ({plain(str(path))})"
    size = read_picture(body, field).size
    if fault is not None and (wrong := fault(size)):
        raise SpecError(field, wrong)
    return hashlib.sha256(body).hexdigest(), body


def reference_size(objects: Objects, name: str, client: str, field: str) -> tuple[int, int]:
    """Width and height in pixels, upright, of a reference that is there, by its sha256. Raises SpecError."""
    from pixelkiln.jobs.storage.pictures import look  # Pillow, which few commands need

    key = keys.REFERENCE(client, name)
    body = objects.get(key)
    if body is None:
        raise SpecError(
            field, f"{key} is not in the bucket; upload it with Kiln.upload or `kiln submit --ref`"
        )
    return look(body, field).upright


def get_sidecar(objects: Objects, client: str, job_id: str) -> Sidecar | None:
    """The record of that job, if one lies in the bucket. Raises CorruptObjectError for another's, or none."""
    key = keys.SIDECAR(client, job_id)
    body = objects.get(key)
    if body is None:
        return None
    try:
        sidecar = Sidecar.model_validate_json(body)
    except ValidationError:
        raise CorruptObjectError(f"{key} is not a sidecar; {_anew(job_id)}") from None
    if (sidecar.job.id, sidecar.png.key) != (job_id, keys.PICTURE(client, job_id)):
        raise CorruptObjectError(f"{key} is of another job")
    return sidecar


def get_committed(objects: Objects, client: str, job_id: str) -> Sidecar | None:
    """That record, if its picture lies beside it, as far as its size tells. Raises as get_sidecar."""
    sidecar = get_sidecar(objects, client, job_id)
    picture = objects.head(sidecar.png.key) if sidecar else None
    return sidecar if sidecar and picture and picture.size == sidecar.png.bytes else None


def get_finished(objects: Objects, client: str, job_id: str, result: Result) -> Sidecar:
    """The record of a job that ended with `result`. Raises CorruptObjectError where it is not there."""
    key = keys.SIDECAR(client, job_id)
    if (result.png, result.sidecar) != (keys.PICTURE(client, job_id), key):
        raise CorruptObjectError(f"the result of job {job_id} names other objects than its own")
    sidecar = get_sidecar(objects, client, job_id)
    if sidecar is None:
        raise CorruptObjectError(f"{key} is gone from the bucket; {_anew(job_id)}")
    return sidecar


def fetch(objects: Objects, sidecar: Sidecar, folder: str | Path, name: str | None = None) -> Path:
    """Bring a picture and its sidecar home, as `<id>.png` and `<id>.json`, each whole; the picture's path.

    `name` stands in place of the id. What is there whole already is not asked for again.

    Another's picture of that name stays, and this one's gets a number. Raises CorruptObjectError where the
    picture is not the one that was stored, UsageError where the folder cannot be written.
    """
    file = f"{name or sidecar.job.id}.png"
    record = sidecar.model_dump_json(indent=1).encode()
    home = Path(folder) / file
    if holds(home, sidecar.png.sha256) and read(home.with_suffix(".json"), MAX_SIDECAR) == record:
        return home
    body = objects.get(sidecar.png.key)
    if body is None or hashlib.sha256(body).hexdigest() != sidecar.png.sha256:
        raise CorruptObjectError(f"{sidecar.png.key} does not match its sidecar; {_anew(sidecar.job.id)}")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        target = own_path(Path(folder), file, lambda path: _fetched(path, body, sidecar))
        for path, content in ((target, body), (target.with_suffix(".json"), record)):
            write(path, content)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: {error.strerror}") from None
    return target


def stream(objects: Objects, sidecar: Sidecar, first: int, last: int | None) -> Iterator[bytes]:
    """A picture in parts, see Kiln.picture."""
    found = objects.stream(sidecar.png.key, first, last)
    if found is None or found[0] != sidecar.png.bytes:
        raise CorruptObjectError(f"{sidecar.png.key} does not match its sidecar; {_anew(sidecar.job.id)}")
    return found[1]


def _anew(job_id: str) -> str:
    return f"render it anew with: kiln retry {job_id} --again"


def _fetched(path: Path, picture: bytes, sidecar: Sidecar) -> bool:
    """Whether a file there is this picture, or an earlier fetch of the same job."""
    if read(path, len(picture)) == picture:
        return True
    try:
        beside = Sidecar.model_validate_json(read(path.with_suffix(".json"), MAX_SIDECAR) or b"")
    except ValidationError:
        return False
    return beside.job.id == sidecar.job.id and not beside.spec.differs(sidecar.spec)
