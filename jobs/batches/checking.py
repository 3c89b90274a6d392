"""Whether rows can be rendered, all of them looked at before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pixelkiln.jobs.asked import Asked, Completion
from pixelkiln.jobs.asked import Fault as SizeFault
from pixelkiln.jobs.batches.rows import Fault, Place, Row
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.storage import objects

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln

Size = tuple[int, int]


@dataclass(slots=True)
class Checked:
    """What rows came to: those that can be rendered, and what is wrong with the others."""

    rows: list[Row] = field(default_factory=list)  # the good ones
    asked: list[Asked] = field(default_factory=list)  # what each of these asks for, in the same order
    faults: list[Fault] = field(default_factory=list)
    bad: int = 0  # rows at fault
    pictures: dict[tuple[Path, str], str] = field(default_factory=dict)  # by path and client, its sha256


def check(kiln: Kiln, rows: Iterable[Row], told: Callable[[], None] = lambda: None) -> Checked:
    """Complete each row as `Kiln.submit` would; nothing is sent or stored, and pictures are only read.

    A row that names another client is at fault, and of nothing of that one's it is asked whether it is there.
    `told` is called after each. Redis is asked which kinds are served, the bucket for the size of an uploaded
    reference, both only where a row leaves that to them. Raises NotReadyError where they do not answer then.
    """
    found = Checked()
    read = cache(_read)

    def look(path: Path, client: str, fault: SizeFault) -> str:
        name, size, error = read(path)
        if error:
            raise SpecError("ref", error)
        if wrong := fault(size):
            raise SpecError("ref", f"{path}: {wrong}")
        found.pictures[path, client] = name
        return name

    @cache
    def size_of(name: str, client: str, field: str) -> Size:
        return objects.reference_size(kiln.bucket, name, client, field)

    completion = Completion(kiln.settings, lambda: kiln.farm().served, look, size_of)
    for row in rows:
        faults = row.faults or _of_another(row, kiln.settings.client)
        if not faults:
            try:
                found.asked.append(completion.of(row.fields))
                found.rows.append(row)
            except SpecError as error:
                message = str(error).removeprefix(f"{error.field}: ")
                if message == "must be text":
                    message += "; put it in quotes"
                faults = (Fault(Place(row.place.line, error.field), message),)
        found.faults.extend(faults)
        found.bad += bool(faults)
        told()
    return found


def store_pictures(kiln: Kiln, checked: Checked, told: Callable[[], None] = lambda: None) -> None:
    """Upload the references of the good rows, each once. Raises SpecError for one that has changed since."""
    wanted = {(one.spec.client, name) for one in checked.asked for name in one.spec.references}
    for (path, client), name in checked.pictures.items():
        if (client, name) in wanted:
            wanted.discard((client, name))
            if kiln.upload(path, client) != name:
                raise SpecError("ref", f"{path} has just changed; try again")
        told()


def repeated(rows: Iterable[Row]) -> list[Row]:
    """Rows that ask for what an earlier one does, priority and labels aside."""
    seen, again = set(), []
    for row in rows:
        key = repr(sorted((n, v) for n, v in row.fields.items() if n not in ("priority", "labels")))
        if key in seen:
            again.append(row)
        seen.add(key)
    return again


def _of_another(row: Row, client: str) -> tuple[Fault, ...]:
    """What is at fault where a row names another client: a batch is one client's."""
    if row.fields.get("client", client) == client:
        return ()
    return (Fault(Place(row.place.line, "client"), f"a batch is one client's, here {client}; leave it out"),)


def _read(path: Path) -> tuple[str, Size, str]:
    """The sha256 of a picture, its width and height, and what speaks against it; read once."""
    seen: list[Size] = []

    def note(size: Size) -> str:
        seen.append(size)
        return ""

    try:
        return objects.read_reference(path, note)[0], seen[0], ""
    except SpecError as error:
        told = str(error).removeprefix(f"{error.field}: ")
        return "", (0, 0), told if told.startswith(str(path)) else f"{path}: {told}"
