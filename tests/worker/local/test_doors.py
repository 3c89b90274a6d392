"""Who may come in: nobody from another machine, and nobody on this one without the secrets."""

from __future__ import annotations

import http.client
import socket
import ssl
import stat
from pathlib import Path

import psutil
import pytest
import redis
from botocore.exceptions import ClientError

from pixelkiln.worker.local.instance import Local
from pixelkiln.worker.local.seaweed import BUCKET
from pixelkiln.worker.local.server import Server

KEY = "doors/picture"


@pytest.fixture(scope="module")
def stored(local_instance: Local):
    client = local_instance.seaweed.connect()
    client.put_object(Bucket=BUCKET, Key=KEY, Body=b"a picture")
    yield client
    client.close()


def servers(local: Local) -> tuple[Server, Server]:
    return local.valkey, local.seaweed


def listening(server: Server) -> list[tuple[str, int]]:
    process = psutil.Process(server.pid)
    return [
        (c.laddr.ip, c.laddr.port) for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN
    ]


def greet(port: int) -> bytes:
    """A server's answer to a gRPC client that trusts anyone and has no certificate."""
    anyone = ssl.create_default_context()
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    anyone.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain, anyone.wrap_socket(plain) as door:
        door.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        return door.recv(4096)  # what it thinks of the missing certificate comes after the handshake


def test_only_loopback_and_only_assigned_ports(local_instance: Local) -> None:
    valkey, seaweed = servers(local_instance)
    assert listening(valkey) == [("127.0.0.1", valkey.kept.ports[0])]
    doors = set(listening(seaweed))
    assert {host for host, _ in doors} == {"127.0.0.1"}
    assigned = set(seaweed.kept.ports) | {seaweed.kept.ports[-1] + 10000}
    assert {port for _, port in doors} <= assigned


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_port_serves_objects_without_credentials(local_instance: Local, stored, method: str) -> None:
    for host, port in listening(local_instance.seaweed):
        for path in (f"/{BUCKET}/{KEY}", f"/buckets/{BUCKET}/{KEY}", "/1,01", f"/{BUCKET}", "/dir/assign"):
            door = http.client.HTTPConnection(host, port, timeout=5)
            try:
                door.request(method, path, body=b"forged" if method == "PUT" else None)
                assert 400 <= door.getresponse().status < 500, (port, path)
            except (http.client.HTTPException, OSError):
                pass  # gRPC speaks no plain HTTP
            finally:
                door.close()
    assert stored.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"a picture"


def test_grpc_wants_the_folders_certificate(local_instance: Local) -> None:
    ports = {port for name, port in local_instance.seaweed.ports.items() if name.endswith(".grpc")}
    assert len(ports) == 5
    for port in ports:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            greet(port)


def test_valkey_wants_its_password(local_instance: Local) -> None:
    with (
        redis.Redis(port=local_instance.valkey.kept.ports[0]) as anyone,
        pytest.raises(redis.AuthenticationError),
    ):
        anyone.get("key")


def test_valkey_keeps_what_it_accepts(local_instance: Local) -> None:
    with redis.Redis.from_url(local_instance.valkey.url, decode_responses=True) as client:
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
        assert client.config_get(*wanted) == wanted


def test_no_bucket_is_made_by_writing_to_it(stored) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        stored.put_object(Bucket="another", Key="key", Body=b"")


def test_secrets_are_in_private_files_only(local_instance: Local) -> None:
    for server in servers(local_instance):
        process = psutil.Process(server.pid)
        seen = [
            *process.cmdline(),
            *process.environ().values(),
            *process.parent().cmdline(),
            *process.parent().environ().values(),
            server.log.read_text(),
            repr(local_instance),
            repr(server.kept),
        ]
        for secret in (local_instance.valkey.kept.secrets[0], local_instance.seaweed.secret_key):
            assert not any(secret in text for text in seen)
        for path in (server.folder, *server.folder.iterdir()):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_the_record_is_private(local_instance: Local) -> None:
    record: Path = local_instance.valkey.folder.parent / "instance.json"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
