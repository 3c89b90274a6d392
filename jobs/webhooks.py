"""Addresses to which ends of jobs and batches are told, as the operator's settings name them."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

MOST = 8  # addresses: each has a thread of its own


@dataclass(frozen=True, slots=True)
class Webhook:
    """One address, taken apart."""

    secure: bool  # https
    host: str  # lower case; an IPv6 address without brackets
    port: int
    target: str  # path and query

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, which shows the host alone: what comes behind it may be a secret."""
        try:
            parts = urlsplit(text)
            host, port = (parts.hostname or "").encode("idna").decode() if parts.hostname else "", parts.port
        except (ValueError, UnicodeError):
            raise ValueError("must be addresses as https://host/path, parted by spaces") from None
        if parts.scheme not in ("http", "https") or not host or "%" in host:
            raise ValueError("must be addresses as https://host/path, parted by spaces")
        if "@" in parts.netloc or parts.fragment:
            raise ValueError(f"the address at {host} must have neither a user nor a fragment")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not target.isascii() or not target.isprintable() or " " in target:
            raise ValueError(f"the address at {host} must have a path in ASCII, others as %XX")
        secure = parts.scheme == "https"
        return cls(secure, host, port or (443 if secure else 80), target)

    @property
    def name(self) -> str:
        """What it is called in Redis and shown as: not all of it, which may hold a secret."""
        whole = f"{self.secure} {self.host} {self.port} {self.target}"
        return f"{self.host}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"

    def unsafe(self, named: Collection[str]) -> str:
        """Why nothing may be sent there as it stands; '' where it may. `named`: hosts that may be so."""
        if not self.secure and self.host not in named:
            return f"{self.host} is told in the clear; use https, or name it in KILN_WEBHOOK_HOSTS"
        return ""


def _words(value: Any) -> Any:
    """A variable's words, quoted as in a shell; a list of `kiln.toml` is one already."""
    return tuple(shlex.split(value)) if isinstance(value, str) else value


def _addresses(texts: tuple[str, ...]) -> tuple[str, ...]:
    if len(texts) > MOST:
        raise ValueError(f"may be {MOST} addresses, not {len(texts)}")
    for text in texts:
        Webhook.parse(text)
    return texts


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Hosts = Annotated[Words, AfterValidator(lambda names: tuple(name.lower() for name in names))]
Addresses = Annotated[Words, AfterValidator(_addresses)]
