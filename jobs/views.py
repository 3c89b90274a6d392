"""The part of Kiln that shows pictures to others: in parts, so far, by address."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from pixelkiln.jobs.errors import CorruptObjectError, JobFailedError
from pixelkiln.jobs.queue.record import check_job_id
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage import objects

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln


class Views:
    """Pictures and what tells of them, for those who have no credentials."""

    def picture(self, sidecar: Sidecar, first: int = 0, last: int | None = None) -> Iterator[bytes]:
        """A finished job's picture in parts as they come, from one byte to another, both included.

        Raises CorruptObjectError where it is not there as it was stored, as far as its size tells.
        """
        return objects.stream(self._kiln.bucket, sidecar, first, last)

    def thumbnail(self, status: JobStatus, *, make: bool = True) -> bytes | None:
        """A finished job's picture, small, as WebP: made once; None where there is none yet, unless `make`.

        Raises JobFailedError unless it has finished, and CorruptObjectError.
        """
        from pixelkiln.jobs.storage import thumbnails  # Pillow, which few commands need

        if status.result is None:
            raise JobFailedError(f"job {status.id} is {status.state}: there is no picture of it")
        act = thumbnails.make if make else thumbnails.kept
        return act(self._kiln.bucket, self._kiln.client_of(status), status.id, status.result)

    def reference(self, name: str) -> bytes | None:
        """A reference picture of this client, small, as WebP; None where there is none of that name."""
        from pixelkiln.jobs.storage import thumbnails

        return thumbnails.of_reference(self._kiln.bucket, self._kiln.settings.client, name)

    def preview(self, job_id: str) -> bytes | None:
        """What a job of this client looks like while it is rendered, as a small WebP, if there is one."""
        return self._kiln.queue.previews({check_job_id(job_id): self._kiln.settings.client}).get(job_id)

    def told(self, wait: float = 1.0) -> Generator[tuple[str, str] | None]:
        """What workers tell as it happens, as ('preview', job id); None after `wait` seconds of silence.

        It never ends by itself; what it tells is a hint to look.
        """
        return self._kiln.queue.told(wait)

    def specs(self, statuses: Iterable[JobStatus]) -> dict[str, RenderSpec]:
        """What jobs ask for, where their records can be read; what Redis forgot by its sidecar.

        A record that stands in one client's lane and asks in another's name tells nothing.
        """
        known = list(statuses)
        found = self._kiln.queue.specs([one.id for one in known])
        for one in known:
            if one.id not in found and one.state == "finished":
                with suppress(CorruptObjectError):
                    found[one.id] = self._kiln.sidecar_of(one).spec
        clients = {one.id: one.client for one in known}
        return {name: spec for name, spec in found.items() if spec and spec.client == clients[name]}

    def link(self, job_id: str, seconds: int = 86_400) -> str:
        """An address at which a finished job's picture can be had without credentials, for so long.

        Raises as `sidecar`.
        """
        return self._kiln.bucket.link(self._kiln.sidecar(job_id).png.key, seconds)

    @property
    def _kiln(self) -> Kiln:
        return cast("Kiln", self)
