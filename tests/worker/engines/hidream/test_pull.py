"""Against a small hub on this machine: the hub's own client, files, ranges and all."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.pull import PullError
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream.checkpoint import digest
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.engines.hidream.pull import pull
from pixelkiln.worker.engines.hidream.sources import SOURCES

MODEL = "hidream-o1-dev"
COMMIT = SOURCES[MODEL].revision
REPO = SOURCES[MODEL].repo_id


class Hub(ThreadingHTTPServer):
    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.fetched: list[str] = []
        self.broken: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlparse(self.path).path
        files = sorted(file for file in self.server.folder.rglob("*") if file.is_file())
        names = [str(file.relative_to(self.server.folder)) for file in files]
        if path.startswith(f"/api/models/{REPO}/revision/"):
            if path.rsplit("/", 1)[1] not in (COMMIT, "main"):
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            sizes = [{"rfilename": n, "size": f.stat().st_size} for n, f in zip(names, files, strict=True)]
            return self.answer(200, json.dumps({"id": REPO, "sha": COMMIT, "siblings": sizes}).encode())
        if path.startswith(f"/api/models/{REPO}/tree/"):
            tree = [
                {"type": "file", "path": n, "size": f.stat().st_size, "oid": "0" * 40}
                for n, f in zip(names, files, strict=True)
            ]
            return self.answer(200, json.dumps(tree).encode())
        name = path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")
        if name not in names:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        if self.command == "GET":
            self.server.fetched.append(name)
            if name in self.server.broken:
                return self.answer(403, b"")
        data = (self.server.folder / name).read_bytes()
        etag = hashlib.sha256(data).hexdigest()
        return self.answer(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(tiny: Path, tmp_path: Path) -> Iterator[Hub]:
    files = Path(shutil.copytree(tiny, tmp_path / "hub"))
    (files / "README.md").write_text("not asked for")
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pull_pins_checks_and_records(hub: Hub, tmp_path: Path) -> None:
    made = pull(MODEL, tmp_path / "dev", revision="main", endpoint=hub.url)
    assert (made.model, made.recipe, made.bits) == (MODEL, "dev", 16)
    assert (made.source, made.revision) == (REPO, COMMIT)
    assert made.digest == digest(tmp_path / "dev")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev", "hub"]
    assert not any(path.name in (".cache", "README.md") for path in (tmp_path / "dev").iterdir())
    facts = HiDreamEngine.load(tmp_path / "dev").facts(RenderSpec(prompt="a hen", model=MODEL))
    assert (facts.model, facts.revision) == (MODEL, COMMIT)


def test_an_interrupted_pull_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.broken = {"tokenizer.json"}
    with pytest.raises(PullError, match="the same command goes on from there"):
        pull(MODEL, tmp_path / "dev", endpoint=hub.url)
    assert not (tmp_path / "dev").exists()
    assert list(tmp_path.rglob("kiln.json")) == []
    before, hub.broken = set(hub.fetched) - {"tokenizer.json"}, set()
    hub.fetched.clear()
    pull(MODEL, tmp_path / "dev", endpoint=hub.url)
    assert "tokenizer.json" in hub.fetched
    assert not before & set(hub.fetched)


def test_what_cannot_be_pulled_says_why(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="demo has no known weights: choose one of hidream-o1-dev"):
        pull("demo", tmp_path / "dev", endpoint=hub.url)
    with pytest.raises(PullError, match=f"{REPO} at v9: "):
        pull(MODEL, tmp_path / "dev", revision="v9", endpoint=hub.url)
    with pytest.raises(CheckpointError, match="hub exists"):
        pull(MODEL, tmp_path / "hub", endpoint=hub.url)
    (hub.folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        pull(MODEL, tmp_path / "dev", endpoint=hub.url)
    assert not (tmp_path / "dev").exists()
