"""Bringing a batch's pictures home, under readable names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pixelkiln.jobs.batches.manifest import Manifest
from pixelkiln.jobs.batches.names import ENDING, Template, file_names, index_csv
from pixelkiln.jobs.errors import KilnError, NoSuchJobError, NotReadyError
from pixelkiln.jobs.queue.queue import Standing
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.storage import objects
from pixelkiln.jobs.storage.files import holds, write

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln

SOME = 20  # jobs that are asked for at once


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came home of a batch, and what did not."""

    paths: dict[str, Path]  # of pictures, by the ids of their jobs
    faults: dict[str, KilnError]  # of finished ones that could not be brought


class Home:
    """The pictures of one batch, as they are called in a folder. See Batch.fetch."""

    def __init__(self, kiln: Kiln, manifest: Manifest) -> None:
        self._kiln = kiln
        self._manifest = manifest
        self._names: dict[str, dict[str, str]] = {}  # by template and job

    def fetch(
        self,
        standing: Mapping[str, Standing | None],
        folder: Path,
        names: str,
        came: Callable[[str, Path], None],
    ) -> Fetched:
        """Bring home what has finished, and write the index."""
        named = self._named(names)
        found = Fetched({}, {})
        finished = [
            entry
            for entry in self._manifest.entries
            if (now := standing[entry.id]) and now.state == "finished"
        ]
        for start in range(0, len(finished), SOME):
            some = finished[start : start + SOME]
            statuses = self._statuses([entry.id for entry in some])
            for entry in some:
                try:
                    found.paths[entry.id] = self._bring(entry.id, statuses[entry.id], folder, named[entry.id])
                    came(entry.id, found.paths[entry.id])
                except NotReadyError:
                    raise
                except KilnError as error:
                    found.faults[entry.id] = error
        self._write_index(folder, found, standing)
        return found

    def fetch_one(self, job_id: str, folder: Path, names: str) -> Path:
        """Bring one finished picture home."""
        named = self._named(names)
        if job_id not in named:
            raise NoSuchJobError(f"no job {job_id} in batch {self._manifest.name}")
        return self._bring(job_id, self._statuses([job_id])[job_id], folder, named[job_id])

    def _statuses(self, job_ids: Sequence[str]) -> dict[str, JobStatus | None]:
        return self._kiln.statuses(job_ids, client=self._manifest.client)

    def _named(self, template: str) -> dict[str, str]:
        """What the pictures are called at home, by their jobs' ids."""
        if template not in self._names:
            files = file_names(
                Template.parse(template), ((one.number, one.id, one.spec) for one in self._manifest.entries)
            )
            self._names[template] = dict(zip(self._manifest.ids, files, strict=True))
        return self._names[template]

    def _bring(self, job_id: str, status: JobStatus | None, folder: Path, name: str) -> Path:
        path = folder / name
        if status is None:
            raise NoSuchJobError(f"no job {job_id} of client {self._manifest.client!r}")
        if status.result and holds(path, status.result.sha256) and path.with_suffix(".json").exists():
            return path
        sidecar = self._kiln.sidecar_of(status)
        return objects.fetch(self._kiln.bucket, sidecar, folder, name.removesuffix(ENDING))

    def _write_index(self, folder: Path, found: Fetched, standing: Mapping[str, Standing | None]) -> None:
        states = {one: now.state if now else "unknown" for one, now in standing.items()}
        told = self._statuses([one for one, state in states.items() if state == "failed"])
        errors = {one: status.error or "" for one, status in told.items() if status}
        rows = [
            (
                one.number,
                found.paths[one.id].name if one.id in found.paths else "",
                states[one.id],
                one.id,
                one.spec,
                errors.get(one.id, ""),
            )
            for one in self._manifest.entries
        ]
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "index.csv", index_csv(rows))
