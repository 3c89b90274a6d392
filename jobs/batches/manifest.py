"""What a batch holds: a header and one entry a picture, stored before the first job is sent.

An entry is found again by its identity: the sha256 of its spec as the file gives it, and which of several
equal rows it is. Its job's id follows from client, batch and identity, so a file that is submitted again
means the same jobs, on any machine.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from pixelkiln.jobs.asked import Asked
from pixelkiln.jobs.errors import CorruptObjectError, KilnError
from pixelkiln.jobs.queue.record import check_job_id
from pixelkiln.jobs.spec import RenderSpec

LONGEST = 256 * 2**20  # bytes of a manifest that is read: a hundred thousand entries have 50 MB
_NAMESPACE = uuid.UUID("8e4bc2a6-5a0f-5a6c-9c0b-0f6a5f1e6f10")  # of the ids of batches' jobs
_NOT_IDENTITY = frozenset(("version", "client", "priority", "labels"))  # no picture shows them


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a batch."""

    number: int  # from 1; an entry keeps it, whatever comes into the file before it
    id: str  # of its job
    identity: str
    fields: Mapping[str, Any]  # of its spec as on the wire, seed included
    listed: bool = True  # whether the file still has it, as it was last submitted

    @classmethod
    def of(cls, number: int, job_id: str, identity: str, spec: RenderSpec) -> Self:
        """The entry of that spec."""
        return cls(number, job_id, identity, spec.with_seed(job_id).wire())

    @property
    def spec(self) -> RenderSpec:
        """What is asked for; parsed here, since who only counts thousands needs none."""
        return RenderSpec.model_validate(dict(self.fields))

    @property
    def client(self) -> Any:
        """Whose its spec says it is."""
        return self.fields.get("client", RenderSpec.model_fields["client"].default)

    @property
    def prompt(self) -> str:
        """The prompt of its spec."""
        return str(self.fields["prompt"])


@dataclass(frozen=True, slots=True)
class Manifest:
    """A batch as it is stored: JSON lines, first the header, then the entries."""

    name: str
    client: str
    created: str  # UTC, ISO 8601
    source: str = ""  # name of the file
    paused: bool = False
    entries: tuple[Entry, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)  # what else the header has, a later version's

    @property
    def ids(self) -> list[str]:
        """The ids of its jobs, by number."""
        return [entry.id for entry in self.entries]

    def of_client(self, client: str) -> Self:
        """The same as a client's: where it lies tells whose it is, not what somebody wrote into it."""
        entries = (
            one if one.client == client else replace(one, fields={**one.fields, "client": client})
            for one in self.entries
        )
        return replace(self, client=client, entries=tuple(entries))

    def with_rows(self, rows: Iterable[tuple[str, RenderSpec]], source: str = "") -> Self:
        """The same with the rows (identity, spec) of a file: new ones are added, missing ones marked."""
        wanted = dict(rows)
        known = {entry.identity for entry in self.entries}
        entries = [replace(entry, listed=entry.identity in wanted) for entry in self.entries]
        number = max((entry.number for entry in self.entries), default=0)
        for identity, spec in wanted.items():
            if identity not in known:
                number += 1
                job_id = id_of(self.client, self.name, identity)
                entries.append(Entry.of(number, job_id, identity, spec))
        return replace(self, entries=tuple(entries), source=source or self.source)

    def written(self) -> bytes:
        """As JSON lines."""
        header = {
            **self.options,
            "manifest": 1,
            "name": self.name,
            "client": self.client,
            "created": self.created,
            "source": self.source,
            "paused": self.paused,
        }
        lines = [header, *(_line(entry) for entry in self.entries)]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()

    def packed(self) -> bytes:
        """The same, small."""
        return zlib.compress(self.written(), 1)

    @classmethod
    def read(cls, body: bytes, where: str) -> Self:
        """A manifest from JSON lines. Raises CorruptObjectError, naming `where` it lies."""
        try:
            first, *lines = (
                body.decode().rstrip("\n").split("\n")
            )  # no splitlines: prompts may hold other ends
            header = json.loads(first)
            version, name, client, created, source, paused = (
                header.pop(one) for one in ("manifest", "name", "client", "created", "source", "paused")
            )
            if version != 1 or not all(isinstance(one, str) for one in (name, client, created, source)):
                raise ValueError
            entries = tuple(_entry(json.loads(line)) for line in lines)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError, KilnError):
            raise CorruptObjectError(
                f"{where} is not a manifest; submit the batch's file again under another name"
            ) from None
        return cls(name, client, created, source, paused is True, entries, header)

    @classmethod
    def unpacked(cls, packed: bytes, where: str, longest: int = LONGEST) -> Self:
        """The reverse of `packed`, of `longest` bytes at most. Raises as `read`."""
        try:
            body = zlib.decompressobj().decompress(packed, longest)
        except zlib.error:
            body = b""
        return cls.read(body, where)


def identities(asked: Sequence[Asked]) -> list[str]:
    """What tells each row from the others of its batch; equal rows are numbered."""
    found: list[str] = []
    seen: Counter[str] = Counter()
    for meant in asked:
        told = meant.spec.model_dump(mode="json", include=set(meant.given - _NOT_IDENTITY))
        text = json.dumps({name: value for name, value in told.items() if value is not None}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        seen[digest] += 1
        found.append(digest if seen[digest] == 1 else f"{digest}.{seen[digest]}")
    return found


def id_of(client: str, batch: str, identity: str) -> str:
    """The id of an entry's job."""
    return str(uuid.uuid5(_NAMESPACE, f"{client}/{batch}/{identity}"))


def _line(entry: Entry) -> dict[str, Any]:
    listed = {} if entry.listed else {"listed": False}
    known = {"number": entry.number, "id": entry.id, "identity": entry.identity}
    return {**known, **listed, "spec": entry.fields}


def _entry(line: Mapping[str, Any]) -> Entry:
    spec = line["spec"]
    if not isinstance(spec, dict) or not isinstance(spec.get("prompt"), str):
        raise ValueError
    number, job_id, identity = line["number"], line["id"], line["identity"]
    return Entry(int(number), check_job_id(job_id), str(identity), spec, line.get("listed") is not False)
