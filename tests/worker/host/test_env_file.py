"""The file of settings and secrets: what is read, what is refused, what stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelkiln.jobs.errors import UsageError
from pixelkiln.worker.host import env_file

PATH = Path("env")


def test_values_are_taken_as_they_stand() -> None:
    text = '# no\n\nexport KILN_CLIENT=ann\nKILN_REDIS_URL=redis://:a$b`c`#d\'e@h/0\nAWS_PROFILE="x y"\n'
    assert env_file.parse(text, PATH) == {
        "KILN_CLIENT": "ann",
        "KILN_REDIS_URL": "redis://:a$b`c`#d'e@h/0",
        "AWS_PROFILE": "x y",
    }


@pytest.mark.parametrize("line", ["KILN_CLIENT", "A B=c", "PATH=/tmp", "LD_PRELOAD=x", "KLIN_CLIENT=secret"])
def test_other_lines_are_refused_without_their_value(line: str) -> None:
    with pytest.raises(UsageError, match="line 2") as refused:
        env_file.parse(f"\n{line}\n", PATH)
    assert "secret" not in str(refused.value)


@given(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1))
def test_any_value_of_one_line_comes_back(value: str) -> None:
    caught = env_file.captured({"KILN_CLIENT": value}, PATH)
    text, changed = env_file.merged(env_file.HEAD, caught, PATH)
    assert changed == ["KILN_CLIENT"]
    assert env_file.parse(text, PATH) == {"KILN_CLIENT": value}
    assert env_file.merged(text, caught, PATH) == (text, [])


def test_paths_are_made_absolute_and_others_left_alone() -> None:
    environ = {
        "KILN_HOME": ".kiln",
        "KILN_SPOOL_DIR": "~/spool",
        "KILN_CLIENT": ".kiln",
        "HOME": "/",
        "AWS_X": "",
    }
    assert env_file.captured(environ, Path("/here")) == {
        "KILN_HOME": "/here/.kiln",
        "KILN_SPOOL_DIR": "~/spool",
        "KILN_CLIENT": ".kiln",
    }


def test_only_the_owners_own_closed_file_is_read(tmp_path: Path) -> None:
    path, me = tmp_path / "env", os.getuid()
    with pytest.raises(UsageError, match="cannot be read"):
        env_file.read(path, me)
    path.touch(0o600)
    path.write_text("KILN_CLIENT=a\n")
    assert env_file.read(path, me) == {"KILN_CLIENT": "a"}
    with pytest.raises(UsageError, match="belongs to another user"):
        env_file.read(path, me + 1)
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(UsageError, match="chmod 600"):
            env_file.read(path, me)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(UsageError, match="is a link"):
        env_file.read(tmp_path / "link", me)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(UsageError, match="not a file"):
        env_file.read(tmp_path / "fifo", me)
    path.write_bytes(b"KILN_CLIENT=\xff\n")
    with pytest.raises(UsageError, match="UTF-8"):
        env_file.read(path, me)
