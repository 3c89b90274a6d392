"""The bucket, on a real S3 server: conditions, and what is said when it is away or will not."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pixelkiln.jobs import NotReadyError, Settings, keys
from pixelkiln.jobs.errors import CorruptObjectError, StorageAwayError, StorageRefusedError
from pixelkiln.jobs.storage.bucket import Bucket
from tests.wire import Proxy

Rewire = Callable[..., tuple[Settings, Proxy]]


@pytest.fixture
def key() -> str:
    return f"tests/{uuid.uuid4()}"


def test_what_is_put_reads_back(bucket: Bucket, key: str) -> None:
    body = b"\0\xff" * 70_000
    assert bucket.head(key) is None
    assert bucket.get(key) is None
    assert bucket.put(key, body, "image/png")
    assert bucket.get(key) == body
    found = bucket.head(key)
    assert found is not None
    assert found.size == len(body)
    assert found.etag == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def test_if_absent_keeps_what_is_there(bucket: Bucket, key: str) -> None:
    assert bucket.put(key, b"first", "text/plain", if_absent=True)
    assert not bucket.put(key, b"second", "text/plain", if_absent=True)
    assert bucket.get(key) == b"first"


def test_replace_needs_the_object_that_was_seen(bucket: Bucket, key: str) -> None:
    bucket.put(key, b"first", "text/plain")
    seen = bucket.head(key)
    assert seen is not None
    assert bucket.put(key, b"second", "text/plain", replace=seen.etag)
    assert not bucket.put(key, b"third", "text/plain", replace=seen.etag)
    assert bucket.get(key) == b"second"


def test_only_what_was_seen_is_deleted(bucket: Bucket, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(key, b"first", "text/plain")
    seen = bucket.head(key)
    assert seen is not None
    bucket.put(key, b"second", "text/plain")
    assert not bucket.delete(key, seen=seen.etag)
    with monkeypatch.context() as patch:  # it came between the look and the removal
        patch.setattr(bucket, "head", lambda key: seen)
        assert not bucket.delete(key, seen=seen.etag)
    assert bucket.get(key) == b"second"
    now = bucket.head(key)
    assert now is not None
    assert bucket.delete(key, seen=now.etag)
    assert bucket.delete(key, seen=now.etag)  # nothing is there
    assert bucket.get(key) is None


def test_where_deletes_have_no_conditions_the_look_before_is_all(rewire: Rewire, key: str) -> None:
    settings, proxy = rewire("s3")
    body = b"<Error><Code>NotImplemented</Code></Error>"
    answer = b"HTTP/1.1 501 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    proxy.alter = lambda request, reply: (
        answer if request.startswith(b"DELETE") and b"If-Match" in request else reply
    )
    bucket = Bucket.open(settings, attempts=1)
    bucket.put(key, b"first", "text/plain")
    assert not bucket.delete(key, seen='"another"')
    seen = bucket.head(key)
    assert seen is not None
    assert bucket.delete(key, seen=seen.etag)
    assert bucket.get(key) is None


def test_a_limit_is_kept(bucket: Bucket, key: str) -> None:
    bucket.put(key, b"x" * 100, "text/plain")
    assert bucket.get(key, limit=100) == b"x" * 100
    with pytest.raises(CorruptObjectError, match="is 100 bytes; the limit is 99"):
        bucket.get(key, limit=99)


def test_a_wrong_secret_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    bucket = Bucket.open(settings, attempts=1)
    for act in (bucket.check, lambda: bucket.get(key), lambda: bucket.put(key, b"x", "text/plain")):
        with pytest.raises(StorageRefusedError, match="refuses these credentials") as caught:
            act()
        assert "not-the-secret" not in str(caught.value)


def test_no_credentials_say_what_to_set(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageRefusedError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        Bucket.open(settings, attempts=1).check()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ExpiredToken"),
        (400, "ExpiredTokenException"),
        (400, "InvalidToken"),
        (400, "InvalidBucketName"),
        (301, "PermanentRedirect"),
    ],
)
def test_what_no_second_try_can_mend_is_refused(rewire: Rewire, key: str, status: int, code: str) -> None:
    settings, proxy = rewire("s3")
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    answer = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    proxy.alter = lambda request, reply: answer if request.startswith(b"GET") else reply
    with pytest.raises(StorageRefusedError, match=code):
        Bucket.open(settings, attempts=1).get(key)


def _answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


DATED = "Last-Modified: Thu, 26 Nov 2026 04:36:42 GMT"
EMPTY = "Content-Length: 0"
LINES = b"<Error><Code>a\nb\x1b[31m</Code></Error> ..."
NESTED = b"<Error><Code><a>x</a></Code></Error>"
CALLS: dict[str, Callable[[Bucket, str], object]] = {
    "head": Bucket.head,
    "get": Bucket.get,
    "get within a limit": lambda bucket, key: bucket.get(key, limit=10),
    "put": lambda bucket, key: bucket.put(key, b"x", "text/plain", if_absent=True),
    "delete": Bucket.delete,
    "check": lambda bucket, key: bucket.check(),
}


@pytest.mark.parametrize(
    ("answer", "stumbled"),
    [
        (_answer("200 OK", EMPTY, DATED), {"head", "check"}),
        (_answer("200 OK", EMPTY, DATED, "ETag: "), {"head", "check"}),
        (
            _answer("200 OK", EMPTY, 'ETag: "x"', "Last-Modified: yesterday"),
            {"head", "get", "get within a limit", "check"},
        ),
        (
            _answer("200 OK", EMPTY, 'ETag: "x"', "Last-Modified: 99999999999999999999"),
            {"head", "get", "get within a limit", "check"},
        ),
        (
            _answer("200 OK", EMPTY, 'ETag: "x"', DATED, "x-amz-missing-meta: some"),
            {"head", "get", "get within a limit", "check"},
        ),
        (_answer("307 Temporary Redirect", EMPTY, "Location: http://127.0.0.1:1/"), set(CALLS)),
        (_answer("302 Found", EMPTY), set(CALLS)),
        (_answer("404 Not Found", "Content-Length: 9", body=b"<html>no."), set(CALLS) - {"head"}),
        (_answer("400 No", f"Content-Length: {len(NESTED)}", body=NESTED), set(CALLS)),
        (
            _answer("400 No", f"Content-Length: {len(LINES)}", body=LINES),
            set(CALLS),
        ),
        (
            _answer("206 Partial Content", "Content-Length: 2", DATED, body=b"he"),
            {"head", "put", "delete", "check"},
        ),
    ],
    ids=[
        "no ETag",
        "empty ETag",
        "bad date",
        "huge date",
        "bad number",
        "307",
        "302",
        "404",
        "no code",
        "lines",
        "206",
    ],
)
def test_an_answer_that_is_none_of_s3s_is_trouble_told_in_a_line(
    rewire: Rewire, key: str, answer: bytes, stumbled: set[str]
) -> None:
    settings, proxy = rewire("s3")
    bucket = Bucket.open(settings, attempts=1)
    told = {}
    for name, call in CALLS.items():
        proxy.alter = lambda request, reply: answer if b"HTTP/1.1 100" not in reply else reply
        try:
            call(bucket, key)
        except (StorageAwayError, StorageRefusedError) as error:
            told[name] = str(error)
        proxy.alter = None
        bucket.close()
    assert told.keys() == stumbled
    for line in told.values():
        assert line.startswith(f"bucket '{settings.s3_bucket}' at http://{proxy.address} ")
        assert line.isprintable()
    bucket.check()


def test_a_body_of_untold_length_is_read_up_to_the_limit(rewire: Rewire, key: str) -> None:
    settings, proxy = rewire("s3")
    bucket = Bucket.open(settings, attempts=1)
    chunks = _answer("200 OK", "Transfer-Encoding: chunked", DATED, body=b"5\r\nhello\r\n0\r\n\r\n")
    proxy.alter = lambda request, reply: chunks
    assert bucket.get(key) == b"hello"
    assert bucket.get(key, limit=5) == b"hello"
    with pytest.raises(CorruptObjectError, match="the limit is 4"):
        bucket.get(key, limit=4)


def test_a_server_that_has_what_nobody_stores_is_refused(settings: Settings) -> None:
    client = f"c{uuid.uuid4().hex[:12]}"  # the bucket is shared
    bucket = Bucket.open(settings.model_copy(update={"client": client}), attempts=1)
    bucket.check()
    bucket.put(keys.PROBE(client), b"a page for every path", "text/html")
    with pytest.raises(StorageRefusedError, match=f"has jobs/{client}/none, which nobody stores"):
        bucket.check()


def test_an_address_that_cannot_be_shows_no_password(settings: Settings) -> None:
    odd = settings.model_copy(update={"s3_endpoint": "http://a:hunter2@127.0.0.1:99999"})
    with pytest.raises(StorageRefusedError, match="its port is no number up to 65535") as caught:
        Bucket.open(odd, attempts=1).check()
    assert "hunter2" not in str(caught.value)


def test_credentials_that_cannot_be_renewed_are_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    given = {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "hunter2", "Expiration": soon}
    (tmp_path / "once.json").write_text(json.dumps(given))
    (tmp_path / "once").write_text(f"cat {tmp_path}/once.json && rm {tmp_path}/once.json\n")
    (tmp_path / "config").write_text(f"[default]\ncredential_process = sh {tmp_path}/once\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    bucket = Bucket.open(settings, attempts=1)
    with pytest.raises(StorageRefusedError, match=r"no credentials .CredentialRetrievalError.") as caught:
        bucket.check()
    assert "hunter2" not in str(caught.value)


def test_half_a_credential_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageRefusedError):
        Bucket.open(settings, attempts=1).check()


def test_an_unknown_profile_is_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(NotReadyError, match="nobodys"):
        Bucket.open(settings, attempts=1).check()


@pytest.mark.parametrize("endpoint", ["localhost:9000", "not a url", "http://"])
def test_an_endpoint_that_is_none_is_one_line(settings: Settings, endpoint: str) -> None:
    with pytest.raises(NotReadyError, match="KILN_S3_ENDPOINT"):
        Bucket.open(settings.model_copy(update={"s3_endpoint": endpoint}), attempts=1).check()


@pytest.mark.parametrize("name", ["not-there", "Not A Bucket"])
def test_a_missing_bucket_is_refused(settings: Settings, key: str, name: str) -> None:
    bucket = Bucket.open(settings.model_copy(update={"s3_bucket": name}), attempts=1)
    for act in (bucket.check, lambda: bucket.put(key, b"x", "text/plain")):
        with pytest.raises(StorageRefusedError, match="KILN_S3_BUCKET"):
            act()


def test_away_is_told_as_such_and_over_when_it_is_back(rewire: Rewire, key: str) -> None:
    settings, proxy = rewire("s3")
    bucket = Bucket.open(settings, attempts=1)
    proxy.cut()
    told = f"bucket '{settings.s3_bucket}' at http://{proxy.address} is unreachable: it closes the connection"
    for act in (
        bucket.check,
        lambda: bucket.get(key),
        lambda: bucket.head(key),
        lambda: bucket.put(key, b"x", "text/plain"),
    ):
        with pytest.raises(StorageAwayError) as caught:
            act()
        assert str(caught.value).startswith(told)
    proxy.mend()
    bucket.check()
    assert bucket.put(key, b"x", "text/plain")


def test_a_lost_reply_to_a_put_is_safe_to_repeat(rewire: Rewire, key: str) -> None:
    settings, proxy = rewire("s3")
    bucket = Bucket.open(settings, attempts=1)
    proxy.lose_reply_to(b"the body")  # headers go ahead of it, and have a reply of their own
    with pytest.raises(StorageAwayError):
        bucket.put(key, b"the body", "text/plain", if_absent=True)
    assert proxy.lost == 1
    assert not bucket.put(key, b"the body", "text/plain", if_absent=True)
    assert bucket.get(key) == b"the body"


def test_a_server_in_trouble_is_worth_another_try(rewire: Rewire, key: str) -> None:
    settings, proxy = rewire("s3")
    proxy.alter = lambda request, reply: reply.replace(b"HTTP/1.1 200 OK", b"HTTP/1.1 503 No")
    with pytest.raises(StorageAwayError, match="answered 503"):
        Bucket.open(settings, attempts=1).put(key, b"x", "text/plain")


def test_a_body_cut_short_is_not_taken_for_whole(rewire: Rewire, bucket: Bucket, key: str) -> None:
    settings, proxy = rewire("s3")
    bucket.put(key, b"x" * 500_000, "text/plain")

    def shorten(request: bytes, reply: bytes) -> bytes:
        if request.startswith(b"GET"):
            proxy.cut()
        return reply

    proxy.alter = shorten
    with pytest.raises(StorageAwayError):
        Bucket.open(settings, attempts=1).get(key)


def test_the_local_instance_is_used_where_no_redis_is_set(settings: Settings, servers: object) -> None:
    from pixelkiln.worker.local.instance import Local

    assert isinstance(servers, Local)
    local = Settings(home=servers.valkey.folder.parent)
    bucket = Bucket.open(local, attempts=1)
    bucket.check()
    assert bucket.address == servers.instance.s3_endpoint


def test_keys() -> None:
    assert keys.PICTURE("me", "job-1") == "jobs/me/job-1/image.png"
    assert keys.SIDECAR("me", "job-1") == "jobs/me/job-1/sidecar.json"
    assert keys.REFERENCE("me", "ab") == "refs/me/ab"
