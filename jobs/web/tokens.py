"""Bearer tokens: made, kept hashed in one file that only its owner reads, and found again."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.home import distrust
from pixelkiln.jobs.spec import Name

TOKEN = re.compile(r"kiln_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
COST = {"n": 2**14, "r": 8, "p": 1}  # of scrypt: 16 MiB and some 50 ms for each try
MOST = 10_000  # tokens of a file
FILE = "tokens.json"


class Token(BaseModel):
    """What is known of a token; not the token itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]  # the part of it that is no secret
    name: Name
    client: Name  # as whom it acts
    admin: bool = False
    created: str  # UTC, ISO 8601
    salt: str  # base64
    hash: str  # base64, of its secret part by scrypt

    def holds(self, secret: str) -> bool:
        """Whether this is its secret part."""
        return hmac.compare_digest(b64decode(self.hash), _hashed(secret, b64decode(self.salt)))


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    seal: str = Field(default_factory=lambda: secrets.token_urlsafe(32), min_length=32)
    tokens: Annotated[tuple[Token, ...], Field(max_length=MOST)] = ()


class Tokens:
    """The tokens of one file, which is read again when it changes. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._seen: tuple[int, ...] | None = None
        self._tokens: dict[str, Token] = {}
        self._known: dict[bytes, Token] = {}  # by what a keyed hash makes of a token that was found good

    def all(self) -> list[Token]:
        """Those of the file, the oldest first. Raises NotReadyError where it cannot be used."""
        return list(self._read().values())

    def has(self, id: str) -> bool:
        """Whether the token of that id is there still. Raises NotReadyError as `all` does."""
        return id in self._read()

    def known(self, text: str) -> Token | None:
        """The token of that text, where it was found good before: without the price of `find`."""
        self._read()
        return self._known.get(self._mark(text))

    def named(self, text: str) -> str:
        """The id that the text names, where there is such a token; ''."""
        parts = TOKEN.fullmatch(text)
        return parts[1] if parts is not None and parts[1] in self._read() else ""

    def find(self, text: str) -> Token | None:
        """The token of that text, if it is one. Takes the time of scrypt where its id is known."""
        name = self.named(text)
        token = self._tokens.get(name)
        if token is None or not token.holds(text.rpartition(f"{name}_")[2]):
            return None
        with self._lock:
            if self._tokens.get(name) is not token:  # the file was read again meanwhile
                return None
            self._known[self._mark(text)] = token
        return token

    def seal(self) -> bytes:
        """What cursors, links and forms are sealed with, by all servers that have this file.

        Made with the first token, or here. Raises NotReadyError where the file cannot be used.
        """
        if not self.path.exists():
            self._change(lambda there: there)
        return self._load().seal.encode()

    def make(self, name: str, client: str, *, admin: bool = False) -> str:
        """A new token, told this once. Raises UsageError where the name is taken, or none."""
        secret, salt = secrets.token_urlsafe(32), secrets.token_bytes(16)
        try:
            token = Token(
                id=secrets.token_hex(6),
                name=name,
                client=client,
                admin=admin,
                created=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                salt=b64encode(salt).decode(),
                hash=b64encode(_hashed(secret, salt)).decode(),
            )
        except ValidationError as error:
            field = error.errors()[0]["loc"][0]
            raise UsageError(
                f"{field}: must be 1 to 48 of a-z, 0-9, - and _, beginning with a letter or digit"
            ) from None

        def add(there: tuple[Token, ...]) -> tuple[Token, ...]:
            if name in (one.name for one in there):
                raise UsageError(f"a token named {name} is there already; revoke it, or take another name")
            return (*there, token)

        self._change(add)
        return f"kiln_{token.id}_{secret}"

    def revoke(self, name: str) -> None:
        """Make a token worthless, from the next request on. Raises UsageError where there is none."""

        def remove(there: tuple[Token, ...]) -> tuple[Token, ...]:
            left = tuple(one for one in there if one.name != name)
            if len(left) == len(there):
                raise UsageError(f"no token named {name[:60]!r}; see: kiln token list")
            return left

        self._change(remove)

    def _mark(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "replace"), key=self._key, digest_size=32).digest()

    def _read(self) -> dict[str, Token]:
        seen: tuple[int, ...] = ()
        try:
            about = self.path.stat()
            seen = (about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise NotReadyError(f"{self.path}: {error.strerror}") from None
        if seen != self._seen:
            with self._lock:
                if seen != self._seen:  # else who read it anew would make strangers of those found meanwhile
                    found = {one.id: one for one in self._load().tokens}
                    self._tokens, self._known, self._seen = found, {}, seen
        return self._tokens

    def _load(self) -> _File:
        try:
            if why := distrust(self.path):
                raise NotReadyError(f"{self.path} {why}: it is not used")
            if self.path.stat().st_mode & 0o077:
                raise NotReadyError(f"{self.path} may be read by others; mend: chmod 600 {self.path}")
            return _File.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return _File()
        except OSError as error:
            raise NotReadyError(f"{self.path}: {error.strerror}") from None
        except ValidationError:
            raise NotReadyError(f"{self.path} is no file of tokens; move it away and make new ones") from None

    def _change(self, change: Callable[[tuple[Token, ...]], tuple[Token, ...]]) -> None:
        """Put `change` of what is there in its place, whole; of two at once each sees the other's."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._alone():
                before = self._load()
                after = _File(seal=before.seal, tokens=change(before.tokens))
                part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.part")
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(after.model_dump_json(indent=1).encode())
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self.path)
        except OSError as error:
            raise NotReadyError(f"{self.path}: {error.strerror}") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        handle = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _hashed(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, maxmem=64 * 2**20, dklen=32, **COST)
