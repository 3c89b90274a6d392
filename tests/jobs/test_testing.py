"""What the farm in memory adds for the tests of programs: it fails, waits and goes on when told to."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixelkiln import Kiln, NotReadyError, StorageAwayError
from pixelkiln.testing import FakeKiln, StuckError


def small(**fields: Any) -> Any:
    return {"prompt": "a fox", "model": "demo", "width": 64, "height": 64, **fields}


@pytest.fixture
def kiln() -> FakeKiln:
    return FakeKiln()


def test_it_is_a_kiln_and_reads_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kiln.toml").write_text("no TOML")
    monkeypatch.setenv("KILN_CLIENT", "somebody")
    monkeypatch.setenv("KILN_RESULT_DAYS", "nonsense")
    kiln = FakeKiln()
    assert isinstance(kiln, Kiln)
    assert kiln.submit(small()).spec.client == "default"


def test_it_needs_neither_pytest_nor_numpy_nor_mlx() -> None:
    code = "import sys, pixelkiln.testing; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) & {"pytest", "numpy", "mlx", "psutil"} == set()


def test_step_by_step(kiln: FakeKiln) -> None:
    kiln.next_takes(2)
    job_id = kiln.submit(small()).id
    seen = []
    while not kiln.status(job_id).ended:
        status = kiln.status(job_id)
        seen.append((status.state, status.phase, status.step, status.steps))
        assert kiln.step()
    assert seen == [
        ("queued", None, 0, 0),
        ("started", "loading", 0, 0),
        ("started", "rendering", 0, 2),
        ("started", "rendering", 1, 2),
        ("started", "rendering", 2, 2),
        ("started", "delivering", 2, 2),
    ]
    assert kiln.sidecar(job_id).timings.steps == [1.0, 1.0]
    assert not kiln.step()


def test_the_next_job_fails_and_the_one_after_does_not(kiln: FakeKiln) -> None:
    kiln.next_fails("out of paint")
    jobs = kiln.submit_many([small(), small()])
    kiln.work()
    first, second = (kiln.status(job.id) for job in jobs)
    assert (first.state, first.error) == ("failed", "out of paint")
    assert second.state == "finished"


def test_a_job_waits_until_it_is_released(kiln: FakeKiln) -> None:
    kiln.next_waits()
    held, free = (job.id for job in kiln.submit_many([small(), small()]))
    with pytest.raises(StuckError, match=held):
        kiln.wait([held, free])
    assert kiln.status(free).state == "finished"
    assert kiln.status(held).state == "queued"
    kiln.release(held)
    assert [one.state for one in kiln.wait([held])] == ["finished"]


def test_a_running_job_is_cancelled(kiln: FakeKiln) -> None:
    first, second = (job.id for job in kiln.submit_many([small(), small()]))
    kiln.step()
    assert kiln.farm().workers[0].state == f"rendering {first}"
    assert kiln.cancel_all("worker:fake-1") == {first: "started"}
    assert [one.state for one in kiln.wait([first, second])] == ["cancelled", "finished"]
    assert kiln.farm().workers[0].state == "idle"


@pytest.mark.parametrize("now", [False, True])
def test_a_drained_worker_leaves_and_another_may_come(kiln: FakeKiln, now: bool) -> None:
    first, second = (job.id for job in kiln.submit_many([small(), small()]))
    kiln.step()
    kiln.drain("farm", now=now)
    kiln.work()
    assert kiln.farm().workers == ()
    assert [kiln.status(one).state for one in (first, second)] == ["queued" if now else "finished", "queued"]
    with pytest.raises(StuckError):
        kiln.wait([second])
    kiln.start_worker()
    assert [one.state for one in kiln.wait([first, second])] == ["finished", "finished"]
    assert kiln.status(first).attempt == (2 if now else 1)


def test_a_paused_worker_takes_nothing(kiln: FakeKiln) -> None:
    job_id = kiln.submit(small()).id
    kiln.pause("farm")
    assert kiln.farm().workers[0].state == "takes no jobs: the farm is paused"
    kiln.resume("farm")
    for target in ("farm", "worker:fake-1", "model:demo"):
        kiln.pause(target)
        assert not kiln.step()
        assert kiln.farm().workers[0].paused == (target,)
        kiln.resume(target)
    assert [one.state for one in kiln.wait([job_id])] == ["finished"]


def test_redis_and_the_bucket_go_away_and_come_back(kiln: FakeKiln, tmp_path: Path) -> None:
    done, waiting = (job.id for job in kiln.submit_many([small(), small()]))
    kiln.wait([done])
    with kiln.away(bucket=False), pytest.raises(NotReadyError):
        kiln.submit(small())
    with kiln.away(redis=False):
        with pytest.raises(StorageAwayError):
            kiln.fetch(done, tmp_path)
        assert kiln.status(waiting).state == "queued"
        with pytest.raises(StuckError):
            kiln.wait([waiting])
    assert [one.state for one in kiln.wait([waiting])] == ["finished"]


def test_watching_waits_an_outage_out(kiln: FakeKiln) -> None:
    job_id = kiln.submit(small()).id
    outage = kiln.away()
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            outage.__enter__()
        elif len(pauses) == 5:
            outage.__exit__(None, None, None)

    assert [one.state for one in kiln.watch([job_id], sleep=sleep)][-1] == "finished"
    assert pauses[:6] == [0.2, 0.2, 1.0, 1.0, 1.0, 0.2]


def test_references_are_looked_for_when_a_job_is_rendered(kiln: FakeKiln, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (200, 100), "red").save(path)
    edit = {"prompt": "a toy", "model": "hidream-o1-dev", "keep_aspect": True}
    jobs = [kiln.submit({**edit, "references": [name]}) for name in (path, "0" * 64)]  # type: ignore[typeddict-item]
    kept, missing = kiln.wait([job.id for job in jobs])
    png = kiln.sidecar(kept.id).png
    assert (png.width, png.height) == (2880, 1440)
    assert missing.error.startswith("references.0: refs/default/000")
    assert "is not in the bucket" in missing.error
    other = kiln.as_client("other").submit({**edit, "references": list(jobs[0].spec.references)})
    assert kiln.wait([other.id])[0].state == "failed"  # it has uploaded none


def test_pictures_and_times_are_the_same_in_every_run() -> None:
    records = []
    for _ in range(2):
        kiln = FakeKiln()
        kiln.submit_many([small(seed=1), small(seed=2)], ids=["a", "b"])
        kiln.wait(["a", "b"])
        records.append([kiln.sidecar(one).model_dump() for one in ("a", "b")])
    assert records[0] == records[1]
    assert records[0][0]["png"]["sha256"] != records[0][1]["png"]["sha256"]


def test_a_time_that_a_job_waits_for_comes_when_nothing_else_is_to_be_done(kiln: FakeKiln) -> None:
    later = kiln.submit(**small(), not_before=timedelta(hours=3))
    now = kiln.submit(**small())
    assert kiln.status(later.id).not_before == "2026-01-01T03:00:00Z"
    kiln.wait([now.id])
    assert kiln.status(later.id).state == "queued"
    ended = kiln.wait([later.id])[0]
    assert (ended.state, ended.not_before) == ("finished", "")
    assert ended.started_at >= "2026-01-01T03:00:00"
