"""The `kiln` script of the checkout, with a stand-in for uv: when it sets up, and how it hands over."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.planted import Planted

LAUNCHER = Path(__file__).parents[1] / "kiln"
# Makes an environment whose `kiln` prints its arguments, and counts what it installs.
UV = """#!/bin/sh
for last; do :; done
case "$*" in
*--help*) echo --group ;;
venv*) [ -e kiln ] && mkdir -p "$last/bin" && ln -sf /bin/sh "$last/bin/python" ;;
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
    (folder / "constraints.txt").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text(UV)
    (tmp_path / "bin" / "uv").chmod(0o755)
    return folder


def start(
    checkout: Path,
    *arguments: str,
    script: Path | None = None,
    shell: Sequence[str] = (),
    cwd: Path | None = None,
    **environment: str,
) -> subprocess.Popen[str]:
    plain = {"PATH": f"{checkout.parent / 'bin'}:{os.environ['PATH']}", "HOME": str(checkout.parent)}
    return subprocess.Popen(
        [*shell, script or checkout / "kiln", *arguments],
        cwd=cwd or checkout.parent,
        env=plain | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def installs(checkout: Path) -> int:
    return len((checkout / "installs").read_text().splitlines())


SHELLS = [["sh"], ["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"], ["mksh"], ["ksh"], ["yash"]]


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest) -> list[str]:
    """Each sh at hand."""
    if shutil.which(request.param[0]) is None:
        pytest.skip(f"no {request.param[0]} here")
    words: list[str] = request.param
    return words


def program(checkout: Path, name: str, text: str) -> None:
    """A stand-in on the PATH, before the machine's own."""
    path = checkout.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_it_is_a_posix_script(shell: list[str]) -> None:
    subprocess.run([*shell, "-n", LAUNCHER], check=True)


@pytest.mark.parametrize("strict", [True, False], ids=["set -e", "bash 3.2"])
def test_a_failed_renewal_never_runs_what_was_there_before(
    checkout: Path, shell: list[str], strict: bool
) -> None:
    """Bash 3.2, which is macOS's sh, goes on after a failing subshell as if `set -e` had not been said."""
    script = checkout / "kiln"
    if not strict:
        script.write_text(script.read_text().replace("\nset -eu\n", "\nset -u\n"))
    assert start(checkout, "x", shell=shell).communicate()[0] == "<x>"
    (checkout / "pyproject.toml").write_text("[project]\nname = 'changed'\n")
    (checkout / "broken").touch()
    process = start(checkout, "x", shell=shell)
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert errors.splitlines()[-1].startswith("kiln: the packages could not be installed")
    (checkout / "broken").unlink()
    assert start(checkout, "x", shell=shell).communicate()[0] == "<x>"


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


def test_an_environment_for_a_named_python_serves_those_who_name_none(checkout: Path) -> None:
    """A service's environment has no UV_PYTHON: it must not make the checkout's anew."""
    for number, (python, expected) in enumerate([("3.13", 1), ("", 1), ("3.13", 1), ("3.12", 2)]):
        named = {"UV_PYTHON": python} if python else {}
        assert start(checkout, "x", **named).communicate()[0] == "<x>"
        assert installs(checkout) == expected, number
    (checkout / "pyproject.toml").write_text("[project]\nname = 'changed'\n")
    assert start(checkout, "x").communicate()[0] == "<x>"
    assert installs(checkout) == 3
    assert start(checkout, "x", UV_PYTHON="3.12").communicate()[0] == "<x>"
    assert installs(checkout) == 3  # renewed, it is for the same one still


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


def test_nothing_of_the_folder_it_is_called_in_is_run(checkout: Path) -> None:
    """Without uv, so that Python takes the lock, makes an environment and installs it.

    PATH has entries that mean that folder, and it has a program of each name that is called.
    """
    planted = Planted(checkout.parent / "planted")
    tools = checkout.parent / "tools"
    tools.mkdir()
    (tools / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    for tool in (
        "sh",
        "cat",
        "chmod",
        "cksum",
        "dirname",
        "grep",
        "ln",
        "mkdir",
        "mv",
        "readlink",
        "rm",
        "sed",
    ):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    for tool in (*tools.iterdir(), Path("uname")):
        (planted.folder / tool.name).write_text(f"#!{shutil.which('sh')}\n: >ran\nexit 1\n")
        (planted.folder / tool.name).chmod(0o755)
    path = os.pathsep.join(["", ".", str(tools), ""])
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel_of_uv(checkout.parent))}
    for _ in range(2):
        process = start(checkout, "x", cwd=planted.folder, PATH=path, **pip)
        output, errors = process.communicate()
        assert (process.returncode, output) == (0, "<x>"), errors
        assert errors.splitlines()[-1] == str(planted.folder)
    assert "installing uv" not in errors  # it was there the second time
    assert installs(checkout) == 1
    assert planted.imported == []
    assert not (planted.folder / "ran").exists()


