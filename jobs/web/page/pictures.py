"""Finished pictures, the newest first, and which of them a filter lets through: bounded looks only."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pixelkiln.jobs.batches.door import Mark
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import CorruptObjectError, JobFailedError, NotReadyError, StorageAwayError
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.spec import NAME_PATTERN, RenderSpec
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.who import Caller, whose

PAGE = 60  # pictures of one page
LOOKED = 1200  # that are looked at for one page where a filter lets few through
LOOKED_INTO = 480  # whose sidecars are, where it is about suspicion
PATIENCE = 0.1  # seconds that a page waits for what checks found: it is told later, or the next time
LONGEST = 15.0  # seconds, where it is about suspicion
THREADS = 16  # that ask the bucket
REMEMBERED = 20_000  # pictures of which it is known whether they are suspicious


log = logging.getLogger("kiln.serve")

Name = tuple[str, str, str]  # a job's client and id, and its picture's sha256


class Wanted(BaseModel):
    """A filter, as addresses have it; what is empty filters nothing."""

    model_config = ConfigDict(extra="ignore")

    q: Annotated[str, Field(max_length=200)] = ""  # words of the prompt
    batch: Annotated[str, Field(pattern=rf"^({JOB_ID.pattern})?$")] = ""
    model: Annotated[str, Field(max_length=100)] = ""  # or model:quantization
    label: Annotated[str, Field(max_length=300)] = ""  # NAME, or NAME=TEXT
    suspicious: bool = False
    client: Annotated[str, Field(pattern=rf"^({NAME_PATTERN.strip('^$')})?$")] = ""

    @field_validator("q", "batch", "model", "label", "client", mode="before")
    @classmethod
    def _trimmed(cls, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value

    @field_validator("suspicious", mode="before")
    @classmethod
    def _said(cls, value: Any) -> Any:
        return value or False  # an empty field of a form

    @property
    def fields(self) -> dict[str, Any]:
        """For an address: what is set."""
        told = {name: value for name, value in self.model_dump().items() if value}
        return told | ({"suspicious": 1} if self.suspicious else {})

    def lets(self, spec: RenderSpec | None) -> bool:
        """Whether it is for a picture of that spec, suspicion aside."""
        if spec is None:
            return not (self.q or self.label or self.model)
        name, equals, text = self.label.partition("=")
        labelled = not name or (name in spec.labels and (not equals or spec.labels[name] == text))
        words = self.q.casefold().split()
        found = not words or all(word in spec.prompt.casefold() for word in words)
        return labelled and found and self.model in ("", spec.model, f"{spec.model}:{spec.quantization}")


@dataclass(frozen=True, slots=True)
class Card:
    """One picture of a gallery."""

    status: JobStatus
    spec: RenderSpec | None
    warnings: tuple[str, ...] | None  # of the checks; None where the bucket has not answered yet

    @property
    def id(self) -> str:
        """Of its job."""
        return self.status.id


class Warnings:
    """What checks found, by picture: sidecars do not change. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: OrderedDict[Name, tuple[str, ...]] = OrderedDict()
        self._asked: dict[Name, Future[None]] = {}  # that are done once the bucket has answered, or did not
        self._waiting: deque[tuple[Name, Kiln, JobStatus]] = deque()
        self._threads = 0

    def of(
        self, kiln: Kiln, statuses: Sequence[JobStatus], patience: float | None
    ) -> dict[str, tuple[str, ...]]:
        """By job id; of those of which nothing came in so many seconds nothing.

        Without patience, all; raises StorageAwayError where the bucket does not tell.
        """
        names = {one.id: (one.client, one.id, one.result.sha256 if one.result else "") for one in statuses}
        with self._lock:
            missing = [one for one in statuses if names[one.id] not in self._known]
            asked = [self._ask(kiln, one, names[one.id]) for one in missing]
        wait(asked, LONGEST if patience is None else patience)
        with self._lock:
            found = {job_id: self._known[name] for job_id, name in names.items() if name in self._known}
        if patience is None and len(found) < len(names):
            raise StorageAwayError("the bucket does not tell what checks found; try again later")
        return found

    def close(self) -> None:
        """Ask no more; who waits is told nothing."""
        with self._lock:
            while self._waiting:
                self._asked.pop(self._waiting.popleft()[0]).set_result(None)

    def _ask(self, kiln: Kiln, status: JobStatus, name: Name) -> Future[None]:
        """Once, however many look: a bucket that hangs shall not be asked the same ever more often."""
        if name not in self._asked:
            self._asked[name] = Future()
            self._waiting.append((name, kiln, status))
            if self._threads < THREADS:
                self._threads += 1
                Thread(target=self._work, name="sidecars", daemon=True).start()  # none keeps the server alive
        return self._asked[name]

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                name, kiln, status = self._waiting.popleft()
            found = None
            try:
                found = _warnings(kiln, status)
            except NotReadyError:
                pass  # who looks again asks again
            except Exception:
                log.exception("what checks found in %s", status.id)
            with self._lock:
                if found is not None:
                    self._known[name] = found
                    if len(self._known) > REMEMBERED:
                        self._known.popitem(last=False)
                self._asked.pop(name).set_result(None)


