"""Ids that producers give: looked up before anything is sent, and never at the price of the submit."""

from __future__ import annotations

import json
import socket
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from pixelkiln.jobs import Kiln, Settings, SpecError, keys, known
from pixelkiln.jobs.errors import StorageAwayError
from pixelkiln.jobs.queue.door import CHUNK
from pixelkiln.jobs.queue.record import FUNCTION
from pixelkiln.testing import FakeKiln
from tests.wire import Proxy

Rewire = Callable[..., tuple[Settings, Proxy]]
SPEC: dict[str, Any] = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}


def record(**fields: Any) -> dict[str, Any]:
    return {"status": "finished", "data": json.dumps([FUNCTION, None, [{**SPEC, **fields}], {}])}


def stored(kiln: Kiln, name: str, **fields: Any) -> None:
    """A job that finished, and that only the bucket remembers."""
    farm = FakeKiln(kiln.settings)
    farm.submit({**SPEC, **fields}, id=name)  # type: ignore[arg-type]
    farm.wait([name])
    for key in (keys.PICTURE("default", name), keys.SIDECAR("default", name)):
        kiln.bucket.put(key, farm.bucket.get(key) or b"", "application/octet-stream")


@pytest.mark.parametrize("packed", [False, True])
def test_a_job_of_plain_rq_is_known_by_its_spec(kiln: Kiln, packed: bool) -> None:
    plain = record()
    if packed:
        plain["data"] = zlib.compress(plain["data"].encode())
    kiln.redis.hset(keys.JOB("mine"), mapping=plain)
    job = kiln.submit(id="mine", **SPEC)
    assert not job.created
    assert job.spec.seed is not None
    with pytest.raises(SpecError, match="for another picture"):
        kiln.submit(id="mine", **{**SPEC, "seed": 1})


@pytest.mark.parametrize(
    "there",
    [
        {"status": "queued"},
        {"data": "x"},
        {"data": "[" * 200_000},
        record(width=65),
        {"data": json.dumps(["print", None, ["x"], {}])},
        "text",
    ],
    ids=["no data", "no JSON", "too long", "no spec", "another application's", "another type"],
)
def test_what_cannot_be_read_keeps_its_id(kiln: Kiln, there: Any) -> None:
    if isinstance(there, str):
        kiln.redis.set(keys.JOB("mine"), there)
    else:
        kiln.redis.hset(keys.JOB("mine"), mapping=there)
    before = kiln.redis.dump(keys.JOB("mine"))
    with pytest.raises(SpecError, match=r"^id: mine is taken by a record in Redis that cannot be read; "):
        kiln.submit_many([SPEC, SPEC], ids=["free", "mine"])  # type: ignore[list-item]
    assert kiln.redis.dump(keys.JOB("mine")) == before
    assert kiln.redis.dbsize() == 1


def test_the_bucket_is_asked_for_what_redis_does_not_know(kiln: Kiln) -> None:
    names = [f"job-{number}" for number in range(CHUNK + 20)]
    stored(kiln, names[3])
    stored(kiln, names[-1], seed=7)
    specs: list[Any] = [SPEC] * len(names)
    jobs = kiln.submit_many(specs, ids=names)
    assert [job.id for job in jobs if not job.created] == [names[3], names[-1]]
    assert jobs[-1].spec.seed == 7
    assert kiln.redis.llen(keys.QUEUE(jobs[0].spec.lane)) == len(names) - 2
    assert [job.created for job in kiln.submit_many(specs, ids=names)] == [False] * len(names)


@pytest.mark.parametrize("half", ["image.png", "sidecar.json"])
def test_half_a_pair_is_no_picture(kiln: Kiln, half: str) -> None:
    stored(kiln, "mine")
    kiln.bucket.delete(f"jobs/default/mine/{half}")  # type: ignore[attr-defined]
    assert kiln.statuses(["mine"]) == {"mine": None}
    assert kiln.submit(id="mine", **{**SPEC, "prompt": "an owl"}).created


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff"])
def test_a_sidecar_that_cannot_be_read_is_none(kiln: Kiln, body: bytes) -> None:
    stored(kiln, "mine")
    kiln.bucket.put(keys.SIDECAR("default", "mine"), body, "application/json")
    assert kiln.submit(id="mine", **SPEC).created


@pytest.mark.parametrize("how", ["is unreachable", "refuses", "is not there", "hangs"])
def test_a_bucket_that_does_not_answer_hinders_nothing_and_is_not_asked_again(
    settings: Settings, rewire: Rewire, kiln: Kiln, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(known, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if how == "is unreachable":
            settings, proxy = rewire("s3")
            proxy.cut()
        elif how == "refuses":
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        elif how == "is not there":
            settings = settings.model_copy(update={"s3_bucket": "not-there"})
        else:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            settings = settings.model_copy(update={"s3_endpoint": address})
        with Kiln(settings) as door:
            ids = [f"job-{number}" for number in range(20)]
            jobs = door.submit_many([SPEC] * len(ids), ids=ids)  # type: ignore[list-item]
            assert all(job.created for job in jobs)
            monkeypatch.setattr(Kiln, "bucket", None)
            assert door.submit(id="next", **SPEC).created
            with pytest.raises(SpecError, match="for another picture"):  # Redis still knows
                door.submit(id="next", **{**SPEC, "prompt": "an owl"})


def test_after_a_while_it_is_asked_again(kiln: Kiln, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(kiln, "mine")

    def away(*_: object) -> None:
        raise StorageAwayError("away")

    with monkeypatch.context() as patch:
        patch.setattr(known, "get_committed", away)
        assert kiln.submit(id="other", **SPEC).created
    moment = time.monotonic() + known.BLIND
    monkeypatch.setattr(known.time, "monotonic", lambda: moment)
    assert not kiln.submit(id="mine", **SPEC).created


def test_what_another_submits_at_the_same_time_is_seen(kiln: Kiln, settings: Settings) -> None:
    other = Kiln(settings)
    look, meanwhile = kiln.queue.specs, threading.Event()

    def specs(names: Any) -> Any:
        found = look(names)
        if not meanwhile.is_set():
            meanwhile.set()
            other.submit_many([SPEC, {**SPEC, "prompt": "an owl"}], ids=["same", "another"])  # type: ignore[list-item]
        return found

    kiln.queue.specs = specs  # type: ignore[method-assign]
    assert not kiln.submit(id="same", **SPEC).created
    meanwhile.clear()
    kiln.redis.delete(keys.JOB("another"))
    with pytest.raises(SpecError, match="for another picture"):
        kiln.submit(id="another", **SPEC)
    other.close()


def test_ids_that_are_drawn_are_not_looked_up(kiln: Kiln) -> None:
    kiln.submit_many([SPEC] * 3)  # type: ignore[list-item]
    assert kiln._bucket is None
    stats: Any = kiln.redis.info("commandstats")
    kiln.redis.config_resetstat()
    kiln.submit_many([SPEC] * 3)  # type: ignore[list-item]
    stats = kiln.redis.info("commandstats")
    assert "cmdstat_hstrlen" not in stats
