"""Pictures that are finished and not yet stored, on this machine's disk.

One folder per worker, locked while its process lives: whoever gets the lock knows that the predecessor is
dead.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

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
        self._kept: dict[Path, Entry] = {}  # what should lie here
        self._stuck: dict[Path, str] = {}  # what should not, and cannot be renamed to this
        self._told = ""  # why nothing could be written, as it was last told
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (owner := root.stat().st_uid) != os.geteuid():
                raise NotReadyError(
                    f"spool {root} is another user's (uid {owner}); set KILN_SPOOL_DIR to your own"
                )
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

    def check(self) -> str | None:
        """Why nothing can be written here, in one line, if so. A folder that was removed is made again."""
        try:
            with self._marking:
                self._stand()
                if self._told:
                    self._write_marks()
        except OSError as error:
            return self.failed(error)
        if self._told:
            log.info("the spool %s can be written again", self.root)
            self._told = ""
        return None

    def failed(self, error: OSError) -> str:
        """Why nothing could be written here, in one line, which is logged once until it changes."""
        line = f"the spool {self.root} cannot be written: {error.strerror or error}"
        if line != self._told:
            log.error("%s", line)
            self._told = line
        return line

    def put(self, draft: Draft, png: bytes) -> Entry:
        """Store a picture durably: when this returns, a power cut does not lose it.

        Raises OSError, and may be called again.
        """
        job = draft.sidecar.job
        folder = self.root / f"done-{job.id}-{job.execution}"
        entry = Entry(folder, draft)
        with self._marking:
            self._stand()
        if not folder.is_dir():
            part = self.root / f"part-{job.id}"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(0o700)
            durable.write(part / "image.png", png, 0o600)
            durable.write(part / "draft.json", draft.model_dump_json().encode(), 0o600)
            durable.sync_path(part)
            with self._marking:  # at once, for the thread that delivers and removes it
                part.replace(folder)
                self._kept[folder] = entry
        durable.sync_path(self.root)
        self.unmark(Claim(job.id, job.execution, draft.lane))
        return entry

    def entries(self) -> list[Entry]:
        """What waits for storage, oldest first. Unreadable entries are told once and set aside."""
        found = []
        for folder, name in list(self._stuck.items()):
            self._rename(folder, name)
        for folder in self._waiting():
            try:
                draft = Draft.model_validate_json((folder / "draft.json").read_bytes())
            except (OSError, ValidationError):
                log.warning("spool entry %s cannot be read; kept as bad-%s", folder, folder.name)
                self._rename(folder, f"bad-{folder.name}")
                continue
            found.append(self._kept.setdefault(folder, Entry(folder, draft)))
        return sorted(found, key=lambda entry: entry.draft.taken)

    def remove(self, entry: Entry) -> None:
        """Forget a picture that is stored, or that is not ours to store."""
        with self._marking:
            self._kept.pop(entry.folder, None)
        self._rename(entry.folder, f"gone-{entry.folder.name}")

    def set_aside(self, folder: Path) -> None:
        """Keep a damaged entry for whoever wants to look at it, out of the way."""
        with self._marking:
            self._kept.pop(folder, None)
        self._rename(folder, f"bad-{folder.name}")

    def lost(self) -> list[Entry]:
        """Pictures that were spooled and can be delivered no more: damaged, or removed by someone."""
        return [one for folder, one in list(self._kept.items()) if folder in self._stuck or _gone(folder)]

    def waiting(self) -> int:
        """How many pictures wait."""
        return len(self._waiting())

    def free(self) -> int:
        """Bytes free on the spool's disk; 0 where that cannot be told."""
        try:
            return shutil.disk_usage(self.root).free
        except OSError:
            return 0

    def mark(self, claim: Claim) -> None:
        """Note that a job is being rendered: after a kill or a reboot this tells. Raises OSError."""
        with self._marking:
            self._marked[claim.execution] = claim
            self._stand()
            self._write_marks()

    def hand_over(self, claim: Claim) -> None:
        """That job is rendered: it is none of those that a death is blamed on."""
        with self._marking:
            if claim.execution in self._marked:
                self._marked[claim.execution] = replace(claim, handed=True)
                self._try_to_write_marks()

    def unmark(self, claim: Claim) -> None:
        """That job is spooled, settled or given back."""
        with self._marking:
            self._marked.pop(claim.execution, None)
            self._try_to_write_marks()

    def clear_marks(self) -> None:
        """The predecessor's jobs are back in their lanes."""
        with self._marking, suppress(OSError):
            self._write_marks()

    def marked(self) -> list[Claim]:
        """The jobs that were under way when the predecessor died."""
        try:
            marks: list[dict[str, Any]] = json.loads((self.root / "inflight.json").read_text())
            return [
                Claim(mark["job"], mark["execution"], lane, handed=mark.get("handed") is True)
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

    def _stand(self) -> None:
        """Make and lock the folder again, where it was removed. Raises OSError.

        Not the one above it: where that is gone, it may be a disk that was taken off.
        """
        if self._lock.stands():
            return
        self.root.mkdir(mode=0o700, exist_ok=True)
        if not self._lock.acquire():
            raise OSError(errno.EBUSY, f"it is in use by process {self._lock.holder() or 'unknown'}")
        log.warning("the spool %s, or its lock, had been removed; made again", self.root)
        self._write_marks()

    def _waiting(self) -> list[Path]:
        """The entries. Where the folder was removed, what lies there may be another worker's."""
        if not self._lock.stands():
            return []
        return [folder for folder in self.root.glob("done-*") if folder not in self._stuck]

    def _rename(self, folder: Path, name: str) -> None:
        """Make an entry none, at once: half a folder cannot be read. Tried again where it cannot be."""
        try:
            folder.rename(folder.with_name(name))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            if not self._stuck:
                log.warning("spool entry %s cannot be removed (%s)", folder, error.strerror)
            self._stuck[folder] = name
            return
        self._stuck.pop(folder, None)
        if name.startswith("gone-"):
            shutil.rmtree(folder.with_name(name), ignore_errors=True)

    def _try_to_write_marks(self) -> None:
        """One too many is found out at the next start, one too few is written before the next job begins."""
        try:
            self._write_marks()
        except OSError as error:
            log.debug("%s/inflight.json cannot be written (%s)", self.root, error.strerror)

    def _write_marks(self) -> None:
        if not self._lock.stands():  # another worker's marks may lie there
            return
        marks = [
            {"job": c.job_id, "execution": c.execution, "lane": c.lane.name, "handed": c.handed}
            for c in self._marked.values()
        ]
        part = self.root / "inflight.part"
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(marks, file)
        part.replace(self.root / "inflight.json")


def _gone(folder: Path) -> bool:
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # it may be there still
        return False
    return False
