"""A night in which everything is killed at once: the batch, submitted again, renders exactly the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.local.seaweed import BUCKET, Seaweed
from tests.chaos.crew import Worker, forks
from tests.chaos.farm import Farm, crash, revive
from tests.waiting import until

ROWS = 60


def client(farm: Farm, folder: Path, rows: int) -> subprocess.Popen[bytes]:
    """Submit the batch from a folder of its own, and bring its pictures home."""
    folder.mkdir()
    (folder / "night.txt").write_text("".join(f"fox number {n}\n" for n in range(rows)))
    settings = farm.settings()
    assert settings.redis_url is not None
    variables = {
        "KILN_REDIS_URL": settings.redis_url.get_secret_value(),
        "KILN_S3_ENDPOINT": str(settings.s3_endpoint),
        "KILN_S3_BUCKET": BUCKET,
    }
    command = "batch night.txt -m demo -s 96x96 --name night --out renders"
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "pixelkiln", *command.split()],
            cwd=folder,
            env=os.environ | variables,
            stdout=log,
            stderr=log,
        )


def stored(bucket: Bucket, ids: list[str]) -> dict[str, bytes]:
    """The sidecars that are there."""
    found = {job_id: bucket.get(keys.SIDECAR("default", job_id)) for job_id in ids}
    return {job_id: body for job_id, body in found.items() if body is not None}


def ended(kiln: Kiln) -> int:
    """How many of the batch have finished."""
    found = kiln.books.find("night")
    standing = kiln.queue.standing(found.ids) if found else {}
    return sum(one is not None and one.state == "finished" for one in standing.values())


def test_a_batch_survives_the_death_of_everything(tmp_path: Path) -> None:
    with Seaweed(tmp_path / "s3") as store, Farm(tmp_path / "run", store) as farm:
        context = forks()
        workers = [Worker(farm.orders(f"mac-{n}", direct=True), context) for n in range(3)]
        processes = []
        try:
            for worker in workers:
                worker.start()
            processes.append(client(farm, tmp_path / "evening", ROWS))
            with farm.kiln() as kiln:
                until(lambda: ended(kiln) >= 10, "some have finished", 120)
                for worker in workers:
                    worker.end()
                processes[0].kill()
                batch = kiln.open_batch("night")
            for server in (farm.valkey, store):
                crash(server)
                revive(server)
            bucket = farm.bucket()
            before = stored(bucket, batch.ids)
            assert 10 <= len(before) < ROWS

            for worker in workers:
                worker.start()
            processes.append(client(farm, tmp_path / "morning", ROWS + 4))
            assert processes[1].wait(180) == 0, (tmp_path / "morning" / "log").read_text()
            with farm.kiln() as kiln:
                batch = kiln.open_batch("night")
                status = batch.status()
            after = stored(bucket, batch.ids)
            assert (status.total, status.finished, len(after)) == (ROWS + 4, ROWS + 4, ROWS + 4)
            assert {job_id: after[job_id] for job_id in before} == before  # not rendered again
            assert len(list((tmp_path / "morning" / "renders").glob("*.png"))) == ROWS + 4
        finally:
            for worker in workers:
                worker.end()
            for process in processes:
                process.kill()
                process.wait()
