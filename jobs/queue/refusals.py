"""What Redis, or the way to it, answers in place of what was asked: in one line, with what mends it."""

from __future__ import annotations

import redis

from pixelkiln.jobs.causes import FULL, Door
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.address import NoMasterError

SETTING = "KILN_REDIS_URL"
OLDEST = (6, 2)  # tried: 6.2.14; LMOVE came with it
TOO_OLD = "Redis 6.2 or newer, or Valkey, is needed (7 or newer for deploy/users.acl.example)"
_ACL = "copy the newest deploy/users.acl.example, or set the user of this role in KILN_REDIS_URL"
# What a server says that is not, or not now, the one to work with; UNBLOCKED: it was until this call.
LEFT = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "UNBLOCKED")


class NotServingError(redis.ConnectionError):
    """A server answered that it cannot serve: it became a replica, say. Its connections are dropped."""


def door(url: str) -> Door:
    """The address as `causes` looks at it."""
    for name, same in (("valkeys:", "rediss:"), ("valkey:", "redis:")):
        url = same + url.removeprefix(name) if url.startswith(name) else url
    return Door(
        url,
        SETTING,
        ("redis", "rediss"),
        6379,
        f"?ssl_ca_certs=/PATH/ca.pem in {SETTING}, or SSL_CERT_FILE",
        "SSL_CERT_FILE",
    )


def words(error: BaseException, url: str) -> str:
    """What is wrong and what to do, to follow the address."""
    said = plain(str(error)[:200]).partition(", with args beginning with")[0]
    if isinstance(error, NoMasterError):
        known = "" if error.__cause__ is None else f" (the last one {door(url).away(error.__cause__)})"
        return f"is unreachable: {said}{known}; check {SETTING}"
    if isinstance(error, NotServingError):
        if "LOADING" in said or "loading" in said:
            return f"does not serve now ({said}); wait until it has read its files"
        master = f"wait for its failover, or set {SETTING} to its master or its Sentinels"
        return f"does not serve now ({said}); {master}"
    if isinstance(error, redis.AuthenticationError):
        return _of_password(said)
    of_script = "ACL failure" in said or "executing the script can't" in said  # Valkey says so, or Redis
    if isinstance(error, redis.exceptions.NoPermissionError) or of_script:
        return f"does not permit this user that: {said}; {_ACL}"
    if isinstance(error, redis.exceptions.AskError | redis.exceptions.ClusterCrossSlotError):
        return CLUSTER
    if "max number of clients" in said:
        return f"is unreachable: {FULL}"
    if isinstance(error, redis.exceptions.InvalidResponse):
        return f"is unreachable: {door(url).stranger() or f'no Redis answers there; check {SETTING}'}"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        return door(url).away(error)
    for start, answer in _ANSWERS.items():
        if start.lower() in said.lower():
            return answer.format(said)
    return f"answered: {said}"


CLUSTER = (
    f"is part of a cluster, where a farm's queue cannot live; set {SETTING} to a single server"
    " (it may have replicas and Sentinels)"
)
_ANSWERS = {
    "used memory > 'maxmemory'": "answered: {}: its memory is full; raise maxmemory, or wait for jobs to end",
    "MISCONF": "cannot write to its disk ({}); free some, and see its log",
    "unknown command": f"lacks a command ({{}}): it is too old, or renamed that; {TOO_OLD}",
    "unknown redis command": f"lacks a command ({{}}): it is too old, or renamed that; {TOO_OLD}",
    "DB index is out of range": f"has no such database; write /0 at the end of {SETTING}",
}


def _of_password(said: str) -> str:
    if "without any password configured" in said:
        return (
            f"has no password, and {SETTING} gives one; take it out there, or set requirepass on the server"
        )
    if "Authentication required" in said:
        return (
            f"refuses the user or password in {SETTING}: it asks for one; write it as redis://:PASSWORD@HOST"
        )
    return f"refuses the user or password in {SETTING}; a password alone stands behind a colon: redis://:PASSWORD@HOST"
