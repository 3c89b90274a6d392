"""`kiln serve`, `kiln token` and the server of `kiln up`, as they are run."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pixelkiln.jobs.web.server import bind
from tests.jobs.commands.conftest import run  # noqa: F401 - a fixture
from tests.jobs.commands.running import Run
from tests.jobs.web.conftest import Start
from tests.jobs.web.test_jobs import FOX


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told_to(start: Start, end: signal.Signals) -> None:
    process, where = start("serve", "--port", "0")
    job = httpx.post(f"{where}/v1/jobs", json=FOX).json()
    with httpx.stream("GET", f"{where}/v1/events") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if job["id"] in line)
        process.send_signal(end)
        assert list(lines)[-1:] in ([], [""])
    assert process.wait(10) == 0
    _, where = start("serve", "--port", "0")
    assert httpx.get(f"{where}/v1/jobs/{job['id']}").json()["state"] == "queued"


def test_beyond_this_machine_it_wants_tokens(run: Run, tmp_path: Path) -> None:  # noqa: F811
    tokens = ("--tokens", tmp_path / "tokens.json")
    refused = run("serve", "--host", "0.0.0.0", "--port", "0", *tokens)
    assert (refused.code, "kiln token new" in refused.err) == (2, True)
    text = run("token", "new", "phone", "--client", "acme", *tokens).out.strip()
    assert re.fullmatch(r"kiln_[0-9a-f]{12}_[\w-]{43}", text)
    (told,) = run("token", "list", "--json", *tokens).json
    assert (told["name"], told["client"], set(told) & {"salt", "hash"}) == ("phone", "acme", set())
    assert run("token", "new", "phone", *tokens).code == 2
    assert run("token", "new", "Phone!", *tokens).code == 2
    assert run("token", "revoke", "phone", *tokens).code == 0
    assert run("token", "revoke", "phone", *tokens).code == 2


def test_over_tls(start: Start, run: Run, tmp_path: Path) -> None:  # noqa: F811
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    made = [*command, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    try:
        subprocess.run(made, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl here")
    _, where = start("serve", "--port", "0", "--cert", str(cert), "--key", str(key))
    assert where.startswith("https://")
    assert httpx.get(f"{where}/v1/jobs", verify=ssl.create_default_context(cafile=cert)).status_code == 200
    wrong = run("serve", "--port", "0", "--cert", key)
    assert (wrong.code, wrong.err.startswith("kiln: --cert, --key: ")) == (2, True)
    assert run("serve", "--port", "0", "--key", key).code == 2


def test_a_port_that_is_taken(run: Run) -> None:  # noqa: F811
    taken = bind("127.0.0.1", 0)
    port = taken.getsockname()[1]
    refused = run("serve", "--port", str(port))
    assert (refused.code, f"127.0.0.1:{port} cannot be listened on" in refused.err) == (3, True)
    other = bind("127.0.0.1", port, others=True)
    assert port < other.getsockname()[1] < port + 20
    taken.close()
    other.close()


def test_up_serves_beside_its_servers(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KILN_REDIS_URL", "KILN_S3_ENDPOINT"):
        monkeypatch.delenv(name)
    here = {**os.environ, "KILN_HOME": str(tmp_path / "up"), "KILN_SERVE_PORT": "0", "HOME": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "pixelkiln", "up"]
    process = subprocess.Popen(command, env=here, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        where = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        assert httpx.post(f"{where}/v1/jobs", json=FOX).status_code == 201
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])))
    finally:
        process.kill()
        process.communicate()
