"""`kiln report`, `kiln battery` and `kiln prune`: what they write, print and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.batches.battery import GENRES, parse_seeds
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.storage.bucket import Bucket
from tests.jobs.commands.running import Run

SMALL = {"model": "demo", "quantization": "bf16", "width": 64, "height": 64}


def test_a_report_is_a_file_named_for_its_batch(run: Run, kiln: Kiln, tmp_path: Path) -> None:
    rows = [{**SMALL, "prompt": "a fox"}, {**SMALL, "prompt": "<hr>"}]
    kiln.cancel([kiln.batch(rows, name="night-1").ids[0]])  # type: ignore[arg-type]
    ran = run("report", "night-1")
    assert (ran.code, ran.out) == (0, "night-1.html\n")
    assert ran.err == "night-1: 1 cancelled, 1 waiting\n"
    assert "&lt;hr&gt;" in (tmp_path / "night-1.html").read_text("utf-8")
    target = tmp_path / "told" / "of.json"
    assert run("report", "night-1", "--format", "json", "--out", target).code == 0
    assert json.loads(target.read_text())["totals"]["waiting"] == 1
    assert run("report", "night-1", "-f", "markdown").out == "night-1.md\n"


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("report", "nothing"), "no batch", 1),
        (("report", "../up"), "must be 1 to 64", 2),
        (("report", "night", "-f", "pdf"), "--format: must be html, markdown, json", 2),
        (("battery", "-m", "fox:q4"), "no model 'fox'", 2),
        (("battery", "-m", "demo:q7"), "demo has", 2),
        (("battery", "-m", "qwen-image-edit-2511"), "only edits pictures", 2),
        (("battery", "-m", "demo", "--seeds", "3-1"), "--seeds: '3-1' names no seeds", 2),
        (("prune", "--older", "soon"), "is no age", 2),
        (("prune", "--older", "3h"), "must be 1d or more", 2),
        (("prune", "--older", "30d", "--batch", "nothing"), "no batch nothing", 1),
    ],
)
def test_what_is_refused_is_refused_in_a_line(
    run: Run, arguments: tuple[str, ...], words: str, code: int
) -> None:
    ran = run(*arguments)
    assert ran.code == code
    assert words in ran.err
    assert ran.err.count("\n") == 1


def test_a_battery_asks_every_engine_for_the_same(run: Run, kiln: Kiln, tmp_path: Path) -> None:
    ran = run(
        "battery", "-m", "demo:bf16,demo:q8", "--seeds", "1-2", "-s", "64x64", "--name", "b", "--no-wait"
    )
    assert (ran.code, ran.out) == (0, "b\n")
    assert "b: 40 pictures" in ran.err
    run("report", "b", "-f", "json")
    jobs = json.loads((tmp_path / "b.json").read_text())["jobs"]
    asked = {
        engine: {
            (job["spec"]["labels"]["genre"], job["spec"]["prompt"], job["spec"]["seed"])
            for job in jobs
            if job["spec"].get("quantization", "bf16") == engine
        }
        for engine in ("bf16", "q8")
    }
    assert asked["bf16"] == asked["q8"] == {(g, p, seed) for g, p in GENRES.items() for seed in (1, 2)}
    assert len(GENRES) == len(set(GENRES.values())) == 10


def test_seeds_are_read() -> None:
    assert parse_seeds("1, 3-5,4") == [1, 3, 4, 5]
    with pytest.raises(UsageError, match="more than 100"):
        parse_seeds("1-9999999999")


def test_a_prune_of_young_things_deletes_none(run: Run, kiln: Kiln, bucket: Bucket, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    key = keys.REFERENCE("default", kiln.upload(tmp_path / "red.png"))
    bucket.put(keys.MANIFEST("default", "night"), b'{"name": "night"}\n', "text/plain")
    assert run("prune", "--older", "1d", "--batch", "night").out == "deleted: 0\n"
    told = run("prune", "--older", "30d", "--dry-run", "--json").json
    assert key not in [one["key"] for one in told["doomed"]]
    assert told["deleted"] == []
    assert bucket.head(key)
