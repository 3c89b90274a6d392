"""`--deadline` from the shell: told when a batch is submitted, shown, watched and listed."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pixelkiln.jobs import Kiln, keys
from tests.jobs.commands.running import Run

ROW = {"prompt": "a fox", "model": "demo", "width": 480, "height": 480, "steps": 4}


def worker(kiln: Kiln, an_hour: int, *, speeds: bool = True) -> None:
    """One lives that renders so many of these in an hour."""
    told = json.dumps({"demo:bf16": 480 * 480 * 4 * an_hour // 3600})
    about = {"queues": "demo:bf16", "kiln_beat": str(time.time())}
    kiln.redis.sadd(keys.WORKERS, keys.WORKER("a"))
    kiln.redis.hset(keys.WORKER("a"), mapping=about | ({"kiln_speeds": told} if speeds else {}))  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KILN_ZONE", "Europe/Berlin")
    path = tmp_path / "night.jsonl"
    path.write_text("".join(json.dumps({**ROW, "seed": seed}) + "\n" for seed in range(12)))
    return path


def test_a_dry_run_tells_whether_it_fits(run: Run, kiln: Kiln, file: Path) -> None:
    worker(kiln, 1)
    told = run("batch", file, "-n", "--deadline", "13h").out
    assert re.search(r"^deadline: ready at .*, before the deadline .*$", told, re.MULTILINE)
    found = run("batch", file, "-n", "--deadline", "10h", "--json").json["deadline"]
    assert (found["fits"], found["late"]) == (False, pytest.approx(7200, abs=120))
    assert datetime.fromisoformat(found["deadline"]) > datetime.now(UTC)
    opens = (datetime.now(UTC) + timedelta(hours=2)).isoformat(timespec="minutes")
    late = run("batch", file, "-n", "--deadline", "13h", "--not-before", opens, "--json").json["deadline"]
    assert (late["fits"], late["late"]) == (False, pytest.approx(3600, abs=120))
    assert run("batch", file, "-n", "--json").json["deadline"] is None


def test_it_is_told_when_submitted_and_from_then_on(run: Run, kiln: Kiln, file: Path) -> None:
    worker(kiln, 1)
    ran = run("batch", file, "--name", "night", "--deadline", "10.5h")
    assert ran.code == 0
    line = r"not ready by the deadline .*: 10 of 12 are by then, all at .*, 1 h 30 min late\n"
    assert re.search("kiln: " + line, ran.err)
    assert re.search(line, run("status", "night").out)
    found = run("status", "night", "--json").json["deadline"]
    assert found["fits"] is False
    at = datetime.fromisoformat(found["deadline"])
    assert at.utcoffset() in (timedelta(hours=1), timedelta(hours=2))  # in the zone of the settings
    assert "late by 1 h 30 min" in run("batches").out

    worker(kiln, 10)
    assert "before the deadline" in run("status", "night").out
    assert re.search(r"night .*: in time", run("batches").out)
    again = run("batch", file, "--name", "night", "--deadline", "1h")  # another one
    assert "12 there already and left" in again.err
    assert "not ready by the deadline" in again.err
    assert kiln.redis.zrange(keys.DEADLINES, 0, -1) == [b"default:night"]

    run("cancel", "night")
    assert "ready since" in run("watch", "night").err
    assert run("batches", "--json").json[0]["deadline"]["fits"] is True


def test_what_cannot_be_told_says_why(run: Run, kiln: Kiln, file: Path) -> None:
    ran = run("batch", file, "--name", "night", "--deadline", "13h")
    assert "cannot be told: no worker serves demo:bf16\n" in ran.err
    worker(kiln, 1, speeds=False)
    assert "no worker that lives has rendered demo:bf16" in run("status", "night").out
    assert run("status", "night", "--json").json["deadline"]["fits"] is None
    assert ": cannot be told" in run("batches").out


def test_without_one_nothing_is_told(run: Run, kiln: Kiln, file: Path) -> None:
    assert "deadline" not in run("batch", file, "--name", "night").err
    assert "deadline" not in run("status", "night").out + run("batches").out
    assert kiln.redis.exists(keys.DEADLINES) == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("soon", "--deadline: 'soon' is no time: write 22:00, 2026-11-27T22:00 or 3h"),
        ("2020-01-01T07:30", "--deadline: 2020-01-01T07:30 is over; name one that is to come"),
    ],
)
def test_what_is_no_deadline_is_refused_before_anything_is_sent(
    run: Run, kiln: Kiln, file: Path, text: str, told: str
) -> None:
    ran = run("batch", file, "--deadline", text)
    assert (ran.code, ran.err) == (2, f"kiln: {told}\n")
    assert kiln.redis.dbsize() == 0
