"""One event to one address: signed, sent once, and what came of it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ssl
import threading
from collections.abc import Collection
from importlib.resources import as_file, files
from pathlib import Path

from pixelkiln.jobs.webhooks import Webhook
from pixelkiln.worker.telling.reach import CONNECT, Resolve, TellError, connect, resolve

TOTAL = 10.0  # seconds that a receiver has from the connection on, however it spreads its answer


def signature(secret: bytes, moment: int, body: bytes) -> str:
    """What `Kiln-Signature` says: HMAC-SHA256 of "<seconds since 1970>.<body>"."""
    told = hmac.new(secret, b"%d." % moment + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={told}"


def trusted() -> ssl.SSLContext:
    """Certificates are verified, by the system's authorities or, where it has none, botocore's."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not any(one and Path(one).exists() for one in (paths.cafile, paths.capath)):
        with as_file(files("botocore") / "cacert.pem") as authorities:
            context.load_verify_locations(authorities)
    return context


def send(
    hook: Webhook,
    body: bytes,
    headers: dict[str, str],
    named: Collection[str],
    context: ssl.SSLContext,
    *,
    find: Resolve = resolve,
    total: float = TOTAL,
) -> None:
    """POST `body`. Raises TellError unless the answer is 2xx, within `total` seconds.

    Of the answer nothing is read beyond its headers; a redirect is no answer.
    """
    plain = connect(hook, named, find)
    kept = plain.dup()  # TLS takes the socket over; to end the connection from outside this one stays
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError):
            kept.shutdown(2)

    timer = threading.Timer(total, end)
    timer.daemon = True
    timer.start()
    connection = http.client.HTTPConnection(hook.host, hook.port, timeout=CONNECT)
    try:
        plain.settimeout(total)
        connection.sock = plain
        if hook.secure:
            connection.sock = context.wrap_socket(plain, server_hostname=hook.host)
        usual = hook.port == (443 if hook.secure else 80)
        host = f"[{hook.host}]" if ":" in hook.host else hook.host
        headers = {"Host": host if usual else f"{host}:{hook.port}", "Connection": "close", **headers}
        connection.request("POST", hook.target, body, headers)
        status = connection.getresponse().status
        if late.is_set():  # it was ended among the headers, which http.client takes for their end
            raise TimeoutError
    except ssl.SSLCertVerificationError as error:
        raise TellError(f"{hook.host} has no certificate to trust ({error.verify_message})") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = f"{total:.0f} s without an answer" if late.is_set() else str(error) or type(error).__name__
        raise TellError(f"{hook.host} did not take it ({why[:200]})") from None
    finally:
        timer.cancel()
        connection.close()
        plain.close()
        kept.close()
    if 300 <= status < 400:
        raise TellError(f"{hook.host} redirects ({status}), which is not followed")
    if not 200 <= status < 300:
        raise TellError(f"{hook.host} answers {status}")
