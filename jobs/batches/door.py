"""The part of Kiln that knows batches, lists jobs and tries them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, cast, get_args

from pixelkiln.jobs import keys
from pixelkiln.jobs.batches.books import Books
from pixelkiln.jobs.errors import NoSuchJobError, UsageError
from pixelkiln.jobs.queue.queue import Stood, When
from pixelkiln.jobs.queue.record import check_job_id
from pixelkiln.jobs.queue.status import JobStatus, State

if TYPE_CHECKING:
    from pixelkiln.jobs.asked import Asked
    from pixelkiln.jobs.batches.batch import Batch
    from pixelkiln.jobs.batches.manifest import Manifest
    from pixelkiln.jobs.client import Kiln
    from pixelkiln.jobs.fields import SpecFields
    from pixelkiln.jobs.spec import RenderSpec

Mark = tuple[str, str]  # a place among the newest jobs: when something last happened to one, and its id
# What became of a job that was to be tried again; what else it was, it was left as.
Retried = Literal[Stood, "again"]


class Batches:
    """Batches by name; jobs, the newest first; another try."""

    @property
    def books(self) -> Books:
        """The manifests of this client's batches."""
        kiln = self._kiln
        return Books(kiln.queue, lambda: kiln.bucket, kiln.settings.client)

    def batch(
        self,
        rows: Iterable[RenderSpec | SpecFields | Asked],
        name: str | None = None,
        *,
        source: str = "",
        not_before: When | None = None,
        deadline: datetime | timedelta | None = None,
        resent: bool = False,
        begun: Callable[[Manifest], None] = lambda manifest: None,
    ) -> Batch:
        """Submit many pictures under a name, by which any machine finds them again: see Batch.

        The same rows submitted again under the same name are the same jobs: only what has no picture and does
        not wait is rendered, what failed or was cancelled is tried again, and new rows are added. Rows that
        are missing from them now are told (`Batch.sent.unlisted`), and go on.
        `not_before`, as of `submit`, is for what is enqueued now. `deadline` is when all of it shall be
        ready (without a zone: in this machine's); another one given later takes its place. `Batch.outlook`
        says whether it holds, and workers follow that. `resent` says that this very submit was begun
        before and may not have come to its end: what is missing of it is sent, and all else stays as it has
        become since. `source` is the name of the file; `begun` is called
        once the manifest is stored, before the first job is sent. Raises as `submit`, UsageError for a name
        that none can be, and for a deadline that is over.
        """
        from pixelkiln.jobs.batches.batch import Batch
        from pixelkiln.jobs.batches.sending import send

        manifest, sent = send(self._kiln, rows, name, source, begun, not_before, deadline, resent)
        return Batch(self._kiln, manifest, sent)

    def open_batch(self, name: str) -> Batch:
        """The batch of that name, of this client. Raises NoSuchJobError where there is none."""
        from pixelkiln.jobs.batches.batch import Batch

        manifest = self.books.find(name)
        if manifest is None:
            raise NoSuchJobError(
                f"no batch {name} of client {self._kiln.settings.client!r}; see: kiln batches"
            )
        return Batch(self._kiln, manifest)

    def batches(self, limit: int | None = None) -> list[Batch]:
        """This client's batches that Redis knows, the newest first; older ones `open_batch` finds by name."""
        from pixelkiln.jobs.batches.batch import Batch

        return [Batch(self._kiln, manifest) for manifest in self.books.newest(limit)]

    def jobs(
        self,
        *,
        state: State | None = None,
        client: str | None = "",
        since: timedelta | None = None,
        limit: int = 50,
    ) -> list[JobStatus]:
        """The newest jobs that Redis knows, by what last happened to them, the newest first.

        `client`: absent, the settings'; None, all. `since`: no longer ago. Raises UsageError.
        """
        return self.page(state=state, client=client, since=since, limit=limit)[0]

    def page(
        self,
        *,
        state: State | None = None,
        client: str | None = "",
        since: timedelta | None = None,
        limit: int = 50,
        before: Mark | None = None,
    ) -> tuple[list[JobStatus], Mark | None]:
        """The same by pages: those behind the mark `before`, and the mark of the last, unless all came."""
        if state is not None and state not in get_args(State):
            raise UsageError(f"state: must be {', '.join(get_args(State))}, not {state!r}")
        if limit < 1:
            raise UsageError(f"limit: must be 1 or more, not {limit}")
        states = get_args(State) if state is None else (state,)
        found = self.marks(states, client=client, since=since, limit=limit, before=before)
        statuses = self._kiln.queue.statuses([job_id for _, job_id in found], self._named(client))
        here = [one for one in statuses.values() if one is not None and one.state in states]
        return here, found[-1] if len(found) == limit else None

    def marks(
        self,
        states: Sequence[State] = get_args(State),
        *,
        client: str | None = "",
        since: timedelta | None = None,
        limit: int = 50,
        before: Mark | None = None,
    ) -> list[Mark]:
        """The same without asking how each fares now."""
        moment = "" if since is None else f"{datetime.now(UTC) - since:%Y-%m-%dT%H:%M:%S}"
        return self._kiln.queue.recent(self._named(client), states, limit, moment, before)

    def _named(self, client: str | None) -> str:
        """As a queue takes it."""
        return "" if client is None else client or self._kiln.settings.client

    def retry(
        self, job_ids: Sequence[str], *, again: bool = False, any_client: bool = False
    ) -> dict[str, Retried]:
        """Let jobs that failed or were cancelled be rendered again, under their ids and keys.

        `again`: finished ones too, of this client, whose pictures are replaced once the new ones are there.
        What became of each: 'again', or what it is and was left as.
        """
        kiln = self._kiln
        if again and any_client:
            raise UsageError("--again replaces pictures of one client; set KILN_CLIENT to it")
        ids = [check_job_id(job_id) for job_id in job_ids]
        lost = self._permit(ids) if again else set()
        ended = ("failed", "cancelled", *(["finished"] if again else []))
        was = kiln.queue.retry(ids, "" if any_client else kiln.settings.client, again=again)
        return {one: "again" if one in lost or was[one] in ended else was[one] for one in ids}

    def _permit(self, job_ids: Sequence[str]) -> set[str]:
        """Let finished jobs' stored pictures be replaced; those that Redis had forgotten are queued now.

        Only its own client can write the permit (docs/roles.md), which names what is to be replaced.
        """
        from pixelkiln.jobs.batches.stored import stored

        kiln, client = self._kiln, self._kiln.settings.client
        standing = kiln.queue.standing(job_ids)
        ended = [one for one, now in standing.items() if now is None or now.state == "finished"]
        sidecars = stored(kiln, client, ended)
        for job_id, sidecar in sidecars.items():
            kiln.bucket.put(keys.AGAIN(client, job_id), sidecar.job.execution.encode(), "text/plain")
        lost = [(one, sidecar.spec) for one, sidecar in sidecars.items() if standing[one] is None]
        if lost:
            kiln.queue.add(lost, None)
        return {job_id for job_id, _ in lost}

    @property
    def _kiln(self) -> Kiln:
        return cast("Kiln", self)
