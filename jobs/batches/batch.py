"""One batch: how it fares, and what can be done with it, from any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pixelkiln.jobs.batches.door import Mark, Retried
from pixelkiln.jobs.batches.fetching import Fetched, Home
from pixelkiln.jobs.batches.forecast import Outlook
from pixelkiln.jobs.batches.manifest import Entry, Manifest
from pixelkiln.jobs.batches.names import DEFAULT
from pixelkiln.jobs.batches.outlook import expected
from pixelkiln.jobs.batches.sending import RETRIED, Sent, fill
from pixelkiln.jobs.batches.standing import BatchStatus, counted, eta, newest, pace
from pixelkiln.jobs.batches.stored import stored
from pixelkiln.jobs.catalogue import DEFAULT_MODEL
from pixelkiln.jobs.queue.queue import CancelOutcome, Standing
from pixelkiln.jobs.queue.status import JobStatus, State
from pixelkiln.jobs.spec import Priority

if TYPE_CHECKING:
    from pixelkiln.jobs.batches.report.facts import Facts
    from pixelkiln.jobs.batches.report.writing import Format
    from pixelkiln.jobs.client import Kiln

SHOWN = 20  # failures, and jobs being rendered, that a status has in full


class Batch:
    """A batch of one client, found by its name: `Kiln.batch` submits one, `Kiln.open_batch` finds it.

    >>> batch = kiln.batch([{"prompt": "a fox"}, {"prompt": "a hare"}], name="night")
    >>> for job in batch.watch():
    ...     print(job.id, job.state)
    >>> batch.fetch("renders").paths

    Every method raises NotReadyError where Redis or the bucket cannot do as asked.
    """

    def __init__(self, kiln: Kiln, manifest: Manifest, sent: Sent | None = None) -> None:
        self._kiln = kiln
        self.manifest = manifest
        self._home = Home(kiln, manifest)
        self.sent = sent or Sent(())  # what became of the rows, of a batch that was submitted just now

    @property
    def name(self) -> str:
        """What it is found by."""
        return self.manifest.name

    @property
    def entries(self) -> tuple[Entry, ...]:
        """One a picture, by number."""
        return self.manifest.entries

    @property
    def ids(self) -> list[str]:
        """The ids of its jobs, by number."""
        return self.manifest.ids

    def standing(self) -> dict[str, Standing | None]:
        """How each job stands, in few words; None of those that neither the queue nor the bucket knows.

        Nothing is known of what is another client's, whatever the manifest names: its client writes that.
        """
        found = self._kiln.queue.standing(self.ids, self.manifest.client)
        absent = [job_id for job_id, one in found.items() if one is None]
        for job_id, sidecar in stored(self._kiln, self.manifest.client, absent).items():
            found[job_id] = Standing(
                "finished", sidecar.job.started_at, sidecar.job.rendered_at, bool(sidecar.suspicious)
            )
        return found

    def status(self) -> BatchStatus:
        """How many of its jobs stand where, what is being rendered, what failed, and when it will be done."""
        standing = self.standing()
        counts = counted(standing.values())
        each = pace(standing.values())
        shown = {state: newest(standing, state, SHOWN) for state in ("started", "failed")}
        full = self._statuses([*shown["started"], *shown["failed"]])
        running, failures = (
            tuple(one for job_id in shown[state] if (one := full[job_id])) for state in ("started", "failed")
        )
        waiting = counts["queued"] + counts["started"]
        return BatchStatus(
            name=self.name,
            client=self.manifest.client,
            created=self.manifest.created,
            source=self.manifest.source,
            paused=self.manifest.paused,
            total=len(self.entries),
            suspicious=sum(one is not None and one.suspicious for one in standing.values()),
            unlisted=sum(not entry.listed for entry in self.entries),
            each=each,
            eta=eta(waiting, each, self._workers() if waiting and each else 0),
            running=running,
            failures=failures,
            deadline=expected(self._kiln, self.manifest, standing),
            **counts,
        )

    def outlook(self) -> Outlook | None:
        """Whether it will be ready by its deadline, as far as can be told now; None where it has none."""
        return expected(self._kiln, self.manifest, self.standing())

    def jobs(
        self,
        *,
        state: State | None = None,
        suspicious: bool = False,
        since: timedelta | None = None,
        limit: int = 50,
    ) -> list[JobStatus]:
        """The newest of its jobs, by what last happened to them, the newest first; see Kiln.jobs.

        `suspicious`: only those in whose pictures the checks found something.
        """
        return self.page(state, limit, None, since, suspicious)[0]

    def page(
        self,
        state: State | None,
        limit: int,
        before: Mark | None,
        since: timedelta | None = None,
        suspicious: bool = False,
    ) -> tuple[list[JobStatus], Mark | None]:
        """The same by pages; see Kiln.page."""
        moment = "" if since is None else f"{datetime.now(UTC) - since:%Y-%m-%dT%H:%M:%S}"
        standing = self.standing()
        found = [
            (one.ended_at or one.started_at, job_id)
            for job_id, one in standing.items()
            if one
            and state in (None, "queued" if one.state in ("held", "deferred") else one.state)
            and (one.suspicious or not suspicious)
        ]
        newest = [
            one
            for one in sorted(found, reverse=True)
            if (not one[0] or one[0] >= moment) and (before is None or one < before)
        ][:limit]
        statuses = self._statuses([job_id for _, job_id in newest])
        here = [one for one in statuses.values() if one is not None]
        return here, newest[-1] if len(newest) == limit else None

    def watch(
        self, *, interval: float = 0.5, sleep: Callable[[float], None] | None = None
    ) -> Iterator[JobStatus]:
        """Yield each job's status whenever it changes, until all have ended, as Kiln.watch does.

        Those that were never sent are not waited for: `status().missing` counts them.
        """
        if sleep is None:
            return self._kiln.watch(self.sent_ids(), interval=interval)
        return self._kiln.watch(self.sent_ids(), interval=interval, sleep=sleep)

    def sent_ids(self) -> list[str]:
        """The ids of its jobs, by number, without those that were never sent or are forgotten."""
        return [job_id for job_id, one in self.standing().items() if one is not None]

    def wait(self) -> list[JobStatus]:
        """Block until all have ended; their last statuses, by number."""
        last = {status.id: status for status in self.watch()}
        return [last[job_id] for job_id in self.ids if job_id in last]

    def fetch(
        self,
        folder: str | Path = ".",
        *,
        names: str = DEFAULT,
        came: Callable[[str, Path], None] = lambda job_id, path: None,
    ) -> Fetched:
        """Bring home what has finished, each picture under a readable name with its sidecar beside it.

        What lies there already, whole, is not asked for again. A picture that cannot be brought costs no
        other: it is among the faults. `names` is a template of names, see docs/batches.md; `came` is called
        with id and path of each that is there. `index.csv` beside them lists all of the batch. Raises
        UsageError for no template.
        """
        return self._home.fetch(self.standing(), Path(folder), names, came)

    def fetch_one(self, job_id: str, folder: str | Path = ".", *, names: str = DEFAULT) -> Path:
        """Bring one finished picture of it home, named as `fetch` does. Raises as Kiln.fetch."""
        return self._home.fetch_one(job_id, Path(folder), names)

    def retry_failed(self) -> dict[str, Retried]:
        """Let what failed be rendered again, under the same ids: what became of each."""
        return self._retried("failed")

    def retry(self, *, again: bool = False) -> dict[str, Retried]:
        """Let all be rendered that has no picture: failed, cancelled, never sent; `again`: others, too."""
        found = self._retried("finished", again=True) if again else {}
        new, back = fill(self._kiln, self.manifest, self.entries, set(self.ids))
        return found | dict.fromkeys(new | back, "again")

    def report(
        self, path: str | Path, *, format: Format = "html", pictures: str | Path | None = None
    ) -> Facts:
        """Write what became of it to `path`, as docs/report.md says; what is told there.

        `pictures` is the folder to which they were fetched. Raises UsageError where that cannot be written.
        """
        from pixelkiln.jobs.batches.report.writing import report

        entries = [(one.number, one.id, one.spec) for one in self.entries]
        return report(self._kiln, self.name, entries, path, format=format, pictures=pictures)

    def cancel(self) -> dict[str, CancelOutcome]:
        """End all that wait or are being rendered as cancelled; what each was, as Kiln.cancel tells it."""
        standing = self._kiln.queue.standing(self.ids, self.manifest.client)
        waiting = [one for one, now in standing.items() if now and now.state not in (*RETRIED, "finished")]
        return self._kiln.cancel(waiting)

    def pause(self) -> int:
        """Let none of its jobs be taken until `resume`; how many wait. What is being rendered goes on.

        No key is needed: who submitted it may. A job whose worker dies goes on elsewhere all the same.
        """
        self._change(lambda manifest: replace(manifest, paused=True))
        answers = self._kiln.queue.hold(self.ids, self.manifest.client)
        return sum(was in ("queued", "held") for was in answers.values())

    def resume(self) -> int:
        """End what `pause` began; how many wait again, at the ends of their lanes."""
        self._change(lambda manifest: replace(manifest, paused=False))
        return sum(was == "held" for was in self._kiln.queue.free(self.ids, self.manifest.client).values())

    def prioritize(self, priority: Priority) -> int:
        """Give it another priority; how many of its jobs wait in that one's lanes now."""

        def change(manifest: Manifest) -> Manifest:
            entries = (replace(one, fields={**one.fields, "priority": priority}) for one in manifest.entries)
            return replace(manifest, entries=tuple(entries))

        self._change(change)
        answers = self._kiln.queue.move(self.ids, self.manifest.client, priority)
        return sum(was in ("queued", "held") for was in answers.values())

    def _change(self, change: Callable[[Manifest], Manifest]) -> None:
        """Store its manifest changed, with the rows that others may have added meanwhile."""
        self.manifest = self._kiln.books.change(self.name, lambda there: change(there or self.manifest))
        self._home = Home(self._kiln, self.manifest)

    def _statuses(self, job_ids: Sequence[str]) -> dict[str, JobStatus | None]:
        return self._kiln.statuses(job_ids, client=self.manifest.client)

    def _retried(self, state: str, again: bool = False) -> dict[str, Retried]:
        chosen = [one for one, now in self.standing().items() if now is not None and now.state == state]
        answers = self._kiln.retry(chosen, again=again)
        if self.manifest.paused:
            self._kiln.queue.hold(chosen, self.manifest.client)
        return answers

    def _workers(self) -> int:
        """Those that live and serve what it asks for."""
        fields = [{"model": DEFAULT_MODEL, "quantization": "bf16", **one.fields} for one in self.entries]
        kinds = {f"{one['model']}:{one['quantization']}" for one in fields}
        workers = self._kiln.farm().workers
        return sum(not worker.gone and bool(kinds.intersection(worker.serves)) for worker in workers)
