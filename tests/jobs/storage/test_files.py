"""Pictures of jobs whose names a Mac's disk does not tell apart."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixelkiln.jobs import Settings
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.storage.files import own_path, write
from pixelkiln.jobs.storage.objects import fetch
from pixelkiln.testing import FakeKiln
from pixelkiln.worker.deliver.png import encode
from pixelkiln.worker.deliver.uploader import Uploader
from tests.worker.pictures import FACTS, noise, spec_of


@pytest.fixture
def apfs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names below `tmp_path` are found however they are written, as on APFS: any case, composed or not."""

    def same(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    there = Path.exists

    def exists(path: Path) -> bool:
        if not path.is_relative_to(tmp_path):  # other threads ask, too
            return there(path)
        return same(path.name) in [same(one.name) for one in path.parent.iterdir()]

    monkeypatch.setattr(Path, "exists", exists)


@pytest.mark.usefixtures("apfs")
def test_jobs_whose_ids_differ_in_case_keep_their_pictures(tmp_path: Path) -> None:
    written = {}
    for job_id in ("Fox", "fox", "FOX", "owl"):
        path = own_path(tmp_path, f"{job_id}.png")
        path.write_text(job_id)
        written[job_id] = path.name
    assert written == {"Fox": "Fox.png", "fox": "fox~2.png", "FOX": "FOX~3.png", "owl": "owl.png"}
    for job_id, name in written.items():
        assert own_path(tmp_path, f"{job_id}.png").name == name  # fetched again, it takes its own place
        assert (tmp_path / name).read_text() == job_id


@pytest.mark.usefixtures("apfs")
def test_two_ways_to_write_a_letter(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    own_path(tmp_path, composed).write_text("1")
    assert own_path(tmp_path, apart).name == unicodedata.normalize("NFD", "é~2.png")


def test_where_names_are_told_apart_nothing_is_numbered(tmp_path: Path) -> None:
    for name in ("Fox.png", "fox.png"):
        own_path(tmp_path, name).write_text(name)
        assert own_path(tmp_path, name).name == name
    assert sorted(one.name for one in tmp_path.iterdir()) == ["Fox.png", "fox.png"]


@pytest.mark.usefixtures("apfs")
def test_fetched_pictures_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for job_id in ("Fox", "fox"):
        body = job_id.encode()
        png = SimpleNamespace(key=job_id, sha256=hashlib.sha256(body).hexdigest())
        sidecar: Any = SimpleNamespace(
            job=SimpleNamespace(id=job_id), png=png, model_dump_json=lambda indent, name=job_id: name
        )
        bucket: Any = SimpleNamespace(get=str.encode)
        assert fetch(bucket, sidecar, tmp_path).read_bytes() == body
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {
        "Fox.png": "Fox",
        "Fox.json": "Fox",
        "fox~2.png": "fox",
        "fox~2.json": "fox",
    }


@pytest.mark.usefixtures("apfs")
def test_copies_in_the_renders_folder_do_not_either(tmp_path: Path) -> None:
    uploader: Any = SimpleNamespace(_renders=tmp_path)
    for job_id in ("Fox", "fox", "Fox"):
        entry: Any = SimpleNamespace(claim=SimpleNamespace(job_id=job_id), png=job_id.encode)
        Uploader._keep_copy(uploader, entry)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"Fox.png": "Fox", "fox~2.png": "fox"}


def stored(job_id: str, client: str, **fields: Any) -> tuple[Any, Sidecar, bytes]:
    """A bucket that holds a job's picture; its sidecar and the picture."""
    farm = FakeKiln(Settings.model_construct(client=client, admin_key=None))
    farm.submit({"prompt": "a fox", "model": "demo", "width": 64, "height": 64, **fields}, id=job_id)  # type: ignore[arg-type, typeddict-item]
    farm.wait([job_id])
    sidecar = farm.sidecar(job_id)
    return farm.bucket, sidecar, farm.bucket.get(sidecar.png.key) or b""


def test_fetched_pictures_of_two_clients_are_two(tmp_path: Path) -> None:
    paths = {}
    for client in ("alice", "bob"):
        bucket, sidecar, _ = stored("fox", client, seed=1 if client == "alice" else 2)
        paths[client] = fetch(bucket, sidecar, tmp_path)
    assert [path.name for path in paths.values()] == ["fox.png", "fox~2.png"]
    for client, path in paths.items():
        bucket, sidecar, png = stored("fox", client, seed=1 if client == "alice" else 2)
        assert path.read_bytes() == png
        path.write_bytes(b"damaged")
        assert fetch(bucket, sidecar, tmp_path) == path  # the same job takes its place
        assert path.read_bytes() == png
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("name", ["fox.png", "fox.json", "fox.png.part", "fox.json.part"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_planted_in_the_folder_is_not_followed(tmp_path: Path, name: str, dangling: bool) -> None:
    precious = tmp_path / "precious"
    if not dangling:
        precious.write_text("precious")
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / name).symlink_to(precious)
    bucket, sidecar, png = stored("fox", "alice")
    path = fetch(bucket, sidecar, folder)
    assert path.read_bytes() == png
    assert Sidecar.model_validate_json(path.with_suffix(".json").read_bytes()) == sidecar
    assert not path.is_symlink()
    assert dangling != precious.exists()
    assert dangling or precious.read_text() == "precious"


def test_what_is_no_file_neither_blocks_nor_is_lost(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fox.png")
    bucket, sidecar, _ = stored("fox", "alice")
    assert fetch(bucket, sidecar, tmp_path).name == "fox~2.png"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "fox.png").mkdir()
    with pytest.raises(IsADirectoryError):
        write(tmp_path / "fox.png", b"x")
    assert [one.name for one in tmp_path.iterdir()] == ["fox.png"]


def copy(folder: Path, client: str, seed: int) -> bytes:
    """What a worker does with a picture of job `fox`."""
    png = encode(noise(), spec_of(client=client, seed=seed), FACTS, "1")
    draft = SimpleNamespace(sidecar=SimpleNamespace(spec=spec_of(client=client, seed=seed)))
    entry: Any = SimpleNamespace(claim=SimpleNamespace(job_id="fox"), png=lambda: png, draft=draft)
    uploader: Any = SimpleNamespace(_renders=folder)
    Uploader._keep_copy(uploader, entry)
    return png


def test_copies_of_two_clients_are_two(tmp_path: Path) -> None:
    for _ in range(2):  # delivered again, each takes its own place
        alices, bobs, again = copy(tmp_path, "alice", 1), copy(tmp_path, "bob", 1), copy(tmp_path, "bob", 2)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {
        "fox.png": alices,
        "fox~2.png": bobs,
        "fox~3.png": again,
    }


def test_a_copy_of_the_same_job_by_another_version_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "fox.png").write_bytes(encode(noise(seed=5), spec_of(client="alice"), FACTS, "0"))
    png = copy(tmp_path, "alice", 1)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"fox.png": png}


def test_copies_follow_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "renders").mkdir()
    (tmp_path / "renders" / "fox.png").symlink_to(precious)
    copy(tmp_path / "renders", "alice", 1)
    assert precious.read_text() == "precious"
