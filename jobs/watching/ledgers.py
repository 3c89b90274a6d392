"""How this client's batches stand, followed by looking at some of their jobs at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import islice

from pixelkiln.jobs import keys
from pixelkiln.jobs.batches.forecast import Outlook
from pixelkiln.jobs.batches.manifest import Manifest
from pixelkiln.jobs.batches.outlook import DEADLINE
from pixelkiln.jobs.batches.standing import BatchStatus, counted, eta, pace
from pixelkiln.jobs.catalogue import DEFAULT_MODEL
from pixelkiln.jobs.errors import CorruptObjectError
from pixelkiln.jobs.queue.farm import Farm
from pixelkiln.jobs.queue.queue import Queue, Standing
from pixelkiln.jobs.watching.snapshot import Place

MOST = 100  # batches that are followed, the newest ones
OPENED = 5  # manifests that are read in one look
OPEN, ENDED = 1_000, 100  # jobs that are looked at in one look, of those that had not ended and of the others


@dataclass(slots=True)
class _Ledger:
    """One batch, and how its jobs stood when each was last looked at."""

    revision: int
    about: Manifest  # without entries: specs of many batches would fill the memory
    numbers: dict[str, int]  # by job id
    kinds: frozenset[str]
    unlisted: int
    standing: dict[str, Standing | None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    each: float | None = None

    @property
    def read(self) -> bool:
        return len(self.standing) == len(self.numbers)

    def sum_up(self) -> None:
        self.counts, self.each = counted(self.standing.values()), pace(self.standing.values())

    def status(self, farm: Farm, foreseen: Outlook | None) -> BatchStatus:
        workers = sum(not one.gone and bool(self.kinds.intersection(one.serves)) for one in farm.workers)
        return BatchStatus(
            name=self.about.name,
            client=self.about.client,
            created=self.about.created,
            source=self.about.source,
            paused=self.about.paused,
            total=len(self.numbers),
            unlisted=self.unlisted,
            each=self.each,
            eta=eta(self.counts["queued"] + self.counts["started"], self.each, workers),
            running=(),
            failures=(),
            suspicious=sum(one is not None and one.suspicious for one in self.standing.values()),
            deadline=foreseen,
            **self.counts,
        )


class Ledgers:
    """This client's newest batches. Each look costs a bounded number of calls, however large they are.

    Jobs are looked at in turn, those being rendered and those never looked at first, so what is told of
    ten thousand is a few looks old. What Redis has forgotten is missing here: the bucket is not asked.
    """

    def __init__(self, queue: Queue, client: str) -> None:
        self._queue = queue
        self._client = client
        self._ledgers: dict[str, _Ledger] = {}
        self._unread: list[str] = []
        self._owners: dict[str, str] = {}  # the batch of each job
        self._open: deque[str] = deque()  # ids in the order they are looked at
        self._ended: deque[str] = deque()

    def look(self, farm: Farm) -> tuple[BatchStatus, ...]:
        """Look at some more; the batches of which Redis knows anything, the newest first."""
        self._open_manifests()
        some = [*islice(self._open, OPEN)], [*islice(self._ended, ENDED)]
        found = self._queue.standing([*some[0], *some[1]], self._client) if any(some) else {}
        for ids, looked_at in zip((self._open, self._ended), some, strict=True):
            for _ in looked_at:  # now: were Redis away, they would wait in their places
                ids.popleft()
        moved = set()
        for job_id, now in found.items():
            name = self._owners.get(job_id)
            if name is None:
                continue
            ledger = self._ledgers[name]
            if job_id not in ledger.standing or ledger.standing[job_id] != now:
                ledger.standing[job_id] = now
                moved.add(name)
            if now is not None and now.state == "started":
                self._open.appendleft(job_id)
            elif now is None or now.state in ("finished", "failed", "cancelled"):
                self._ended.append(job_id)
            else:
                self._open.append(job_id)
        for name in moved:
            self._ledgers[name].sum_up()
        shown = {n: one for n, one in self._ledgers.items() if one.read and any(one.standing.values())}
        due = [name for name, one in shown.items() if DEADLINE in one.about.options]
        foreseen = self._queue.foreseen(self._client, due) if due else {}
        return tuple(one.status(farm, Outlook.of(foreseen.get(name))) for name, one in shown.items())

    @property
    def unread(self) -> int:
        """Batches that were not looked through yet."""
        return len(self._unread) + sum(not one.read for one in self._ledgers.values())

    def places(self, job_ids: list[str]) -> dict[str, Place]:
        """Which pictures of which batches these are, of those that are any."""
        found = {}
        for job_id in job_ids:
            if name := self._owners.get(job_id):
                numbers = self._ledgers[name].numbers
                found[job_id] = Place(name, numbers[job_id], len(numbers))
        return found

    def _open_manifests(self) -> None:
        """Read the manifests that are new or were changed, some at a time."""
        there = dict(islice(self._queue.batches(self._client).items(), MOST))
        for name in self._ledgers.keys() - there.keys():
            self._forget(name)
        known = self._ledgers
        stale = [
            name for name, number in there.items() if name not in known or known[name].revision != number
        ]
        self._unread = [name for name in stale[OPENED:] if name not in known]
        for name in stale[:OPENED]:
            ledger = self._opened(name, there[name])
            old = self._ledgers.get(name)
            self._open.extendleft(one for one in ledger.numbers if old is None or one not in old.numbers)
            if old is not None:
                ledger.standing = {one: now for one, now in old.standing.items() if one in ledger.numbers}
                self._forget(name)
            self._ledgers[name] = ledger
            self._owners |= dict.fromkeys(ledger.numbers, name)
            ledger.sum_up()
        self._ledgers = {name: self._ledgers[name] for name in there if name in self._ledgers}

    def _opened(self, name: str, revision: int) -> _Ledger:
        """The batch, without a row where its manifest is none."""
        found = self._queue.manifest(self._client, name)
        try:
            manifest = Manifest.unpacked(found[1], keys.BATCH(self._client, name)) if found else None
        except CorruptObjectError:
            manifest = None
        if manifest is None:
            return _Ledger(revision, Manifest(name, self._client, ""), {}, frozenset(), 0)
        fields = [{"model": DEFAULT_MODEL, "quantization": "bf16", **one.fields} for one in manifest.entries]
        return _Ledger(
            revision,
            replace(manifest, name=name, client=self._client, entries=()),
            {one.id: one.number for one in manifest.entries if self._owners.get(one.id, name) == name},
            frozenset(f"{one['model']}:{one['quantization']}" for one in fields),
            sum(not one.listed for one in manifest.entries),
        )

    def _forget(self, name: str) -> None:
        for job_id in self._ledgers.pop(name).numbers:
            self._owners.pop(job_id, None)