def wheel_of_uv(folder: Path) -> Path:
    """The stand-in for uv as a package in `folder`, of the version that the launcher wants."""
    found = re.search(r"^uv_version=(\S+)", LAUNCHER.read_text(), re.MULTILINE)
    assert found is not None
    name = f"uv-{found[1]}"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        about = f"Metadata-Version: 2.1\nName: uv\nVersion: {found[1]}\n"
        wheel.writestr(f"{name}.dist-info/METADATA", about)
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        script = zipfile.ZipInfo(f"{name}.data/scripts/uv")
        script.external_attr = 0o100755 << 16  # executable
        wheel.writestr(script, UV)
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    return folder


def test_apples_stub_of_python_is_not_called(checkout: Path) -> None:
    """Without the command line tools each call of /usr/bin/python3 opens a window; uv alone suffices."""
    if os.getuid() != 0 or shutil.which("unshare") is None or not Path("/usr/bin/python3").exists():
        pytest.skip("needs root, unshare and a /usr/bin/python3 to lay a stub over")
    program(checkout, "uname", "echo Darwin")
    program(checkout, "sysctl", "echo 0")
    program(checkout, "xcode-select", f"echo asked >>'{checkout.parent}/asked'; exit 2")
    program(checkout, "stub", f"echo window >>'{checkout.parent}/windows'; exit 1")
    for word, installed in (("x", 1), ("y", 1)):
        inside = (
            f"mount --bind '{checkout.parent}/bin/stub' /usr/bin/python3 && exec '{checkout}/kiln' {word}"
        )
        ran = subprocess.run(
            ["unshare", "--mount", "sh", "-c", inside],
            cwd=checkout.parent,
            env={"PATH": f"{checkout.parent / 'bin'}:/usr/bin:/bin", "HOME": str(checkout.parent)},
            capture_output=True,
            text=True,
        )
        assert ran.stdout == f"<{word}>", ran.stderr
        assert "waiting" not in ran.stderr
        assert installs(checkout) == installed
    assert (checkout.parent / "asked").exists()
    assert not (checkout.parent / "windows").exists()


def test_a_python_that_cannot_lock_is_no_other_kiln(checkout: Path) -> None:
    program(checkout, "python3", "exit 1")
    output, errors = start(checkout, "x").communicate()
    assert output == "<x>"
    assert "waiting" not in errors


@pytest.mark.parametrize(
    ("chip", "machine", "refused"),
    [("1", "x86_64", True), ("1", "arm64", False), ("0", "x86_64", False)],
    ids=["Rosetta", "Apple silicon", "an Intel Mac"],
)
def test_a_python_under_rosetta_is_refused(checkout: Path, chip: str, machine: str, refused: bool) -> None:
    program(checkout, "uname", "echo Darwin")
    program(checkout, "xcode-select", "echo /Library/Developer/CommandLineTools")
    program(checkout, "sysctl", f'[ "$*" = "-n hw.optional.arm64" ] && echo {chip}')
    says = f'printf \'#!/bin/sh\\necho {machine}\\n\' >"$last/bin/python" && chmod +x "$last/bin/python"'
    program(checkout, "uv", UV.replace('ln -sf /bin/sh "$last/bin/python"', says))
    process = start(checkout, "x")
    output, errors = process.communicate()
    if refused:
        assert (process.returncode, output) == (1, "")
        assert "for Intel Macs and would run under Rosetta" in errors.splitlines()[-1]
        assert not (checkout / ".venv").exists()
    else:
        assert output == "<x>", errors


def test_all_that_is_installed_has_digests_and_no_address() -> None:
    project = tomllib.loads((LAUNCHER.parent / "pyproject.toml").read_text())
    text = (LAUNCHER.parent / "constraints.txt").read_text()
    found = re.findall(
        r"^([a-z0-9._-]+==\S+)[^\n]*\\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(found) + sum(hashes.count("--hash") for _, hashes in found)
    exact = [*project["tool"]["uv"]["constraint-dependencies"], *project["dependency-groups"]["dev"]]
    assert set(exact) <= {pin for pin, _ in found}
    assert "--constraints constraints.txt --build-constraints constraints.txt" in LAUNCHER.read_text()
