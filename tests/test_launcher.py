"""The `kiln` script of the checkout, with a stand-in for uv: when it sets up, and how it hands over."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[1] / "kiln"
# Makes an environment whose `kiln` prints its arguments, and counts what it installs.
UV = """#!/bin/sh
for last; do :; done
case "$*" in
*--help*) echo --group ;;
venv*) mkdir -p "$last/bin" && ln -sf /bin/sh "$last/bin/python" ;;
*)
    echo installing
    echo again >>installs
    [ ! -e broken ] || exit 1
    printf '#!/bin/sh\\nprintf "<%%s>" "$@"\\npwd >&2\\n' >.venv/bin/kiln && chmod +x .venv/bin/kiln
    ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a check out"
    folder.mkdir()
    shutil.copy(LAUNCHER, folder)
    (folder / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text(UV)
    (tmp_path / "bin" / "uv").chmod(0o755)
    return folder


def start(checkout: Path, *arguments: str, script: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [script or checkout / "kiln", *arguments],
        cwd=checkout.parent,
        env={"PATH": f"{checkout.parent / 'bin'}:{os.environ['PATH']}", "HOME": str(checkout.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def installs(checkout: Path) -> int:
    return len((checkout / "installs").read_text().splitlines())


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_it_is_a_posix_script(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n", LAUNCHER], check=True)


def test_it_sets_up_once_and_hands_over(checkout: Path) -> None:
    link = checkout.parent / "link"
    link.symlink_to(checkout.name + "/kiln")
    for script in (None, link):
        process = start(checkout, "submit", "a  prompt", "", script=script)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert output == "<submit><a  prompt><>"  # and nothing of the set-up's
        assert errors.splitlines()[-1] == str(checkout.parent)  # where it was called
    assert installs(checkout) == 1


def test_it_sets_up_again_when_the_project_changes_or_moves(checkout: Path) -> None:
    start(checkout).communicate()
    (checkout / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    start(checkout).communicate()
    assert installs(checkout) == 2
    moved = checkout.rename(checkout.with_name("moved"))
    assert start(moved, "x").communicate()[0] == "<x>"
    assert installs(moved) == 3


def test_a_failed_set_up_is_done_again(checkout: Path) -> None:
    (checkout / "broken").touch()
    process = start(checkout, "x")
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert errors.splitlines()[-1].startswith("kiln: the packages could not be installed")
    (checkout / "broken").unlink()
    assert start(checkout, "x").communicate()[0] == "<x>"
    assert installs(checkout) == 2


def test_two_terminals_set_up_once(checkout: Path) -> None:
    both = [start(checkout, name) for name in ("one", "two")]
    assert [process.communicate()[0] for process in both] == ["<one>", "<two>"]
    assert installs(checkout) == 1
