"""The S3 client behind a bucket; that of a local instance follows it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import boto3
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.settings import without_password

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Place(NamedTuple):
    """Where an S3 server is, and who asks there."""

    endpoint: str | None  # None: AWS
    access_key: str | None = None  # None: by AWS's own chain
    secret_key: str | None = None

    @classmethod
    def of(cls, instance: Instance) -> Self:
        """The server of a local instance."""
        return cls(instance.s3_endpoint, instance.access_key, instance.secret_key.get_secret_value())


class Clients:
    """Gives the client for the next request. Safe to share between threads.

    With a `home`, requests go where instance.json there leads, and only to a server that lives. Raises
    ValueError for an endpoint that is none, and what boto3 raises.
    """

    def __init__(
        self, config: Config, place: Place, home: Path | None = None, addressing: str | None = None
    ) -> None:
        self._config = config
        self._addressing = addressing  # path or virtual; None: as AWS's own configuration says, else path
        self._stale = False
        self._home = home
        self._lock = threading.Lock()
        self._place = place
        self._client = self._connected(place)

    @property
    def address(self) -> str:
        """Where the last one led, as it may be shown."""
        return without_password(self._place.endpoint) if self._place.endpoint else "AWS"

    @property
    def endpoint(self) -> str:
        """Where the last one led."""
        return self._client.meta.endpoint_url

    def renew(self) -> None:
        """Read keys, profile and CAs anew before the next request: one was refused, or did not arrive."""
        self._stale = self._home is None

    def current(self) -> S3Client:
        """Raises EndpointConnectionError where the local server does not live."""
        if self._home is not None:
            try:
                place = Place.of(Instance.running(self._home, "s3"))
            except NotReadyError:
                raise EndpointConnectionError(endpoint_url=self.address) from None
            with self._lock:
                if place != self._place:  # the old one, which may be in use, ends with its last user
                    self._place, self._client = place, self._connected(place)
        if self._stale:
            with self._lock:
                if self._stale:
                    old, self._client = self._client, self._connected(self._place)
                    self._stale = False
                    old.close()  # requests that others have under way come to their end all the same
        return self._client

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _connected(self, place: Place) -> S3Client:
        session = boto3.session.Session()
        region = session.region_name or "us-east-1"  # only AWS looks at it, but signing needs one
        own: Any = session._session.get_scoped_config().get("s3")
        own = own.get("addressing_style") if isinstance(own, dict) else None
        style: Any = {"addressing_style": self._addressing or own or "path"}
        return session.client(
            "s3",
            endpoint_url=place.endpoint,
            region_name=region,
            config=self._config.merge(Config(s3=style)),
            aws_access_key_id=place.access_key,
            aws_secret_access_key=place.secret_key,
        )
