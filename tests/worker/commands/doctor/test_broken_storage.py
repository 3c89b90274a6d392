"""Broken set-ups of S3: each has its own mend, and doctor, submit, worker and fetch say the same."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixelkiln.jobs import Settings
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.jobs.storage.clients import Clients, Place
from pixelkiln.worker.commands.app import main
from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.storage import look_at_bucket
from pixelkiln.worker.local.ports import free_ports
from pixelkiln.worker.local.seaweed import BUCKET, Seaweed
from tests.chaos.radosgw import Radosgw
from tests.worker.commands.doctor.broken import Answer, Authority, listener, redis_server, s3_way

SUBMIT = ["submit", "-m", "hidream-o1-dev", "x", "--ref", "red.png"]
COMMANDS = (SUBMIT, ["worker"], ["fetch", "nothing"])
Look = Callable[[], list[Finding]]


@pytest.fixture
def look(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """What doctor finds with these variables in place of those that work."""
    Image.new("RGB", (64, 64), "red").save("red.png")

    def act(endpoint: str | None = None, **variables: str) -> list[Finding]:
        monkeypatch.setenv("KILN_S3_ENDPOINT", endpoint or environment["KILN_S3_ENDPOINT"])
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return look_at_bucket(Settings.load())

    return act


@pytest.fixture
def told(
    look: Callable[..., list[Finding]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """What doctor finds; the commands say the same."""

    def act(endpoint: str | None = None, **variables: str) -> str:
        (found,) = look(endpoint, **variables)
        assert (found.what, found.state) == ("bucket", "problem")
        line = "; ".join(filter(None, (found.found, found.mend)))
        for arguments in COMMANDS:
            monkeypatch.setattr(sys, "argv", ["kiln", *arguments])
            with pytest.raises(SystemExit) as end:
                main()
            said = capsys.readouterr().err.splitlines()[-1]  # urllib3 may log before
            assert (end.value.code, said) == (3, f"kiln: {line}"), arguments
        return line

    return act


@contextmanager
def hung_up(client_closes: bool = True) -> Iterator[str]:
    def serve(client: socket.socket) -> None:
        client.recv(4096)
        client.close()

    with listener(serve) as address:
        yield f"http://{address}"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"KILN_S3_ENDPOINT": "http://nas.invalid:8333"},
            "no address is known for 'nas.invalid'; check the name",
        ),
        ({"KILN_S3_BUCKET": "not-there"}, "does not exist; create it, or name another in KILN_S3_BUCKET"),
        (
            {"AWS_ACCESS_KEY_ID": "nobody"},
            "refuses these credentials (InvalidAccessKeyId): no such key is known there; check AWS_ACCESS",
        ),
        (
            {"AWS_SECRET_ACCESS_KEY": "hunter2"},
            "(SignatureDoesNotMatch): the key's secret is another; check AWS_SECRET_ACCESS_KEY",
        ),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials; set AWS_ACCESS_KEY_ID"),
        ({"AWS_PROFILE": "nobodys"}, "could not be found; check AWS_PROFILE"),
        ({"KILN_S3_ENDPOINT": "nas:8333"}, "it has no scheme: write http://HOST:PORT"),
        ({"KILN_S3_ENDPOINT": "redis://nas:8333"}, "it begins with http:// or https://"),
        ({"KILN_S3_ENDPOINT": "http://nas:port"}, "its port is no number up to 65535"),
        ({"KILN_S3_ENDPOINT": "http://nas:8333/pixelkiln"}, "goes into KILN_S3_BUCKET"),
        ({"KILN_S3_ENDPOINT": "http://nas:8333/another/"}, "a bucket's name stands at its end"),
        ({"KILN_S3_ENDPOINT": "https://a.b.c/v1/pixelkiln"}, "a bucket's name stands at its end"),
        ({"KILN_S3_ENDPOINT": "https://pixelkiln.s3.eu-west-1.amazonaws.com"}, "stands before the host"),
        ({"KILN_S3_ENDPOINT": "http://nas:8333?x=1"}, "without ? and #"),
    ],
)
def test_what_stands_in_variables(variables: dict[str, str], expected: str, told: Callable[..., str]) -> None:
    line = told(variables.pop("KILN_S3_ENDPOINT", None), **variables)
    assert expected in line
    assert "hunter2" not in line
    assert "kiln up" not in line


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1/", "http://127.0.0.1:1/storage/v1/s3"])
def test_an_address_that_can_be_meant_is_tried(endpoint: str, look: Callable[..., list[Finding]]) -> None:
    assert "nothing listens there" in look(endpoint)[0].found


def test_where_nothing_listens_it_is_to_be_started(told: Callable[..., str]) -> None:
    line = told(f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "nothing listens there; start it (`kiln up` on this machine) or set KILN_S3_ENDPOINT" in line


def test_one_that_hangs_up_and_one_that_is_a_redis(told: Callable[..., str], tmp_path: Path) -> None:
    with hung_up() as endpoint:
        assert "it closes the connection without an answer; see its log" in told(endpoint)
    with redis_server(tmp_path / "redis") as address:
        assert "a Redis listens there; check the port in KILN_S3_ENDPOINT" in told(f"http://{address}")


def untouched(method: str, headers: dict[str, str]) -> None:
    return None


def test_tls_on_one_side_and_a_ca_of_ones_own(
    told: Callable[..., str], look: Callable[..., list[Finding]], environment: dict[str, str], tmp_path: Path
) -> None:
    plain = environment["KILN_S3_ENDPOINT"]
    authority = Authority(tmp_path / "ca")
    with s3_way(plain, untouched, authority) as endpoint:
        trust = "name the CA that made it: AWS_CA_BUNDLE=/PATH/ca.pem"
        assert f"; {trust}" in told(endpoint)
        assert "it speaks TLS there; write https:// in place of http://" in told(
            endpoint.replace("https", "http")
        )
        assert "write http:// in place of https://" in told(plain.replace("http", "https"))
        lost = told(endpoint, AWS_CA_BUNDLE=str(tmp_path / "no.pem"))
        assert "the file of CAs cannot be read; name one that is there: AWS_CA_BUNDLE" in lost
        assert look(endpoint, AWS_CA_BUNDLE=str(authority.ca))[0].state == "ok"
    with s3_way(plain, untouched, Authority(tmp_path / "other", "nas.local")) as endpoint:
        told_of_name = told(endpoint, AWS_CA_BUNDLE=str(tmp_path / "other" / "ca.pem"))
        assert "its certificate is for another" in told_of_name


ANSWERS: dict[str, tuple[Answer, str]] = {
    "clock": ((403, "RequestTimeTooSkewed"), "refuses this machine's clock (RequestTimeTooSkewed): "),
    "expired": ((400, "ExpiredToken"), "(ExpiredToken): they have expired; renew them"),
    "token": ((400, "InvalidToken"), "unset AWS_SESSION_TOKEN"),
    "region": ((400, "AuthorizationHeaderMalformed"), "check KILN_S3_BUCKET and AWS_DEFAULT_REGION"),
    "virtual": ((403, "SecondLevelDomainForbidden"), "set KILN_S3_ADDRESSING=virtual"),
    "rights": ((403, "AccessDenied"), "they lack a right; give them what deploy/s3-worker.json"),
    "quota": ((403, "QuotaExceeded"), "is full (QuotaExceeded); free some there, or raise its quota"),
    "trouble": ((503, "SlowDown"), "answered SlowDown; see the server's log"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_store_answers(
    name: str, told: Callable[..., str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, expected = ANSWERS[name]
    with s3_way(environment["KILN_S3_ENDPOINT"], lambda *_: answer) as endpoint:
        monkeypatch.setattr("time.sleep", lambda _: None)  # botocore's pauses between tries
        assert expected in told(endpoint)


@pytest.mark.parametrize(("off", "words"), [(3600, "60 minutes ahead of"), (-3600, "60 minutes behind")])
def test_a_clock_that_is_off_is_told_of_any_refusal(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, off: int, words: str
) -> None:
    """Also of HEAD, whose answer has no body, so that the date alone tells."""
    import botocore.auth
    import botocore.compat

    now = time.time
    monkeypatch.setattr("pixelkiln.jobs.storage.refusals.time.time", lambda: now() + off)
    shifted = lambda remove_tzinfo=True: botocore.compat.datetime.datetime.fromtimestamp(  # noqa: E731
        now() + off, botocore.compat.datetime.timezone.utc
    ).replace(tzinfo=None if remove_tzinfo else botocore.compat.datetime.timezone.utc)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", shifted)
    bucket = Bucket.open(settings, attempts=1)
    for act in (bucket.check, lambda: bucket.head("jobs/default/none")):
        with pytest.raises(
            NotReadyError, match=rf"this machine's clock \(\w+\): {words} its own; set the clock$"
        ):
            act()


def without(right: str) -> Callable[[str, dict[str, str]], Answer | None]:
    return lambda method, headers: (403, "AccessDenied") if method == right else None


@pytest.mark.parametrize(
    ("right", "found"),
    [
        ("PUT", "but without s3:PutObject in jobs/default/; without s3:PutObject in refs/default/"),
        ("DELETE", "no worker can deliver with them: without s3:DeleteObject in jobs/default/"),
    ],
)
def test_doctor_names_the_right_that_is_missing(
    right: str, found: str, look: Callable[..., list[Finding]], environment: dict[str, str]
) -> None:
    with s3_way(environment["KILN_S3_ENDPOINT"], without(right)) as endpoint:
        told = look(endpoint)
    assert found in " ".join(one.found for one in told)
    assert "deploy/s3-worker.json" in " ".join(one.mend for one in told)
    assert {one.state for one in told} == ({"problem"} if right == "PUT" else {"ok", "warning"})


def without_conditions(method: str, headers: dict[str, str]) -> Answer | None:
    found = {"if-match", "if-none-match"} & {name.lower() for name in headers}
    return (501, "NotImplemented") if found else None


def test_a_store_without_conditions_is_served_and_told(
    look: Callable[..., list[Finding]],
    environment: dict[str, str],
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with s3_way(environment["KILN_S3_ENDPOINT"], without_conditions) as endpoint:
        found = look(endpoint)
        caplog.clear()
        bucket = Bucket.open(settings.model_copy(update={"s3_endpoint": endpoint}), attempts=1)
        key = f"tests/{os.urandom(8).hex()}"
        assert bucket.put(key, b"first", "text/plain", if_absent=True)
        assert not bucket.put(key, b"second", "text/plain", if_absent=True)
        assert not bucket.put(key, b"second", "text/plain", replace='"another"')
        seen = bucket.head(key)
        assert seen is not None
        assert bucket.put(key, b"third", "text/plain", replace=seen.etag)
        assert bucket.get(key) == b"third"
        assert bucket.delete(key, seen=(bucket.head(key) or seen).etag)
        assert not bucket.put(key, b"fourth", "text/plain", replace='"another"')  # it is gone
    assert [one.state for one in found] == ["ok", "warning"]
    assert "answers 501 to conditions on writes" in found[1].found
    assert len([one for one in caplog.messages if "knows no conditions on writes" in one]) == 1


def test_a_store_that_passes_conditions_by_is_told(
    look: Callable[..., list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken out before they are signed: what arrives there has none."""
    connected = Clients._connected

    def silenced(self: Clients, place: Place) -> Any:
        client = connected(self, place)

        def drop(request: Any, **_: object) -> None:
            for name in ("If-Match", "If-None-Match"):
                del request.headers[name]

        client.meta.events.register("before-sign.s3.PutObject", drop)
        return client

    monkeypatch.setattr(Clients, "_connected", silenced)
    found = look()
    assert [one.state for one in found] == ["ok", "warning"]
    assert "ignores conditions on writes" in found[1].found


