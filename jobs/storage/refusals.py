"""What a bucket, or the way to it, answers in place of what was asked: in one line, with what mends it."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from pixelkiln.jobs.causes import Door
from pixelkiln.jobs.errors import NotReadyError, StorageAwayError, StorageRefusedError
from pixelkiln.jobs.network import host_of
from pixelkiln.jobs.plain import plain

SETTING = "KILN_S3_ENDPOINT"
_SKEWED = "RequestTimeTooSkewed"
SKEW = 300.0  # seconds between two clocks from which that is why: servers allow 15 minutes
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    NoAuthTokenError,
    PartialCredentialsError,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)
_RIGHTS = "give them what deploy/s3-worker.json or s3-producer.json names, and check KILN_CLIENT"
_RENEW = "they have expired; renew them, as by aws sso login or a new AWS_SESSION_TOKEN"
_REGION = "is not served there ({}); check KILN_S3_BUCKET and AWS_DEFAULT_REGION"
_TOKEN = "the session's token is none; unset AWS_SESSION_TOKEN, or renew it with its key"
_OF_BUCKET = {  # S3's word, or the status where an answer has none -> what follows the bucket's name
    "NoSuchBucket": "does not exist; create it, or name another in KILN_S3_BUCKET",
    "404": f"does not exist, or that is no S3 server (404); check {SETTING}, KILN_S3_BUCKET",
    "301": _REGION.format("301"),
    "PermanentRedirect": _REGION.format("PermanentRedirect"),
    "AuthorizationHeaderMalformed": _REGION.format("AuthorizationHeaderMalformed"),
    "IllegalLocationConstraintException": _REGION.format("IllegalLocationConstraintException"),
    "InvalidBucketName": _REGION.format("InvalidBucketName"),
    "SecondLevelDomainForbidden": "takes virtual-hosted addresses only; set KILN_S3_ADDRESSING=virtual",
}
_OF_CREDENTIALS = {  # the same -> why they are refused, and what to do
    "InvalidAccessKeyId": "no such key is known there; check AWS_ACCESS_KEY_ID or AWS_PROFILE",
    "SignatureDoesNotMatch": "the key's secret is another; check AWS_SECRET_ACCESS_KEY or AWS_PROFILE",
    "AccessDenied": f"they lack a right; {_RIGHTS}",
    "403": f"unknown, or without a right; check AWS_ACCESS_KEY_ID, then {_RIGHTS}",
    "AllAccessDisabled": "its owner closed it; ask there",
    "AccountProblem": "the account is closed; ask there",
    "ExpiredToken": _RENEW,
    "ExpiredTokenException": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "RequestExpired": _RENEW,
    "InvalidToken": _TOKEN,
    "InvalidTokenId": _TOKEN,
    _SKEWED: "",
}
_FULL = re.compile("507|.*(Quota|StorageFull|InsufficientStorage|OutOfCapacity).*")


def explain(error: Exception, where: str, endpoint: str) -> NotReadyError:
    """What was raised as one line that begins with `where`; it may try the address again."""
    asked = error.kwargs.get("endpoint_url") if isinstance(error, EndpointConnectionError) else None
    virtual = host_of(asked).endswith(f".{host_of(endpoint)}")  # the bucket's name stands before the host
    endpoint, setting = asked or endpoint, f"{SETTING} and KILN_S3_ADDRESSING" if virtual else SETTING
    port = 443 if endpoint.startswith("https:") else 80
    door = Door(endpoint, setting, ("http", "https"), port, "AWS_CA_BUNDLE=/PATH/ca.pem", "AWS_CA_BUNDLE")
    if isinstance(error, NoCredentialsError):
        return StorageRefusedError(
            f"{where}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
        )
    if isinstance(error, ProfileNotFound):
        return StorageRefusedError(f"{where}: {error}; check AWS_PROFILE")
    if isinstance(error, _NO_CREDENTIALS):
        return StorageRefusedError(
            f"{where}: no credentials ({type(error).__name__}); renew what AWS_PROFILE names"
        )
    if isinstance(error, ParamValidationError):
        return StorageRefusedError(f"{where} cannot be: no such name; set KILN_S3_BUCKET")
    if isinstance(error, ClientError) and code(error) not in ("?", "400"):
        return _answered(error, where)
    if isinstance(error, BotoCoreError | HTTPError | OSError):
        return StorageAwayError(f"{where} {door.away(error)}")
    if strange := door.stranger():
        return StorageAwayError(f"{where} is unreachable: {strange}")
    if isinstance(error, ClientError):
        return _answered(error, where)
    return StorageAwayError(
        f"{where} answers what S3 does not ({_stumbled(error)}); check {SETTING}, then its log"
    )


def code(error: ClientError) -> str:
    """S3's word for an error, one line; '?' for none, or for what the server put in its place."""
    word = error.response.get("Error", {}).get("Code")
    return plain(word[:80]) if isinstance(word, str) and word else "?"


def unconditional(error: ClientError) -> bool:
    """Whether a server answers so that it knows no conditions (or nothing of what was asked)."""
    return code(error) == "NotImplemented" or _meta(error).get("HTTPStatusCode") == 501


def _answered(error: ClientError, where: str) -> NotReadyError:
    """An answer that is an error."""
    word, ahead = code(error), _ahead(error)
    if word == _SKEWED or (word in _OF_CREDENTIALS and abs(ahead) > SKEW):
        by = f"{abs(ahead) / 60:.0f} minutes {'ahead of' if ahead > 0 else 'behind'} its own"
        by = by if abs(ahead) > SKEW else "too far from its own"
        return StorageRefusedError(f"{where} refuses this machine's clock ({word}): {by}; set the clock")
    if word in _OF_BUCKET:
        return StorageRefusedError(f"{where} {_OF_BUCKET[word]}")
    if word in _OF_CREDENTIALS:
        return StorageRefusedError(f"{where} refuses these credentials ({word}): {_OF_CREDENTIALS[word]}")
    if _FULL.fullmatch(word):
        return StorageAwayError(f"{where} is full ({word}); free some there, or raise its quota")
    return StorageAwayError(f"{where} answered {word}; see the server's log, then `kiln doctor`")


def _ahead(error: ClientError) -> float:
    """Seconds that our clock is ahead of the server's, as its answer is dated; 0.0 where it is not."""
    try:
        return time.time() - parsedate_to_datetime(_meta(error)["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


def _meta(error: ClientError) -> Any:
    return error.response.get("ResponseMetadata", {})


def _stumbled(error: Exception) -> str:
    """What of an answer could not be understood, in few words."""
    if isinstance(error, RecursionError):
        return "redirects, or nesting, without end"
    return plain(f"{type(error).__name__}: {error}"[:200])
