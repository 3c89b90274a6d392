"""The bucket: where things lie in it, and the few requests that are made of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import CorruptObjectError, NotReadyError, StorageAwayError, StorageRefusedError
from pixelkiln.jobs.network import no_route, without_proxy
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.settings import Instance, Settings
from pixelkiln.jobs.storage.clients import Clients, Place

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

_REFUSED = {
    "403",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "NoSuchBucket",
    "AllAccessDisabled",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
}
_ELSEWHERE = {"301", "PermanentRedirect", "InvalidBucketName"}
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    NoAuthTokenError,
    PartialCredentialsError,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)
_ABSENT = {"NoSuchKey", "NotFound"}
_ABSENT_HEAD = {"404", *_ABSENT}  # an answer to HEAD has no body that says more
_HELD = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the bucket describes it."""

    size: int  # bytes
    etag: str


class Bucket:
    """One bucket of an S3-compatible store. Safe to share between threads."""

    def __init__(self, clients: Clients, name: str, probe: str) -> None:
        self._clients = clients
        self.name = name
        self._probe = probe

    @property
    def address(self) -> str:
        """Where it is, as it may be shown."""
        return self._clients.address

    @property
    def _client(self) -> S3Client:
        return self._clients.current()

    @classmethod
    def open(cls, settings: Settings, *, attempts: int = 3) -> Self:
        """The bucket that the settings name, or the local instance's. Connects on first use.

        `attempts` counts the tries botocore makes of one request before it gives up.
        """
        instance = Instance.read(settings.home) if settings.redis_url is None else None
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=5,
            read_timeout=30,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            proxies={} if instance is not None or without_proxy(settings.s3_endpoint) else None,
        )
        place, name, home = Place(settings.s3_endpoint), settings.s3_bucket, None
        if settings.s3_endpoint is None and instance is not None:
            place, name, home = Place.of(instance), instance.bucket, settings.home.absolute()
        try:
            clients = Clients(config, place, home)
        except ValueError:  # its message shows the address, in which a password may stand
            raise StorageRefusedError("KILN_S3_ENDPOINT is not an address, http://HOST:PORT") from None
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
        Servers that know no conditions ignore both, so callers look first.
        """
        request: PutObjectRequestTypeDef = {
            "Bucket": self.name,
            "Key": key,
            "Body": body,
            "ContentType": content_type,
            "ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
        }
        if if_absent:
            request["IfNoneMatch"] = "*"
        if replace is not None:
            request["IfMatch"] = replace.strip('"')  # Ceph compares it as it stands, without the quotes
        with self._asking():
            try:
                self._client.put_object(**request)
            except ClientError as error:
                if (if_absent or replace) and _code(error) in _HELD:
                    return False
                raise
        return True

    def head(self, key: str) -> Stored | None:
        """What lies at `key`, if anything."""
        with self._asking():
            try:
                answer = self._client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if _code(error) in _ABSENT_HEAD:
                    return None
                raise
            return Stored(_said(answer, "ContentLength"), _said(answer, "ETag"))

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
                if condition and _code(error) in _HELD:
                    return False
                if not condition or _code(error) != "NotImplemented":
                    raise
                self._client.delete_object(Bucket=self.name, Key=key)
        return True

    def get(self, key: str, *, limit: int | None = None) -> bytes | None:
        """The object at `key`, or None. Raises CorruptObjectError where it is larger than `limit` bytes."""
        with self._asking():
            try:
                answer = self._client.get_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if _code(error) in _ABSENT:
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
            raise self._explain(error) from None

    def _explain(self, error: Exception) -> NotReadyError:
        """What was raised as one line with the address and what to do."""
        where = self._where
        if isinstance(error, NoCredentialsError):
            return StorageRefusedError(
                f"{where}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
            )
        if isinstance(error, _NO_CREDENTIALS):
            return StorageRefusedError(
                f"{where}: no credentials ({type(error).__name__}); renew what AWS_PROFILE names"
            )
        if isinstance(error, ParamValidationError):
            return StorageRefusedError(f"{where} cannot be: no such name; set KILN_S3_BUCKET")
        if isinstance(error, ClientError):
            return _explain_code(_code(error), where)
        if isinstance(error, BotoCoreError | HTTPError | OSError):
            mend = no_route(error) or "start it (`kiln up` on this machine) or set KILN_S3_ENDPOINT"
            return StorageAwayError(f"{where} is unreachable; {mend}")
        return StorageAwayError(
            f"{where} answers what S3 does not ({_stumbled(error)}); check KILN_S3_ENDPOINT, then its log"
        )


def _explain_code(code: str, where: str) -> NotReadyError:
    """The same of an answer that is an error, by S3's word for it or, where there is none, the status."""
    if code == "NoSuchBucket":
        return StorageRefusedError(f"{where} does not exist; create it, or name another in KILN_S3_BUCKET")
    if code == "404":
        return StorageRefusedError(
            f"{where} does not exist, or that is no S3 server (404); check KILN_S3_ENDPOINT, KILN_S3_BUCKET"
        )
    if code in _ELSEWHERE:
        return StorageRefusedError(
            f"{where} is not served there ({code}); check KILN_S3_BUCKET and AWS_DEFAULT_REGION"
        )
    if code in _REFUSED:
        return StorageRefusedError(f"{where} refuses these credentials ({code}); check AWS_ACCESS_KEY_ID")
    return StorageAwayError(f"{where} answered {code}; see the server's log, then `kiln doctor`")


def _code(error: ClientError) -> str:
    """S3's word for an error, one line; '?' for none, or for what the server put in its place."""
    code = error.response.get("Error", {}).get("Code")
    return plain(code[:80]) if isinstance(code, str) and code else "?"


def _said(answer: Mapping[str, Any], name: str) -> Any:
    """A header of an answer that S3 never leaves out."""
    value = answer.get(name)
    if value is None or value == "":
        raise ValueError(f"no {name}")
    return value


def _stumbled(error: Exception) -> str:
    """What of an answer could not be understood, in few words."""
    if isinstance(error, RecursionError):
        return "redirects, or nesting, without end"
    return plain(f"{type(error).__name__}: {error}"[:200])
