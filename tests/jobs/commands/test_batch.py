"""`kiln batch`: all rows are checked before one is sent, and what it says of them."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from rq.job import Job
from rq.registry import FinishedJobRegistry
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, RenderSpec
from pixelkiln.jobs.batches import estimate
from pixelkiln.jobs.storage import objects
from tests.jobs.commands.running import Run

Save = Callable[[str, object], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def act(name: str, content: object) -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return act


def sent(out: str) -> list[RenderSpec]:
    return [RenderSpec.parse(job["spec"]) for job in json.loads(out)]


def test_a_table_is_sent_as_it_reads(run: Run, save: Save) -> None:
    file = save("night.csv", "prompt,size,seeds,label.set\na fox,64x96,1-2,a\na hare,,7;9,b\n")
    ran = run("batch", file, "-m", "demo", "-s", "64x64", "--json")
    assert (ran.code, [(one.prompt, one.height, one.seed, one.labels["set"]) for one in sent(ran.out)]) == (
        0,
        [("a fox", 96, 1, "a"), ("a fox", 96, 2, "a"), ("a hare", 64, 7, "b"), ("a hare", 64, 9, "b")],
    )


def test_fewer_steps_go_by_each_rows_size_and_leave_what_names_its_own(run: Run, save: Save) -> None:
    file = save("night.csv", "prompt,size,steps\na fox,256x320,\na fox,384x512,\na fox,384x512,20\n")
    draft, fast = (
        sent(run("batch", file, "-m", "demo", option, "--json").out) for option in ("--draft", "--fast")
    )
    assert [(one.steps, one.coarse_steps) for one in draft] == [(8, 2), (14, 10), (20, 0)]
    assert [(one.steps, one.coarse_steps) for one in fast] == [(None, 14), (None, 21), (20, 0)]


def test_fewer_steps_of_a_model_that_takes_none_are_refused(run: Run, save: Save) -> None:
    ran = run("batch", save("night.csv", "prompt,model\na fox,demo\na hare,z-image-turbo\n"), "--draft")
    assert (ran.code, ran.out) == (2, "")
    assert "line 3: coarse_steps: " in ran.err


def test_standard_input_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'["a fox", "a hare"]')))
    assert [one.prompt for one in sent(run("batch", "-", "-m", "demo", "--json").out)] == ["a fox", "a hare"]


def test_all_faults_are_told_at_once_and_nothing_is_sent(run: Run, kiln: Kiln, save: Save) -> None:
    rows = [{"prompt": "x", "seed": -1 if n % 4 == 0 else n} for n in range(100)]
    rows[2] = {"promt": "x"}
    file = save("night.jsonl", "\n".join(map(json.dumps, rows)))
    ran = run("batch", file, "-m", "demo")
    lines = ran.err.split("\n")
    assert (ran.code, ran.out) == (2, "")
    assert lines[0] == "kiln: 26 rows are refused, and nothing was sent:"
    assert (
        lines[1] == "line 1: seed: must be greater than or equal to 0, not -1; leave it out, and one is drawn"
    )
    assert lines[2] == "line 3: promt: no such field; did you mean prompt?"
    assert lines[-2:] == ["and 6 more", ""]
    assert kiln.redis.dbsize() == 0


def test_skip_bad_sends_the_good_rows_and_names_the_others(run: Run, kiln: Kiln, save: Save) -> None:
    file = save("night.csv", "prompt,seed\na fox,5\na hare,x\n,6\na hen,7\n")
    ran = run("batch", file, "-m", "demo", "--skip-bad", "--json")
    assert ran.code == 4
    assert [one.prompt for one in sent(ran.out)] == ["a fox", "a hen"]
    assert ran.err.startswith(
        "kiln: 2 rows are refused, the others sent:\n"
        "line 3: seed: must be a whole number, not 'x'\nline 4: prompt: is missing\n"
    )
    worse = run("batch", save("bad.csv", "prompt,seed\na hare,x\n"), "-m", "demo", "--skip-bad")
    assert (worse.code, worse.err) == (2, "kiln: line 2: seed: must be a whole number, not 'x'\n")
    assert kiln.redis.llen("rq:queue:kiln:demo:bf16:normal:default") == 2


def test_what_yaml_takes_for_no_text_or_flag_is_refused_in_words(run: Run, save: Save) -> None:
    rows = "- prompt: 1984\n- {prompt: a hat, keep_aspect: no}\n- {prompt: a fox, label.take: 3}"
    assert run("batch", save("a.yaml", rows), "-m", "demo").err.split("\n")[1:] == [
        "line 1: prompt: must be text; put it in quotes",
        "line 2: keep_aspect: must be a valid boolean, not 'no'; write false",
        "line 3: labels.take: must be text; put it in quotes",
        "",
    ]


def test_rows_that_repeat_are_told_and_kept(run: Run, save: Save) -> None:
    ran = run("batch", save("a.txt", "a fox\na hare\na fox\na fox"), "-m", "demo", "-q", "bf16")
    assert (ran.code, len(ran.out.split())) == (0, 4)
    told = ran.err.splitlines()[0]
    assert told == "kiln: 2 jobs repeat earlier ones, first in line 3; each is a picture of its own"


EDIT: dict[str, Any] = {"prompt": "a hat", "model": "flux2-klein-4b", "quantization": "q6"}


def test_a_picture_beside_the_file_is_uploaded_once(
    run: Run, kiln: Kiln, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (150, 93), "red").save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / "else").mkdir()
    rows = [{**EDIT, "ref": name, "seed": n} for n, name in enumerate(["a.png", "b.png", "./a.png"] * 3)]
    file = save("edits.json", rows)
    monkeypatch.chdir(tmp_path / "else")
    stored = []
    store = objects.put_reference
    monkeypatch.setattr(objects, "put_reference", lambda *a: stored.append(a) or store(*a))
    specs = sent(run("batch", file, "--json").out)
    assert [(one.width, one.height) for one in specs] == [(144, 80)] * 9
    assert len({one.references for one in specs}) == len(stored) == 1
    assert kiln.bucket.get(f"refs/default/{specs[0].references[0]}") == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.png", "No such file or directory"),
        ("bad.png", "the picture cannot be read"),
        ("thin.png", "2000 x 64 is too narrow; 8:1 is the limit, crop it"),
    ],
)
def test_a_picture_that_is_none_is_refused_before_anything_is_stored(
    run: Run, kiln: Kiln, save: Save, tmp_path: Path, name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    Image.new("RGB", (2000, 64)).save(tmp_path / "thin.png")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "good.png")
    file = save("edits.json", [{**EDIT, "ref": "good.png"}, {**EDIT, "ref": name}])
    monkeypatch.setattr(objects, "put_reference", None)
    ran = run("batch", file)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"kiln: line 1: ref: {tmp_path / name}: {told}")
    assert kiln.redis.dbsize() == 0


def worker(kiln: Kiln, name: str, serves: str = "demo:bf16") -> None:
    kiln.redis.hset(f"rq:worker:{name}", mapping={"queues": serves})
    kiln.redis.sadd("rq:workers", f"rq:worker:{name}")


def finish(kiln: Kiln, job_id: str, name: str, seconds: int, size: int) -> None:
    """End a job as that worker would have, after so long, with a picture of so many bytes."""
    job = Job(job_id, connection=kiln.redis, serializer=JSONSerializer)
    lane = kiln.status(job_id).lane
    stamp = "2026-01-01T00:{:02}:{:02}.000000Z"
    times = {"started_at": stamp.format(0, 0), "ended_at": stamp.format(*divmod(seconds, 60))}
    kiln.redis.hset(job.key, mapping={"status": "finished", "worker_name": name, **times})
    kiln.redis.lrem(f"rq:queue:{lane}", 0, job_id)
    FinishedJobRegistry(lane, kiln.redis).add(job, 3600)
    from rq.results import Result

    key = f"jobs/default/{job_id}/image.png"
    kiln.bucket.put(key, b"x" * size, "image/png")
    Result.create(job, Result.Type.SUCCESSFUL, 60, return_value={"png": key, "sidecar": "x", "sha256": "x"})


def test_a_dry_run_sends_nothing_and_says_what_it_would(run: Run, kiln: Kiln, save: Save) -> None:
    file = save(
        "night.yaml", "defaults: {model: demo, size: 64x64}\njobs:\n- prompt: a fox\n  seeds: 1-900\n"
    )
    ran = run("batch", file, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.split("\n")
    assert lines[0] == "night.yaml: 900 jobs, of which nothing was sent"
    assert lines[1] == "  line 3: a fox: demo:bf16, 64 x 64, seed 1"
    assert lines[6:9] == [
        "  and 895 more",
        "time: not known; no living worker serves demo:bf16",
        "space: at most 11.4 MB in the bucket",
    ]
    worker(kiln, "a")
    told = run("batch", file, "-n").out
    assert "time: not known; no living worker finished a job of demo:bf16 of late\n" in told
    assert set(kiln.redis.keys()) == {b"rq:workers", b"rq:worker:a"}


def test_a_dry_run_counts_by_what_finished_of_late(run: Run, kiln: Kiln, save: Save) -> None:
    worker(kiln, "a")
    worker(kiln, "b")
    spec = {"prompt": "x", "model": "demo", "width": 64, "height": 64}
    ids = [f"j{n}" for n in range(4)]
    kiln.submit_many([{**spec, "width": 128 if n == "j3" else 64} for n in ids], ids=ids)  # type: ignore[misc]
    for job_id, name, seconds in (("j0", "a", 10), ("j1", "a", 10), ("j2", "b", 30)):
        finish(kiln, job_id, name, seconds, 64 * 64)
    file = save("a.jsonl", json.dumps({**spec, "seeds": "1-720"}))
    # a: 6 a minute, b: 2, so 90 minutes for 720; a byte a pixel
    ran = run("batch", file, "--dry-run", "--out", file.parent / "new" / "folder")
    assert "time: about 1.5 hours on 2 workers that live, after 1 jobs that wait already\n" in ran.out
    assert "space: about 2.9 MB in the bucket, and as much in " in ran.out
    assert not (file.parent / "new").exists()
    found = run("batch", file, "-n", "--json").json
    assert (found["jobs"], len(found["first"]), found["refused"]) == (720, 5, [])
    assert found["estimate"]["hours"] == pytest.approx(1.5)
    assert estimate.estimate(kiln, [RenderSpec.parse({**spec, "width": 128})]).hours == pytest.approx(
        0.25 / 60
    )


def test_a_dry_run_tells_what_is_refused(run: Run, kiln: Kiln, save: Save) -> None:
    file = save("a.csv", "prompt,seed\na fox,5\na hare,x\n")
    ran = run("batch", file, "-m", "demo", "-n")
    assert (ran.code, ran.err) == (
        2,
        "kiln: 1 row is refused:\nline 3: seed: must be a whole number, not 'x'\n",
    )
    assert ran.out.startswith("a.csv: 1 job,")
    assert run("batch", file, "-m", "demo", "-n", "--skip-bad").code == 4
    assert run("batch", file, "-m", "demo", "-n", "--json").json["refused"] == [
        {"line": 3, "field": "seed", "message": "must be a whole number, not 'x'"}
    ]
    assert kiln.redis.dbsize() == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "xls"], "--format: 'xls' is none of csv, tsv, jsonl, json, yaml, text"),
        (["--seeds", "8"], "seeds: 8 may be one seed or so many; write seed: 8, or seeds: 1-8"),
        (["--size", "big"], "size: 'big' is not WIDTHxHEIGHT, for instance 1024x1024"),
        (["--format", "yaml"], "line 1: must be a list of jobs, or defaults: and jobs:"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    run: Run, kiln: Kiln, save: Save, arguments: list[str], told: str
) -> None:
    ran = run("batch", save("a.txt", "a fox"), "-m", "demo", *arguments)
    assert (ran.code, ran.err) == (2, f"kiln: {told}\n")
    assert kiln.redis.dbsize() == 0
