"""The file that holds a service's settings and secrets: `NAME=value` lines, for its owner's eyes alone.

launchd has no EnvironmentFile, and a plist may be read by anyone; so the service reads this file by itself.
No shell reads it: a value is what follows the `=`, as it stands, less one pair of quotes around all of it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from pixelkiln.jobs.errors import UsageError

KEPT = re.compile(
    r"(KILN|AWS|HF|MLX)_[A-Z0-9_]+|SSL_CERT_(FILE|DIR)|((HTTPS?|ALL|NO)_PROXY)|(https?|all|no)_proxy"
)
CAPTURED = re.compile(r"(KILN|AWS)_[A-Z0-9_]+")
PATHS = re.compile(r"KILN_(HOME|.*_DIR)|AWS_(CONFIG|SHARED_CREDENTIALS)_FILE")
LARGEST = 1 << 20  # bytes
HEAD = (
    "# Settings of pixelkiln's services on this machine; read by `kiln service run`, never by a shell.\n"
    "# After a change:  kiln service restart\n"
)


def default_path(home: Path) -> Path:
    """Where it lies, on macOS and Linux alike."""
    return home / ".config" / "pixelkiln" / "env"


def read(path: Path, owner: int) -> dict[str, str]:
    """The variables in the file.

    Raises UsageError, never with a value in it, where there is no such file, it is a link, someone else's or
    open to others, or a line is none.
    """
    return parse(_text(path, owner), path)


def parse(text: str, path: Path) -> dict[str, str]:
    """The variables in the text of the file at `path`. Raises UsageError naming the line at fault."""
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        name = name.strip()
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(f"{path}: line {number} is not NAME=value")
        if not KEPT.fullmatch(name):
            raise UsageError(f"{path}: line {number}: {name} is no setting of a worker (KILN_…, AWS_…)")
        found[name] = _unquoted(value.strip())
    return found


def captured(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What of the caller's environment belongs into the file; paths are made absolute from `folder`.

    Raises UsageError for a value of several lines.
    """
    found = {}
    for name, value in sorted(environ.items()):
        if not CAPTURED.fullmatch(name) or not value:
            continue
        if "\n" in value or "\r" in value:
            raise UsageError(f"{name}: a value of several lines cannot be kept in a file of lines")
        if PATHS.fullmatch(name) and not value.startswith("~"):
            value = str(folder / value)
        found[name] = value
    return found


def merged(text: str, variables: Mapping[str, str], path: Path) -> tuple[str, list[str]]:
    """`text` with the variables in it, remarks and order kept, and the names that were new or others."""
    before = parse(text, path)
    changed = [name for name, value in variables.items() if before.get(name) != value]
    lines = []
    for line in text.removesuffix("\n").split("\n") if text else []:
        name = line.strip().removeprefix("export ").partition("=")[0].strip()
        if name not in changed:
            lines.append(line)
    lines += [f"{name}={_quoted(variables[name])}" for name in changed]
    return "".join(f"{line}\n" for line in lines), changed


def existing(path: Path, owner: int) -> str | None:
    """The text of the file, if there is one. Raises UsageError as `read` does."""
    return _text(path, owner) if os.path.lexists(path) else None


def _text(path: Path, owner: int) -> str:
    try:
        # Without O_NONBLOCK a fifo in its place would be waited for.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"{path} is a link; it holds secrets, so put the file itself there") from None
        raise UsageError(
            f"{path} cannot be read ({error.strerror}); `kiln service install` makes it"
        ) from None
    with open(fd, "rb") as file:  # noqa: PTH123 - what was opened is what is looked at
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{path} is not a file")
        if found.st_uid != owner:
            raise UsageError(f"{path} belongs to another user; run: sudo chown {owner} '{path}'")
        if found.st_mode & 0o077:
            raise UsageError(f"{path} holds secrets and is open to others; run: chmod 600 '{path}'")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UsageError(f"{path} is larger than a file of settings")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text in UTF-8") from None


def _quoted(value: str) -> str:
    return f'"{value}"' if value != value.strip() or _unquoted(value) != value else value


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value
