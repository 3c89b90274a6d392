"""Set-ups that do not work, of real servers: a Redis so configured, TLS behind a CA, faulty ways."""

from __future__ import annotations

import http.client
import secrets
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import redis

from pixelkiln.worker.local.ports import LOOPBACK, free_ports
from tests.waiting import until

Answer = tuple[int, str]  # status, S3's word
Spoil = Callable[[str, dict[str, str]], Answer | None]  # method, headers -> what is answered instead


@contextmanager
def redis_server(folder: Path, *options: str, port: int | None = None) -> Iterator[str]:
    """Debian's redis-server with these options; its host and port."""
    binary = shutil.which("redis-server") or pytest.skip("no redis-server here")
    port = port or free_ports(1)[0]
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [str(binary), "--port", str(port), "--bind", LOOPBACK, "--dir", str(folder), "--save", "", *options],
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: _listens(port) or process.poll() is not None, "it listens")
        assert process.poll() is None
        yield f"{LOOPBACK}:{port}"
    finally:
        process.kill()
        process.wait()


def admin(address: str, **more: Any) -> redis.Redis:
    """A client of the server at host and port."""
    return redis.Redis.from_url(f"redis://{address}", protocol=2, **more)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


class Authority:
    """A CA of this test's own, and a server's certificate that it made for a name."""

    def __init__(self, folder: Path, name: str = LOOPBACK, days: int = 3) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        folder.mkdir(exist_ok=True)
        self.ca, self.cert, self.key = (folder / one for one in ("ca.pem", "cert.pem", "key.pem"))
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        names = [
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)])
            for one in ("a studio's CA " + secrets.token_hex(4), "nas")
        ]
        is_ip = name.replace(".", "").isdecimal()
        alternative = x509.IPAddress(ip_address(name)) if is_ip else x509.DNSName(name)
        for number, path in enumerate((self.ca, self.cert)):
            start = datetime.now(UTC) - timedelta(days=9)
            ends = datetime.now(UTC) + timedelta(days=days if number else 3)
            made = (
                x509.CertificateBuilder()
                .subject_name(names[number])
                .issuer_name(names[0])
                .public_key(keys[number].public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(start)
                .not_valid_after(ends)
                .add_extension(x509.BasicConstraints(ca=not number, path_length=None), critical=True)
                .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
                .sign(keys[0], hashes.SHA256())
            )
            path.write_bytes(made.public_bytes(Encoding.PEM))
        private = keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.key.write_bytes(private)

    def options(self, port: int) -> list[str]:
        """What redis-server needs to speak TLS at a port."""
        files = {"cert-file": self.cert, "key-file": self.key, "ca-cert-file": self.ca}
        named = [part for name, path in files.items() for part in (f"--tls-{name}", str(path))]
        return ["--tls-port", str(port), "--tls-auth-clients", "no", *named]


@contextmanager
def listener(serve: Callable[[socket.socket], None] | None, backlog: int = 128) -> Iterator[str]:
    """A port that treats each connection so; None: nobody takes them. Its host and port."""
    with socket.create_server((LOOPBACK, 0), backlog=backlog) as server, ExitStack() as held:

        def accept() -> None:
            while serve is not None:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                held.callback(client.close)
                threading.Thread(target=_quietly, args=(serve, client), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"{LOOPBACK}:{server.getsockname()[1]}"
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _quietly(serve: Callable[[socket.socket], None], client: socket.socket) -> None:
    with suppress(OSError):
        serve(client)


@contextmanager
def s3_way(endpoint: str, spoil: Spoil, authority: Authority | None = None) -> Iterator[str]:
    """An HTTP server before an S3 server that passes on what `spoil` leaves to it; its address."""
    upstream = endpoint.removeprefix("http://")

    class Way(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = dict(self.headers.items())
            if answer := spoil(self.command, headers):
                self.answer(answer[0], [], f"<Error><Code>{answer[1]}</Code></Error>".encode())
                return
            connection = http.client.HTTPConnection(upstream, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            reply = connection.getresponse()
            self.answer(reply.status, reply.getheaders(), reply.read())
            connection.close()

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            length = str(len(body))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                elif name.lower() not in (
                    "transfer-encoding",
                    "connection",
                    "content-length",
                    "date",
                    "server",
                ):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = pass_on  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that goes away is what these tests are about."""

    server = Server((LOOPBACK, 0), Way)
    scheme = "http"
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.cert, authority.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"{scheme}://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
