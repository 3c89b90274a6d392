"""Manifests: identities and ids that stay, and what is read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pixelkiln import CorruptObjectError, RenderSpec
from pixelkiln.jobs.asked import Completion
from pixelkiln.jobs.batches.books import Books
from pixelkiln.jobs.batches.manifest import Manifest, identities
from pixelkiln.jobs.settings import Settings
from pixelkiln.testing import FakeKiln

SETTINGS = Settings.model_construct()


def found(*rows: Any) -> list[str]:
    asked = Completion(SETTINGS, set, lambda path, client, fault: "a" * 64, lambda *about: (64, 64)).all(rows)
    return identities(asked)


def row(**fields: Any) -> Any:
    return {"prompt": "a fox", "model": "demo", **fields}


def made(*prompts: str) -> Manifest:
    rows = [row(prompt=prompt) for prompt in prompts]
    specs = [RenderSpec.parse(one) for one in rows]
    return Manifest("night", "default", "2026-11-26T00:00:00").with_rows(
        zip(found(*rows), specs, strict=True)
    )


def test_an_identity_is_what_the_file_says() -> None:
    first, *same = found(
        row(),
        row(priority="low"),
        row(labels={"a": "b"}),
        row(seed=None, client="default", version=1),
        {"model": "demo", "prompt": "a fox"},
    )
    assert same == [f"{first}.{n}" for n in range(2, 6)]
    others = found(row(), row(seed=1), row(width=1024), row(prompt="a fox "), row(quantization="bf16"))
    assert len({one.partition(".")[0] for one in others}) == 5
    assert found(RenderSpec(prompt="a fox", model="demo")) == [first]
    by_path, by_name = (
        found({"prompt": "x", "model": "hidream-o1-dev", "quantization": "q6", "references": [one]})
        for one in (Path("a.png"), "a" * 64)
    )
    assert by_path == by_name  # the path's content has that name


def test_identities_and_ids_are_for_good() -> None:
    """Batches that were submitted by this version are found by all later ones."""
    (first,) = found(row())
    assert first == "58006a4f3dee09456ac7dbe67b03df2e4b70be3dbba09b58daa2fcc03c787d23"
    assert made("a fox").ids == ["2b60e3aa-a3c0-5f08-ac24-2ec60a961313"]


def test_a_manifest_reads_back() -> None:
    manifest = made("a fox", "two\u2028lines\nand more", "فنار عند الغسق", "a fox")
    assert [entry.number for entry in manifest.entries] == [1, 2, 3, 4]
    assert Manifest.read(manifest.written(), "there") == manifest
    assert Manifest.unpacked(manifest.packed(), "there") == manifest
    header, *lines = manifest.written().decode().removesuffix("\n").split("\n")
    later = json.dumps({**json.loads(header), "deadline": "07:30"})
    read = Manifest.read("\n".join([later, *lines]).encode(), "there")
    assert read.options == {"deadline": "07:30"}
    assert b"07:30" in read.written()  # an older version keeps what a later one wrote
    assert manifest.entries[1].spec.prompt == "two\u2028lines\nand more"


def test_numbers_stay_whatever_comes_before() -> None:
    manifest = made("a", "b")
    rows = [row(prompt=prompt) for prompt in ("new", "b")]
    specs = [RenderSpec.parse(one) for one in rows]
    more = manifest.with_rows(zip(found(*rows), specs, strict=True))
    told = [(entry.number, entry.prompt, entry.listed) for entry in more.entries]
    assert told == [(1, "a", False), (2, "b", True), (3, "new", True)]
    assert more.ids[:2] == manifest.ids


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"manifest": 2}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"manifest": 1, "name": 1, "client": "c", "created": "", "source": "", "paused": false}',
        b'{"manifest": 1, "name": "n", "client": "c", "created": "", "source": "", "paused": false}\n{}',
        b'{"manifest": 1, "name": "n", "client": "c", "created": "", "source": "", "paused": false}\n'
        b'{"number": 1, "id": "../up", "identity": "x", "spec": {"prompt": "x"}}',
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(body: bytes) -> None:
    with pytest.raises(CorruptObjectError, match=r"^there is not a manifest; ") as error:
        Manifest.read(body, "there")
    assert "\n" not in str(error.value)
    with pytest.raises(CorruptObjectError):
        Manifest.unpacked(body, "there")


def test_two_machines_that_submit_at_once_see_each_other() -> None:
    kiln = FakeKiln()
    books = Books(kiln.queue, lambda: kiln.bucket, "default")
    late = made("late")

    def slow(there: Manifest | None) -> Manifest:
        if there is None:  # the other is faster, the first time
            books.change("night", lambda none: made("early"))
        base = there or Manifest("night", "default", "2026")
        return base.with_rows((entry.identity, entry.spec) for entry in late.entries)

    manifest = books.change("night", slow)
    assert [entry.prompt for entry in manifest.entries] == ["early", "late"]
    assert books.find("night") == manifest
    stored = kiln.bucket.get("batches/default/night/manifest.jsonl")
    assert Manifest.read(stored or b"", "there") == manifest
