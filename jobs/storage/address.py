"""What KILN_S3_ENDPOINT may say."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pixelkiln.jobs.errors import StorageRefusedError
from pixelkiln.jobs.settings import Settings

_SERVICES = "cloudflarestorage|digitaloceanspaces|aliyuncs|googleapis"


def check_endpoint(settings: Settings) -> None:
    """Raise StorageRefusedError where the endpoint cannot be meant so, without showing it."""
    if settings.s3_endpoint is not None and (wrong := _fault(settings.s3_endpoint, settings.s3_bucket)):
        raise StorageRefusedError(f"KILN_S3_ENDPOINT is not an S3 server's address: {wrong}")


def _fault(url: str, bucket: str) -> str:
    """What is wrong with an endpoint; '' for nothing."""
    scheme, there, _ = url.partition("://")
    if not there:
        return "it has no scheme: write http://HOST:PORT or https://HOST"
    if scheme not in ("http", "https"):
        return "it begins with http:// or https://"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "its port is no number up to 65535, or a [ or ] belongs to no IPv6 address"
    if not parts.hostname or port == 0 or any(char.isspace() for char in url):
        return "it names no host, or port 0, or has a space in it: http://HOST:PORT"
    if parts.query or parts.fragment:
        return "it ends with its port, or a path, without ? and #"
    *before, last = parts.path.rstrip("/").split("/")
    if last and (last == bucket or len(before) == 1):
        return "a bucket's name stands at its end; that goes into KILN_S3_BUCKET, and out of the address"
    host = re.escape(bucket) + rf"\.(s3[.-].*|.*\.({_SERVICES})\.com)"
    if re.fullmatch(host, parts.hostname):
        return (
            "the bucket's name stands before the host; take it out (KILN_S3_ADDRESSING=virtual puts it there)"
        )
    return ""
