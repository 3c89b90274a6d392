"""The examples of docs/http.md and docs/http-go.md, run as they stand there, over a real worker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelkiln.jobs import Kiln, Settings
from tests.jobs.web.serving import People, serving
from tests.worker.working import Work

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = {
    name: text
    for page in ("http.md", "http-go.md")
    for name, text in re.findall(
        r"^```(\w+)\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
}
RUN = {"sh": ["sh"], "python": [sys.executable], "js": ["node"], "py": [sys.executable], "go": ["go", "run"]}
NEEDS = {"sh": "curl", "js": "node", "go": "go"}


def test_the_pages_have_an_example_of_each() -> None:
    assert list(BLOCKS) == list(RUN)


@pytest.fixture
def environment_of(settings: Settings, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Where the server is, and a token."""
    people = People(tmp_path / "tokens.json")
    with serving(settings, people.path) as where:
        yield {
            **os.environ,
            "KILN_URL": where,
            "KILN_TOKEN": people.tokens["one"],
            "GO111MODULE": "off",
            "GOFLAGS": "",
            "GOCACHE": str(tmp_path / "cache"),
        }


@pytest.mark.parametrize("language", RUN)
def test_an_example_renders(
    language: str, environment_of: dict[str, str], settings: Settings, work: Work, tmp_path: Path
) -> None:
    if language in NEEDS and shutil.which(NEEDS[language]) is None:
        pytest.skip(f"no {NEEDS[language]} here")
    (tmp_path / f"example.{language}").write_text(BLOCKS[language])
    process = subprocess.Popen(
        [*RUN[language], f"example.{language}"],
        cwd=tmp_path,
        env=environment_of,
        text=True,
        stdout=subprocess.PIPE,
    )
    work(lambda: process.poll() is not None)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    with Kiln(settings.model_copy(update={"client": "one"})) as kiln:
        sidecar = kiln.sidecar(told.split()[-1])
        whole = kiln.fetch(sidecar.job.id, tmp_path / "fetched").read_bytes()
    assert sidecar.spec.prompt == "a red fox in the snow"
    assert (tmp_path / "fox.png").read_bytes() == whole
