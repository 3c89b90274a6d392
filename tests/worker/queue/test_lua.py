"""Each script as Redis gets it: it names only what is there, and keys only through jobs/keys.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.resources.abc import Traversable
from pathlib import Path

import pytest

from pixelkiln.jobs.queue.scripts import HERE, assembled
from pixelkiln.worker.queue.claims import LUA, OPERATIONS

CONFIGURATION = Path(__file__).parents[3] / ".luacheckrc"
SCRIPTS: dict[str, list[Traversable]] = {
    name: [LUA / part for part in parts] for name, parts in OPERATIONS.items()
}
SCRIPTS |= {name: [HERE / f"{name}.lua"] for name in ("submit", "cancel")}


@pytest.mark.skipif(shutil.which("luacheck") is None, reason="luacheck is not installed (Debian: lua-check)")
@pytest.mark.parametrize("name", SCRIPTS)
def test_luacheck_finds_nothing(name: str, tmp_path: Path) -> None:
    script = tmp_path / f"{name}.lua"
    script.write_text(assembled(*SCRIPTS[name]))
    command = ["luacheck", "--no-color", "--config", str(CONFIGURATION), str(script)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("folder", [HERE, LUA])
def test_no_key_is_spelled_out(folder: Traversable) -> None:
    for path in folder.iterdir():
        if path.name.endswith(".lua"):
            code = re.sub(r"--.*", "", path.read_text("utf-8"))
            spelled = re.findall(r"'((?:rq|kiln):[^']*)'", code)
            # Patterns that take apart the names of lanes and queues, and the first part of a lane.
            assert [text for text in spelled if text != "kiln:"] == [], path.name


@pytest.mark.parametrize("folder", [HERE, LUA])
def test_keys_are_freed_beside(folder: Traversable) -> None:
    """DEL of what a stranger filled holds the server up; UNLINK does not."""
    for path in folder.iterdir():
        if path.name.endswith(".lua"):
            assert "'DEL'" not in path.read_text("utf-8"), path.name
