"""What OpenAI's own package asks for."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import openai
import pytest

from pixelkiln.jobs.errors import StorageAwayError
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.web import listening, waiting
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.serving import People
from tests.jobs.web.test_farm import picture


@contextmanager
def at_work(fake: FakeKiln) -> Iterator[None]:
    """The worker in memory works by itself while the block lasts."""
    left = threading.Event()

    def work() -> None:
        while not left.wait(0.01):
            fake.step()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


@pytest.fixture
def client(local: httpx.Client, fake: FakeKiln) -> Iterator[openai.OpenAI]:
    with (
        at_work(fake),
        openai.OpenAI(base_url=f"{local.base_url}/v1", api_key="-", max_retries=0) as it,
    ):
        yield it


def test_it_generates(client: openai.OpenAI, local: httpx.Client) -> None:
    found = client.images.generate(
        prompt="a fox", model="demo", n=2, size="64x64", extra_body={"seed": 7, "labels": {"for": "test"}}
    )
    assert found.data is not None
    jobs = {one["id"]: one for one in local.get("/v1/jobs").json()["jobs"]}
    assert [jobs[one.id]["spec"]["seed"] for one in found.data] == [7, 8]  # type: ignore[attr-defined]
    for one in found.data:
        assert one.b64_json is not None
        body = base64.b64decode(one.b64_json)
        assert hashlib.sha256(body).hexdigest() == jobs[one.id]["result"]["sha256"]  # type: ignore[attr-defined]


def test_it_is_given_an_address_that_needs_no_token(door: Door, people: People, fake: FakeKiln) -> None:
    where = str(door("one").base_url)
    with (
        at_work(fake),
        openai.OpenAI(base_url=f"{where}/v1", api_key=people.tokens["one"], max_retries=0) as client,
    ):
        found = client.images.generate(
            prompt="a fox", size="512x512", response_format="url", model="dall-e-3"
        )
    assert found.data is not None
    url = found.data[0].url
    assert url is not None
    assert httpx.get(url).content.startswith(b"\x89PNG")
    for wrong in (url[:-1] + ("0" if url[-1] != "0" else "1"), url.replace("of=one", "of=two"), url + "0"):
        assert httpx.get(wrong).status_code == 401
    assert httpx.get(url.replace("/image?", "/sidecar?")).status_code == 401


def test_it_edits(client: openai.OpenAI, local: httpx.Client) -> None:
    found = client.images.edit(
        image=[("a.png", picture()), ("b.png", picture((96, 64)))],
        prompt="as a painting",
        model="flux2-klein-4b",
        extra_body={"seed": 3},
    )
    assert found.data is not None
    (job,) = local.get("/v1/jobs").json()["jobs"]
    assert len(job["spec"]["references"]) == 2
    assert (job["spec"]["seed"], job["spec"]["width"], job["spec"]["height"]) == (3, 64, 64)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "big"}, "size"),
        ({"size": "100x100"}, "width"),
        ({"n": 11}, "n"),
        ({"model": "nonsense"}, "model"),
        ({"background": "transparent"}, "background"),
        ({"stream": True}, "stream"),
        ({"extra_body": {"foo": 1}}, "foo"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_is_wrong_is_told_as_it_reads_it(
    client: openai.OpenAI, fields: dict[str, object], param: str
) -> None:
    asked = {"prompt": "a fox", "model": "demo", **fields}
    with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)) as told:
        client.images.generate(**asked)  # type: ignore[call-overload]
    assert told.value.param == param


def test_no_picture_to_edit_is_told(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as told:
        client.images.edit(image=("a.png", b"no picture"), prompt="a fox", model="flux2-klein-4b")
    assert told.value.param == "image"


def test_why_it_failed_is_told(client: openai.OpenAI, fake: FakeKiln) -> None:
    fake.next_fails("out of memory")
    with pytest.raises(openai.InternalServerError, match="out of memory"):
        client.images.generate(prompt="a fox", model="demo")


def test_a_wrong_token_is_told(door: Door) -> None:
    where = str(door("one").base_url)
    with openai.OpenAI(base_url=f"{where}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.images.generate(prompt="a fox")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert "demo" in [one.id for one in client.models.list()]


def test_a_long_wait_is_kept_alive(
    local: httpx.Client, fake: FakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENT", 0.1)
    asked = {"prompt": "a fox", "model": "demo", "size": "64x64"}
    for fails in (False, True):
        if fails:
            fake.next_fails("out of memory")
        with local.stream("POST", "/v1/images/generations", json=asked) as answer:
            assert answer.status_code == 200
            parts = answer.iter_bytes()
            assert next(parts).strip() == b""
            with at_work(fake):
                found = json.loads(b"".join(parts))
        assert len(found["data"]) == (not fails)
        assert fails is ("out of memory" in str(found.get("error")))


@pytest.fixture
def bucket_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket takes pictures, and does not give them."""

    def away(kiln: FakeKiln, status: JobStatus) -> None:
        raise StorageAwayError("the bucket is away")

    monkeypatch.setattr(FakeKiln, "sidecar_of", away)


@pytest.mark.parametrize("key", ["", "k"])
def test_where_the_bucket_is_away_nothing_is_rendered_anew(
    local: httpx.Client, fake: FakeKiln, bucket_away: None, key: str
) -> None:
    headers = {"Idempotency-Key": key} if key else {}
    with (
        at_work(fake),
        openai.OpenAI(base_url=f"{local.base_url}/v1", api_key="-", max_retries=1) as client,
        pytest.raises(openai.InternalServerError, match="the bucket is away") as raised,
    ):
        client.images.generate(prompt="a fox", model="demo", extra_headers=headers)
    told = raised.value.response
    assert (told.status_code, told.headers["retry-after"]) == (503, "5")
    assert len(local.get("/v1/jobs").json()["jobs"]) == 1


def test_where_the_bucket_is_away_an_answer_that_has_begun_tells_it(
    local: httpx.Client, fake: FakeKiln, bucket_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SILENT", 0.1)
    asked = {"prompt": "a fox", "model": "demo"}
    with local.stream("POST", "/v1/images/generations", json=asked) as answer:
        parts = answer.iter_bytes()
        assert next(parts).strip() == b""
        with at_work(fake):
            found = json.loads(b"".join(parts))
    assert (found["data"], found["error"]["message"]) == ([], "the bucket is away")


def test_sent_again_under_its_key_it_waits_for_the_same_picture(
    client: openai.OpenAI, local: httpx.Client
) -> None:
    found = [
        client.images.generate(prompt="a fox", model="demo", extra_headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert found[0].data == found[1].data
    assert len(local.get("/v1/jobs").json()["jobs"]) == 1


def test_a_server_that_ends_says_that_it_may_be_asked_again(
    local: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def over(stream: listening.Stream, wait: float) -> None:
        """As Stream's, once the server ends."""

    monkeypatch.setattr(listening.Stream, "next", over)
    answer = local.post("/v1/images/generations", json={"prompt": "a fox", "model": "demo"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "Idempotency-Key" in answer.json()["error"]["message"]
