"""Looks for passwords where none may be: in every file that a run left, in many disguises."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

import numpy as np

OWN = {  # the files in which the secrets of a farm and its servers must stand, and where in them
    "instance.json": r'"(?:secret_key|admin_key|redis_url)": "([^"]+)"',
    "kept.json": r'"([\w-]{20,})"',
    "admin.key": r"\S+",
    "valkey.conf": r"(?m)^requirepass (\S+)$",
    "s3.json": r'"secretKey": "([^"]+)"',
    "security.toml": r'(?m)^key = "(\w{32,})"$',
}
SHORTEST = 8  # characters: anything shorter is found by chance
BULK = re.compile(rb"\$(\d+)\r\n")  # how Redis's append-only file begins each word
PACKED = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")
INFLATED = 2**20  # bytes looked at of one packed value


def stands_in(folder: Path) -> set[str]:
    """The secrets of every server that was started under `folder`."""
    found = set()
    for name, pattern in OWN.items():
        for path in folder.rglob(name):
            text = path.read_text(errors="replace")
            found |= {_password(secret) for secret in re.findall(pattern, text)}
    return {secret for secret in found if len(secret) >= SHORTEST}


def forms(secret: str) -> set[bytes]:
    """A secret as it might stand in text, a URL, JSON, hex or base64."""
    plain = secret.encode()
    found = {plain, quote(secret, safe="").encode(), quote_plus(secret).encode()}
    found |= {json.dumps(secret)[1:-1].encode(), repr(secret)[1:-1].encode(), plain.hex().encode()}
    for before in range(3):  # base64 depends on what stands before; the characters at both ends on neighbours
        first, last = -(-before * 8 // 6), (before + len(plain)) * 8 // 6
        for code in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(code(b"\0" * before + plain)[first:last])
    return found


class Scanner:
    """Knows what to look for: `secrets` by a name that a report may show.

    A run leaves hundreds of megabytes, and there are hundreds of forms: one pass finds where the first four
    bytes of any may stand, two and two, and only there the forms are compared.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._needles: dict[bytes, list[tuple[str, bytes]]] = {}
        self._pairs = np.zeros((2, 2**16), bool)
        for name, secret in secrets.items():
            for form in forms(secret):
                self._needles.setdefault(form[:4], []).append((name, form))
                self._pairs[[0, 1], np.frombuffer(form[:4], np.uint16)] = True

    def leaks(self, content: bytes) -> set[str]:
        """The names of the secrets that stand in `content`, packed or not."""
        return self._plain(content) | self._plain(b"\n".join(_unpacked(content)))

    def leaks_in(self, folder: Path, skip: Iterable[str] = ()) -> list[str]:
        """Each leak under `folder`, one line each; files of OWN may hold secrets, if others cannot read them.

        skip: names of files that are not looked into.
        """
        found = []
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            if path.suffix == ".safetensors" or path.name in skip:
                continue
            if path.name in OWN and not path.stat().st_mode & 0o077:
                continue
            found += [f"{path} holds {name}" for name in sorted(self.leaks(path.read_bytes()))]
        return found

    def _plain(self, content: bytes) -> set[str]:
        found = set()
        for odd in range(2 if len(content) > 4 else 0):
            pairs = np.frombuffer(content, np.uint16, (len(content) - odd) // 2, odd)
            for hit in np.flatnonzero(self._pairs[0][pairs[:-1]] & self._pairs[1][pairs[1:]]):
                at = 2 * int(hit) + odd
                forms_here = self._needles.get(content[at : at + 4], [])
                found |= {name for name, form in forms_here if content.startswith(form, at)}
        return found


def _password(secret: str) -> str:
    """Of a URL its password, of anything else all of it."""
    return secret.partition("://")[2].rpartition("@")[0].rpartition(":")[2] if "://" in secret else secret


def _unpacked(content: bytes) -> Iterator[bytes]:
    """What RQ packed, zlib for a job's data and base64 of zlib for an error, wherever it stands in a file.

    In an append-only file every word is tried by itself; elsewhere the whole, and what looks like base64.
    """
    if content.startswith(b"*"):
        words = (content[at.end() : at.end() + int(at[1])] for at in BULK.finditer(content))
    else:
        words = iter([content, *(at[0] for at in PACKED.finditer(content))])
    for word in words:
        if word[:1] in {b"\x78", b"\x1f"}:
            yield from _inflated(word)
        elif len(word) >= 16 and PACKED.fullmatch(word):
            try:
                plain = base64.b64decode(word)
            except binascii.Error:
                continue
            yield plain
            yield from _inflated(plain)


def _inflated(packed: bytes) -> Iterator[bytes]:
    try:
        yield zlib.decompressobj(47).decompress(packed, INFLATED)  # zlib's header, or gzip's
    except zlib.error:
        return
