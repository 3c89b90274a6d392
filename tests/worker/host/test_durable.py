"""What is written durably is on the disk itself, in the right order, on macOS and elsewhere."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.engines.checkpoints.files import write_json
from pixelkiln.worker.engines.checkpoints.staging import staged
from pixelkiln.worker.engines.families import family_in
from pixelkiln.worker.host import durable
from tests.tiny import TINY
from tests.worker.deliver.test_spool import draft
from tests.worker.host.syncs import recorded


@pytest.mark.parametrize(("mac", "call"), [(True, "full"), (False, "fsync")])
def test_a_spooled_picture_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mac: bool, call: str
) -> None:
    spool = Spool(tmp_path / "spool")
    calls = recorded(monkeypatch, mac=mac)
    entry = spool.put(draft(), b"png")
    spool.close()
    named = calls.index(("named", entry.folder.name))
    assert {one for one in calls[:named] if one[0] == call} >= {(call, "image.png"), (call, "draft.json")}
    assert any(one == call and name.startswith("part-") for one, name in calls[:named])
    assert (call, "spool") in calls[named:]
    assert ("fsync" if mac else "full") not in {one for one, _ in calls}


@pytest.mark.parametrize(("mac", "call"), [(True, "full"), (False, "fsync")])
def test_a_converted_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mac: bool, call: str
) -> None:
    calls = recorded(monkeypatch, mac=mac)
    target = tmp_path / "models" / "q6"
    family_in(TINY).convert(TINY, target, 6, group_size=64, mixed=False, model=None, progress=None)
    named = calls.index(("named", "q6"))
    assert {name for one, name in calls[:named] if one == call} >= {path.name for path in target.iterdir()}
    assert (call, ".q6.partial") in calls[:named]
    assert (call, "models") in calls[named:]
    assert ("fsync" if mac else "full") not in {one for one, _ in calls}


def test_where_a_volume_has_no_full_sync_the_ordinary_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = recorded(monkeypatch, mac=True)

    def refuse(*arguments: object) -> None:
        raise OSError(45, "Operation not supported")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    durable.write(tmp_path / "a", b"text")
    assert calls == [("fsync", "a")]
    assert (tmp_path / "a").read_bytes() == b"text"


def test_a_folder_that_fails_takes_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch, mac=True)

    def fill() -> None:
        with staged(tmp_path / "model") as folder:
            write_json(folder / "kiln.json", {})
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fill()
    assert ("named", "model") not in calls
    assert list(tmp_path.iterdir()) == []
