"""No answer is outside what the API says of itself, whatever is asked: by schemathesis, where it is there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pixelkiln import Kiln, Settings
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.web import limits, listening
from pixelkiln.jobs.web.api import events
from pixelkiln.testing import FakeKiln
from tests.jobs.web.serving import People, serving
from tests.jobs.web.test_matrix import DESCRIBED

EXAMPLES = os.environ.get("FUZZ", "")  # of each route; '' for the short variant
WHOLE = pytest.mark.skipif(not EXAMPLES, reason="the whole suite is: python -m tests.fuzz")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
RENDERS = "/v1/images/"  # which waits for a worker
CODES = range(200, 600)
SPEC = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="no schemathesis: pip install schemathesis"
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("tokens") / "tokens.json")


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is refused for asking often."""
    monkeypatch.setattr(limits.Rates, "take", lambda *about: 0.0)


@contextmanager
def at_work(fake: FakeKiln) -> Iterator[None]:
    """The worker in memory works, whatever it is ordered."""
    left = threading.Event()

    def work() -> None:
        idle = 0
        while not left.is_set():
            idle = 0 if fake.step() else idle + 1
            if idle % 100 == 99:  # now and then: each order is kept
                fake.start_worker()
                fake.resume(Target.parse("farm"))
            left.wait(0.01 if idle else 0)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def ask(where: str, there: dict[str, list[str]], folder: Path, *words: str) -> Counter[tuple[str, int]]:
    """Ask until all is asked: how often each route answered what. Fails with what schemathesis finds."""
    counted = folder / "counted.json"
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{where}/v1/openapi.json",
        "--checks",
        CHECKS,
    ]
    command += ["--max-examples", EXAMPLES or "3", "--suppress-health-check", "all", "--no-color"]
    command += ["--continue-on-failure", "--warnings", "off", "--request-timeout", "30", *words]
    if not EXAMPLES:
        command += ["--phases", "fuzzing"]  # without the hundreds that the description gives of each field
    more = {"SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "FUZZ_THERE": json.dumps(there)}
    more |= {"FUZZ_COUNTED": str(counted), "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    found = subprocess.run(command, env=os.environ | more, capture_output=True, text=True, cwd=folder)
    assert found.returncode == 0, found.stdout + found.stderr
    return Counter({(name, code): times for name, code, times in json.loads(counted.read_text())})


def planted(kiln: Kiln) -> dict[str, list[str]]:
    """Jobs in several states, and batches: their names, by what a path calls them."""
    jobs = [kiln.submit(**SPEC) for _ in range(4)]
    if isinstance(kiln, FakeKiln):
        kiln.work()
        kiln.next_fails()
        jobs.append(kiln.submit(**SPEC))
        kiln.work()
    jobs.append(kiln.submit(**SPEC))
    kiln.cancel([jobs[-1].id])
    batches = [kiln.batch([SPEC, {**SPEC, "seed": 1}], name) for name in ("night", "day")]
    batches[0].pause()
    return {"id": [one.id for one in jobs] + batches[0].ids, "name": [one.name for one in batches]}


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of events end with what stands."""

    async def stand(stream: listening.Stream, holds: Callable[[], bool], ends: bool = False) -> Any:
        for event in ():
            yield event

    monkeypatch.setattr(events, "events", stand)


@pytest.mark.parametrize("who", ["", pytest.param("one", marks=WHOLE)], ids=["admin", "client"])
@pytest.mark.parametrize("farm", ["memory", pytest.param("real", marks=WHOLE)])
def test_no_answer_is_another_than_described(
    who: str, farm: str, people: People, settled: None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    words: list[str] = []
    tokens = people.path if who else tmp_path / "none.json"
    if who:
        words += ["-H", f"Authorization: {people.headers(who)['Authorization']}"]
    with ExitStack() as stack:
        if farm == "memory":
            kiln: Kiln = FakeKiln()
            there = planted(kiln.as_client(who) if who else kiln)
            where = stack.enter_context(serving(kiln.settings, tokens, kiln))
            stack.enter_context(at_work(kiln))  # type: ignore[arg-type]
        else:
            settings: Settings = request.getfixturevalue("settings")
            with Kiln(settings) as kiln:
                there = planted(kiln.as_client(who) if who else kiln)
            where = stack.enter_context(serving(settings, tokens))
            words += ["--exclude-path-regex", RENDERS]
        found = ask(where, there, tmp_path, *words)
    described = {name for name, _ in DESCRIBED if not (farm == "real" and RENDERS in name)}
    answers = {name: {code: found[name, code] for code in CODES if found[name, code]} for name in described}
    print(f"\n{farm}, {who or 'admin'}: {found.total()} requests")
    for name in sorted(answers):
        print(f"  {name}: {answers[name]}")
    assert [name for name, codes in answers.items() if not codes] == []
