"""What a worker tells of itself while it works: numbers, whether it lives, whether it takes jobs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.errors import StorageAwayError
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.host import pages
from pixelkiln.worker.host.pages import Page, Pages
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.service import Service
from tests.waiting import until
from tests.worker.watched import get, scraped, total
from tests.worker.working import all_ended, working


@pytest.fixture
def settings(settings: Settings) -> Settings:
    key = SecretStr("a-key-for-the-one-who-watches")
    return settings.model_copy(update={"metrics": "127.0.0.1:0", "admin_key": key})


def address(service: Service) -> str:
    """Where it can be watched; waits until it works."""
    (watch,) = (one for one in service._beside if isinstance(one, Pages))
    until(watch.is_alive, "it can be watched")
    return watch.address


def test_a_worker_counts_what_it_does(
    service: Service, submit: Callable[..., str], kiln: Kiln, settings: Settings
) -> None:
    seen: dict[str, Any] = {}
    good = [submit(prompt="the secret fox", seed=one, steps=4, client="acme") for one in range(2)]
    bad = submit()
    kiln.redis.hset(f"rq:job:{bad}", "data", b"garbage")
    done = all_ended(kiln, [*good, bad])

    def look() -> bool:
        seen["where"] = where = address(service)
        seen.update(text=get(where, "/metrics")[1], numbers=scraped(where), ready=get(where, "/readyz"))
        return done() and total(seen["numbers"], "kiln_jobs_total", end="finished") == 2

    working(service, look)
    numbers, kind = seen["numbers"], {"model": "demo", "quantization": "bf16"}
    assert total(numbers, "kiln_jobs_total", end="finished", **kind) == 2
    assert total(numbers, "kiln_jobs_total", end="failed", **kind) == 1
    assert total(numbers, "kiln_jobs_total", end="quarantined", **kind) == 0
    assert total(numbers, "kiln_image_seconds_count", **kind) == 2
    assert total(numbers, "kiln_step_seconds_count", **kind) == 8
    assert total(numbers, "kiln_step_seconds_bucket", le="+Inf", **kind) == 8
    assert total(numbers, "kiln_model_load_seconds_count", **kind) == 1
    busy, image = (total(numbers, f"kiln_{one}") for one in ("gpu_busy_seconds_total", "image_seconds_sum"))
    assert 0 < total(numbers, "kiln_step_seconds_sum") < busy
    assert busy < image + 5
    assert total(numbers, "kiln_model_resident", **kind) == 1
    assert total(numbers, "kiln_mlx_peak_bytes") > 100_000
    assert total(numbers, "kiln_memory_budget_bytes") > total(numbers, "kiln_memory_resident_bytes") > 0
    for name in ("redis_errors_total", "upload_retries_total", "jobs_recovered_total", "failures_in_a_row"):
        assert total(numbers, f"kiln_{name}") in (0, 1)
    assert total(numbers, "kiln_redis_up") == total(numbers, "kiln_storage_up") == 1
    assert dict(next(iter(numbers["kiln_worker_info"])))["worker"] == service.name
    told = seen["text"]
    assert not re.search("secret|acme|" + "|".join(good), told)
    with pytest.raises(OSError, match="refused"):
        get(seen["where"], "/healthz")


def test_labels_are_of_what_is_served(service: Service) -> None:
    """A lane is named by strangers: what it is called is not taken over."""
    from pixelkiln.jobs.lanes import Lane

    lanes = [Lane.parse(f"kiln:stranger-{one}:bf16:normal:x") for one in range(50)]
    for lane in [*lanes, Lane.parse("kiln:demo:bf16>123:normal:x")]:
        assert lane is not None
        service._tally.ended("quarantined", *lane.counted_as)
    assert service._tally.counts() == {
        ("kiln_jobs_total", "quarantined", "other", "other"): 50,
        ("kiln_jobs_total", "quarantined", "demo", "bf16"): 1,
    }
    service._spool.close()


def test_whether_it_takes_jobs_and_why_not(
    service: Service, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    away: list[StorageAwayError] = []
    monkeypatch.setattr(
        type(service._delivery), "trouble", property(lambda self: str(away[0]) if away else None)
    )

    def ready() -> tuple[int, str]:
        return get(address(service), "/readyz")

    def act() -> bool:
        where = address(service)
        until(lambda: ready() == (200, "ready\n"), "it takes jobs")
        kiln.pause(Target("farm"))
        until(lambda: ready()[0] == 503, "it is paused")
        told.append(ready()[1])
        assert get(where, "/healthz") == (200, "ok\n")
        kiln.resume(Target("farm"))
        until(lambda: ready()[0] == 200, "it takes jobs again")
        service._spool.free = lambda: 0  # type: ignore[method-assign]
        until(lambda: ready()[0] == 503, "the disk is full")
        told.append(ready()[1])
        assert total(scraped(where), "kiln_ready") == 0
        del service._spool.free  # type: ignore[attr-defined]
        until(lambda: ready()[0] == 200, "there is room again")
        away.append(StorageAwayError("the bucket is away"))
        told.append(ready()[1])
        assert total(scraped(where), "kiln_storage_up") == 0
        return True

    working(service, act)
    assert told[0] == "takes no jobs: the farm is paused\n"
    assert told[1].startswith("takes no jobs: the spool's disk is nearly full")
    assert told[2] == "cannot deliver: the bucket is away\n"


def test_outside_its_window_it_is_not_ready(settings: Settings) -> None:
    service = Service(settings, ["demo"])
    service._intake.hours.asleep = lambda: "sleeps until 22:00"  # type: ignore[method-assign]
    told: list[tuple[int, str]] = []

    def asleep() -> bool:
        told.append(get(address(service), "/readyz"))
        return told[-1][1] != "starting\n"

    working(service, asleep)
    assert told[-1] == (503, "sleeps until 22:00\n")


def test_errors_of_servers_are_counted(service: Service, claims: object) -> None:
    uploader = service._delivery._uploader
    uploader._count(StorageAwayError("away"), True)
    uploader._count(redis.ConnectionError("away"), False)
    counts = service._tally.counts()
    assert counts["kiln_storage_errors_total", "away"] == counts["kiln_upload_retries_total",] == 1
    assert counts["kiln_redis_errors_total",] == 1
    service._spool.close()


def test_a_port_that_is_taken_keeps_no_worker_from_working(
    settings: Settings, submit: Callable[..., str], kiln: Kiln, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = settings.model_copy(update={"metrics": f"127.0.0.1:{other.getsockname()[1]}"})
        service = Service(taken, ["demo"])
        job_id = submit()
        working(service, all_ended(kiln, [job_id]))
    assert kiln.status(job_id).state == "finished"
    assert "KILN_METRICS: 127.0.0.1:" in caplog.text
    assert "cannot be listened on (Address already in use)" in caplog.text


@pytest.fixture
def served() -> Pages:
    def broken() -> Page:
        raise RuntimeError("broken")

    return Pages(("127.0.0.1", 0), {"/ok": lambda: Page(b"ok"), "/broken": broken})


def test_bad_callers_cost_their_own_place_for_seconds(served: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LONGEST", 0.3)
    served.start()
    assert served.server is not None
    where = served.address
    with ExitStack() as stack:
        for junk in (b"", b"GET ", b"\0" * 9000, b"POST / HTTP/1.1\r\n\r\n", b"GET /ok HTTP/1.1\r\nX: ") * 3:
            caller = stack.enter_context(socket.create_connection(served.server.server_address))
            try:
                caller.sendall(junk)
            except OSError:  # all places are taken
                continue
        until(lambda: _answered(where), "one of the silent ones is cut off")
        until(lambda: served.server is not None and not served.server.open, "all of them are")
        assert get(where, "/broken") == (500, "this cannot be told now; see the worker's log\n")
        assert get(where, "/nothing")[0] == 404
        assert get(where, "/ok?x=1") == (200, "ok")
    assert served.is_alive()
    served.stop()
    assert not served.is_alive()


def _answered(where: str) -> bool:
    try:
        return get(where, "/ok") == (200, "ok")
    except OSError:
        return False


def test_who_comes_while_all_places_are_taken_is_sent_away(served: Pages) -> None:
    served.start()
    assert served.server is not None
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(served.server.server_address))
            for _ in range(pages.AT_ONCE)
        ]
        until(lambda: len(served.server.open) == pages.AT_ONCE, "all places are taken")
        with socket.create_connection(served.server.server_address, timeout=10) as late:
            assert late.recv(10) == b""
        assert len(silent) == pages.AT_ONCE
    served.stop()


def test_settings_say_what_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from pixelkiln.jobs import UsageError

    monkeypatch.setenv("KILN_METRICS", "9464")
    assert Settings.here().metrics == "127.0.0.1:9464"
    for wrong in ("here", "127.0.0.1:", "127.0.0.1:99999", "[::1", "a b:1"):
        monkeypatch.setenv("KILN_METRICS", wrong)
        with pytest.raises(UsageError, match="KILN_METRICS: must be HOST:PORT"):
            Settings.here()
    assert json.dumps(Settings(metrics="[::1]:9464").metrics) == '"[::1]:9464"'


def test_a_cancelled_job_is_counted_as_lost(service: Service, submit: Callable[..., str], kiln: Kiln) -> None:
    job_id, cancelled = submit(width=512, height=512), list[object]()

    def look() -> bool:
        if not cancelled and kiln.status(job_id).step > 1:
            cancelled.append(kiln.cancel([job_id]))
        return total(scraped(address(service)), "kiln_jobs_total", end="lost", model="demo") == 1

    working(service, look)
    assert cancelled == [{job_id: "started"}]


def test_what_a_dead_worker_left_is_counted_as_recovered(
    settings: Settings, submit: Callable[..., str], kiln: Kiln, make_claims: Callable[..., Claims]
) -> None:
    job_id = submit()
    claim = make_claims("dead").take(["demo:bf16"])
    assert claim is not None
    spool = Spool(settings.spool_dir)
    spool.mark(claim)
    spool.close()
    service = Service(settings, ["demo"])

    def look() -> bool:
        return total(scraped(address(service)), "kiln_jobs_recovered_total") == 1

    working(service, look)
    until(lambda: kiln.status(job_id).state != "started", "it is nobody's")


def test_who_only_gives_back_needs_no_prometheus() -> None:
    """`kiln reap` and doctor work where the worker's packages are not installed."""
    code = "import sys, pixelkiln.worker.queue.claims; print('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
