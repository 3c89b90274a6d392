"""Addresses of pictures that need no token: sealed by the server, for one picture and some time."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from urllib.parse import parse_qs, urlencode

from starlette.types import Scope

from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.spec import NAME_PATTERN

GOOD = 3600  # seconds
_IMAGE = re.compile(rf"/v1/jobs/({JOB_ID.pattern})/image")


def link(key: bytes, client: str, job_id: str) -> str:
    """Path and query of a client's picture."""
    until = f"{int(time.time()) + GOOD}"
    asked = urlencode({"of": client, "until": until, "seal": _seal(key, client, job_id, until)})
    return f"/v1/jobs/{job_id}/image?{asked}"


def linked(key: bytes, scope: Scope) -> str | None:
    """Whose picture the request is for, where its address was sealed here and is still good."""
    path = _IMAGE.fullmatch(scope["path"])
    if path is None or scope["method"] != "GET" or b"seal=" not in scope["query_string"]:
        return None
    asked = parse_qs(scope["query_string"].decode("ascii", "replace"), max_num_fields=8)
    client, until, seal = (str(asked.get(name, [""])[0]) for name in ("of", "until", "seal"))
    good = hmac.compare_digest(seal.encode(), _seal(key, client, path[1], until).encode())
    if not good or not re.fullmatch(NAME_PATTERN, client) or float(until) < time.time():
        return None
    return client


def _seal(key: bytes, client: str, job_id: str, until: str) -> str:
    text = f"picture {client} {job_id} {until}"
    return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]
