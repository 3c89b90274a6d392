"""*Now* and a batch's view: what is told of workers, what waits, and what is wrong."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest

from pixelkiln import Kiln, Settings
from pixelkiln.jobs import keys
from pixelkiln.jobs.fields import SpecFields
from pixelkiln.jobs.web.page.standing import Standings
from pixelkiln.testing import FakeKiln
from pixelkiln.worker.queue.claim import Progress
from pixelkiln.worker.queue.claims import Claims
from tests.jobs.web.conftest import Door
from tests.jobs.web.page.reading import HTML, read
from tests.jobs.web.page.rendering import fail, render, take
from tests.waiting import until

SMALL = {"model": "demo", "width": 64, "height": 64}
FOX = SpecFields(prompt="a fox", model="demo", width=64, height=64)


@pytest.fixture
def kiln(settings: Settings) -> Kiln:
    return Kiln(settings).as_client("one")


def worker(kiln: Kiln, name: str, state: str, *, age: float = 0.0, **more: str) -> None:
    """As its heartbeat writes it."""
    told = {
        "queues": "demo:bf16",
        "kiln_state": state,
        "kiln_beat": f"{time.time() - age}",
        "hostname": "mac",
    }
    kiln.redis.hset(keys.WORKER(name), mapping=told | more)
    kiln.redis.sadd(keys.WORKERS, keys.WORKER(name))


def test_what_is_wrong_is_told_with_its_mend(real: Door, kiln: Kiln) -> None:
    client = real("admin")
    assert "No worker is there now." in read(client, "/").text
    kiln.submit({**SMALL, "prompt": "a fox"})
    kiln.submit({"model": "z-image-turbo", "quantization": "q6", "prompt": "a fox"})
    worker(kiln, "mac-1", "idle", kiln_memory="16000000000", kiln_resident="demo:bf16")
    worker(kiln, "mac-2", "rendering x", age=75, kiln_paused="farm,client:two")
    worker(kiln, "mac-3", "takes no jobs: the disk is full: <b>")
    text = read(client, "/").text
    for told in (
        "No worker serves z-image-turbo:q6 now (there is demo:bf16).",
        "mac-2 is gone: last seen 75 s ago; it was rendering x.",
        "mac-3 takes no jobs: the disk is full: <b>.",
        "farm is paused.",
        "kiln resume client:two",
        "kiln doctor",
        "16.0 GB to use",
    ):
        assert told in text
    assert "No worker is there now." not in text
    text = read(real("one"), "/").text
    assert "client:two" not in text
    assert "rendering x" not in text
    assert "kiln resume" not in text
    assert "farm is paused." in text
    assert "the disk is full" not in text  # what others' machines lack is the admin's to read


def test_what_was_paused_is_no_fault(real: Door, kiln: Kiln) -> None:
    render_one = {**SMALL, "prompt": "a fox"}
    kiln.submit(render_one)
    render(kiln)
    kiln.submit(render_one)
    worker(kiln, "mac-1", "takes no jobs: the farm is paused", kiln_paused="farm")
    text = read(real("admin"), "/").text
    assert "farm is paused." in text
    assert "kiln resume farm" in text
    assert "kiln doctor" not in text
    (waits,) = re.findall(r"bf16\s+normal\s+1\s+0\s+(.*)", text)
    assert waits == "paused"  # and not how soon it would be done


def test_a_picture_that_nobody_takes_says_why(real: Door, kiln: Kiln) -> None:
    job, client = kiln.submit({**SMALL, "prompt": "a fox"}), real("one")
    assert "no worker is there now" in read(client, f"/pictures/{job.id}").text
    worker(kiln, "mac-1", "idle", queues="z-image-turbo:q6")
    assert "no worker serves demo:bf16 now" in read(client, f"/pictures/{job.id}").text
    worker(kiln, "mac-1", "idle")
    assert "no worker" not in read(client, f"/pictures/{job.id}").text
    for target, told in (("farm", "the farm is paused"), ("client:one", "client:one is paused")):
        worker(kiln, "mac-1", "idle", kiln_paused=target)
        assert told in read(client, f"/pictures/{job.id}").text
    worker(kiln, "mac-1", "idle", kiln_paused="client:two,model:z-image-turbo")
    assert "paused" not in read(client, f"/pictures/{job.id}").text


def test_what_is_rendered_is_shown_step_by_step(real: Door, kiln: Kiln) -> None:
    job = kiln.submit({**SMALL, "prompt": "a fox in the snow"})
    claims = Claims(kiln.redis, "mac-1")
    claim = take(claims)
    assert claim is not None
    worker(kiln, "mac-1", f"rendering {job.id}")
    claims.renew([(claim, Progress("rendering", 3, 28))])
    kiln.redis.set(keys.PREVIEW("one", job.id), b"RIFF\0\0\0\0WEBPVP8 ")
    client = real("one")
    page = read(client, "/")
    (bar,) = page.all("progress")
    assert (bar["value"], bar["max"]) == ("3", "28")
    assert "rendering 3/28" in page.text
    preview = page.all("img")[0]["src"]
    assert preview == f"/previews/{job.id}?step=3"
    assert client.get(str(preview)).headers["content-type"] == "image/webp"
    assert "a fox in the snow" in page.text
    assert "a fox in the snow" not in read(real("two"), "/").text
    assert job.id not in read(real("two"), "/").text


def test_how_long_it_takes_is_told_where_it_is_known(real: Door, kiln: Kiln) -> None:
    worker(kiln, "mac-1", "idle")
    kiln.submit({**SMALL, "prompt": "a fox"})
    assert "nobody knows yet" in read(real("one"), "/").text
    render(kiln)
    kiln.batch([{**SMALL, "prompt": f"number {n}"} for n in range(3)], name="night")
    page = read(real("one"), "/")
    assert "nobody knows yet" not in page.text
    assert page.all("a", href="/batches/night")
    assert "0/3" in page.text


def test_a_batch_tells_its_failures_and_leads_to_its_report(real: Door, kiln: Kiln) -> None:
    kiln.batch([{**SMALL, "prompt": f"number {n}"} for n in range(3)], name="night", source="a.csv")
    failed = fail(kiln, "out of memory: it needs 40 GB; a smaller size")
    client = real("one")
    page = read(client, "/batches/night")
    assert "1\n" in page.text
    assert "out of memory: it needs 40 GB; a smaller size" in page.text
    assert page.all("a", href=f"/pictures/{failed}")
    assert page.all("main")[0].get("hx-trigger")  # it goes on
    render(kiln)
    page = read(client, "/batches/night")
    assert not page.all("main")[0].get("hx-trigger")
    report = client.get(str(page.all("a", href="/v1/batches/night/report")[0]["href"]))
    assert report.status_code == 200
    assert "number 1" in report.text
    assert len(page.all("img")) == 2
    assert read(client, "/batches").all("a", href="/batches/night")


def test_batches_are_counted_now_and_then(fake: FakeKiln, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pixelkiln.jobs.web.lately.time.monotonic", lambda: now[0])
    fake.batch([{**SMALL, "prompt": "a fox"}], name="night")  # type: ignore[list-item]
    known = Standings()
    (first,) = known.of(fake, 5)
    fake.work()
    assert known.of(fake, 5) == [first]
    now[0] += 6
    (second,) = known.of(fake, 5)
    assert (first.finished, second.finished) == (0, 1)


class Forgotten:
    """Batches whose jobs Redis has forgotten, one of another client's; the bucket answers when told to."""

    def __init__(self, fake: FakeKiln, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kiln = fake.as_client("one")
        for name in ("a", "b"):
            self.kiln.batch([FOX, FOX], name=name)
        fake.work()
        fake._farm._jobs.clear()
        fake.as_client("two").batch([FOX], name="night")
        really = fake.bucket.get
        self.asked, self.come = list[str](), threading.Event()

        def get(key: str) -> bytes | None:
            self.asked.append(key)
            self.come.wait(30)
            return really(key)

        monkeypatch.setattr(fake.bucket, "get", get)


@pytest.fixture
def forgotten(fake: FakeKiln, monkeypatch: pytest.MonkeyPatch) -> Forgotten:
    return Forgotten(fake, monkeypatch)


def test_old_batches_of_one_delay_nobody_else(fake: FakeKiln, forgotten: Forgotten) -> None:
    two, known = fake.as_client("two"), Standings()
    with ThreadPoolExecutor() as threads:
        counting = threads.submit(known.of, forgotten.kiln, 5)
        until(lambda: forgotten.asked, "the bucket is asked")
        try:
            (other,) = threads.submit(known.of, two, 5).result(10)
        finally:
            forgotten.come.set()
        assert [one.finished for one in counting.result(30)] == [2, 2]
    assert other.queued == 1


def test_old_batches_are_counted_once_in_a_long_while(
    forgotten: Forgotten, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, known = [100.0], Standings()
    monkeypatch.setattr("pixelkiln.jobs.web.lately.time.monotonic", lambda: now[0])
    forgotten.come.set()
    assert known.of(forgotten.kiln, 5, under_way=True) == []
    assert forgotten.asked == []
    first = known.of(forgotten.kiln, 5)
    asked = len(forgotten.asked)
    now[0] += 600
    assert known.of(forgotten.kiln, 5) == first
    assert len(forgotten.asked) == asked
    now[0] += 3600
    assert known.of(forgotten.kiln, 5) == first
    assert len(forgotten.asked) == 2 * asked


PART = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n+2AA-\\ud800\r\n--x--\r\n'


def test_a_form_too_large_or_no_form_is_refused(local: httpx.Client) -> None:
    html = {"Accept": "text/html"}
    kinds = (
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "a",
    )
    for kind in kinds:
        answer = local.post("/sign-out", content=b"x" * 1000, headers={**html, "Content-Type": kind})
        assert answer.status_code in (400, 403), kind
        assert answer.headers["content-type"].startswith("text/html")
    for charset in ("undefined", "utf-7", "unicode_escape", "latin-1", "none"):
        form = {**html, "Content-Type": f"{kinds[2]}; charset={charset}"}
        for path in ("/new", "/new/file", "/new/batch", "/sign-in", "/sign-out", "/v1/images/edits"):
            assert local.post(path, content=PART, headers=form).status_code == 400, (path, charset)
    form = {**html, "Content-Type": f'{kinds[2]}; charset="UTF-8"'}
    assert local.post("/sign-in", content=PART, headers=form).status_code in (303, 401)
    many = "&".join(f"a{n}=1" for n in range(2000))
    form = {**html, "Content-Type": kinds[0]}
    assert local.post("/sign-out", content=many, headers=form).status_code in (400, 403)
    assert local.post("/sign-in", content=b"[" * 100, headers=form).status_code in (303, 401)


def test_what_is_to_be_expected_of_a_deadline_is_told(real: Door, kiln: Kiln) -> None:
    rows = [{**SMALL, "prompt": "a fox"}]
    kiln.batch(rows, "later", deadline=timedelta(hours=9))  # type: ignore[arg-type]
    kiln.batch(rows, "over", deadline=timedelta(seconds=1))  # type: ignore[arg-type]
    kiln.batch(rows, "free")  # type: ignore[arg-type]
    time.sleep(1.1)
    one = real("one")
    views = {name: read(one, f"/batches/{name}") for name in ("later", "over", "free")}
    assert re.search(r"Whether it is ready by the deadline [^<]*\(UTC[+-]\d\d:\d\d\)\.", views["later"].text)
    assert re.search(
        r'<p class="banner">The deadline \d\d:\d\d has passed: 1 to be rendered',
        one.get("/batches/over", headers=HTML).text,
    )
    assert "deadline" not in views["free"].text
    for path in ("/", "/batches"):
        text = one.get(path, headers=HTML).text
        assert len(re.findall(r'<span class="late">[^<]*the deadline', text)) == 1
        assert len(re.findall(r"<span>whether it is ready by the deadline", text)) == 1
