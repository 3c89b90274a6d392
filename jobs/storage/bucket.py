"""The bucket: where things lie in it, and the few requests that are made of it."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, SSLError

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import CorruptObjectError, NotReadyError, StorageRefusedError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.network import without_proxy
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.storage.address import check_endpoint
from pixelkiln.jobs.storage.clients import Clients, Place
from pixelkiln.jobs.storage.refusals import code, explain, unconditional

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

log = logging.getLogger("kiln.storage")

CHUNK = 128 * 1024  # bytes of what is passed on as it comes

_ABSENT = {"NoSuchKey", "NotFound"}
_ABSENT_HEAD = {"404", *_ABSENT}  # an answer to HEAD has no body that says more
_HELD = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the bucket describes it."""

    size: int  # bytes
    etag: str
    modified: datetime | None = None  # with a zone; None where the server does not tell


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing has it."""

    key: str
    size: int  # bytes
    modified: datetime  # with a zone


class Bucket:
    """One bucket of an S3-compatible store. Safe to share between threads."""

    def __init__(self, clients: Clients, name: str, probe: str) -> None:
        self._clients = clients
        self.name = name
        self._probe = probe
        self.unconditional = False  # it answered that it knows no conditions

    @property
    def address(self) -> str:
        """Where it is, as it may be shown."""
        return self._clients.address

    @property
    def _client(self) -> S3Client:
        return self._clients.current()

    @classmethod
    def open(cls, settings: Settings, *, attempts: int = 3, patience: float = 30) -> Self:
        """The bucket that the settings name, or the local instance's. Connects on first use.

        `attempts` counts the tries botocore makes of one request before it gives up; `patience` is for how
        many seconds nothing may come in one.
        """
        check_endpoint(settings)
        instance = Instance.read(settings.home) if settings.redis_url is None else None
        config = Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=5,
            read_timeout=patience,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            proxies={} if instance is not None or without_proxy(settings.s3_endpoint) else None,
        )
        place, name, home = Place(settings.s3_endpoint), settings.s3_bucket, None
        if settings.s3_endpoint is None and instance is not None:
            place, name, home = Place.of(instance), instance.bucket, settings.home.absolute()
        try:
            clients = Clients(config, place, home, settings.s3_addressing if home is None else "path")
        except ValueError:  # its message shows the address, in which a password may stand
            raise StorageRefusedError(
                "KILN_S3_ENDPOINT is not an S3 server's address: http://HOST:PORT"
            ) from None
        except BotoCoreError as error:  # no such profile
            raise StorageRefusedError(f"{error}; check AWS_PROFILE") from None
        return cls(clients, name, keys.PROBE(settings.client))

    def check(self) -> None:
        """Raise StorageAwayError or StorageRefusedError unless the bucket is there and answers.

        Asks for an object that nobody stores, where producers and workers alike may read (see deploy/).
        """
        try:
            strange = self.get(self._probe, limit=0) is not None
        except CorruptObjectError:
            strange = True
        if strange:
            raise StorageRefusedError(
                f"{self._where} has {self._probe}, which nobody stores: if it is no S3 server, check"
                " KILN_S3_ENDPOINT; if it is, delete that"
            )

    def put(
        self, key: str, body: bytes, content_type: str, *, if_absent: bool = False, replace: str | None = None
    ) -> bool:
        """Store `body`; False where a condition kept it out.

        if_absent: only where nothing lies at `key`. replace: only where the object there has this etag.
        Of a server that knows no conditions the object is looked at just before; one may come in between.
        """
        conditional = if_absent or replace is not None
        if conditional and self.unconditional:
            seen = self.head(key)
            if (seen.etag if seen else None) != replace:
                return False
        request: PutObjectRequestTypeDef = {
            "Bucket": self.name,
            "Key": key,
            "Body": body,
            "ContentType": content_type,
            "ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
        }
        if if_absent and not self.unconditional:
            request["IfNoneMatch"] = "*"
        if replace is not None and not self.unconditional:
            request["IfMatch"] = replace.strip('"')  # Ceph compares it as it stands, without the quotes
        with self._asking():
            try:
                self._client.put_object(**request)
                return True
            except ClientError as error:
                if conditional and code(error) in _HELD:
                    return False
                if not conditional or self.unconditional or not unconditional(error):
                    raise
        self.unconditional = True
        log.warning(
            "%s knows no conditions on writes: what is stored is looked at before, not during", self._where
        )
        return self.put(key, body, content_type, if_absent=if_absent, replace=replace)

    def head(self, key: str) -> Stored | None:
        """What lies at `key`, if anything."""
        with self._asking():
            try:
                answer = self._client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if code(error) in _ABSENT_HEAD:
                    return None
                self._client.get_object(Bucket=self.name, Key=key)["Body"].close()  # its answer says why
                raise
            modified = answer.get("LastModified")
            return Stored(_said(answer, "ContentLength"), _said(answer, "ETag"), modified)

    def listing(self, prefix: str) -> Iterator[Listed]:
        """What lies below `prefix`. Operators may ask; workers and producers need not be permitted to."""
        with self._asking():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            for page in pages:
                for one in page.get("Contents", []):
                    yield Listed(one["Key"], one["Size"], one["LastModified"])

    def delete(self, key: str, *, seen: str | None = None) -> bool:
        """Remove what lies at `key`, if anything; False where that has another etag than was `seen`.

        A server that knows no conditions on this leaves a moment between the look and the removal.
        """
        if seen is not None and ((there := self.head(key)) is None or there.etag != seen):
            return there is None
        condition: Any = {} if seen is None else {"IfMatch": seen.strip('"')}
        with self._asking():
            try:
                self._client.delete_object(Bucket=self.name, Key=key, **condition)
            except ClientError as error:
                if condition and code(error) in _HELD:
                    return False
                if not condition or code(error) != "NotImplemented":
                    raise
                self._client.delete_object(Bucket=self.name, Key=key)
        return True

    def get(self, key: str, *, limit: int | None = None) -> bytes | None:
        """The object at `key`, or None. Raises CorruptObjectError where it is larger than `limit` bytes."""
        with self._asking():
            try:
                answer = self._client.get_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if code(error) in _ABSENT:
                    return None
                raise
            told = answer.get("ContentLength", -1)  # a server need not tell it
            if limit is None or 0 <= told <= limit:
                return answer["Body"].read()
            body = answer["Body"].read(limit + 1) if told < 0 else b""
            answer["Body"].close()
        if max(told, len(body)) > limit:
            raise CorruptObjectError(f"{key} is {max(told, len(body)):,} bytes; the limit is {limit:,}")
        return body

    def stream(self, key: str, first: int = 0, last: int | None = None) -> tuple[int, Iterator[bytes]] | None:
        """The object at `key`, or None: its size, and its bytes from `first` to `last` as they come."""
        part: Any = (
            {"Range": f"bytes={first}-{'' if last is None else last}"} if first or last is not None else {}
        )
        with self._asking():
            try:
                answer = self._client.get_object(Bucket=self.name, Key=key, **part)
            except ClientError as error:
                if code(error) in _ABSENT:
                    return None
                raise
            size = int(answer["ContentRange"].rpartition("/")[2]) if part else _said(answer, "ContentLength")
        return size, self._parts(answer["Body"])

    def _parts(self, body: StreamingBody) -> Iterator[bytes]:
        with self._asking(), closing(body):
            yield from body.iter_chunks(CHUNK)

    def link(self, key: str, seconds: int) -> str:
        """A presigned address: whoever has it can get the object, for at most a week."""
        with self._asking():
            asked = {"Bucket": self.name, "Key": key}
            return self._client.generate_presigned_url("get_object", Params=asked, ExpiresIn=seconds)

    def close(self) -> None:
        """Close its connections."""
        self._clients.close()

    @property
    def _where(self) -> str:
        return f"bucket {self.name!r} at {self.address}"

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Let out our errors only: botocore raises its own, urllib3's, and whatever its parsers trip over."""
        try:
            yield
        except Exception as error:
            raise self._told(error) from None

    def _told(self, error: Exception) -> NotReadyError:
        """What was raised in our words, made in a frame of its own: in that one it would keep sockets."""
        told = explain(error, self._where, self._clients.endpoint)
        if isinstance(told, StorageRefusedError) or isinstance(error, SSLError):
            self._clients.renew()  # an operator may change its keys, or a file of CAs
        return told


def _said(answer: Mapping[str, Any], name: str) -> Any:
    """A header of an answer that S3 never leaves out."""
    value = answer.get(name)
    if value is None or value == "":
        raise ValueError(f"no {name}")
    return value
