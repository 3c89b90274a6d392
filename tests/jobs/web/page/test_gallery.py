"""Pictures by pages and filters, their thumbnails, the zip of them, and what stands beside one."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from zipfile import ZipFile

import httpx
import pytest
from PIL import Image

from pixelkiln import Kiln, Settings
from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import StorageAwayError
from pixelkiln.jobs.web.page.pictures import PAGE, THREADS, Pictures, Wanted, Warnings
from pixelkiln.jobs.web.page.zips import zipped
from pixelkiln.jobs.web.who import Caller
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.page.reading import Page, read
from tests.jobs.web.page.rendering import render
from tests.jobs.web.page.test_new import hidden, send
from tests.waiting import until
from tests.wire import Proxy

Rewire = Callable[..., tuple[Settings, Proxy]]
SMALL = {"model": "demo", "width": 64, "height": 64, "seed": 1}


@pytest.fixture
def kiln(settings: Settings) -> Kiln:
    return Kiln(settings).as_client("one")


@pytest.fixture
def one(real: Door) -> httpx.Client:
    return real("one")


def shown(page: Page) -> list[str]:
    """Ids of the pictures, in their order."""
    links = [str(found["href"]) for found in page.all("a", class_="picture")]
    return [re.split("[/?]", link)[2] for link in links]


def more(page: Page) -> str:
    return str(page.all("a", id="more-link")[0]["href"])


def test_pages_have_each_picture_once_newest_first(kiln: Kiln, one: httpx.Client) -> None:
    kiln.submit_many([{**SMALL, "prompt": f"number {n}"} for n in range(PAGE + 5)])
    done = render(kiln)
    first = read(one, "/gallery")
    assert len(first.all("img", loading="lazy")) == PAGE
    second = read(one, more(first))
    assert shown(first) + shown(second) == done[::-1]
    assert second.all("a", id="more-link") == []
    other = more(first).replace("cursor=", "model=demo&cursor=")
    read(one, other, 422)  # it was given for another filter
    assert read(one, more(first) + "x", 422).faults == []


def test_filters(kiln: Kiln, one: httpx.Client) -> None:
    batch = kiln.batch([{**SMALL, "prompt": "a red fox"}, {**SMALL, "prompt": "a hare"}], name="night")
    foxes = set(batch.ids[:1])
    render(kiln)
    labelled = kiln.submit({**SMALL, "prompt": "A FOX on a beach", "labels": {"project": "xmas"}}).id
    render(kiln, ("black",))
    for query, wanted in {
        "": {*batch.ids, labelled},
        "batch=night": set(batch.ids),
        "q=Fox": {*foxes, labelled},
        "q=fox+red": foxes,
        "q=nothing": set(),
        "label=project": {labelled},
        "label=project=xmas": {labelled},
        "label=project=easter": set(),
        "suspicious=1": {labelled},
        "suspicious=1&batch=night": set(),
        "model=demo": {*batch.ids, labelled},
        "model=demo:bf16": {*batch.ids, labelled},
        "model=z-image-turbo": set(),
        "q=&batch=&model=&label=&client=": {*batch.ids, labelled},
        "client=one&q=hare": {batch.ids[1]},
    }.items():
        page = read(one, f"/gallery?{query}")
        assert set(shown(page)) == wanted, query
    page = read(one, "/gallery?q=fox")
    assert {str(found["href"]) for found in page.all("a", class_="picture")} >= {
        f"/pictures/{labelled}?q=fox"
    }
    assert "black" in page.text


def test_of_a_batch_those_that_redis_forgot_are_shown(kiln: Kiln, one: httpx.Client) -> None:
    batch = kiln.batch([{**SMALL, "prompt": f"number {n}"} for n in range(3)], name="old")
    render(kiln)
    for job_id in batch.ids:
        kiln.redis.delete(keys.JOB(job_id))
    assert shown(read(one, "/gallery")) == []
    assert set(shown(read(one, "/gallery?batch=old"))) == set(batch.ids)
    assert read(one, f"/pictures/{batch.ids[0]}?batch=old").all("img")


def test_beside_a_picture_stand_the_newer_and_the_older_of_the_filter(kiln: Kiln, one: httpx.Client) -> None:
    names = ["a fox", "a hare", "a fox at night", "a cat", "a fox by day"]
    ids = [job.id for job in kiln.submit_many([{**SMALL, "prompt": name} for name in names])]
    assert render(kiln) == ids
    page = read(one, f"/pictures/{ids[2]}")
    assert page.all("a", rel="prev")[0]["href"] == f"/pictures/{ids[3]}"
    assert page.all("a", rel="next")[0]["href"] == f"/pictures/{ids[1]}"
    page = read(one, f"/pictures/{ids[2]}?q=fox")
    assert page.all("a", rel="prev")[0]["href"] == f"/pictures/{ids[4]}?q=fox"
    assert page.all("a", rel="next")[0]["href"] == f"/pictures/{ids[0]}?q=fox"
    last = read(one, f"/pictures/{ids[0]}")
    assert last.all("a", rel="prev")
    assert not last.all("a", rel="next")


def test_a_thumbnail_is_made_once(kiln: Kiln, one: httpx.Client) -> None:
    job = kiln.submit({**SMALL, "width": 1024, "height": 512, "prompt": "wide"})
    waiting = one.get(f"/thumbnails/{job.id}")
    assert waiting.status_code == 409
    render(kiln)
    (address,) = (str(found["src"]) for found in read(one, "/gallery").all("img"))
    first = one.get(address)
    assert (first.status_code, first.headers["content-type"]) == (200, "image/webp")
    assert "immutable" in first.headers["cache-control"]
    with Image.open(io.BytesIO(first.content)) as image:
        assert (image.format, image.size) == ("WEBP", (480, 240))
    sha256 = kiln.sidecar(job.id).png.sha256
    key = keys.THUMBNAIL("one", job.id, sha256[:16])
    assert kiln.bucket.get(key) == first.content
    kiln.bucket.put(keys.PICTURE("one", job.id), b"not needed any more", "image/png")
    assert one.get(address).content == first.content
    again = one.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    kiln.bucket.put(key, b"no picture", "image/webp")
    assert one.get(address).status_code == 502  # made anew, from what is no picture


def test_all_of_a_filter_comes_as_a_zip(kiln: Kiln, one: httpx.Client) -> None:
    prompts = ["a fox", "a fox / at night", "x" * 4000, "منارة", "a hare"]
    ids = [job.id for job in kiln.submit_many([{**SMALL, "prompt": one} for one in prompts])]
    render(kiln)
    pictures = {one_id: kiln.bucket.get(keys.PICTURE("one", one_id)) for one_id in ids}
    kiln.bucket.put(keys.PICTURE("one", ids[4]), b"damaged", "image/png")
    with one.stream("GET", "/gallery.zip") as answer:
        assert answer.status_code == 200
        assert "content-length" not in answer.headers  # nobody knew it before
        assert 'filename="pictures-' in answer.headers["content-disposition"]
        parts = list(answer.iter_raw())
    with ZipFile(io.BytesIO(b"".join(parts))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == 4 * 2 + 1
        assert all(re.fullmatch(r"000[1-5]-[^/\\]*\.(png|json)|missing\.txt", name) for name in names)
        for name in names:
            if name.endswith(".json"):
                told = json.loads(archive.read(name))
                assert archive.read(name.replace(".json", ".png")) == pictures[told["job"]["id"]]
        assert ids[4] in archive.read("missing.txt").decode()
    found = one.get("/gallery.zip?q=hare+nowhere")
    with ZipFile(io.BytesIO(found.content)) as archive:
        assert archive.namelist() == []


def test_a_zip_of_a_batch_is_numbered_by_its_rows(kiln: Kiln, one: httpx.Client) -> None:
    kiln.batch([{**SMALL, "prompt": prompt} for prompt in ("a fox", "a hare", "an owl")], name="night")
    render(kiln)
    for filtered, names in (("", ["0001-a-fox", "0002-a-hare", "0003-an-owl"]), ("&q=owl", ["0003-an-owl"])):
        found = one.get(f"/gallery.zip?batch=night{filtered}")
        with ZipFile(io.BytesIO(found.content)) as archive:
            held = sorted(name for name in archive.namelist() if name.endswith(".png"))
        assert held == [f"{name}-1.png" for name in names]


def test_a_zip_is_sent_while_it_is_made(settings: Settings, kiln: Kiln) -> None:
    kiln.submit_many([{**SMALL, "prompt": f"number {n}"} for n in range(3)])
    render(kiln)
    parts = zipped(Pictures(kiln, Caller("", "one"), Wanted(), Warnings()))
    first = next(parts)
    assert first.startswith(b"PK")
    assert len(first) < 64 * 1024
    kiln.bucket.close()
    assert b"".join([first, *parts])[-22:].startswith(b"PK\x05\x06")


def test_an_admin_has_what_redis_forgot_of_any_client(door: Door, fake: FakeKiln) -> None:
    rows = [{**SMALL, "prompt": one} for one in ("a fox", "a hare")]
    a, b = fake.as_client("one").batch(rows, name="old").ids
    fake.work()
    for job_id in (a, b):
        del fake._farm._jobs[job_id]
    admin = door("admin")
    where = "/gallery?batch=old&client=one"
    gallery = read(admin, where)
    assert hidden(gallery)["client"] == "one"
    pictures = [str(found["href"]) for found in gallery.all("a", class_="picture")]
    pages = [
        gallery,
        *(read(admin, one) for one in pictures),
        read(admin, f"/compare?a={a}&b={b}&client=one"),
    ]
    assert "a fox" in pages[-1].text
    linked = {str(found["src"]) for page in pages for found in page.all("img")}
    linked |= {str(found["href"]) for page in pages for found in page.all("a") if a in str(found["href"])}
    kinds = ("/thumbnails/", "/pictures/", "/v1/jobs/", "/compare", "/new")
    assert [kind for kind in kinds if not any(one.startswith(kind) for one in linked)] == []
    assert {one: admin.get(one).status_code for one in linked} == dict.fromkeys(linked, 200)
    found = admin.get(where.replace("gallery", "gallery.zip"))
    assert len(ZipFile(io.BytesIO(found.content)).namelist()) == 4
    chosen = admin.get("/compare", params={"pick": [a, b], "client": "one"})
    assert chosen.headers["location"] == f"/compare?a={a}&b={b}&client=one"
    asked = send(admin, hidden(pages[1]), f"/pictures/{a}/again")
    sure = send(admin, hidden(Page(asked.text)), f"/pictures/{a}/again")
    assert (sure.status_code, sure.headers["location"]) == (303, f"/pictures/{a}?client=one")
    assert fake.status(a).state == "queued"


def test_a_zip_breaks_off_where_the_bucket_goes_away(rewire: Rewire, kiln: Kiln) -> None:
    kiln.submit_many([{**SMALL, "prompt": f"number {n}"} for n in range(3)])
    render(kiln)
    behind, proxy = rewire("s3")
    with Kiln(behind).as_client("one") as other:
        parts = zipped(Pictures(other, Caller("", "one"), Wanted(), Warnings()))
        next(parts)
        proxy.cut()
        with pytest.raises(StorageAwayError):
            list(parts)


@pytest.mark.parametrize("gone", ["redis", "bucket"])
def test_a_zip_of_what_is_away_is_refused(local: httpx.Client, fake: FakeKiln, gone: str) -> None:
    fake.submit({**SMALL, "prompt": "a fox"})
    fake.work()
    with fake.away(redis=gone == "redis", bucket=gone == "bucket"):
        answer = local.get("/gallery.zip")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_two_beside_each_other(kiln: Kiln, one: httpx.Client) -> None:
    rows = [{**SMALL, "prompt": "a fox"}, {**SMALL, "prompt": "a fox", "seed": 2}]
    a, b = (job.id for job in kiln.submit_many(rows))
    render(kiln)
    chosen = one.get(f"/compare?pick={a}&pick={b}")
    assert (chosen.status_code, chosen.headers["location"]) == (303, f"/compare?a={a}&b={b}")
    page = read(one, f"/compare?a={a}&b={b}")
    assert [found["src"] for found in page.all("img")] == [f"/v1/jobs/{one_id}/image" for one_id in (a, b)]
    differ, _, same = page.text.partition("What both have")
    assert "seed" in differ
    assert "prompt" in same
    waiting = kiln.submit({**SMALL, "prompt": "it waits"}).id
    assert "it is queued" in read(one, f"/compare?a={a}&b={waiting}", 409).text


class Hanging:
    """Lets the bucket in memory answer once it is told to."""

    def __init__(self, fake: FakeKiln, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.come = list[str](), threading.Event()
        self._get = fake.bucket.get
        monkeypatch.setattr(fake.bucket, "get", self._late)

    def _late(self, key: str) -> bytes | None:
        self.asked.append(key)
        self.come.wait(30)
        return self._get(key)


@pytest.fixture
def hanging(fake: FakeKiln, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    fake.submit_many([{**SMALL, "prompt": f"number {n}"} for n in range(3 * THREADS)])  # type: ignore[list-item]
    fake.work()
    return Hanging(fake, monkeypatch)


def test_a_bucket_that_hangs_is_asked_of_each_picture_once(fake: FakeKiln, hanging: Hanging) -> None:
    there, known = fake.jobs(state="finished", limit=100), Warnings()
    for _ in range(3):
        assert known.of(fake, there, 0) == {}
    until(lambda: len(hanging.asked) == THREADS, "all threads ask")
    hanging.come.set()
    assert known.of(fake, there, None).keys() == {one.id for one in there}
    assert len(hanging.asked) == len(there)


def test_a_bucket_that_hangs_keeps_no_server_from_its_end(fake: FakeKiln, hanging: Hanging) -> None:
    known = Warnings()
    known.of(fake, fake.jobs(state="finished", limit=100), 0)
    until(lambda: len(hanging.asked) == THREADS, "all threads ask")
    asking = [one for one in threading.enumerate() if one.name.startswith("sidecars")]
    assert all(one.daemon for one in asking)
    known.close()
    hanging.come.set()
    for one in asking:
        one.join(30)
    assert len(hanging.asked) == THREADS


def test_who_asks_for_what_is_suspicious_hears_that_the_bucket_is_away(door: Door, fake: FakeKiln) -> None:
    fake.as_client("one").submit({**SMALL, "prompt": "a fox"})  # type: ignore[arg-type]
    fake.work()
    with fake.away(redis=False):
        assert read(door("one"), "/gallery").all("a", class_="picture")
        read(door("one"), "/gallery?suspicious=1", 503)
    read(door("one"), "/gallery?suspicious=1")
