"""A Mac that keeps a program from the local network, and addresses that no proxy is asked for."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import network
from pixelkiln.jobs.errors import NotReadyError, StorageAwayError
from pixelkiln.jobs.queue.connection import connect, explained
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.storage.bucket import Bucket

NAS = Settings(
    redis_url=SecretStr("redis://:hunter2@192.168.1.7:6379/0"), s3_endpoint="http://192.168.1.7:8333"
)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection ends as macOS ends those that may not use the local network."""

    def connect(self: socket.socket, address: Any) -> None:
        raise OSError(network.NO_ROUTE, "No route to host")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def said() -> list[str]:
    with pytest.raises(NotReadyError) as redis, explained(NAS):
        connect(NAS).ping()
    with pytest.raises(StorageAwayError) as bucket:
        Bucket.open(NAS, attempts=1).check()
    return [str(redis.value), str(bucket.value)]


@pytest.mark.usefixtures("refused")
def test_a_mac_that_forbids_the_local_network_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    for line in said():
        assert "192.168.1.7" in line
        assert "errno 65" in line
        assert "Privacy & Security › Local Network" in line
        assert "sudo kiln service install" in line
        assert "kiln up" not in line
        assert "hunter2" not in line
        assert "\n" not in line


@pytest.mark.usefixtures("refused")
def test_elsewhere_that_number_is_another_error() -> None:
    for line in said():
        assert "is unreachable: No route to host; check" in line
        assert "kiln up" not in line  # that is for this machine, which the address is not
        assert "Local Network" not in line


def test_another_error_of_a_mac_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert network.no_route(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")) is None
    circle = ValueError()
    circle.__context__ = circle
    assert network.no_route(circle) is None


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://192.168.1.7:8333", True),
        ("http://10.0.0.1", True),
        ("http://[fd00::1]:8333", True),
        ("http://127.0.0.1:8333", True),
        ("http://nas:8333", True),
        ("http://nas.local", True),
        ("http://NAS.local.", True),
        ("https://s3.eu-central-1.amazonaws.com", False),
        ("http://8.8.8.8", False),
        ("", False),
        (None, False),
        ("http://[", False),
    ],
)
def test_what_lies_in_the_local_network(url: str | None, local: bool) -> None:
    assert network.in_local_network(url) is local


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://192.168.1.7:8333", False),
        ("http://nas.local:8333", False),
        ("http://127.0.0.1:8333", False),
        ("https://s3.example.com", True),
    ],
)
def test_the_systems_proxies_are_not_asked_for_the_nas(
    monkeypatch: pytest.MonkeyPatch, url: str, asked: bool
) -> None:
    """botocore asks urllib, which on macOS reads System Settings where no variable names a proxy."""
    monkeypatch.setattr(
        "botocore.utils.getproxies", lambda: {"http": "http://proxy:1", "https": "http://proxy:1"}
    )
    monkeypatch.setattr("botocore.utils.proxy_bypass", lambda host: False)
    monkeypatch.setattr(network, "getproxies_environment", dict)
    bucket = Bucket.open(NAS.model_copy(update={"s3_endpoint": url}), attempts=1)
    session: Any = bucket._client._endpoint.http_session  # type: ignore[attr-defined]
    assert bool(session._proxy_config.proxy_url_for(url)) is asked


def test_a_proxy_that_a_variable_names_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "getproxies_environment", lambda: {"http": "http://proxy:1"})
    assert not network.without_proxy("http://192.168.1.7:8333")
    assert network.without_proxy("http://127.0.0.1:8333")
