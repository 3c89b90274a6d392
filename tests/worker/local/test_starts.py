"""What can keep a server from starting, and what is said then."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.worker.local import server as servers
from pixelkiln.worker.local.instance import up
from pixelkiln.worker.local.seaweed import BUCKET, Seaweed
from pixelkiln.worker.local.server import Kept, Server, ServerError
from pixelkiln.worker.local.valkey import Valkey
from tests.worker.local.others import another_listens, another_seaweed


def one_line(error: pytest.ExceptionInfo[NotReadyError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", [Valkey, Seaweed])
def test_the_port_that_clients_know_never_moves(tmp_path: Path, kind: type[Server]) -> None:
    with kind(tmp_path) as server:
        before = server.kept
    port = before.ports[kind.public]
    with another_listens(port):
        with pytest.raises(ServerError, match=f"port {port}, .* is held by another program") as error:
            server.launch()
        mend = tmp_path / "kept.json"
        assert str(mend) in one_line(error)
        mend.unlink()
        with kind(tmp_path) as server:
            assert server.kept.ports[kind.public] != port


def test_ports_that_no_client_knows_move_and_nothing_is_lost(tmp_path: Path) -> None:
    with Seaweed(tmp_path) as seaweed:
        before, known = seaweed.ports, seaweed.endpoint
        client = seaweed.connect()
        client.put_object(Bucket=BUCKET, Key="key", Body=b"kept")
    with ExitStack() as others:
        inner = {name: port for name, port in before.items() if name not in ("s3.port", "admin.port")}
        for port in inner.values():
            others.enter_context(another_listens(port))
        seaweed = others.enter_context(Seaweed(tmp_path))
        assert seaweed.endpoint == known
        assert not set(seaweed.ports.values()) & set(inner.values())
        assert client.get_object(Bucket=BUCKET, Key="key")["Body"].read() == b"kept"
    client.close()


@pytest.mark.parametrize(("kind", "which"), [(Valkey, 0), (Seaweed, 3)])
def test_a_port_taken_in_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Server], which: int
) -> None:
    server = kind(tmp_path)
    ports = servers.free_ports(server.port_count)
    monkeypatch.setattr(server, "_recall", lambda: Kept(ports, ["secret-of-a-kind"] * server.secret_count))
    with another_listens(ports[which]), server:
        assert server.kept.ports != ports
        assert server.answers()


def test_a_seaweedfs_of_another_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    spawn = Server._spawn

    def spawning(self: Server) -> None:
        started.append(self.name)
        spawn(self)

    monkeypatch.setattr(Server, "_spawn", spawning)
    with another_seaweed():
        with up(tmp_path) as local:
            before = local.instance.s3_endpoint, local.seaweed.kept
        with up(tmp_path) as local:
            assert (local.instance.s3_endpoint, local.seaweed.kept) == before
    assert started == ["Valkey", "SeaweedFS"] * 2  # each at the first try


def test_its_last_words_are_passed_on(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey, redis.Redis.from_url(valkey.url) as client:
        client.set("key", "value")
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(ServerError) as error, Valkey(tmp_path):
        pass
    assert one_line(error).startswith("Valkey ended at once: ")
    assert "manifest" in str(error.value)
    assert not (tmp_path / "lock").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match="KILN_HOME") as error, Valkey(tmp_path / "file" / "valkey"):
        pass
    assert str(tmp_path) in one_line(error)


def test_a_missing_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Valkey, "distribution", "no-such-distribution")
    with pytest.raises(NotReadyError, match=r"pixelkiln\[local\]") as error, Valkey(tmp_path):
        pass
    one_line(error)


def test_a_path_with_spaces(tmp_path: Path) -> None:
    with Valkey(tmp_path / "a 'b' \"c\" $d") as valkey:
        assert valkey.answers()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("index", [1, 8], ids=["master", "admin"])
def test_a_socket_that_another_user_planted_moves_the_port(tmp_path: Path, index: int) -> None:
    """/tmp is everybody's, and what lies there only its owner may remove."""
    with Seaweed(tmp_path) as server:
        before = server.kept
        socket = server.leftovers()[{1: 2, 8: 6}[index]]
    plant = Path(socket)
    plant.touch()
    os.chown(plant, 54321, 54321)
    try:
        with Seaweed(tmp_path) as server:
            moved = [one != other for one, other in zip(before.ports, server.kept.ports, strict=True)]
        assert moved == [place == index for place in range(len(moved))]
    finally:
        plant.unlink()