def _warnings(kiln: Kiln, status: JobStatus) -> tuple[str, ...]:
    try:
        return tuple(kiln.sidecar_of(status).checks.warnings)
    except CorruptObjectError:
        return ("its record is gone",)
    except JobFailedError:  # its result cannot be read
        return ()


class Pictures:
    """Those that one caller may see through one filter. Every method raises NotReadyError."""

    def __init__(self, kiln: Kiln, caller: Caller, wanted: Wanted, warnings: Warnings) -> None:
        """Raises ProblemError for a client that is not the caller's to name, NoSuchJobError for no batch."""
        self.kiln, self.wanted = whose(kiln, caller, wanted.client or None), wanted
        if not caller.admin and wanted.client not in ("", caller.client):
            raise ProblemError(404, "no such client")
        everybody = caller.admin and not wanted.client
        self._client = None if everybody else self.kiln.settings.client
        self._warnings = warnings
        self._batch = self.kiln.open_batch(wanted.batch) if wanted.batch else None
        self._listed: list[Mark] | None = None  # of a batch: all that has finished

    def marks(self, limit: int, before: Mark | None = None) -> list[Mark]:
        """When each finished, and its id; those behind a mark. A batch has those that Redis forgot, too."""
        if self._batch is None:
            return self.kiln.marks(["finished"], client=self._client, limit=limit, before=before)
        if self._listed is None:
            standing = self._batch.standing().items()
            ended = [(one.ended_at, name) for name, one in standing if one and one.state == "finished"]
            self._listed = sorted(ended, reverse=True)
        return [one for one in self._listed if before is None or one < before][:limit]

    def cards(self, marks: Sequence[Mark], *, told: bool = True) -> list[Card]:
        """Those of these that the filter lets through, with what checks found of them, if `told`."""
        ids = [job_id for _, job_id in marks]
        if self._batch is None:
            specs = self.kiln.queue.specs(ids)
        else:
            wanted = set(ids)
            specs = {one.id: one.spec for one in self._batch.entries if one.id in wanted}
        let = [one for one in ids if self.wanted.lets(specs.get(one))]
        known = self.kiln.statuses(let, client=self._client or "")
        fit = [one for one in known.values() if one and one.state == "finished"]
        patience = None if self.wanted.suspicious else PATIENCE
        found = self._warnings.of(self.kiln, fit, patience) if told or self.wanted.suspicious else {}
        clients = {one.id: one.client for one in fit}  # a record may ask in another name than its lane's
        specs = {name: spec for name, spec in specs.items() if spec and spec.client == clients.get(name)}
        cards = [Card(one, specs.get(one.id), found.get(one.id)) for one in fit]
        return [one for one in cards if one.warnings or not self.wanted.suspicious]

    def page(
        self, before: Mark | None, limit: int = PAGE, *, told: bool = True
    ) -> tuple[list[Card], Mark | None, int]:
        """Some cards, the mark behind which to go on, None at the end, and how many were looked at."""
        found: list[Card] = []
        looked, size, most = 0, limit, LOOKED_INTO if self.wanted.suspicious else LOOKED
        while True:
            marks = self.marks(min(size, most - looked), before)
            at_end = len(marks) < min(size, most - looked)
            cards = self.cards(marks, told=told)
            looked += len(marks)
            room = limit - len(found)
            if len(cards) > room or (len(cards) == room and not at_end):
                found += cards[:room]
                when = {job_id: moment for moment, job_id in marks}
                return found, (when[found[-1].id], found[-1].id), looked
            found += cards
            if at_end:
                return found, None, looked
            before = marks[-1]
            if looked >= most:
                return found, before, looked
            size = 4 * limit

    def all(self) -> Iterator[Card]:
        """Every one, as far as there are any."""
        before: Mark | None = None
        while True:
            cards, before, _ = self.page(before, told=False)
            yield from cards
            if before is None:
                return

    def rows(self) -> dict[str, int]:
        """Which row of its file each job of the batch is; empty where it is about no batch."""
        return {one.id: one.number for one in self._batch.entries} if self._batch else {}

    def beside(self, status: JobStatus) -> tuple[str, str]:
        """Ids of the next newer and the next older one; '' where none is near."""
        newest = self.marks(LOOKED)
        ids = [job_id for _, job_id in newest]
        if status.id in ids:
            at = ids.index(status.id)
            return self._first(newest[:at][::-1]), self._first(newest[at + 1 :])
        return "", self._first(self.marks(PAGE, (status.ended_at, status.id)))

    def _first(self, marks: Sequence[Mark]) -> str:
        if self.wanted.fields.keys() <= {"batch", "client"}:
            return marks[0][1] if marks else ""
        for start in range(0, min(len(marks), 4 * PAGE), PAGE // 2):
            cards = {one.id for one in self.cards(marks[start : start + PAGE // 2], told=False)}
            if found := next((job_id for _, job_id in marks[start:] if job_id in cards), ""):
                return found
        return ""
