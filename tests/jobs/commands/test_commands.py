"""The commands of a producer: what they print, with which exit code, and what they leave in Redis."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rq.job import Job
from rq.registry import FinishedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, RenderSpec
from pixelkiln.jobs.commands import submit, told
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.worker.deliver.png import encode
from tests.jobs.commands.running import Run
from tests.wire import proxy_to, through
from tests.worker.pictures import FACTS, noise, spec_of

LANE = "kiln:demo:bf16:normal:default"


def end(kiln: Kiln, job_id: str, error: str = "") -> None:
    """End a job as a worker would, without one."""
    spec = spec_of()
    job = Job(job_id, connection=kiln.redis, serializer=JSONSerializer)
    kiln.redis.delete(f"rq:queue:{LANE}")
    if error:
        kiln.redis.hset(job.key, "status", "failed")
        Result.create_failure(job, 60, error)
        return
    from tests.worker.deliver.test_spool import draft

    png = encode(noise(), spec, FACTS, "1")
    digest = hashlib.sha256(png).hexdigest()
    sidecar = draft(job_id).sidecar
    sidecar = sidecar.model_copy(update={"png": sidecar.png.model_copy(update={"sha256": digest})})
    key = sidecar.png.key.replace("image.png", "sidecar.json")
    kiln.bucket.put(sidecar.png.key, png, "image/png")
    kiln.bucket.put(key, sidecar.model_dump_json().encode(), "application/json")
    kiln.redis.hset(job.key, "status", "finished")
    result = {"png": sidecar.png.key, "sidecar": key, "sha256": digest}
    Result.create(job, Result.Type.SUCCESSFUL, 60, return_value=result)
    FinishedJobRegistry(LANE, kiln.redis).add(job, 60)


def test_submit_prints_the_id(run: Run, kiln: Kiln) -> None:
    ran = run("submit", "-m", "demo", "a fox", "a hare")
    assert ran.code == 0
    ids = ran.out.split()
    assert [kiln.status(job_id).state for job_id in ids] == ["queued", "queued"]


def test_submit_json(run: Run) -> None:
    ran = run("submit", "-m", "demo", "a fox", "--seed", "0", "--id", "mine", "--label", "a=b=c", "--json")
    assert ran.json == [
        {
            "id": "mine",
            "created": True,
            "spec": {
                "version": 1,
                "prompt": "a fox",
                "model": "demo",
                "width": 256,
                "height": 256,
                "seed": 0,
                "labels": {"a": "b=c"},
            },
        }
    ]
    again = run("submit", "-m", "demo", "a fox", "--id", "mine")
    assert (again.code, again.out) == (0, "mine\n")
    assert again.err == "kiln: mine was there already and is left as it is\n"
    other = run("submit", "-m", "demo", "another", "--id", "mine")
    assert (other.code, other.out) == (2, "")
    assert other.err == (
        "kiln: id: mine was used before, for another picture (another prompt); submit under another id\n"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["submit", ""], "prompt: is empty"),
        (["submit", "x" * 4001], "prompt: is 4,001 characters; the limit is 4,000"),
        (["submit", "x", "-s", "100x64"], "width: 100 is not a multiple of 32; the nearest are 96 and 128"),
        (["submit", "x", "-s", "big"], "--size: 'big' is not WIDTHxHEIGHT, for instance 1024x1024"),
        (["submit", "x", "--seed", "-1"], "seed: must be greater than or equal to 0, not -1; leave it out"),
        (["submit", "x", "-m", "[red]y[/]"], "model: no model '[red]y[/]'; there are "),
        (["submit", "x", "--client", ":fire:"], "client: must be 1 to 48 of"),
        (["submit", "x", "-m", ":fire:"], "model: no model ':fire:'; there are "),
        (["submit", "x", "--label", "a"], "--label: 'a' is not NAME=TEXT"),
        (["submit", "x", "y", "--id", "one"], "--id names one job"),
        (["submit", "x", "--id", "../up"], "job id: must be 1 to 64"),
        (["submit", "x", "--box", "1,2"], "--box: '1,2' is not X1,X2,Y1,Y2"),
        (["batch", "nothing.txt"], "nothing.txt: No such file or directory"),
        (["submit", "x", "--out", __file__], f"--out: {__file__} is no folder; name one, or one that"),
        (["batch", __file__, "--out", __file__], f"--out: {__file__} is no folder"),
        (["fetch", "x", "--out", __file__], f"--out: {__file__} is no folder"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2_with_nothing_enqueued(
    run: Run, kiln: Kiln, arguments: list[str], line: str
) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.err.startswith(f"kiln: {line}")
    assert ran.err.count("\n") == 1
    assert ran.out == ""
    assert kiln.redis.dbsize() == 0


@pytest.mark.parametrize(
    "prompts",
    [
        ["a", "lighthouse", "at", "dusk"],
        ["red", "fox"],
        ["a", "red fox", "in", "snow"],
        ["eine", "Füchsin"],
        ["여우", "눈"],
        ["fox.png", "snow.png"],
    ],
)
def test_a_prompt_without_its_quotes_is_asked_about(
    run: Run, kiln: Kiln, monkeypatch: pytest.MonkeyPatch, prompts: list[str]
) -> None:
    ran = run("submit", "-m", "demo", *prompts)
    words = sum(" " not in one for one in prompts)
    quoted = "'" + " ".join(prompts) + "'"
    told = f"{len(prompts)} prompts, {words} of them one word; quotes make one of them: {quoted}"
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"kiln: {told}; --yes if they are {len(prompts)} jobs\n"
    assert kiln.redis.dbsize() == 0

    monkeypatch.setattr(submit, "_at_a_terminal", lambda: True)
    for answer, code in ((False, 2), (True, 0)):
        asked: list[str] = []
        monkeypatch.setattr("typer.confirm", lambda text, err: asked.append(text) or answer)  # noqa: B023
        assert run("submit", "-m", "demo", *prompts).code == code
        assert asked == [f"kiln: {told}. Enqueue {len(prompts)} jobs?"]
    assert len(run("submit", "-m", "demo", *prompts, "--yes").out.split()) == len(prompts)


@pytest.mark.parametrize(
    "prompts",
    [["fox"], ["a fox", "a hare"], ["a fox", "snow"], ["灯台と夕暮れ", "雪の中の狐"], ["สุนัข", "แมว"]],
)
def test_prompts_that_are_meant_are_not_asked_about(run: Run, prompts: list[str]) -> None:
    ran = run("submit", "-m", "demo", *prompts)
    assert (ran.code, len(ran.out.split())) == (0, len(prompts))


def picture(path: Path, size: tuple[int, int], **options: Any) -> Path:
    Image.new("RGB", size, "red").save(path, **options)
    return path


def test_a_reference_that_the_model_cannot_use_is_refused_before_it_is_sent(
    run: Run, kiln: Kiln, tmp_path: Path
) -> None:
    refused = {
        "4000 x 3 is too narrow": picture(tmp_path / "wide.png", (4000, 3)),
        "3 x 1000 is too narrow": picture(tmp_path / "high.png", (3, 1000)),
        "4000 x 20 is too narrow": picture(tmp_path / "bar.jpg", (4000, 20)),
        "is HEIC": tmp_path / "photo.heic",
        "the file is truncated": tmp_path / "cut.png",
    }
    refused["is HEIC"].write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    refused["the file is truncated"].write_bytes(picture(tmp_path / "whole.png", (64, 64)).read_bytes()[:-20])
    for said, path in refused.items():
        ran = run("submit", "-m", "hidream-o1-dev", "remove it", "--ref", path)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(f"kiln: references ({path}): ")
        assert said in ran.err
        assert ran.err.count("\n") == 1
    many = [f"--ref={picture(tmp_path / f'{at}.png', (64, 64))}" for at in range(5)]
    ran = run("submit", "-m", "hidream-o1-dev", "all of them", "-s", "64x64", *many)
    assert (ran.code, ran.err) == (2, "kiln: references: 5 are too many for 64 x 64; make that larger\n")
    assert kiln.redis.dbsize() == 0


def test_the_first_of_several_frames_is_told(run: Run, tmp_path: Path) -> None:
    more = [Image.new("RGB", (64, 64), "blue")]
    path = picture(tmp_path / "moves.gif", (64, 64), save_all=True, append_images=more)
    ran = run("submit", "-m", "hidream-o1-dev", "remove it", "--ref", path)
    assert ran.code == 0
    assert f"kiln: {path} has more frames than one; the first is taken\n" in ran.err
    still = run("submit", "-m", "hidream-o1-dev", "x", "--ref", picture(tmp_path / "a.png", (64, 64)))
    assert "frames" not in still.err


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (["--fast"], {"coarse_steps": 14}),
        (["--fast", "-s", "384x512"], {"coarse_steps": 21}),
        (["--fast", "-s", "384x512", "--steps", "14"], {"steps": 14, "coarse_steps": 10}),
        (["--fast", "-s", "608x416"], {"coarse_steps": 14}),  # whose halves are no whole patches
        (["--fast", "-s", "320x256"], {"coarse_steps": 14}),
        (["--draft"], {"steps": 8, "coarse_steps": 2}),
        (["--draft", "-s", "512x512"], {"steps": 14, "coarse_steps": 10}),
        (["--coarse-steps", "5"], {"coarse_steps": 5}),
        (["--coarse-steps", "0"], {}),
    ],
)
def test_coarse_steps_by_number_and_by_name(run: Run, options: list[str], meant: dict[str, int]) -> None:
    (job,) = run("submit", "-m", "demo", "a fox", *options, "--json").json
    assert {name: job["spec"][name] for name in ("steps", "coarse_steps") if name in job["spec"]} == meant


@pytest.mark.parametrize(
    "options", [["--fast", "--draft"], ["--draft", "--steps", "8"], ["--fast", "--coarse-steps", "3"]]
)
def test_two_ways_to_say_how_many_steps_are_refused(run: Run, options: list[str]) -> None:
    ran = run("submit", "-m", "demo", "a fox", *options)
    assert ran.code == 2
    assert "give one of them" in ran.err


def test_unknown_options_are_wrong_use(run: Run) -> None:
    assert run("submit", "x", "--nonsense").code == 2
    assert run("nonsense").code == 2


def test_a_batch_is_all_or_nothing_and_names_the_line(run: Run, kiln: Kiln, tmp_path: Path) -> None:
    file = tmp_path / "batch.txt"
    lines = ["a fox", "", '{"prompt": "a hare", "seed": 1, "priority": "high"}', "[red]verbatim[/]"]
    file.write_text("\n".join([*lines, '{"prompt": "x", "width": 3}']))
    ran = run("batch", file, "-m", "demo", "-s", "64x64")
    assert (ran.code, ran.err) == (2, "kiln: line 5: width: must be greater than or equal to 64, not 3\n")
    for bad in ("{", '{"prompt": "x" "seed": 1}', '{"prompt": "x",}', "{'prompt': 1}"):
        file.write_text("\n".join([*lines, bad]))
        ran = run("batch", file, "-m", "demo")
        assert re.fullmatch(r"kiln: line 5: is not JSON: [^:]+ at character \d+\n", ran.err)
        assert "line 1" not in ran.err
    for bad in ("{", '{"a":' * 30_000, '{"prompt": 7}'):
        file.write_text("\n".join([*lines, bad]))
        ran = run("batch", file, "-m", "demo")
        assert ran.code == 2
        assert ran.err.startswith("kiln: line 5: ")
        assert ran.err.count("\n") == 1
    assert kiln.redis.dbsize() == 0
    file.write_text("\n".join(lines))
    ran = run("batch", file, "-m", "demo", "-s", "64x64", "--name", "night", "--json")
    specs = [RenderSpec.parse(job["spec"]) for job in ran.json]
    assert [(spec.prompt, spec.priority, spec.width) for spec in specs] == [
        ("a fox", "normal", 64),
        ("a hare", "high", 64),
        ("[red]verbatim[/]", "normal", 64),
    ]
    assert kiln.redis.scard("rq:group:night") == 3


@pytest.mark.parametrize("line", ["a fox", '{"prompt": "a fox", "seed": 5, "width": 256, "height": 320}'])
def test_a_byte_order_mark_is_dropped(run: Run, tmp_path: Path, line: str) -> None:
    file = tmp_path / "windows.txt"
    file.write_text(f"{line}\r\na hare\r\n", encoding="utf-8-sig")
    first, second = (RenderSpec.parse(job["spec"]) for job in run("batch", file, "-m", "demo", "--json").json)
    assert (first.prompt, second.prompt) == ("a fox", "a hare")
    if line != "a fox":
        assert (first.seed, first.width, first.height) == (5, 256, 320)


def test_status_of_one_and_of_several(run: Run, kiln: Kiln) -> None:
    kiln.submit_many([{"prompt": "x", "model": "demo"}] * 2, ids=["a", "b"])
    end(kiln, "b", "it said [red]no[/] :fire: [/x]")
    assert run("status", "a", "--json").json["state"] == "queued"
    assert [one["id"] for one in run("status", "b", "a", "--json").json] == ["b", "a"]
    shown = run("status", "b")
    assert shown.code == 0
    assert shown.out == "b  failed  it said [red]no[/] :fire: [/x]\n"
    missing = run("status", "nothing")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err.startswith("kiln: no job nothing in the queue")
    assert run("status", "no/id").code == 2


def test_watching_ends_as_the_jobs_ended(run: Run, kiln: Kiln) -> None:
    kiln.submit_many([{"prompt": "x", "model": "demo"}] * 3, ids=["a", "b", "c"])
    end(kiln, "a")
    end(kiln, "b", "why")
    end(kiln, "c", "why")
    assert run("watch", "a", "--json").code == 0
    assert run("watch", "b", "c").code == 1
    some = run("watch", "a", "b", "--json")
    assert some.code == 4
    told = [json.loads(line) for line in some.out.splitlines()]
    assert {one["id"]: one["state"] for one in told} == {"a": "finished", "b": "failed"}


def test_prompts_are_shown_as_they_were_typed(run: Run, kiln: Kiln) -> None:
    prompt = "[red]x[/] :fire: [/nothing]"
    kiln.submit(prompt=prompt, model="demo", id="mine")
    end(kiln, "mine", "why [b]not[/]")
    ran = run("submit", "-m", "demo", prompt, "--id", "mine", "--wait")
    assert ran.code == 1
    assert f"failed    mine  {prompt}  why [b]not[/]" in ran.out


def test_fetching_compares_and_renames(run: Run, kiln: Kiln, tmp_path: Path) -> None:
    kiln.submit_many([{"prompt": "x", "model": "demo"}] * 2, ids=["fetch-a", "fetch-b"])
    assert run("fetch", "fetch-b").code == 1
    end(kiln, "fetch-a")
    folder = tmp_path / "deep" / "home"
    ran = run("fetch", "fetch-a", "-o", folder, "--json")
    assert ran.json == [{"id": "fetch-a", "png": str(folder / "fetch-a.png")}]
    assert sorted(path.name for path in folder.iterdir()) == ["fetch-a.json", "fetch-a.png"]
    kiln.bucket.put("jobs/default/fetch-a/image.png", b"another", "image/png")
    bad = run("fetch", "fetch-a", "-o", tmp_path / "other")
    assert bad.code == 1
    assert "does not match its sidecar" in bad.err
    assert not (tmp_path / "other").exists()


def test_fetching_to_what_is_no_folder_is_one_line(run: Run, kiln: Kiln, tmp_path: Path) -> None:
    kiln.submit(id="fetch-c", prompt="x", model="demo")
    end(kiln, "fetch-c")
    (tmp_path / "file").touch()
    ran = run("fetch", "fetch-c", "-o", tmp_path / "file")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert str(tmp_path / "file") in ran.err


def test_only_a_jobs_own_objects_are_fetched(run: Run, kiln: Kiln) -> None:
    kiln.submit_many([{"prompt": "x", "model": "demo"}] * 2, ids=["own", "other"])
    end(kiln, "own")
    end(kiln, "other")
    kiln.bucket.put("jobs/default/own/sidecar.json", sidecar_of(kiln, "other"), "application/json")
    ran = run("fetch", "own")
    assert (ran.code, ran.err) == (1, "kiln: jobs/default/own/sidecar.json is of another job\n")
    job = Job.fetch("own", connection=kiln.redis, serializer=JSONSerializer)
    Result.create(job, Result.Type.SUCCESSFUL, 60, return_value=kiln.status("other").as_dict()["result"])
    ran = run("fetch", "own")
    assert (ran.code, ran.err) == (1, "kiln: the result of job own names other objects than its own\n")
    kiln.redis.delete("rq:job:own")
    assert kiln.statuses(["own"]) == {"own": None}


def sidecar_of(kiln: Kiln, job_id: str) -> bytes:
    body = kiln.bucket.get(f"jobs/default/{job_id}/sidecar.json")
    assert body is not None
    return body


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"\xff"])
def test_a_broken_sidecar_is_one_line(run: Run, kiln: Kiln, body: bytes) -> None:
    kiln.submit(id="fetch-d", prompt="x", model="demo")
    end(kiln, "fetch-d")
    kiln.bucket.put("jobs/default/fetch-d/sidecar.json", body, "application/json")
    ran = run("fetch", "fetch-d")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "jobs/default/fetch-d/sidecar.json is not a sidecar" in ran.err


def test_cancelling_says_what_it_did(run: Run, kiln: Kiln) -> None:
    kiln.submit_many([{"prompt": "x", "model": "demo"}] * 2, ids=["a", "b"])
    end(kiln, "b", "why")
    ran = run("cancel", "a", "b", "nothing", "--json")
    assert ran.code == 4
    assert ran.json == {"a": "queued", "b": "failed", "nothing": "unknown"}
    assert kiln.status("a").state == "cancelled"


def test_redis_away_is_exit_3_and_one_line_without_the_password(
    run: Run, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_to(environment["KILN_REDIS_URL"]) as proxy:
        proxy.cut()
        monkeypatch.setenv("KILN_REDIS_URL", through(proxy, environment["KILN_REDIS_URL"]))
        for arguments in (["submit", "x"], ["status"], ["status", "a"], ["cancel", "a"], ["watch", "a"]):
            ran = run(*arguments)
            assert ran.code == 3, arguments
            told = f"kiln: Redis at redis://{proxy.address}/0 is unreachable: it closes the connection"
            assert ran.err == f"{told} without an answer; see its log, and what stands between\n"


@pytest.mark.parametrize("synced", ["always", "everysec"])
def test_doctor_tells_how_soon_redis_keeps_what_it_accepts(run: Run, kiln: Kiln, synced: str) -> None:
    names = ("appendonly", "appendfsync")
    before = {name: kiln.redis.config_get(name)[name] for name in names}
    kiln.redis.config_set("appendonly", "yes")
    kiln.redis.config_set("appendfsync", synced)
    try:
        found = [one["found"] for one in run("doctor", "--json").json if one["what"] == "redis"]
    finally:
        for name in names:
            kiln.redis.config_set(name, before[name])
    assert found[0].endswith(f"answers, appendfsync {synced}")


def test_the_bucket_away_is_exit_3(run: Run, kiln: Kiln, monkeypatch: pytest.MonkeyPatch) -> None:
    kiln.submit(prompt="x", model="demo", id="mine")
    end(kiln, "mine")
    monkeypatch.setenv("KILN_S3_BUCKET", "not-there")
    ran = run("fetch", "mine")
    assert ran.code == 3
    assert "does not exist; create it, or name another in KILN_S3_BUCKET" in ran.err


def test_a_bad_setting_is_exit_2_and_names_its_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_RESULT_DAYS", "many")
    ran = run("submit", "x")
    assert ran.code == 2
    assert ran.err.startswith("kiln: KILN_RESULT_DAYS: ")


def test_the_schema_is_the_specs(run: Run) -> None:
    assert run("schema").json == RenderSpec.model_json_schema()


def test_q4_is_warned_of(run: Run) -> None:
    ran = run("submit", "x", "-m", "demo", "-q", "q4")
    assert ran.code == 0
    assert ran.err == "kiln: q4 darkens pictures; q6 is the smallest that does not\n"


def test_a_model_that_no_worker_serves_is_told(run: Run, kiln: Kiln) -> None:
    kiln.redis.hset("rq:worker:w", mapping={"queues": "demo:bf16"})
    kiln.redis.sadd("rq:workers", "rq:worker:w")
    told = run("submit", "a fox", "-m", "hidream-o1-dev")
    assert told.code == 0
    assert "no worker serves hidream-o1-dev:q6 now (there is demo:bf16)" in told.err
    assert "no worker" not in run("submit", "a fox", "-m", "demo").err


def test_who_waits_is_told_where_no_worker_is(run: Run, kiln: Kiln, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(kiln: Kiln, prompts: dict[str, str], *_: object, **__: object) -> dict[str, JobStatus]:
        for job_id in prompts:
            end(kiln, job_id, "why")
        return {job_id: kiln.status(job_id) for job_id in prompts}

    monkeypatch.setattr(told, "follow", ended)
    line = "kiln: no worker is there now; it waits until one is: kiln worker\n"
    command = ["submit", "a fox", "-m", "demo", "-q", "bf16", "--id", "mine"]
    assert run(*command, "--wait").err == line
    assert run(*command, "--wait").err == ""  # it has ended
    assert run("submit", "a hare", "-m", "demo", "-q", "bf16").err == ""
    kiln.redis.hset("rq:worker:w", mapping={"queues": "demo:bf16"})
    kiln.redis.sadd("rq:workers", "rq:worker:w")
    assert run("submit", "a hen", "-m", "demo", "-q", "bf16", "--wait").err == ""


@pytest.mark.parametrize(
    ("size", "largest", "told"),
    [
        ("512x512", '{"demo:bf16": 256}', True),
        ("256x256", '{"demo:bf16": 256}', False),
        ("512x512", "[", False),
    ],
)
def test_a_job_beyond_every_worker_is_told(run: Run, kiln: Kiln, size: str, largest: str, told: bool) -> None:
    about = {"queues": "demo:bf16", "kiln_memory": "1", "kiln_largest": largest}
    kiln.redis.hset("rq:worker:small", mapping=about)
    kiln.redis.sadd("rq:workers", "rq:worker:small")
    ran = run("submit", "-m", "demo", "-s", size, "x")
    assert ran.code == 0
    assert ("at most 256 x 256; it fails unless a larger worker comes first" in ran.err) == told
