"""Pictures of jobs whose names a Mac's disk does not tell apart."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixelkiln.jobs.storage.files import own_path
from pixelkiln.jobs.storage.objects import fetch
from pixelkiln.worker.deliver.uploader import Uploader


@pytest.fixture
def apfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are found however they are written, as on APFS: upper case, lower case, composed or not."""

    def same(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    def exists(path: Path) -> bool:
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
