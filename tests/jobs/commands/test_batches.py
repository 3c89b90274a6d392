"""Batches and jobs from the shell: by name beside ids, listed, tried again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, keys
from tests.jobs.commands.running import Run
from tests.waiting import until

NONE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("a fox\na hare\n[red]a cat[/]\n")
    return path


def fail(kiln: Kiln, job_id: str, lane: str = "kiln:demo:bf16:normal:default") -> None:
    """As a worker's settlement leaves it."""
    kiln.redis.lrem(keys.QUEUE(lane), 0, job_id)
    kiln.redis.hset(
        keys.JOB(job_id),
        mapping={"status": "failed", "ended_at": "2026-11-26T03:00:00.0Z", "kiln_attempts": "1"},
    )
    kiln.redis.zadd(keys.FAILED(lane), {job_id: 2e9})


def test_a_batch_is_named_first_and_found_by_every_command(run: Run, kiln: Kiln, file: Path) -> None:
    ran = run("batch", file, "-m", "demo", "--name", "night")
    assert ran.code == 0
    assert ran.err.startswith("kiln: batch night: 3 pictures; see: kiln status night\n")
    ids = ran.out.split()
    shown = run("status", "night")
    assert "3 pictures of prompts.txt" in shown.out
    assert "0/3  3 waiting" in shown.out
    assert run("status", "night", "--json").json["queued"] == 3
    (listed,) = run("batches", "--json").json
    assert (listed["name"], listed["total"]) == ("night", 3)
    assert re.search(r"night .*0/3 .*3 waiting", run("batches").out)
    assert run("pause", "night").out == "night  paused  (3 jobs)\n"
    assert "kiln resume night" in run("status", "night").out
    assert f"{ids[0]}  paused" in run("status", ids[0]).out
    assert run("resume", "batch:night").out == "night  not paused any more  (3 jobs)\n"
    assert run("priority", "night", "high").out == "night  high: 3 that wait\n"
    assert kiln.status(ids[0]).lane == "kiln:demo:bf16:high:default"
    assert run("priority", "night", "urgent").code == 2
    assert run("priority", ids[0], "low").out == f"{ids[0]}  low\n"
    assert run("cancel", "night").out.count("  cancelled\n") == 3
    assert run("retry", "night", "--failed").err == "kiln: nothing is there to try again\n"
    assert run("retry", "night").out.count("  again\n") == 3
    again = run("batch", file, "-m", "demo", "--name", "night")
    assert "kiln: 0 new, 0 tried again, 3 there already and left\n" in again.err
    file.write_text("a dog\n")
    other = run("batch", file, "-m", "demo", "--name", "night")
    assert "kiln: 3 of batch night are not in this file, and stand as they were:\n" in other.err
    assert "[red]a cat[/]" in other.err
    assert run("cancel", "night").code == 0


def test_a_name_that_is_none_leads_to_the_list(run: Run, file: Path) -> None:
    run("batch", file, "-m", "demo", "--name", "night")
    for command in ("status", "watch", "fetch"):
        missed = run(command, "nigth")
        assert missed.code == 1
        assert missed.err.endswith("see: kiln batches\n")


def test_without_a_name_one_is_made_of_file_and_time(run: Run, file: Path) -> None:
    for _ in range(2):
        found = re.search(
            r"batch (prompts-\d{4}-\d{4}-[0-9a-f]{4}): 3 pictures", run("batch", file, "-m", "demo").err
        )
        assert found is not None
        assert run("status", found[1], "--json").json["queued"] == 3
    assert len(run("batches", "--json").json) == 2


@pytest.mark.parametrize("command", ["status", "fetch", "watch", "retry", "cancel"])
def test_one_bad_item_costs_the_others_nothing(run: Run, kiln: Kiln, command: str) -> None:
    good = kiln.submit(prompt="a fox", model="demo").id
    if command in ("watch", "retry"):
        kiln.cancel([good])
    ran = run(command, NONE, good)
    if command == "fetch":  # it is not finished: both are wrong, and both are named
        assert ran.code == 1
        assert [NONE in ran.err, good in ran.err] == [True, True]
        return
    assert ran.code == 4
    assert NONE in (ran.out if command in ("retry", "cancel") else ran.err)
    assert good in ran.out
    alone = run(command, NONE)
    assert alone.code == 1


def test_pausing_what_is_none(run: Run) -> None:
    ran = run("pause", "nothing")
    assert (ran.code, ran.err) == (2, "kiln: 'nothing' is not farm, client:NAME, model:NAME or worker:NAME\n")


def test_jobs_are_listed_and_tried_again(run: Run, kiln: Kiln, file: Path) -> None:
    ids = run("batch", file, "-m", "demo", "--name", "night").out.split()
    fail(kiln, ids[1])
    assert [one["id"] for one in run("jobs", "--state", "failed", "--json").json] == [ids[1]]
    assert [one["id"] for one in run("jobs", "--batch", "night", "--state", "failed", "--json").json] == [
        ids[1]
    ]
    assert {one["id"] for one in run("jobs", "--json").json} == set(ids)
    assert len(run("jobs", "--limit", "2", "--json").json) == 2
    assert run("jobs", "--state", "nonsense").code == 2
    assert run("jobs", "--since", "yesterday").code == 2
    assert run("jobs", "--since", "1h", "--state", "queued", "--json").json
    assert run("jobs", "--client", "stranger").out == "no such jobs\n"
    assert run("status", ids[1]).err == f"kiln: to try it again: kiln retry {ids[1]}\n"
    assert "try the failed ones again: kiln retry night --failed" in run("status", "night").out
    assert run("retry", "--batch", "night", "--failed").out == f"{ids[1]}  again\n"
    assert kiln.redis.zcard(keys.FAILED("kiln:demo:bf16:normal:default")) == 0
    status = run("status", ids[1], "--json").json
    assert (status["state"], status["attempt"], status["place"], status["waiting"]) == ("queued", 1, 3, 3)
    ran = run("retry", ids[1])
    assert (ran.code, ran.out) == (0, f"{ids[1]}  waits already\n")
    assert run("retry").code == 2
    assert run("retry", "night", "--failed", "--again").code == 2


def test_references_are_stored_and_named(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    (tmp_path / "text.txt").write_text("no picture")
    ran = run("upload", tmp_path / "red.png", tmp_path / "text.txt")
    assert ran.code == 4
    assert re.fullmatch(r"[0-9a-f]{64}  .*red\.png\n", ran.out)
    assert "text.txt" in ran.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_who_leaves_is_told_how_to_come_back(
    environment: dict[str, str], kiln: Kiln, file: Path, number: signal.Signals, code: int
) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "pixelkiln",
        "batch",
        str(file),
        "-m",
        "demo",
        "--name",
        "night",
        "--wait",
    ]
    with (file.parent / "err").open("wb") as err:
        process = subprocess.Popen(command, env=os.environ | environment, stderr=err)
    try:
        until(lambda: b"it waits until one is" in (file.parent / "err").read_bytes(), "it waits")
        process.send_signal(number)
        assert process.wait(30) == code
    finally:
        process.kill()
        process.wait()
    told = (file.parent / "err").read_text()
    assert "kiln: batch night goes on without this; come back, from any machine, with:\n" in told
    assert "  kiln fetch night --out DIR\n" in told
    assert kiln.open_batch("night").status().queued == 3
