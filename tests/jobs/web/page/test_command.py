"""A picture's command, read by a shell and by the command itself."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import typer.main

import pixelkiln.jobs.commands.submit  # noqa: F401 # it makes itself known
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.web.page.command import command

DEMO = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64, "seed": 0}


def words_of(text: str) -> list[str]:
    """What a shell makes of it."""
    ran = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {text}"], capture_output=True, env={"LC_ALL": "C.UTF-8"}, timeout=20
    )
    return ran.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize(
    "prompt",
    [
        "a fox",
        "--client=other",
        'it\'s "quoted" $(whoami) `x` \\n !! \\',
        "two\nlines",
        "\u0645\u0646 caf\u00e9 \u202e turned it's \\ \U000e0041",
        "x" * 4000,
    ],
)
def test_a_shell_and_the_command_read_what_was_asked_for(prompt: str) -> None:
    spec = RenderSpec.parse({**DEMO, "prompt": prompt, "labels": {"a": "b 'c'"}, "priority": "low"})
    text = command(spec)
    assert all(plain(line) == line for line in text.split("\n"))  # a terminal only shows it
    name, verb, *words = words_of(text)
    assert (name, verb) == ("kiln", "submit")
    given: dict[str, Any] = (
        typer.main.get_command(app).commands["submit"].make_context("submit", words).params  # type: ignore[attr-defined]
    )
    assert given["prompts"] == [prompt]
    assert (given["model"], given["quantization"], given["size"]) == ("demo", "bf16", "64x64")
    assert (given["seed"], given["label"], given["priority"]) == (0, ["a=b 'c'"], "low")


def test_all_that_a_spec_says_is_said() -> None:
    spec = RenderSpec.parse(
        {
            "prompt": "a room",
            "model": "qwen-image-edit-2511",
            "quantization": "q6",
            "width": 1024,
            "height": 1024,
            "seed": 3,
            "steps": 20,
            "guidance": 4.0,
            "negative_prompt": "blurred",
            "references": ["ab" * 32],
        }
    )
    _, _, *words = words_of(command(spec))
    given = typer.main.get_command(app).commands["submit"].make_context("submit", words).params  # type: ignore[attr-defined]
    assert (given["steps"], given["guidance"], given["negative_prompt"]) == (20, 4.0, "blurred")
    assert [str(path) for path in given["ref"]] == ["abababababab.png"]
