"""What `kiln status` shows of jobs and of the farm."""

from __future__ import annotations

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln
from pixelkiln.jobs.commands.output import out
from pixelkiln.jobs.queue.record import FUNCTION
from tests.jobs.commands.running import Run

LANE = "kiln:demo:bf16:normal:default"


def test_the_farm_is_shown_whatever_strangers_wrote(run: Run, kiln: Kiln) -> None:
    assert "no jobs yet" in run("status").out
    kiln.submit(prompt="x", model="demo")
    kiln.redis.sadd("rq:queues", "rq:queue:kiln:demo:bf16:normal:[/x]")
    kiln.redis.sadd("rq:workers", "rq:worker:[/y]")
    kiln.redis.hset(
        "rq:worker:[/y]", mapping={"kiln_state": "takes no jobs: [/z] :fire:", "queues": "[red]q[/]"}
    )
    shown = run("status")
    assert shown.code == 0
    for verbatim in (LANE, "kiln:demo:bf16:normal:[/x]", "[/y]", "takes no jobs: [/z] :fire:", "[red]q[/]"):
        assert verbatim in shown.out
    farm = run("status", "--json").json
    assert set(farm) == {"lanes", "workers"}
    lane = {"lane": LANE, "queued": 1, "started": 0, "finished": 0, "failed": 0, "later": 0}
    assert lane in farm["lanes"]


def test_of_many_lanes_and_workers_totals_and_the_busiest_are_shown(run: Run, kiln: Kiln) -> None:
    for n in range(40):
        kiln.submit_many([{"prompt": "x", "model": "demo", "client": f"c{n:02}"}] * (2 if n == 7 else 1))
        kiln.redis.sadd("rq:workers", f"rq:worker:w{n:02}")
        state = "takes no jobs: its disk is full" if n == 31 else f"rendering j{n}"
        kiln.redis.hset(f"rq:worker:w{n:02}", mapping={"kiln_state": state, "queues": "demo:bf16"})
    kiln.redis.sadd("rq:queues", "rq:queue:kiln:mistyped")
    kiln.redis.rpush("rq:queue:kiln:mistyped", "x")
    shown = run("status").out
    assert len(shown.splitlines()) < 60
    words = [line.replace("│", " ").split() for line in shown.splitlines()]
    for row in (
        "all 42 0 0 0 0",
        "model demo:bf16 41 0 0 0 0",
        "priority normal 41 0 0 0 0",
        "client c07 2 0 0 0 0",
        "client 30 others 30 0 0 0 0",
        "no lanes 1 queues named kiln:… 1 0 0 0 0",
        "kiln:demo:bf16:normal:c07 2 0 0 0 0",
        "40 workers: 39 rendering, 1 takes no jobs",
        "w31 takes no jobs: its disk is full demo:bf16",
    ):
        assert row.split() in words
    lanes, workers = ({name.format(f"{n:02}") for n in range(40)} for name in (LANE[:-7] + "c{}", "w{}"))
    assert lanes | workers <= set(run("status", "--all").out.replace("│", " ").split())
    told = run("status", "--json").json
    assert {lane["lane"] for lane in told["lanes"]} == {*lanes, "kiln:mistyped"}
    assert {worker["name"] for worker in told["workers"]} == workers


@pytest.mark.parametrize("width", ["40", "60", "80", "200"])
def test_names_are_shown_whole_whatever_the_width(
    run: Run, kiln: Kiln, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    lane, worker = f"kiln:hidream-o1-dev-2604:bf16:normal:{'c' * 48}", "a-mac-in-the-cellar-" * 4
    kiln.redis.sadd("rq:queues", f"rq:queue:{lane}")
    kiln.redis.rpush(f"rq:queue:{lane}", "x")
    kiln.redis.sadd("rq:workers", f"rq:worker:{worker}")
    kiln.redis.hset(f"rq:worker:{worker}", mapping={"kiln_state": "idle", "queues": "demo:bf16"})
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("TERM", "xterm")  # a dumb one has 80 columns, whatever it says
    monkeypatch.setattr(out, "_width", int(width))  # where COLUMNS was set as it was made, it keeps that
    shown = run("status").out
    assert {lane, worker} <= set(shown.replace("│", " ").split())  # in a pipe, each on one line
    monkeypatch.setattr(type(out), "is_terminal", True)
    lines = run("status").out.splitlines()
    assert max(map(len, lines)) <= int(width)
    for name in (lane, worker):  # on a terminal, over as many lines as it takes
        cells = (line.split("│")[1].strip() for line in lines if line.count("│") > 2)
        assert name in "".join(cells)


def test_json_of_what_strangers_wrote_only_prints(run: Run, kiln: Kiln) -> None:
    kiln.redis.sadd("rq:workers", "rq:worker:w")
    kiln.redis.hset("rq:worker:w", "kiln_largest", '{"a\\u202e\\u009b\\n": 64}')
    ran = run("status", "--json")
    assert ran.json["workers"][0]["largest"] == {"a\ufffd\ufffd\ufffd": 64}
    prompt = "a \u202e fox \u2028 é"
    ran = run("submit", "-m", "demo", prompt, "--json")
    assert ran.json[0]["spec"]["prompt"] == prompt
    assert "\\u202e fox \\u2028 é" in ran.out


def test_a_job_says_until_when_or_for_what_it_waits(
    run: Run, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_ZONE", "Europe/Berlin")
    job_id = run(
        "submit", "a fox", "--yes", "--model", "demo", "--not-before", "2090-07-01T22:00"
    ).out.strip()
    assert run("status", job_id).out.split("  ") == [job_id, "queued", "waits until 2090-07-01 22:00\n"]
    assert run("status", job_id, "--json").json["not_before"] == "2090-07-01T20:00:00Z"
    queue = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer)
    child = queue.enqueue(FUNCTION, {"prompt": "x", "model": "demo"}, depends_on=job_id)
    assert f"waits for the end of {job_id}" in run("status", child.id).out
    kiln.cancel([job_id])
    assert (
        f"{job_id}, which is cancelled: render that after all, or cancel this one"
        in run("status", child.id).out
    )


@pytest.mark.parametrize("text", ["soon", "25:00", "-3h"])
def test_a_time_that_is_none_is_told(run: Run, text: str) -> None:
    refused = run("submit", "a fox", "--model", "demo", "--yes", f"--not-before={text}")
    assert refused.code == 2
    assert "--not-before: " in refused.err
