"""Why a server cannot be reached: what is wrong, in words, and what mends it. Redis' and the bucket's alike.

Libraries raise their own errors over the system's, so all that was raised is looked through; where that
leaves two causes, as with TLS on one side only, the address is tried once more, without a password.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.network import chain, host_of, is_here, no_route

PATIENCE = 2.0  # seconds that a look at an address may take
_CERTIFICATES = {  # by OpenSSL's number for what is wrong
    9: ("is not valid yet", "set this machine's clock"),
    10: ("has expired", "renew it there, or set this machine's clock"),
    62: ("is for another name", "use a name that it lists, or have one made for this name"),
    64: ("is for another address", "use an address that it lists, or have one made for this one"),
}
_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
_CLOSED = {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED}


@dataclass(frozen=True, slots=True)
class Door:
    """A server's address, the variable that it stands in, and how a CA is named for it."""

    url: str  # host and port of it are shown, no more
    setting: str
    schemes: tuple[str, str]  # without and with TLS
    port: int  # where the address names none
    trust: str  # how to name a CA, in words
    authorities: str  # a variable that names a file of CAs

    @property
    def encrypted(self) -> bool:
        """Whether the address asks for TLS."""
        return self.url.partition(":")[0].partition("+")[0] == self.schemes[1]

    @property
    def host(self) -> str:
        """The host, the first of several."""
        return host_of(self.url)

    @property
    def at(self) -> tuple[str, int] | None:
        """Host and port, where a socket leads to the server itself."""
        try:
            parts = urlsplit(self.url)
            port = parts.port or self.port
        except ValueError:
            return None
        return (self.host, port) if self.host and parts.scheme in self.schemes else None

    def away(self, error: BaseException) -> str:
        """'is unreachable: what is wrong; what to do'."""
        return f"is unreachable: {self._why(list(chain(error)))}"

    def stranger(self) -> str:
        """What else than it should be listens there, or speaks; '' where that cannot be told."""
        heard = (_heard(*self.at) if self.at else None) or b""
        plain, encrypted = self.schemes
        if heard == _TLS and not self.encrypted:
            return f"it speaks TLS there; write {encrypted}:// in place of {plain}:// in {self.setting}"
        web = heard.startswith(b"HTTP/")
        if heard[:1] in (b"+", b"-", b"H") and web != (plain == "http"):
            return f"a {'web server' if web else 'Redis'} listens there; check the port in {self.setting}"
        if heard not in (b"", _TLS) and self.encrypted:
            return f"it speaks no TLS there; write {plain}:// in place of {encrypted}:// in {self.setting}"
        return _TURNED_AWAY.get(heard[:8], "")

    def _why(self, errors: list[BaseException]) -> str:
        if told := [one for one in errors if isinstance(one, NotReadyError)]:
            return str(told[0])  # by who went there
        if mend := no_route(errors[0]):
            return mend
        for one in errors:
            if why := self._of_system(one) or self._of_tls(one):
                return why
        late = [one for one in errors if isinstance(one, TimeoutError)]
        if (not late or any("handshake" in str(one) for one in late)) and (why := self.stranger()):
            return why
        if late and self.at and not _lets_in(*self.at):
            return (
                "no answer comes from that machine; check that it is on, firewalls on the way, and host and"
                f" port in {self.setting}"
            )
        if late:
            return f"it lets us in and does not answer in time; see its log and load, and {self.setting}"
        for one in errors:
            if isinstance(one, OSError) and one.errno and one.errno not in _CLOSED and one.strerror:
                return f"{one.strerror}; check that machine, the way there, and {self.setting}"
            if isinstance(one, ssl.SSLError):
                return f"TLS fails ({one.reason or one}); see its log, and {self.setting}"
        return "it closes the connection without an answer; see its log, and what stands between"

    def _of_system(self, error: BaseException) -> str:
        """What the system says of names, ways and files."""
        setting = self.setting
        if type(error).__name__ == "ProxyConnectionError":  # botocore's
            return (
                "the proxy that HTTP_PROXY or HTTPS_PROXY names does not answer; unset them, or set NO_PROXY"
            )
        if isinstance(error, socket.gaierror):
            return f"no address is known for {self.host!r}; check the name in {setting}, then DNS"
        if isinstance(error, ConnectionRefusedError) and (self.url.startswith("unix:") or is_here(self.host)):
            return f"nothing listens there; start it (`kiln up` on this machine) or set {setting}"
        if isinstance(error, ConnectionRefusedError):
            return (
                "that machine lets nobody in at this port; start it there, have it listen beyond its own"
                f" loopback, or check host and port in {setting}"
            )
        if isinstance(error, OSError) and error.errno in _NO_WAY:
            return f"no way leads there ({error.strerror}); check the network, a VPN, and {setting}"
        missing = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
        if missing and self.url.startswith("unix:"):
            return f"no socket that this user may use is there; start it, or set {setting}"
        if missing or "suitable TLS CA certificate bundle" in str(error):
            return f"the file of CAs cannot be read; name one that is there: {self.trust}"
        return ""

    def _of_tls(self, error: BaseException) -> str:
        """What OpenSSL says of certificates."""
        if type(error).__name__ == "CertificateError":  # urllib3's own look at names
            what, mend = _CERTIFICATES[62]
            return f"its certificate {what} ({error}); {mend}"
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code in _CERTIFICATES:
                what, mend = _CERTIFICATES[error.verify_code]
                return f"its certificate {what} ({error.verify_message}); {mend}"
            named = os.environ.get(self.authorities, "")
            lost = f", and {self.authorities} names no file" if named and not Path(named).exists() else ""
            return (
                f"its certificate is not trusted ({error.verify_message}){lost}; name the CA that made it: "
                f"{self.trust}"
            )
        if isinstance(error, ssl.SSLError) and "NO_CERTIFICATE_OR_CRL_FOUND" in str(error):
            return f"the file of CAs holds no certificate; name one in PEM: {self.trust}"
        if isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in str(error):
            return f"it asks for a certificate of ours, and {self.setting} names none"
        return ""


FULL = "it has too many clients; raise its maxclients, or end some (a worker holds up to 6 connections)"
_TURNED_AWAY = {
    b"-ERR max": FULL,
    b"-DENIED ": "it takes only clients of its own machine (protected mode); give it users or a password",
}
_TLS = b"TLS"


def _lets_in(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), PATIENCE):
        return True
    return False


def _heard(host: str, port: int) -> bytes | None:
    """What a server says to who neither speaks TLS nor gives a password; None where none lets us in."""
    try:
        with socket.create_connection((host, port), PATIENCE) as plain, suppress(OSError):
            plain.sendall(b"PING\r\n\r\n")
            said = plain.recv(512)
            if said[:2] == b"\x15\x03" or b"HTTPS" in said:
                return _TLS
            if said:
                return said
        with socket.create_connection((host, port), PATIENCE) as raw:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with suppress(OSError), context.wrap_socket(raw, server_hostname=host):
                return _TLS
    except OSError:
        return None
    return b""
