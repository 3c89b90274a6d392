"""Pictures that are finished and not yet stored, on this machine's disk.

One folder per worker, locked while its process lives: whoever gets the lock knows that the predecessor is
dead.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, PlainSerializer, PlainValidator, ValidationError

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.worker.host import durable
from pixelkiln.worker.host.lock import FileLock
from pixelkiln.worker.queue.claim import Claim

log = logging.getLogger("kiln.spool")


def _lane(value: object) -> Lane:
    """A lane, of which a draft holds the name."""
    lane = Lane.parse(value) if isinstance(value, str) else value
    if not isinstance(lane, Lane):
        raise ValueError(f"{str(value)[:80]!r} is not a lane")
    return lane


class Draft(BaseModel):
    """What lies beside a spooled picture: the sidecar but for the upload, and when the job was taken."""

    lane: Annotated[Lane, PlainValidator(_lane), PlainSerializer(lambda lane: lane.name)]
    taken: float  # seconds since the epoch
    gpu_seconds: float
    sidecar: Sidecar


@dataclass(frozen=True, slots=True)
class Entry:
    """One spooled picture."""

    folder: Path
    draft: Draft

    @property
    def claim(self) -> Claim:
        """The claim under which it was rendered."""
        job = self.draft.sidecar.job
        return Claim(job.id, job.execution, self.draft.lane, attempt=job.attempt)

    def png(self) -> bytes:
        """The picture's bytes."""
        return (self.folder / "image.png").read_bytes()


class Spool:
    """A worker's spool folder. Raises NotReadyError where it cannot be written or is another worker's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = FileLock(root / "lock")
        self._marking = threading.Lock()
        self._marked: dict[str, Claim] = {}
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            root.chmod(0o700)  # version 0.1 made it as the umask said; and prompts are nobody else's
            taken = self._lock.acquire()
        except OSError as error:
            raise NotReadyError(
                f"spool {root}: {error.strerror}; set KILN_SPOOL_DIR to a folder on a writable disk"
            ) from None
        if not taken:
            raise NotReadyError(
                f"spool {root} is in use by process {self._lock.holder() or 'unknown'};"
                " give each worker its own KILN_SPOOL_DIR"
            )
        for pattern in ("part-*", "gone-*"):  # a predecessor died while it wrote or removed these
            for folder in root.glob(pattern):
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.release()

    def put(self, draft: Draft, png: bytes) -> Entry:
        """Store a picture durably: when this returns, a power cut does not lose it.

        Raises OSError, and may be called again.
        """
        job = draft.sidecar.job
        folder = self.root / f"done-{job.id}-{job.execution}"
        if not folder.is_dir():
            part = self.root / f"part-{job.id}"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(0o700)
            durable.write(part / "image.png", png, 0o600)
            durable.write(part / "draft.json", draft.model_dump_json().encode(), 0o600)
            durable.sync_path(part)
            part.replace(folder)
        durable.sync_path(self.root)
        self.unmark(Claim(job.id, job.execution, draft.lane))
        return Entry(folder, draft)

    def entries(self) -> list[Entry]:
        """What waits for storage, oldest first. Unreadable entries are told once and set aside."""
        found = []
        for folder in self.root.glob("done-*"):
            try:
                draft = Draft.model_validate_json((folder / "draft.json").read_bytes())
            except (OSError, ValidationError):
                log.warning("spool entry %s cannot be read; kept as bad-%s", folder, folder.name)
                self.set_aside(folder)
                continue
            found.append(Entry(folder, draft))
        return sorted(found, key=lambda entry: entry.draft.taken)

    def remove(self, entry: Entry) -> None:
        """Forget a picture that is stored, or that is not ours to store."""
        gone = entry.folder.with_name(f"gone-{entry.folder.name}")  # at once: half a folder cannot be read
        try:
            entry.folder.rename(gone)
        except OSError as error:
            log.warning("spool entry %s cannot be removed (%s)", entry.folder, error.strerror)
            return
        shutil.rmtree(gone, ignore_errors=True)

    def set_aside(self, folder: Path) -> None:
        """Keep a damaged entry for whoever wants to look at it, out of the way."""
        with suppress(OSError):
            folder.rename(folder.with_name(f"bad-{folder.name}"))

    def waiting(self) -> int:
        """How many pictures wait."""
        return sum(1 for _ in self.root.glob("done-*"))

    def free(self) -> int:
        """Bytes free on the spool's disk."""
        return shutil.disk_usage(self.root).free

    def mark(self, claim: Claim) -> None:
        """Note that a job is being rendered: after a kill or a reboot this tells. Raises OSError."""
        with self._marking:
            self._marked[claim.execution] = claim
            self._write_marks()

    def unmark(self, claim: Claim) -> None:
        """That job is spooled, settled or given back."""
        with self._marking:
            self._marked.pop(claim.execution, None)
            try:
                self._write_marks()
            except OSError as error:  # a mark too many is found out at the next start: the job is not ours
                log.debug("%s/inflight.json cannot be written (%s)", self.root, error.strerror)

    def clear_marks(self) -> None:
        """The predecessor's jobs are back in their lanes."""
        with self._marking, suppress(OSError):
            self._write_marks()

    def marked(self) -> list[Claim]:
        """The jobs that were under way when the predecessor died."""
        try:
            marks: list[dict[str, str]] = json.loads((self.root / "inflight.json").read_text())
            return [
                Claim(mark["job"], mark["execution"], lane)
                for mark in marks
                if (lane := Lane.parse(mark["lane"]))
            ]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError):
            log.warning(
                "%s/inflight.json cannot be read; its jobs come back when their leases end", self.root
            )
            return []

    def _write_marks(self) -> None:
        marks = [
            {"job": c.job_id, "execution": c.execution, "lane": c.lane.name} for c in self._marked.values()
        ]
        part = self.root / "inflight.part"
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(marks, file)
        part.replace(self.root / "inflight.json")
