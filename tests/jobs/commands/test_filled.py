"""What submit and batch fill in, what they tell of it, and the options that only some models have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, RenderSpec
from pixelkiln.jobs.schema import schema_of
from tests.jobs.commands.running import Run


@pytest.fixture
def serving(kiln: Kiln) -> Callable[[str], None]:
    """Let a worker be there that serves these kinds."""

    def act(kinds: str) -> None:
        kiln.redis.hset("rq:worker:w", mapping={"queues": kinds})
        kiln.redis.sadd("rq:workers", "rq:worker:w")

    return act


def specs(told: str) -> list[RenderSpec]:
    return [RenderSpec.parse(job["spec"]) for job in json.loads(told)]


def test_a_prompt_alone_takes_what_is_served(run: Run, serving: Callable[[str], None]) -> None:
    serving("demo:bf16,z-image-turbo:q8,z-image-turbo:q4")
    ran = run("submit", "a fox", "--json")
    assert (ran.code, ran.err) == (0, "kiln: z-image-turbo:q8, 1024 x 1024\n")
    (spec,) = specs(ran.out)
    assert (spec.model, spec.quantization) == ("z-image-turbo", "q8")
    assert run("submit", "a fox", "-m", "demo").err == "kiln: demo:bf16\n"
    assert run("submit", "a fox", "-m", "z-image-turbo", "-q", "q8").err == ""


def test_the_settings_model(
    run: Run, serving: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KILN_MODEL", "z-image-turbo:q6")
    file = tmp_path / "prompts.txt"
    file.write_text('a fox\n{"prompt": "a hare", "model": "demo"}\na hen')
    ran = run("batch", file, "-s", "64x64")
    assert ran.err.partition("\n")[2] == "kiln: z-image-turbo:q6 (2 jobs)\nkiln: demo:bf16\n"
    serving("demo:bf16")
    assert "no worker serves z-image-turbo:q6 now (there is demo:bf16)" in run("submit", "a fox").err
    monkeypatch.setenv("KILN_MODEL", "z-image-turbo:q7")
    assert run("submit", "a fox").err == (
        "kiln: KILN_MODEL: z-image-turbo has bf16, q8, q6, q5, q4, not 'q7'\n"
    )


def test_an_edit_tells_the_size_that_follows(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (150, 93), "red").save(tmp_path / "red.png")
    edit = ("submit", "a hat", "--ref", tmp_path / "red.png", "--json")
    ran = run(*edit, "-m", "flux2-klein-4b", "-q", "q6")
    assert ran.err == "kiln: flux2-klein-4b:q6, 144 x 80\n"
    ran = run(*edit, "-m", "z-image-turbo", "-q", "q6", "--strength", "0.5", "-s", "96x64")
    assert ran.err == ""
    (spec,) = specs(ran.out)
    assert (spec.strength, spec.width, len(spec.references)) == (0.5, 96, 1)
    ran = run(*edit, "-m", "qwen-image-edit-2511", "-q", "q6", "--negative-prompt", "dark", "--guidance", "3")
    (spec,) = specs(ran.out)
    assert (spec.negative_prompt, spec.guidance) == ("dark", 3)
    assert (spec.width, spec.height) == (1312, 800)


def test_the_schedules_cliff_is_told_once(run: Run) -> None:
    told = run("submit", "a fox", "a hare", "-y", "-m", "flux2-klein-4b", "-q", "q6", "-s", "1056x1056").err
    assert told == (
        "kiln: above 1,100,800 pixels flux2-klein-4b runs another schedule, and its pictures are reported"
        " worse just above it\n"
    )
    assert run("submit", "a fox", "-m", "flux2-klein-4b", "-q", "q6", "-s", "1376x800").err == ""
    assert run("submit", "a fox", "-m", "z-image-turbo", "-q", "q6", "-s", "1056x1056").err == ""


def test_a_line_of_a_batch_takes_the_fields_by_name(run: Run, kiln: Kiln, tmp_path: Path) -> None:
    file = tmp_path / "batch.jsonl"
    line = {"prompt": "a fox", "model": "qwen-image", "quantization": "q6", "negative_prompt": "a hat"}
    file.write_text(json.dumps(line))
    assert specs(run("batch", file, "--json").out)[0].negative_prompt == "a hat"
    file.write_text('"a fox"\n\n' + json.dumps({**line, "model": "demo"}))
    ran = run("batch", file, "-m", "demo")
    assert (ran.code, ran.err) == (2, "kiln: line 3: negative_prompt: demo takes none; leave it out\n")


def test_the_schema_of_one_model(run: Run) -> None:
    assert run("schema", "--model", "z-image-turbo").json == schema_of("z-image-turbo")
    ran = run("schema", "-m", "none")
    assert (ran.code, ran.err.startswith("kiln: --model: no model 'none'; there are ")) == (2, True)


def test_the_help_says_which_model_takes_what(run: Run) -> None:
    told = "".join(run("submit", "--help").out.split())
    assert "renderedanew.Ofz-image-turbo." in told
    assert "Awayfromthis.Ofqwen-image,qwen-image-edit-2511,qwen-image-edit-2509." in told
