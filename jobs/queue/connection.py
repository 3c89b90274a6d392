"""Connecting to Redis, and saying in one line why that did not work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.network import no_route
from pixelkiln.jobs.queue.local import LocalConnection
from pixelkiln.jobs.settings import Instance, Settings, without_password

DEFAULT_URL = "redis://127.0.0.1:6379/0"


def redis_url(settings: Settings) -> str:
    """The URL the settings name, else the local instance's, else Redis's usual address here."""
    return _url(settings, _instance(settings))


def connect(settings: Settings, *, timeout: float = 10.0) -> redis.Redis:
    """A client whose calls end within `timeout` seconds. Connects on first use.

    It never repeats a call by itself: after a lost reply the call may have been carried out, and only the
    caller knows whether it may be made twice.
    """
    instance = _instance(settings)
    url = _url(settings, instance)
    local: dict[str, Any] = {}
    if instance is not None:
        local = {"connection_class": LocalConnection, "home": settings.home.absolute()}
    try:
        client = redis.Redis.from_url(
            url,
            **local,
            protocol=2,
            socket_timeout=timeout,
            socket_connect_timeout=min(timeout, 5.0),
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
        )
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # else an option it does not have shows on first use
    except (ValueError, TypeError):  # its message shows what stands for the port, which may be a password
        raise NotReadyError(
            "KILN_REDIS_URL is not a Redis URL, redis://:PASSWORD@HOST:PORT/0; in the password write / as %2F"
        ) from None
    return client


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turn redis-py's errors into NotReadyError: the address, what is wrong, what to run."""
    try:
        yield
    except redis.AuthenticationError:
        raise NotReadyError(f"{_where(settings)} refuses the user or password in KILN_REDIS_URL") from None
    except redis.exceptions.NoPermissionError as error:
        raise NotReadyError(f"{_where(settings)} does not permit this user that: {error}") from None
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        mend = no_route(error) or "start it (`kiln up` on this machine) or set KILN_REDIS_URL"
        raise NotReadyError(f"{_where(settings)} is unreachable; {mend}") from None
    except redis.ResponseError as error:
        raise NotReadyError(f"{_where(settings)} answered: {str(error)[:200]}") from None


def _where(settings: Settings) -> str:
    return f"Redis at {without_password(redis_url(settings))}"


def _instance(settings: Settings) -> Instance | None:
    return Instance.read(settings.home) if settings.redis_url is None else None


def _url(settings: Settings, instance: Instance | None) -> str:
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return instance.redis_url.get_secret_value() if instance else DEFAULT_URL
