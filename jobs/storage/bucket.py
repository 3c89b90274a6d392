"""The bucket: where things lie in it, and the few requests that are made of it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import boto3
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

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import CorruptObjectError, NotReadyError, StorageAwayError, StorageRefusedError
from pixelkiln.jobs.network import no_route, without_proxy
from pixelkiln.jobs.settings import Instance, Settings, without_password

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
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_HELD = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the bucket describes it."""

    size: int  # bytes
    etag: str


class Bucket:
    """One bucket of an S3-compatible store. Safe to share between threads."""

    def __init__(self, client: S3Client, name: str, address: str, probe: str) -> None:
        self._client = client
        self.name = name
        self.address = address
        self._probe = probe

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
        endpoint, name = settings.s3_endpoint, settings.s3_bucket
        access_key = secret_key = None  # AWS's own chain
        if endpoint is None and instance is not None:
            endpoint, name = instance.s3_endpoint, instance.bucket
            access_key, secret_key = instance.access_key, instance.secret_key.get_secret_value()
        try:
            session = boto3.session.Session()
            region = session.region_name or "us-east-1"  # only AWS looks at it, but signing needs one
            client = session.client(
                "s3",
                endpoint_url=endpoint,
                region_name=region,
                config=config,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
            )
        except ValueError:  # its message shows the address, in which a password may stand
            raise StorageRefusedError("KILN_S3_ENDPOINT is not an address, http://HOST:PORT") from None
        except BotoCoreError as error:  # no such profile
            raise StorageRefusedError(f"{error}; check AWS_PROFILE") from None
        where = without_password(endpoint) if endpoint else "AWS"
        return cls(client, name, where, keys.PROBE(settings.client))

    def check(self) -> None:
        """Raise StorageAwayError or StorageRefusedError unless the bucket is there and answers.

        Asks for an object that nobody stores, where producers and workers alike may read (see deploy/).
        """
        self.get(self._probe)

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
        try:
            self._client.put_object(**request)
        except ClientError as error:
            if (if_absent or replace) and _code(error) in _HELD:
                return False
            raise self._explain(error) from None
        except BotoCoreError as error:
            raise self._explain(error) from None
        return True

    def head(self, key: str) -> Stored | None:
        """What lies at `key`, if anything."""
        try:
            answer = self._client.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if _code(error) in _ABSENT:
                return None
            raise self._explain(error) from None
        except BotoCoreError as error:
            raise self._explain(error) from None
        return Stored(answer["ContentLength"], answer["ETag"])

    def delete(self, key: str, *, seen: str | None = None) -> bool:
        """Remove what lies at `key`, if anything; False where that has another etag than was `seen`.

        A server that knows no conditions on this leaves a moment between the look and the removal.
        """
        if seen is not None and ((there := self.head(key)) is None or there.etag != seen):
            return there is None
        condition: Any = {} if seen is None else {"IfMatch": seen.strip('"')}
        try:
            self._client.delete_object(Bucket=self.name, Key=key, **condition)
        except ClientError as error:
            if condition and _code(error) in _HELD:
                return False
            if condition and _code(error) == "NotImplemented":
                return self.delete(key)
            raise self._explain(error) from None
        except BotoCoreError as error:
            raise self._explain(error) from None
        return True

    def get(self, key: str, *, limit: int | None = None) -> bytes | None:
        """The object at `key`, or None. Raises CorruptObjectError where it is larger than `limit` bytes."""
        try:
            answer = self._client.get_object(Bucket=self.name, Key=key)
            if limit is not None and answer["ContentLength"] > limit:
                answer["Body"].close()
                raise CorruptObjectError(
                    f"{key} is {answer['ContentLength']:,} bytes; the limit is {limit:,}"
                )
            return answer["Body"].read()
        except ClientError as error:
            if _code(error) in _ABSENT:
                return None
            raise self._explain(error) from None
        except (BotoCoreError, OSError) as error:
            raise self._explain(error) from None

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _explain(self, error: Exception) -> NotReadyError:
        """botocore's error as one line with the address and what to do."""
        where = f"bucket {self.name!r} at {self.address}"
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
            code = _code(error)
            if code in {"NoSuchBucket", "404"}:
                return StorageRefusedError(
                    f"{where} does not exist; create it, or name another in KILN_S3_BUCKET"
                )
            if code in _ELSEWHERE:
                return StorageRefusedError(
                    f"{where} is not served there ({code}); check KILN_S3_BUCKET and AWS_DEFAULT_REGION"
                )
            if code in _REFUSED:
                return StorageRefusedError(
                    f"{where} refuses these credentials ({code}); check AWS_ACCESS_KEY_ID"
                )
            return StorageAwayError(f"{where} answered {code}; see the server's log, then `kiln doctor`")
        mend = no_route(error) or "start it (`kiln up` on this machine) or set KILN_S3_ENDPOINT"
        return StorageAwayError(f"{where} is unreachable; {mend}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "?"))
