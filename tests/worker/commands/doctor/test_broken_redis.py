"""Broken set-ups of Redis: each has its own mend, and doctor, submit, worker and fetch say the same."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from pixelkiln.jobs import Settings
from pixelkiln.worker.commands.app import main
from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.queue import look_at_queue
from pixelkiln.worker.local.ports import free_ports
from tests.waiting import until
from tests.worker.commands.doctor.broken import Authority, admin, listener, redis_server

Places = AbstractContextManager[str]
COMMANDS = (["submit", "-m", "demo", "x"], ["worker"], ["fetch", "nothing"])


@pytest.fixture
def look(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Finding]]:
    def act(url: str) -> list[Finding]:
        monkeypatch.setenv("KILN_REDIS_URL", url)
        return look_at_queue(Settings.load())

    return act


@pytest.fixture
def told(
    look: Callable[[str], list[Finding]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """What doctor finds of an address; the commands say the same."""

    def act(url: str, commands: tuple[list[str], ...] = COMMANDS) -> str:
        (found,) = look(url)
        assert (found.what, found.state) == ("redis", "problem")
        line = f"{found.found}; {found.mend}"
        for arguments in commands:
            monkeypatch.setattr(sys, "argv", ["kiln", *arguments])
            with pytest.raises(SystemExit) as end:
                main()
            assert (end.value.code, capsys.readouterr().err) == (3, f"kiln: {line}\n"), arguments
        return line

    return act


@contextmanager
def started(folder: Path, *options: str) -> Iterator[str]:
    with redis_server(folder, *options) as address:
        yield f"redis://{address}/0"


@contextmanager
def secret(folder: Path, user: str, *options: str) -> Iterator[str]:
    with redis_server(folder, *options) as address:
        yield f"redis://{user}{address}/0"


@contextmanager
def named(url: str) -> Iterator[str]:
    yield url


@contextmanager
def tls(folder: Path, url: str, name: str = "127.0.0.1", days: int = 3) -> Iterator[str]:
    """{} in `url` is a server of TLS, {plain} one without, {ca} the file of its CA."""
    authority, port = Authority(folder, name, days), free_ports(1)[0]
    with redis_server(folder, *authority.options(port)) as plain:
        until(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, "it speaks TLS")
        (folder / "empty.pem").touch()
        yield url.format(f"127.0.0.1:{port}", plain=plain, ca=authority.ca, folder=folder)


@contextmanager
def replica(folder: Path) -> Iterator[str]:
    with redis_server(folder) as address:
        admin(address).replicaof("127.0.0.1", 1)
        yield f"redis://{address}/0"


@contextmanager
def crowded(folder: Path) -> Iterator[str]:
    with redis_server(folder, "--maxclients", "1") as address, admin(address) as first:
        until(lambda: _let_in(first), "whoever looked whether it listens is gone")
        yield f"redis://{address}/0"


def _let_in(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextmanager
def full(folder: Path) -> Iterator[str]:
    with redis_server(folder) as address:
        admin(address).config_set("maxmemory", 1)
        yield f"redis://{address}/0"


@contextmanager
def limited(folder: Path, *rules: str) -> Iterator[str]:
    with redis_server(folder) as address:
        admin(address).execute_command("ACL", "SETUSER", "some", "on", ">word", "~*", "&*", "+@all", *rules)
        yield f"redis://some:word@{address}/0"


@contextmanager
def served(answer: bytes | None) -> Iterator[str]:
    """By a server that says `answer`, or hangs up, where it is asked."""

    def serve(client: socket.socket) -> None:
        client.recv(1024)
        if answer:
            client.sendall(answer)
        client.close()

    with listener(serve) as address:
        yield f"redis://{address}/0"


def protected(folder: Path) -> Places:
    return served(b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n")


OLD = "too old, or renamed that; Redis 6.2 or newer, or Valkey, is needed"
ENCRYPTED = "rediss://{}/0"
CASES: dict[str, tuple[Callable[[Path], Places], list[str]]] = {
    "no such name": (
        lambda _: named("redis://nas.invalid:6379/0"),
        ["no address is known for 'nas.invalid'; check the name in KILN_REDIS_URL, then DNS"],
    ),
    "refused here": (
        lambda _: named(f"redis://127.0.0.1:{free_ports(1)[0]}/0"),
        ["nothing listens there; start it (`kiln up` on this machine) or set KILN_REDIS_URL"],
    ),
    "no socket": (
        lambda f: named(f"unix://{f}/no.sock"),
        ["no socket that this user may use is there; start"],
    ),
    "hangs up": (lambda _: served(None), ["it closes the connection without an answer; see its log"]),
    "plain to TLS": (
        lambda f: tls(f, "redis://{}/0"),
        ["it speaks TLS there; write rediss:// in place of redis:// in KILN_REDIS_URL"],
    ),
    "TLS to plain": (
        lambda f: tls(f, "rediss://{plain}/0"),
        ["it speaks no TLS there; write redis:// in place of rediss:// in KILN_REDIS_URL"],
    ),
    "a CA that is not named": (
        lambda f: tls(f, ENCRYPTED),
        [
            "its certificate is not trusted (",
            "; name the CA that made it: ?ssl_ca_certs=/PATH/ca.pem in",
            "FILE",
        ],
    ),
    "a CA that is not there": (
        lambda f: tls(f, ENCRYPTED + "?ssl_ca_certs={folder}/no.pem"),
        ["the file of CAs cannot be read; name one that is there: ?ssl_ca_certs=/PATH/ca.pem"],
    ),
    "a CA that is none": (
        lambda f: tls(f, ENCRYPTED + "?ssl_ca_certs={folder}/empty.pem"),
        ["the file of CAs holds no certificate; name one in PEM: ?ssl_ca_certs"],
    ),
    "another's certificate": (
        lambda f: tls(f, ENCRYPTED + "?ssl_ca_certs={ca}", "nas.local"),
        ["its certificate is for another address (", "; use an address that it lists"],
    ),
    "an old certificate": (
        lambda f: tls(f, ENCRYPTED + "?ssl_ca_certs={ca}", days=-1),
        ["its certificate has expired (", "; renew it there, or set this machine's clock"],
    ),
    "a wrong password": (
        lambda f: secret(f, ":wrong@", "--requirepass", "right"),
        ["refuses the user or password in KILN_REDIS_URL", "redis://:PASSWORD@HOST"],
    ),
    "a password before the colon": (
        lambda f: secret(f, "right@", "--requirepass", "right"),
        ["refuses the user or password in KILN_REDIS_URL", "behind a colon: redis://:PASSWORD@HOST"],
    ),
    "no password": (
        lambda f: secret(f, "", "--requirepass", "right"),
        [
            "refuses the user or password in KILN_REDIS_URL: it asks for one; write it as redis://:PASSWORD@HOST"
        ],
    ),
    "a password that is none": (
        lambda f: secret(f, ":needless@"),
        ["has no password, and KILN_REDIS_URL gives one; take it out there"],
    ),
    "too many clients": (crowded, ["it has too many clients; raise its maxclients, or end some"]),
    "a cluster": (
        lambda f: started(f, "--cluster-enabled", "yes"),
        ["is part of a cluster, where a farm's queue cannot live; set KILN_REDIS_URL to a single server"],
    ),
    "without LMOVE": (
        lambda f: started(f, "--rename-command", "LMOVE", ""),
        ["lacks a command (unknown command 'LMOVE'): it is ", OLD],
    ),
    "a database too many": (
        lambda f: named_database(f),
        ["has no such database; write /0 at the end of KILN_REDIS_URL"],
    ),
    "a web server": (
        lambda _: served(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        ["a web server listens there; check the port in KILN_REDIS_URL"],
    ),
    "protected mode": (
        protected,
        ["it takes only clients of its own machine (protected mode); give it users"],
    ),
}


@contextmanager
def named_database(folder: Path) -> Iterator[str]:
    with redis_server(folder) as address:
        yield f"redis://{address}/99"


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Wait no longer than that for any answer."""
    monkeypatch.setattr("pixelkiln.jobs.causes.PATIENCE", seconds)
    connect = socket.socket.settimeout
    monkeypatch.setattr(
        socket.socket, "settimeout", lambda self, value: connect(self, value and min(value, seconds))
    )


