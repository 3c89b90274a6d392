"""The farm over HTTP: with the farm in memory behind it, or with real servers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from pixelkiln import Settings
from pixelkiln.testing import FakeKiln
from tests.jobs.web.serving import People, serving

Door = Callable[[str], httpx.Client]
Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    """Who may; made once, since scrypt takes its time."""
    return People(tmp_path_factory.mktemp("tokens") / "tokens.json")


@pytest.fixture
def fake() -> FakeKiln:
    """The farm in memory, whose worker works when the test says so."""
    return FakeKiln()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """What is open until the test ends."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def local(fake: FakeKiln, opened: ExitStack, tmp_path: Path) -> httpx.Client:
    """Over the farm in memory, without tokens."""
    where = opened.enter_context(serving(fake.settings, tmp_path / "none.json", fake))
    return opened.enter_context(httpx.Client(base_url=where))


@pytest.fixture
def door(fake: FakeKiln, opened: ExitStack, people: People) -> Door:
    """Over the farm in memory, as one of those who have tokens: 'one', 'two' or 'admin'."""
    where = opened.enter_context(serving(fake.settings, people.path, fake))
    return lambda who: opened.enter_context(httpx.Client(base_url=where, headers=people.headers(who)))


@pytest.fixture
def real(settings: Settings, opened: ExitStack, people: People) -> Door:
    """Over Valkey and SeaweedFS, as one of those who have tokens."""
    where = opened.enter_context(serving(settings, people.path))
    return lambda who: opened.enter_context(httpx.Client(base_url=where, headers=people.headers(who)))


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Start]:
    """Run a command until it tells where it serves: its process, and where."""
    begun: list[subprocess.Popen[str]] = []

    def act(*words: str, **more: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-P", "-m", "pixelkiln", *words]
        process = subprocess.Popen(command, env=environment | more, stderr=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"https?://[^\s]+", line):
                return process, found[0]
        raise AssertionError(said)

    yield act
    for process in begun:
        process.kill()
        process.communicate()
