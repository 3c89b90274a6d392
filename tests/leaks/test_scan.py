"""A scanner that finds nothing must be one that would have found it."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.leaks.scan import OWN, Scanner, forms, stands_in
from tests.leaks.witness import witnessed
from tests.waiting import until

SECRET = "pa/ss?w\"ord'+é=%"
LEAK = f"redis://user:{SECRET}@host:6379/0"


@pytest.mark.parametrize(
    "leak",
    [
        LEAK.encode(),
        f"redis://:{quote(SECRET, safe='')}@host".encode(),
        json.dumps({"url": LEAK}).encode(),
        repr({"url": LEAK}).encode(),
        SECRET.encode().hex().encode(),
        *(
            b"Basic " + base64.b64encode(b"u" * before + b":" + SECRET.encode() + b":x")
            for before in range(4)
        ),
        base64.urlsafe_b64encode(b"::" + SECRET.encode()),
        zlib.compress(LEAK.encode()),
        gzip.compress(LEAK.encode(), mtime=0),
        b"exc_string " + base64.b64encode(zlib.compress(b"x" * 50 + LEAK.encode())),
        b"*2\r\n$3\r\nSET\r\n$%d\r\n%b\r\n" % (len(packed := zlib.compress(LEAK.encode())), packed),
    ],
)
def test_a_leak_is_found_in_every_disguise(leak: bytes, tmp_path: Path) -> None:
    scanner = Scanner({"redis": SECRET, "other": "not there at all"})
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "worker.log").write_bytes(b"before " * 20 if leak[:1] not in b"x\x1f*" else b"")
    with (tmp_path / "deep" / "worker.log").open("ab") as log:
        log.write(leak)
    assert scanner.leaks_in(tmp_path) == [f"{tmp_path / 'deep' / 'worker.log'} holds redis"]
    assert scanner.leaks_in(tmp_path, skip=["worker.log"]) == []
    assert SECRET not in str(scanner.leaks_in(tmp_path))


@pytest.mark.parametrize("before", [0, 1, 2, 3])
@pytest.mark.parametrize("after", [0, 1])
def test_a_leak_is_found_wherever_it_stands(before: int, after: int) -> None:
    scanner = Scanner({"plain": "password", "other": "passwort"})
    assert scanner.leaks(b"p" * before + b"password" + b"p" * after) == {"plain"}
    assert scanner.leaks(b"p" * before + b"passwor" + b"p" * after) == set()


def test_what_holds_none_is_clean(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"redis://***@host " + base64.b64encode(b"something else, long enough"))
    assert Scanner({"redis": SECRET}).leaks_in(tmp_path) == []
    assert all(len(form) >= 8 for form in forms("eight888"))


def test_the_files_of_servers_tell_their_secrets_and_are_theirs_alone(tmp_path: Path) -> None:
    instance = {
        "redis_url": "redis://:redis-secret@h:1/0",
        "secret_key": "s3-secret",
        "admin_key": "admin-key-1",
    }
    contents = {
        "instance.json": json.dumps(instance),
        "kept.json": json.dumps({"ports": [1], "secrets": ["kept-secret-of-a-server"]}),
        "admin.key": "admin-key-2",
        "valkey.conf": "port 1\nrequirepass conf-secret\n",
        "s3.json": '{"identities": [{"credentials": [{"accessKey": "a", "secretKey": "weed-secret"}]}]}',
        "security.toml": f'[jwt.signing]\nkey = "{"ab" * 32}"\n[grpc.x]\nkey = "key.pem"\n',
    }
    assert contents.keys() == OWN.keys()
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    secrets = stands_in(tmp_path)
    assert secrets == {
        "redis-secret",
        "s3-secret",
        "admin-key-1",
        "admin-key-2",
        "kept-secret-of-a-server",
        "conf-secret",
        "weed-secret",
        "ab" * 32,
    }
    scanner = Scanner({secret: secret for secret in secrets})
    assert scanner.leaks_in(tmp_path) == []
    (tmp_path / "kept.json").chmod(0o640)
    assert scanner.leaks_in(tmp_path) == [f"{tmp_path / 'kept.json'} holds kept-secret-of-a-server"]
    (tmp_path / "kept.json").chmod(0o600)  # the scan after the last test looks here too


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked at through /proc")
def test_what_is_printed_and_what_processes_are_called_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, argument, answered = "printed-and-not-kept", "an-argument-of-a-child", "answered-by-a-child"
    code = f"import sys; sys.stdin.read(); print({answered[::-1]!r}[::-1])"
    with witnessed(tmp_path) as witness:
        print(printed)
        capsys.readouterr()
        command = [sys.executable, "-c", code, argument]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        until(lambda: any(argument.encode() in line for line in witness.seen.copy()), "it is seen")
        child.communicate(b"")
    found = Scanner({name: name for name in (printed, argument, answered)}).leaks_in(tmp_path)
    assert found == [
        f"{tmp_path / 'printed.txt'} holds {argument}",
        f"{tmp_path / 'printed.txt'} holds {answered}",
        f"{tmp_path / 'printed.txt'} holds {printed}",
        f"{tmp_path / 'processes.txt'} holds {argument}",
    ]
