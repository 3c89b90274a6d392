"""The examples of docs/wire.md, run as they stand there, by a real worker on a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.worker.commands.app import main
from tests.waiting import until
from tests.worker.working import Work

DOCUMENT = Path(__file__).parents[2] / "docs" / "wire.md"
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE))
NODE_MODULES, GO_PATH = "/usr/share/nodejs", "/usr/share/gocode"  # where Debian has its packages

# How each is run, and what tells that its client is there
RUN: dict[str, tuple[list[str], list[str]]] = {
    "sh": (["sh"], ["redis-cli", "--version"]),
    "php": (["php"], ["php", "-r", "exit(class_exists('Redis') ? 0 : 1);"]),
    "js": (["node"], ["node", "-e", "require('redis')"]),
    "go": (["go", "run"], ["go", "list", "github.com/gomodule/redigo/redis"]),
}
ENVIRONMENT = {"NODE_PATH": NODE_MODULES, "GOPATH": GO_PATH, "GO111MODULE": "off", "GOFLAGS": ""}


def test_the_document_has_an_example_of_each() -> None:
    assert list(BLOCKS) == list(RUN)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Begin an example with some of its text changed; skips where its interpreter or client is not there."""
    assert settings.redis_url is not None
    url = settings.redis_url.get_secret_value().replace("//:", "//default:")
    parts = urlsplit(url)
    environment = os.environ | ENVIRONMENT | {"GOCACHE": str(tmp_path / "cache"), "REDIS_URL": url}
    environment |= {"REDIS_HOST": str(parts.hostname), "REDIS_PORT": str(parts.port)}
    environment |= {"REDIS_USER": str(parts.username), "REDISCLI_AUTH": str(parts.password)}
    begun: list[subprocess.Popen[str]] = []

    def act(language: str, before: str = "", after: str = "") -> subprocess.Popen[str]:
        command, probe = RUN[language]
        if (
            shutil.which(probe[0]) is None
            or subprocess.run(probe, capture_output=True, env=environment).returncode
        ):
            pytest.skip(f"no {probe[0]} here, or no Redis client for it")
        assert before in BLOCKS[language]
        (tmp_path / f"example.{language}").write_text(
            BLOCKS[language].replace(before, after) if before else BLOCKS[language]
        )
        begun.append(
            subprocess.Popen(
                [*command, f"example.{language}"],
                cwd=tmp_path,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
            )
        )
        return begun[-1]

    yield act
    for process in begun:
        process.kill()
        process.communicate()


def told(process: subprocess.Popen[str]) -> list[str]:
    """The four lines that an example ends with: id, status, result and error."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [line.strip() for line in output.split("\n")[:-1]][-4:]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("language", RUN)
def test_an_example_renders(language: str, start: Start, kiln: Kiln, work: Work, tmp_path: Path) -> None:
    process = start(language)
    work(lambda: process.poll() is not None)
    job_id, status, result, error = told(process)
    assert (status, error) == ("finished", "")
    found = kiln.status(job_id)
    assert found.result is not None
    assert json.loads(result) == {
        "png": found.result.png,
        "sidecar": found.result.sidecar,
        "sha256": found.result.sha256,
    }
    assert kiln.fetch(job_id, tmp_path).read_bytes().startswith(b"\x89PNG")
    assert kiln.sidecar(job_id).spec.prompt == "a red fox in the snow"
    assert kiln.redis.exists(keys.EARLY(found.lane)) == 0


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("language", RUN)
def test_an_example_is_told_why_it_failed(language: str, start: Start, kiln: Kiln, work: Work) -> None:
    process = start(language, "256", "100")
    work(lambda: process.poll() is not None)
    job_id, status, result, error = told(process)
    assert (status, result) == ("failed", "")
    line = "width: 100 is not a multiple of 32; the nearest are 96 and 128"
    assert json.loads(error) == {"error": line}
    assert kiln.status(job_id).error == line


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("language", RUN)
def test_the_commands_know_such_a_job(
    language: str,
    start: Start,
    kiln: Kiln,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = start(language)
    lane = "kiln:demo:bf16:normal:default"
    (waiting,) = until(lambda: kiln.redis.lrange(keys.QUEUE(lane), 0, -1), "it is sent", 60)
    job_id = waiting.decode()
    until(lambda: kiln.redis.exists(keys.JOB(job_id)), "its record is there")

    def run(*words: str) -> Any:
        monkeypatch.setattr("sys.argv", ["kiln", *words, "--json"])
        with pytest.raises(SystemExit):
            main()
        return json.loads(capsys.readouterr().out)

    found = run("status", job_id)
    assert (found["state"], found["lane"]) == ("queued", lane)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", found["submitted_at"])
    assert run("cancel", job_id) == {job_id: "queued"}
    assert run("watch", job_id)["state"] == "cancelled"
    assert told(process) == [job_id, "canceled", "", ""]
