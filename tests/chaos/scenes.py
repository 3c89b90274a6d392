"""One job, one point, one blow: a worker killed or frozen at a named point, and what must come of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rq import Queue

from tests.chaos.account import Expected, account, journals, leftovers
from tests.chaos.crew import Worker, until
from tests.chaos.farm import Farm, Store

Then = Literal["restart", "takeover", "thaw"]
PATIENCE = 60.0  # seconds; on an idle machine all of it takes one or two
LANE = "kiln:demo:bf16:normal:default"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is done to a worker, and who goes on with its job."""

    point: str
    then: Then
    failing: bool = False  # the job is one that must fail

    def __str__(self) -> str:
        return f"{self.point}, {self.then}{', bad spec' if self.failing else ''}"


class Stage:
    """A Valkey of its own, so that scenes can be played beside each other on one store."""

    def __init__(self, folder: Path, store: Store, context: Any) -> None:
        self._farm = Farm(folder, store)
        self._context = context
        self._count = 0

    def __enter__(self) -> Stage:
        self._farm.start()
        self._kiln = self._farm.kiln()
        return self

    def __exit__(self, *error: object) -> None:
        self._kiln.redis.close()
        self._farm.stop()

    def play(self, scene: Scene) -> list[str]:
        """The violations of one scene; none, if all is well."""
        self._count += 1
        self._kiln.redis.flushall()
        job_id = f"{self._farm.folder.name}-{self._count}"
        workers = [
            Worker(self._farm.orders(f"{slot}{self._count}", hurry=True), self._context) for slot in "ab"
        ]
        try:
            return self._played(scene, job_id, *workers)
        except TimeoutError as error:
            status = self._kiln.statuses([job_id])[job_id]
            return [f"{error}; the job stands as {status}"]
        finally:
            for worker in workers:
                worker.end()

    def _played(self, scene: Scene, job_id: str, first: Worker, second: Worker) -> list[str]:
        freezing = scene.then == "thaw"
        self._submit(job_id, scene.failing)
        first.start(point=scene.point, strike=int(signal.SIGSTOP if freezing else signal.SIGKILL))
        if freezing:
            until(first.stopped, PATIENCE, f"the freeze at {scene.point}")
        elif (code := first.wait(PATIENCE)) != -signal.SIGKILL:
            return [f"{first.slot} was not killed at {scene.point}: it left with {code}"]
        heir = first if scene.then == "restart" else second
        heir.start()
        wanted: Expected = "failed" if scene.failing else "finished"
        until(lambda: self._ended(job_id), PATIENCE, f"the end of the job after {scene.point}")
        if freezing:
            first.signal(signal.SIGCONT)
            until(
                lambda: not (first.waiting() or first.marks()), PATIENCE, "the end of the late worker's work"
            )
        here = [worker for worker in (first, second) if worker.alive()]
        until(lambda: not any(worker.waiting() for worker in here), PATIENCE, "an empty spool")
        for worker in here:
            until(worker.ready, PATIENCE, f"{worker.slot} being ready")
            worker.signal(signal.SIGTERM)
        codes = [worker.wait(PATIENCE) for worker in here]
        if scene.then == "takeover":  # what the dead one left on its disk is cleared at its next start
            first.start()
            until(first.ready, PATIENCE, f"{first.slot} being ready")
            first.signal(signal.SIGTERM)
            codes.append(first.wait(PATIENCE))
        found = account(self._kiln, {job_id: wanted}, {job_id: "default"})
        found = [one for one in found if "is no job's" not in one]  # other scenes' pictures
        found += leftovers(self._kiln.redis, (first, second)) + journals((first, second))
        found += [f"a worker left with {code}" for code in codes if code != 0]
        return found

    def _submit(self, job_id: str, failing: bool) -> None:
        spec = {"prompt": f"scene {job_id}", "model": "demo", "width": 64, "height": 64, "seed": 1}
        if failing:
            Queue(LANE, connection=self._kiln.redis, serializer="json").enqueue(
                "pixelkiln.render", spec | {"width": 65}, job_id=job_id
            )
        else:
            self._kiln.submit(spec, id=job_id)

    def _ended(self, job_id: str) -> bool:
        status = self._kiln.statuses([job_id])[job_id]
        return status is not None and status.ended
