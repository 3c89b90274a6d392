"""What is spooled survives its worker, and one worker has the folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from pydantic import ValidationError

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.sidecar import Checks, JobFacts, Memory, Png, Sidecar, Timings
from pixelkiln.worker.deliver.spool import Draft, Spool
from pixelkiln.worker.queue.claim import Claim
from tests.worker.pictures import spec_of

LANE = Lane("demo", "bf16", "normal", "default")


def draft(job_id: str = "job-1", execution: str = "e1", taken: float = 1.0) -> Draft:
    facts = {"client": "default", "attempt": 2, "submitted_at": "", "started_at": "", "rendered_at": ""}
    seconds = dict.fromkeys(
        ("queue_wait", "load", "prefix", "decode", "checks", "encode", "upload", "other", "total"), 0.0
    )
    sidecar = Sidecar(
        job=JobFacts(id=job_id, execution=execution, **facts),  # type: ignore[arg-type]
        spec=spec_of(),
        model={},
        versions={},
        host={},
        timings=Timings(steps=[0.1], **seconds),
        memory=Memory(peak_mlx=0, peak_resident=0, swap_ins=0),
        png=Png(key=f"jobs/default/{job_id}/image.png", sha256="0", bytes=3, width=64, height=64),
        checks=Checks(luma_mean=1, luma_spread=1, seam_score=1),
    )
    return Draft(lane=LANE, taken=taken, gpu_seconds=1.5, sidecar=sidecar)


def test_what_is_put_is_there_for_the_next_worker(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "deep" / "spool")
    spool.put(draft(), b"png")
    spool.close()
    after = Spool(tmp_path / "deep" / "spool")
    (entry,) = after.entries()
    assert entry.draft == draft()
    assert entry.png() == b"png"
    claim = entry.claim
    assert (claim.job_id, claim.execution, claim.lane, claim.attempt) == ("job-1", "e1", LANE, 2)
    assert after.waiting() == 1
    after.remove(entry)
    assert after.entries() == []
    assert after.waiting() == 0
    after.close()


def test_the_oldest_comes_first(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in (3, 1, 2):
        spool.put(draft(f"job-{number}", taken=number), b"")
    assert [entry.draft.sidecar.job.id for entry in spool.entries()] == ["job-1", "job-2", "job-3"]
    spool.close()


def test_one_worker_at_a_time(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    with pytest.raises(NotReadyError, match=r"is in use by .*; give each .*its own KILN_SPOOL_DIR"):
        Spool(tmp_path)
    first.close()
    Spool(tmp_path).close()


def _hold(folder: Path, ready: multiprocessing.synchronize.Event) -> None:
    spool = Spool(folder)
    spool.mark(Claim("job-1", "e1", LANE))
    ready.set()
    signal.pause()


def test_a_killed_worker_leaves_its_folder_and_its_marks(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with MLX in it breaks on macOS
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(20)
    with pytest.raises(NotReadyError):
        Spool(tmp_path)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    spool = Spool(tmp_path)
    assert [(claim.job_id, claim.execution, claim.lane) for claim in spool.marked()] == [
        ("job-1", "e1", LANE)
    ]
    spool.close()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReadyError, match=r"set KILN_SPOOL_DIR to a folder on a writable disk$"):
        Spool(tmp_path / "file" / "spool")


def test_a_draft_holds_its_lane_by_name() -> None:
    written = json.loads(draft().model_dump_json())
    assert written["lane"] == LANE.name
    assert Draft.model_validate(written) == draft()
    for name in ("", "default", "kiln:demo:bf16:normal", "kiln:demo:bf16:normal:a:b", None, 7, {}):
        with pytest.raises(ValidationError, match="is not a lane"):
            Draft.model_validate({**written, "lane": name})


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff"])
def test_entries_that_cannot_be_read_are_set_aside(tmp_path: Path, content: bytes) -> None:
    spool = Spool(tmp_path)
    spool.put(draft("sound"), b"png")
    (tmp_path / "done-bad-e2").mkdir()
    (tmp_path / "done-bad-e2" / "draft.json").write_bytes(content)
    (tmp_path / "done-empty-e3").mkdir()
    assert [entry.draft.sidecar.job.id for entry in spool.entries()] == ["sound"]
    assert (tmp_path / "bad-done-bad-e2" / "draft.json").read_bytes() == content
    assert spool.waiting() == 1
    spool.close()


def test_a_put_cut_off_is_no_entry_and_does_not_hinder_the_next(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "part-job-1").mkdir()
    (tmp_path / "part-job-1" / "image.png").write_bytes(b"half")
    assert spool.entries() == []
    spool.put(draft(), b"whole")
    assert [entry.png() for entry in spool.entries()] == [b"whole"]
    spool.close()


def test_an_entry_half_removed_is_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in the middle of a removal must not leave what looks like a picture, nor count as one."""
    spool = Spool(tmp_path)
    entry = spool.put(draft(), b"png")

    def killed(path: Path, **_: object) -> None:
        (path / "draft.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        spool.remove(entry)
    assert spool.entries() == []
    assert spool.waiting() == 0
    spool.close()


def test_what_is_gone_by_no_doing_of_the_worker_is_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for name in ("sound", "removed", "damaged", "delivered"):
        spool.put(draft(name), b"png")
    shutil.rmtree(tmp_path / "done-removed-e1")
    (tmp_path / "done-damaged-e1" / "draft.json").write_bytes(b"{")
    entries = {entry.draft.sidecar.job.id: entry for entry in spool.entries()}
    assert set(entries) == {"sound", "delivered"}
    spool.remove(entries["delivered"])
    lost = spool.lost()
    assert {entry.claim.job_id for entry in lost} == {"removed", "damaged"}
    for entry in lost:
        spool.set_aside(entry.folder)
    assert spool.lost() == []
    assert (tmp_path / "bad-done-damaged-e1").is_dir()
    spool.close()


def test_a_folder_that_was_removed_is_made_and_locked_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.mark(Claim("job-1", "e1", LANE))
    for act in (lambda: spool.put(draft("job-2", "e2"), b"png"), spool.check):
        shutil.rmtree(tmp_path / "spool")
        act()
        with pytest.raises(NotReadyError, match="is in use by"):
            Spool(tmp_path / "spool")
        assert [claim.job_id for claim in spool.marked()] == ["job-1"]
    spool.close()
    Spool(tmp_path / "spool").close()


def test_a_disk_that_was_taken_off_is_not_written_in_its_place(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "disk" / "spool")
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    assert spool.check() == f"the spool {spool.root} cannot be written: No such file or directory"
    with pytest.raises(OSError, match="No such file"):
        spool.put(draft(), b"png")
    assert spool.free() == 0
    (tmp_path / "elsewhere").rename(tmp_path / "disk")
    assert spool.check() is None
    assert spool.put(draft(), b"png").png() == b"png"
    spool.close()


def test_a_folder_that_another_has_made_again_is_left_to_it(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool")
    shutil.rmtree(tmp_path / "spool")
    second = Spool(tmp_path / "spool")
    second.put(draft(), b"png")
    assert first.check() == f"the spool {first.root} cannot be written: it is in use by process {os.getpid()}"
    with pytest.raises(OSError, match="in use"):
        first.put(draft("job-2"), b"png")
    assert first.entries() == []
    first.close()
    with pytest.raises(NotReadyError, match="is in use by"):
        Spool(tmp_path / "spool")
    second.close()


def test_marks_come_and_go(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.marked() == []
    claims = [Claim(f"job-{i}", f"e{i}", LANE) for i in range(3)]
    for claim in claims:
        spool.mark(claim)
    spool.unmark(claims[0])
    spool.put(draft("job-1", "e1"), b"png")  # spooled: not under way any more
    assert [claim.job_id for claim in spool.marked()] == ["job-2"]
    spool.close()


def test_a_mark_tells_what_is_handed_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    claims = [Claim(f"job-{i}", f"e{i}", LANE) for i in range(2)]
    for claim in claims:
        spool.mark(claim)
    spool.hand_over(claims[0])
    assert [claim.handed for claim in spool.marked()] == [True, False]
    spool.unmark(claims[1])
    spool.hand_over(claims[1])  # spooled in between: no mark comes back
    assert [claim.job_id for claim in spool.marked()] == ["job-0"]
    spool.close()


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", '[{"job": "a"}]', "null"])
def test_marks_that_cannot_be_read_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "inflight.json").write_text(content)
    spool = Spool(tmp_path)
    assert spool.marked() == []
    spool.mark(Claim("job-1", "e1", LANE))
    assert len(json.loads((tmp_path / "inflight.json").read_text())) == 1
    spool.close()


def test_the_disk_is_measured(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.free() > 0
    spool.close()


@pytest.mark.parametrize("made", ["by this version", "by version 0.1"])
def test_it_is_its_owners_alone_whatever_the_umask(tmp_path: Path, made: str) -> None:
    root = tmp_path / "spool"
    before = os.umask(0)
    try:
        if made == "by version 0.1":
            root.mkdir()
            assert root.stat().st_mode & 0o777 == 0o777
        spool = Spool(root)
        spool.mark(Claim("job-2", "e2", LANE))
        entry = spool.put(draft(), b"png")
    finally:
        os.umask(before)
    modes = {path.relative_to(root).as_posix(): path.stat().st_mode & 0o777 for path in root.rglob("*")}
    folder = entry.folder.name
    assert modes == {
        "lock": 0o600,
        "inflight.json": 0o600,
        folder: 0o700,
        f"{folder}/image.png": 0o600,
        f"{folder}/draft.json": 0o600,
    }
    assert root.stat().st_mode & 0o777 == 0o700
    spool.close()


@pytest.mark.parametrize("name", ["lock", "inflight.part"])
def test_links_planted_in_it_are_not_followed(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / name).symlink_to(precious)
    with pytest.raises((NotReadyError, OSError)):
        Spool(tmp_path / "spool").mark(Claim("job-1", "e1", LANE))
    assert precious.read_text() == "precious"


def test_another_users_folder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could rename and replace what lies there, whatever its mode."""
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    with pytest.raises(NotReadyError, match=r"is another user's \(uid \d+\); set KILN_SPOOL_DIR"):
        Spool(tmp_path / "spool")
