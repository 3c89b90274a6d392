"""Connecting to Redis, and saying in one line why that did not work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.queue.address import Address, AddressError, Sentinels
from pixelkiln.jobs.queue.local import LocalConnection
from pixelkiln.jobs.queue.refusals import CLUSTER, LEFT, OLDEST, TOO_OLD, NotServingError, words
from pixelkiln.jobs.settings import Settings, without_password

DEFAULT_URL = "redis://127.0.0.1:6379/0"

_LEFT_ERRORS = (redis.ReadOnlyError, redis.BusyLoadingError, redis.exceptions.ClusterDownError)


class _Never(Retry):
    """Repeats nothing.

    redis-py's own would tell those that watch keys of a conflict, and they would try again at once, for ever.
    """

    def call_with_retry(self, do: Callable[[], Any], fail: Any, *more: Any, **named: Any) -> Any:
        """See redis-py."""
        caught: list[NotServingError] = []

        def act() -> Any:
            try:
                return do()
            except NotServingError as error:
                caught.append(error)

        answer = super().call_with_retry(act, fail, *more, **named)
        if caught:
            raise caught[0]
        return answer


class _Route:
    """How the connections of one client find their server."""

    def __init__(self, sentinels: Sentinels | None) -> None:
        self.sentinels = sentinels
        self.left = 0  # how often a server was found that does not serve


class _Following(AbstractConnection):
    """A connection that is dropped where its server does not serve; the next call resolves the address anew.

    A server that a failover makes a replica closes none: it goes on reading, and refuses to write.
    """

    def __init__(self, *, route: _Route, **options: Any) -> None:
        self._route = route
        self._joined = route.left
        super().__init__(**options)

    def connect(self) -> None:
        """Called when a client takes it from its pool: what was opened before a failover is opened anew."""
        if self._joined != self._route.left:
            self.disconnect()  # type: ignore[no-untyped-call]
            self._joined = self._route.left
        super().connect()  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        if self._route.sentinels is not None:
            self.host, self.port = self._route.sentinels.master()
        return super()._connect()  # type: ignore[no-untyped-call, safe-super]

    def read_response(self, *arguments: Any, **named: Any) -> Any:
        """See redis-py; NotServingError in place of what it makes of such answers."""
        try:
            return super().read_response(*arguments, **named)
        except (redis.ResponseError, redis.BusyLoadingError) as error:
            if not (isinstance(error, _LEFT_ERRORS) or str(error).startswith(LEFT)):
                raise
            if self._joined == self._route.left:
                self._route.left += 1
            self.disconnect()  # type: ignore[no-untyped-call]
            raise NotServingError(str(error)) from None


class _Plain(_Following, redis.Connection):
    pass


class _Encrypted(_Following, redis.SSLConnection):
    pass


class _Local(_Following, redis.UnixDomainSocketConnection):
    pass


class _OfInstance(_Following, LocalConnection):
    pass


_KINDS = {redis.SSLConnection: _Encrypted, redis.UnixDomainSocketConnection: _Local}


def redis_url(settings: Settings) -> str:
    """The URL the settings name, else the local instance's, else Redis's usual address here."""
    return _url(settings, _instance(settings))


def connect(settings: Settings, *, timeout: float = 10.0, most: int | None = None) -> redis.Redis:
    """A client whose calls end within `timeout` seconds. Connects on first use.

    With `most`, threads that share it wait for each other's calls where so many are under way.

    It never repeats a call by itself: after a lost reply the call may have been carried out, and only the
    caller knows whether it may be made twice.
    """
    instance = _instance(settings)
    try:
        address = Address.parse(_url(settings, instance))
        options = dict(address.options)
        kind = _KINDS.get(options.pop("connection_class", None), _Plain)
        if instance is not None:
            kind, options["home"] = _OfInstance, settings.home.absolute()
        make: Any = redis.ConnectionPool
        if most is not None:
            make = partial(redis.BlockingConnectionPool, max_connections=most, timeout=timeout)
        pool = make(
            connection_class=kind,
            **options,
            route=_Route(address.sentinels),
            protocol=2,
            socket_timeout=timeout,
            socket_connect_timeout=min(timeout, 5.0),
            retry=_Never(NoBackoff(), 0),
            retry_on_error=[],
        )
        pool.connection_class(**pool.connection_kwargs)  # else an option it does not have shows on first use
    except AddressError as error:
        raise NotReadyError(f"KILN_REDIS_URL is not a Redis URL: {error}") from None
    except (ValueError, TypeError):  # its message shows what stands for the port, which may be a password
        raise NotReadyError(
            "KILN_REDIS_URL is not a Redis URL: an option behind its ? is none, or has no such value"
        ) from None
    client = redis.Redis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


def check(settings: Settings, connection: redis.Redis) -> None:
    """Raise NotReadyError unless a server answers that can be a farm's queue: a single one, new enough."""
    with explained(settings):
        with connection.pipeline(transaction=False) as pipe:
            pipe.ping()
            pipe.info("server")
            pipe.execute_command("LMOVE")  # type: ignore[no-untyped-call]  # which fails; whether it is known
            answers: list[Any] = pipe.execute(raise_on_error=False)
        if isinstance(answers[0], redis.RedisError):
            raise answers[0]
        about = answers[1] if isinstance(answers[1], dict) else {}  # not permitted, or renamed
        if "cluster" in (about.get("redis_mode"), about.get("server_mode")):  # Redis calls it so, or Valkey
            raise NotReadyError(f"{_where(settings)} {CLUSTER}")
        version = str(about.get("redis_version", ""))
        if (numbers := re.match(r"(\d+)\.(\d+)", version)) and tuple(map(int, numbers.groups())) < OLDEST:
            raise NotReadyError(f"{_where(settings)} is Redis {version[:20]}, which is too old; {TOO_OLD}")
        if "unknown command" in str(answers[2]):
            raise answers[2]


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turn redis-py's errors into NotReadyError: the address, what is wrong, what to run."""
    try:
        yield
    except (redis.WatchError, redis.DataError):
        raise
    except (redis.RedisError, OSError) as error:
        raise NotReadyError(explain(settings, error)) from None


def explain(settings: Settings, error: BaseException) -> str:
    """What redis-py raised as one line; tries the address again where that alone can tell."""
    return f"{_where(settings)} {words(error, redis_url(settings))}"


def _where(settings: Settings) -> str:
    return f"Redis at {without_password(redis_url(settings))}"


def _instance(settings: Settings) -> Instance | None:
    return Instance.read(settings.home) if settings.redis_url is None else None


def _url(settings: Settings, instance: Instance | None) -> str:
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return instance.redis_url.get_secret_value() if instance else DEFAULT_URL
