"""Where something is sent and where not, and what receivers may do with a request."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pixelkiln.jobs.webhooks import Webhook
from pixelkiln.worker.local.certificate import make_certificate
from pixelkiln.worker.telling.reach import TellError, addresses, refusal
from pixelkiln.worker.telling.sending import send, trusted
from tests.worker.telling.receivers import Receiver, receiving

BODY = b'{"event":"x"}'
HERE = ("127.0.0.1",)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:a9fe:a9fe::", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("168.63.129.16", "metadata"),
        ("fd00:ec2::254", "private"),
        ("100.100.100.200", "private"),
        ("192.0.0.192", "private"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("fec0::1", "private"),
        ("0.0.0.0", "private"),
        ("::", "private"),
        ("255.255.255.255", "private"),
        ("198.18.0.1", "private"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "link-local"),
        ("nonsense", "none that is known"),
        ("1.1.1.1", ""),
        ("2606:4700:4700::1111", ""),
        ("64:ff9b::101:101", ""),
    ],
)
def test_addresses_that_are_not_for_receivers_are_known(address: str, kind: str) -> None:
    found = refusal(address)
    assert bool(found) == bool(kind)
    assert found == kind or address == "ff02::1"


def test_one_bad_address_among_several_is_enough() -> None:
    hook = Webhook.parse("https://hooks.example.com/")
    assert addresses(hook, (), lambda *_: ["1.1.1.1"]) == ["1.1.1.1"]
    for found in (["1.1.1.1", "169.254.169.254"], ["10.0.0.1", "1.1.1.1"]):
        with pytest.raises(TellError, match=r"hooks\.example\.com is .*KILN_WEBHOOK_HOSTS"):
            addresses(hook, (), lambda *_: found)  # noqa: B023 - called at once
        assert addresses(hook, ("hooks.example.com",), lambda *_: found) == found  # noqa: B023
        with pytest.raises(TellError):
            addresses(hook, ("example.com", "1.1.1.1"), lambda *_: found)  # noqa: B023


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "017700000001", "localhost", "[::1]"])
def test_other_spellings_of_this_machine_are_refused(host: str) -> None:
    with pytest.raises(TellError):
        addresses(Webhook.parse(f"https://{host}/"), ())


def test_in_the_clear_goes_only_what_is_named() -> None:
    with pytest.raises(TellError, match="in the clear"):
        addresses(Webhook.parse("http://example.com/"), (), lambda *_: ["1.1.1.1"])


def test_the_address_looked_at_is_the_one_connected_to() -> None:
    """A name that leads elsewhere at the second question is asked once."""
    asked: list[str] = []
    receiver = Receiver()
    with receiving(receiver):

        def rebinding(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

        hook = Webhook.parse(f"http://hooks.invalid:{receiver.port}/a?b=c")
        send(hook, BODY, {"Kiln-Event": "x"}, ("hooks.invalid",), trusted(), find=rebinding)
    assert asked == ["hooks.invalid"]
    ((headers, body),) = receiver.requests
    assert (headers["Host"], headers["Kiln-Event"], body) == (f"hooks.invalid:{receiver.port}", "x", BODY)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 410, 500, 503])
def test_anything_but_success_is_none(status: int) -> None:
    receiver = Receiver(status=status, headers={"Location": "http://127.0.0.1:1/"})
    with receiving(receiver), pytest.raises(TellError, match=f"{status}"):
        send(Webhook.parse(receiver.url), BODY, {}, HERE, trusted())
    assert len(receiver.requests) == 1


@contextmanager
def served(answer: Callable[[socket.socket], None]) -> Iterator[Webhook]:
    """One connection is answered so."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def act() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # it was ended from there
                answer(connection)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        yield Webhook.parse(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join(30)
        assert not thread.is_alive()


def drip(connection: socket.socket) -> None:
    """Never silent for long, and never done."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    pause = threading.Event()
    while not pause.wait(0.01):
        connection.sendall(b"x")


def test_a_receiver_that_spreads_its_answer_is_left() -> None:
    with served(drip) as hook, pytest.raises(TellError, match="without an answer"):
        send(hook, BODY, {}, HERE, trusted(), total=0.3)


def test_a_receiver_that_takes_nothing_is_left() -> None:
    with served(lambda connection: threading.Event().wait(1) and None) as hook, pytest.raises(TellError):
        send(hook, b"x" * 2**26, {}, HERE, trusted(), total=0.3)


MANY = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", MANY])
def test_what_is_no_answer_is_none(answer: bytes) -> None:
    with served(lambda connection: connection.sendall(answer)) as hook, pytest.raises(TellError):
        send(hook, BODY, {}, HERE, trusted())


def test_of_an_answer_only_the_head_is_read() -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with served(endless) as hook:
        send(hook, BODY, {}, HERE, trusted())


def test_certificates_are_verified(tmp_path: Path) -> None:
    private, certificate = make_certificate()
    (tmp_path / "key.pem").write_text(private)
    (tmp_path / "cert.pem").write_text(certificate)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    def answer(connection: socket.socket) -> None:
        with server_side.wrap_socket(connection, server_side=True) as secure:
            received = b""
            while BODY not in received:
                received += secure.recv(1000)
            secure.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def attempt(context: ssl.SSLContext) -> None:
        with served(answer) as plain:
            hook = Webhook.parse(f"https://127.0.0.1:{plain.port}/")
            send(hook, BODY, {}, HERE, context)

    with pytest.raises(TellError, match="no certificate to trust"):
        attempt(trusted())
    known = trusted()
    known.load_verify_locations(cadata=certificate)
    with pytest.raises(TellError, match="no certificate to trust"):
        attempt(known)  # it is another host's
    known.check_hostname = False
    attempt(known)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hooks.example.com",
        "ftp://example.com/",
        "https://user:secret@example.com/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://example.com:port/",
        "https://[fe80::1%25eth0]/",
        "file:///etc/passwd",
        "https:///path",
    ],
)
def test_what_is_no_address_is_refused_without_its_secrets(text: str) -> None:
    with pytest.raises(ValueError, match="address") as refused:
        Webhook.parse(text)
    assert "secret" not in str(refused.value)


def test_names_show_no_path() -> None:
    name = Webhook.parse("https://example.com/T0/B0/secret?x=secret").name
    assert name.startswith("example.com-")
    assert "secret" not in name
