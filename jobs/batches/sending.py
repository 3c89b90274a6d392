"""Submitting a batch: its manifest first, then what of it has no picture yet and does not wait."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pixelkiln.jobs.asked import Asked
from pixelkiln.jobs.batches.books import check_name
from pixelkiln.jobs.batches.manifest import Entry, Manifest, identities
from pixelkiln.jobs.batches.outlook import header
from pixelkiln.jobs.batches.stored import stored
from pixelkiln.jobs.batches.windows import zone_of
from pixelkiln.jobs.errors import SpecError, UsageError
from pixelkiln.jobs.fields import SpecFields
from pixelkiln.jobs.queue.queue import Submitted, When
from pixelkiln.jobs.spec import RenderSpec

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln

RETRIED = ("failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the rows as they were submitted."""

    jobs: tuple[Submitted, ...]  # one a row, in their order; `created`: it is rendered for this submit
    new: int = 0  # rows that were enqueued for the first time, or whose job was lost
    again: int = 0  # that had failed or were cancelled, and are tried again
    there: int = 0  # that were there: finished, being rendered, or waiting
    unlisted: tuple[Entry, ...] = ()  # of earlier submits, not in this one: they stand as they were


def send(
    kiln: Kiln,
    rows: Iterable[RenderSpec | SpecFields | Asked],
    name: str | None,
    source: str,
    begun: Callable[[Manifest], None],
    not_before: When | None,
    deadline: datetime | timedelta | None,
    resent: bool,
) -> tuple[Manifest, Sent]:
    """See Kiln.batch. `begun` is called when the manifest is stored and before the first job is sent."""
    asked = kiln.completed(rows)
    if not asked:
        raise UsageError("a batch needs a picture, at least")
    _check_client(kiln.settings.client, asked)
    name = check_name(_name_after(source) if name is None else name)
    found = identities(asked)
    meant = dict(zip(found, asked, strict=True))
    options = header(deadline, not_before, zone_of(kiln.settings.zone), datetime.now(UTC))
    before: set[str] = set()

    def with_rows(manifest: Manifest | None) -> Manifest:
        before.clear()
        before.update(() if manifest is None else manifest.ids)
        if resent and manifest and set(found) <= {entry.identity for entry in manifest.entries}:
            return manifest
        manifest = manifest or Manifest(name, kiln.settings.client, datetime.now(UTC).isoformat())
        manifest = manifest.with_rows(((one, meant[one].spec) for one in found), source)
        return replace(manifest, options={**manifest.options, **options})

    if deadline is not None:  # first, for an older ACL file refuses it
        kiln.queue.expect(kiln.settings.client, name)
    manifest = kiln.books.change(name, with_rows)
    begun(manifest)
    entries = {entry.identity: entry for entry in manifest.entries}
    mine = [entries[one] for one in found]
    new, again = fill(kiln, manifest, mine, before, not_before, retry=not resent)
    created = new | again
    jobs = tuple(Submitted(one.id, one.spec, one.id in created, meant[one.identity].filled) for one in mine)
    gone = tuple(entry for entry in manifest.entries if not entry.listed)
    return manifest, Sent(jobs, len(new), len(again), len(jobs) - len(created), gone)


def fill(
    kiln: Kiln,
    manifest: Manifest,
    entries: Sequence[Entry],
    sent_before: set[str],
    not_before: When | None = None,
    retry: bool = True,
) -> tuple[set[str], set[str]]:
    """Enqueue those entries that have no picture and do not wait: ids of the new ones, and of those retried.

    Without `retry` those that failed or were cancelled stay so.
    Of those `sent_before` a picture may lie in the bucket that the queue has forgotten.
    """
    standing = kiln.queue.standing([entry.id for entry in entries])
    ended = [one for one, now in standing.items() if now is not None and now.state in RETRIED and retry]
    back = {
        one for one, was in kiln.queue.retry(ended, manifest.client, again=False).items() if was in RETRIED
    }
    if back and manifest.paused:
        kiln.queue.hold(list(back), manifest.client)
    absent = [entry for entry in entries if standing[entry.id] is None]
    there = stored(kiln, manifest.client, [entry.id for entry in absent if entry.id in sent_before])
    wanted = [entry for entry in absent if entry.id not in there]
    jobs = [(entry.id, entry.spec) for entry in wanted]
    flags = kiln.queue.add(jobs, manifest.name, held=manifest.paused, not_before=not_before) if jobs else []
    return {job_id for (job_id, _), created in zip(jobs, flags, strict=True) if created}, back


def _name_after(source: str) -> str:
    """A name of the file's and the time, which no other batch has."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", source.rpartition("/")[2].partition(".")[0]).strip("-")[:40]
    return f"{stem or 'batch'}-{datetime.now():%m%d-%H%M}-{secrets.token_hex(2)}"


def _check_client(client: str, asked: Sequence[Asked]) -> None:
    """A batch is found by its client. Raises SpecError, which tells the place of the row at fault."""
    for place, one in enumerate(asked):
        if one.spec.client != client:
            error = SpecError(
                "client", f"a batch is one client's, here {client}; set KILN_CLIENT to another's"
            )
            error.place = place
            raise error