@pytest.mark.parametrize("name", CASES)
def test_a_broken_redis_is_told_with_its_mend_by_all(
    name: str, tmp_path: Path, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, expected = CASES[name]
    if name == "TLS to plain":  # a handshake that is never answered is waited for
        impatient(monkeypatch, 1.0)
    with broken(tmp_path / "redis") as url:
        line = told(url)
    for words in expected:
        assert words in line
    assert ("kiln up" in line) == (name == "refused here")
    assert "wrong" not in line.replace("is wrong", "")
    assert "\n" not in line


WRITES = COMMANDS[:1]  # others read, or fail at what a worker does first
READ_ONLY: dict[str, tuple[Callable[[Path], Places], str]] = {
    "a replica": (
        replica,
        "does not serve now (You can't write against a read only replica.); wait for its fail",
    ),
    "a full memory": (full, "its memory is full; raise maxmemory, or wait for jobs to end"),
    "no right to a command": (lambda f: limited(f, "-lpush"), "does not permit this user that: "),
    "no right to keys": (
        lambda f: limited(f, "resetkeys", "~kiln:*"),
        "copy the newest deploy/users.acl.example",
    ),
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_doctor_finds_what_only_writing_shows(
    name: str,
    tmp_path: Path,
    look: Callable[[str], list[Finding]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each names the command at fault, which is not the first that a submit calls; mends are the same."""
    broken, expected = READ_ONLY[name]
    with broken(tmp_path / "redis") as url:
        (found,) = look(url)
        monkeypatch.setattr(sys, "argv", ["kiln", *COMMANDS[0]])
        with pytest.raises(SystemExit) as end:
            main()
    assert expected in f"{found.found}; {found.mend}"
    told = capsys.readouterr().err
    assert end.value.code == 3
    assert found.mend.strip() in told


def test_one_that_is_silent_is_told_so(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, 0.2)
    with listener(None) as address:
        assert "it lets us in and does not answer in time; see its log" in told(f"redis://{address}/0")


def test_a_machine_that_is_off_is_told_so(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, 0.2)
    with listener(None, backlog=0) as address:  # a full one drops what comes, as a firewall does
        host, port = address.split(":")
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex((host, int(port)))
        time.sleep(0)
        assert "no answer comes from that machine; check that it is on" in told(f"redis://{address}/0")
        for one in waiting:
            one.close()


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("redis://:pa#ss@nas:6379/0", "%23"),
        ("redis://:pa/ss@nas:6379/0", "%2F"),
        ("redis://:12?ss@nas:6379/0", "%3F"),
        ("redis://:12#ss@nas:6379/0", "%23"),
        ("redis://:pa[ss@nas:6379/0", "%5B"),
        ("nas:6379", "it has no scheme: write redis://HOST:PORT/0"),
        ("127.0.0.1", "it has no scheme"),
        ("http://nas:6379", "http:// is for the web and S3: write redis://"),
        ("https://nas:6379", "write redis://HOST:PORT/0, or rediss:// for TLS"),
        ("reddis://nas", "its scheme is not redis, rediss"),
        ("'redis://nas'", "without quotes"),
        ("redis://nas:63790000/0", "its port is no number up to 65535"),
        ("redis://nas:port/0", "its port is no number up to 65535"),
        ("redis://nas:0/0", "its port is 0"),
        ("redis://:word@:6379/0", "it names no host"),
        ("redis://na s:6379/0", "has a space in it"),
        ("redis://nas:6379/farm", "the number of a database"),
        ("redis://nas?ssl_ca_certs=ca.pem", "options ssl_… go with rediss:// alone"),
        ("redis://nas?sockettimeout=1", "an option behind its ? is none"),
        ("redis+sentinel://nas:26379", "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/0"),
    ],
)
def test_an_address_that_is_not_as_it_was_meant(url: str, mend: str, told: Callable[..., str]) -> None:
    (line,) = {told(url, ()) for _ in range(2)}
    assert line.startswith("KILN_REDIS_URL is not a Redis URL: ")
    assert mend in line
    assert "ss@" not in line


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p@ss@127.0.0.1:1",
        "redis://127.0.0.1:1",
        "redis://127.0.0.1:1/",
        "valkey://127.0.0.1:1/0?db=0",
    ],
)
def test_an_address_that_can_be_meant_is_tried(url: str, look: Callable[[str], list[Finding]]) -> None:
    assert "nothing listens there" in look(url)[0].found


def test_doctor_warns_of_what_may_be_lost(tmp_path: Path, look: Callable[[str], list[Finding]]) -> None:
    with redis_server(tmp_path / "redis", "--maxmemory-policy", "allkeys-lru") as address:

        def warnings() -> str:
            first, *others = look(f"redis://{address}/0")
            assert first.state == "ok"
            assert "(Redis 7." in first.found
            assert ", a worker's rights) answers" in first.found
            assert {one.state for one in others} <= {"warning"}
            return " | ".join(f"{one.found}; {one.mend}" for one in others)

        told = warnings()
        assert "no append-only file: a crash there loses jobs; redis-cli config set appendonly yes" in told
        assert (
            "may evict jobs when its memory is full (allkeys-lru); redis-cli config set maxmemory-policy"
            in told
        )
        assert (
            "no maxmemory: where jobs fill the machine, the system ends it; redis-cli config set maxmemory"
            in told
        )
        for name, value in (("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory", "1gb")):
            admin(address).config_set(name, value)
        admin(address).config_set("maxmemory-policy", "noeviction")
        assert warnings() == ""
        admin(address).config_set("appendfsync", "no")
        admin(address).config_set("maxmemory", int(admin(address).info("memory")["used_memory"] * 1.05))
        assert "appendfsync no: a power cut there loses jobs" in warnings()
        assert "% full: soon nobody submits" in warnings()
        assert admin(address).dbsize() == 0  # what was tried left nothing


def test_where_the_ca_is_named_it_works(
    tmp_path: Path, look: Callable[[str], list[Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls(tmp_path / "redis", ENCRYPTED + "?ssl_ca_certs={ca}") as url:
        assert look(url)[0].state == "ok"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "redis" / "ca.pem"))
        assert look(url.partition("?")[0])[0].state == "ok"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "no.pem"))
        assert "SSL_CERT_FILE names no file" in look(url.partition("?")[0])[0].found