def test_doctor_leaves_nothing_of_what_it_tried(look: Callable[..., list[Finding]], bucket: Bucket) -> None:
    assert look()[0].found.endswith("; pictures and references can be stored")
    listed = bucket._client.list_objects_v2(Bucket=bucket.name, Prefix="jobs/default/")
    assert listed.get("Contents", []) == []


class Virtual(Seaweed):
    """SeaweedFS that takes the bucket's name before its host, too."""

    def configure(self) -> list[str]:
        arguments = super().configure()
        options = (self.folder / "weed.options").read_text()
        self.write_private("weed.options", options + "s3.domainName=localhost\n")
        return arguments


@pytest.mark.parametrize("by", ["KILN_S3_ADDRESSING", "addressing_style"])
def test_virtual_hosted_addresses(
    by: str, tmp_path: Path, look: Callable[..., list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    resolve, asked = socket.getaddrinfo, set()

    def known(host: Any, *more: Any, **named: Any) -> Any:
        asked.add(host)
        return resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *more, **named)

    with Virtual(tmp_path / "s3") as server:
        endpoint = server.endpoint.replace("127.0.0.1", "localhost")
        variables = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        if by == "addressing_style":
            variables["AWS_CONFIG_FILE"] = str(tmp_path / "config")
        else:
            variables[by] = "virtual"
        lost = look(endpoint, **variables)[0]
        if lost.state == "problem":  # where no such name is known
            assert f"no address is known for '{BUCKET}.localhost'" in lost.found
            assert lost.mend.startswith("check the name in KILN_S3_ENDPOINT and KILN_S3_ADDRESSING, ")
        monkeypatch.setattr(socket, "getaddrinfo", known)
        assert look(endpoint, **variables)[0].state == "ok"
        assert f"{BUCKET}.localhost" in asked
        asked.clear()
        monkeypatch.setenv("KILN_S3_ADDRESSING", "path")
        assert look(endpoint, **variables | {"KILN_S3_ADDRESSING": "path"})[0].state == "ok"
        assert asked == {"localhost"}


def test_what_an_operator_changes_is_taken_up(
    settings: Settings, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a client that goes on: its file of keys, its file of CAs, and a bucket that is made later."""
    keys, secret = tmp_path / "credentials", environment["AWS_SECRET_ACCESS_KEY"]
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    keys.write_text(text.format(environment["AWS_ACCESS_KEY_ID"], "old"))
    bucket = Bucket.open(settings, attempts=1)
    with pytest.raises(NotReadyError, match="SignatureDoesNotMatch"):
        bucket.check()
    keys.write_text(text.format(environment["AWS_ACCESS_KEY_ID"], secret))
    bucket.check()
    keys.unlink()  # it holds a secret
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", environment["AWS_ACCESS_KEY_ID"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.ca.read_bytes())
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with s3_way(environment["KILN_S3_ENDPOINT"], untouched, new) as endpoint:
        bucket = Bucket.open(settings.model_copy(update={"s3_endpoint": endpoint}), attempts=1)
        with pytest.raises(NotReadyError, match="its certificate is not trusted"):
            bucket.check()
        bundle.write_bytes(new.ca.read_bytes())
        bucket.check()

    name = f"later-{os.urandom(4).hex()}"
    later = Bucket.open(settings.model_copy(update={"s3_bucket": name}), attempts=1)
    with pytest.raises(NotReadyError, match="does not exist"):
        later.check()
    later._client.create_bucket(Bucket=name)
    later.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="radosgw is started by root")
def test_ceph_says_the_same(tmp_path: Path, look: Callable[..., list[Finding]]) -> None:
    import shutil

    if not shutil.which("radosgw"):
        pytest.skip("no radosgw here")
    with Radosgw(tmp_path / "ceph") as store:
        right = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
        assert look(store.endpoint, **right)[0].state == "ok"
        for variables, expected in (
            ({"AWS_ACCESS_KEY_ID": "nobody"}, "(InvalidAccessKeyId): no such key is known there"),
            ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "(SignatureDoesNotMatch): the key's secret is another"),
            ({"KILN_S3_BUCKET": "not-there"}, "does not exist"),
        ):
            assert expected in look(store.endpoint, **right | variables)[0].found
