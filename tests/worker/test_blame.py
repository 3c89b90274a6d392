"""What a worker that dies is blamed on, and what the time it spent is charged to."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.worker import engines
from pixelkiln.worker.deliver.encoder import Encoder
from pixelkiln.worker.queue import heartbeat
from pixelkiln.worker.render.meter import Meter
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.renderer import Renderer
from pixelkiln.worker.service import Service
from tests.waiting import until
from tests.worker.queue.farm import charged
from tests.worker.working import Work, all_ended

# A worker that a poison kills as it starts; while there is one, pictures stay in hand-over.
WORKER = """
import os, signal, sys, time
from pathlib import Path
from pixelkiln.worker.deliver.encoder import Encoder
from pixelkiln.worker.render.renderer import Renderer
render, encode = Renderer.render, Encoder.encode

def poisoned(renderer, claim, *arguments):
    if claim.job_id.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    return render(renderer, claim, *arguments)

def held(encoder, rendered):
    while Path(HELD).exists():
        time.sleep(0.01)
    encode(encoder, rendered)

Renderer.render, Encoder.encode = poisoned, held
sys.argv[1:] = ["worker", "--model", "demo"]
from pixelkiln.worker.commands.app import main
main()
"""


def test_an_innocent_is_delivered_though_poisons_follow_it(
    submit: Callable[..., str], kiln: Kiln, environment: dict[str, str], tmp_path: Path
) -> None:
    innocent, *poisons = [submit(id=name) for name in ("innocent", "poison-1", "poison-2")]
    for poison in poisons:
        kiln.redis.hset(keys.BLAME(poison), "crashes", 1)  # elsewhere
    (tmp_path / "held").touch()
    code = f"HELD = {str(tmp_path / 'held')!r}\n{WORKER}"
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until(lambda: child.poll() is not None or all_ended(kiln, poisons)(), "it dies, or has no poison")  # noqa: B023
            if child.poll() is None:
                (tmp_path / "held").unlink()
                until(all_ended(kiln, [innocent]), "the innocent is delivered")
                break
            assert child.returncode == -signal.SIGKILL
        finally:
            child.kill()
            child.wait()
    assert kiln.status(innocent).state == "finished"
    assert not kiln.redis.exists(keys.BLAME(innocent))
    assert [kiln.status(poison).error.partition(":")[0] for poison in poisons] == ["quarantined"] * 2


def test_what_is_rendered_is_known_before_the_next_job_begins(
    service: Service, submit: Callable[..., str], work: Work, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PUBLISH", 60.0)  # the heartbeat tells nothing
    render, encode, seen = Renderer.render, Encoder.encode, threading.Event()
    accounts: list[dict[bytes, bytes]] = []

    def rendering(renderer: Renderer, *arguments: Any) -> Any:
        accounts.extend(kiln.redis.hgetall(key) for key in kiln.redis.keys("kiln:execution:first:*"))
        if len(accounts) > 1:  # as it stands before its own render, and before the next one
            seen.set()
        return render(renderer, *arguments)

    def encoding(encoder: Encoder, rendered: Any) -> None:
        assert seen.wait(60)
        encode(encoder, rendered)

    monkeypatch.setattr(Renderer, "render", rendering)
    monkeypatch.setattr(Encoder, "encode", encoding)
    work(all_ended(kiln, [submit(id="first"), submit(id="second")]))
    before, after = accounts[0], accounts[1]
    assert (before[b"handed"], after[b"handed"]) == (b"0", b"1")
    assert after[b"charged"] != before[b"charged"]  # an estimate before, less or more than it took


@pytest.mark.parametrize("ends", ["finished", "failed"])
def test_a_client_pays_for_what_held_the_worker_but_not_for_loading(
    service: Service,
    submit: Callable[..., str],
    work: Work,
    kiln: Kiln,
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
) -> None:
    clock = [0.0]
    load, references = engines.load, References.of

    def loading(*arguments: Any) -> Any:
        clock[0] += 1000.0
        return load(*arguments)

    def fetching(*arguments: Any) -> Any:
        clock[0] += 44.0
        if ends == "failed":
            raise RuntimeError
        return references(*arguments)

    service._renderer.meter = Meter(lambda: clock[0])
    monkeypatch.setattr(engines, "load", loading)
    monkeypatch.setattr(References, "of", fetching)
    job_id = submit()
    work(all_ended(kiln, [job_id]))
    assert kiln.status(job_id).state == ends
    assert charged(kiln) == 44.0


def test_what_is_handed_over_goes_back_before_what_followed_it(
    settings: Settings, submit: Callable[..., str], claims: Any, kiln: Kiln
) -> None:
    first, second, third = (submit(id=name) for name in ("first", "second", "third"))
    dead = Service(settings, ["demo"])
    held = [claims.take(["demo:bf16"]) for _ in range(2)]
    for claim in held:
        dead._spool.mark(claim)
    dead._spool.hand_over(held[0])
    dead._spool.close()
    reborn = Service(settings, ["demo"])
    reborn._recover()
    reborn._spool.close()
    assert [claims.take(["demo:bf16"]).job_id for _ in range(3)] == [first, second, third]
    assert [kiln.redis.hget(keys.BLAME(one), "crashes") for one in (first, second)] == [None, b"1"]
