"""Whether Redis can be a farm's queue: what this user may do there, and whether it keeps what it accepts."""

from __future__ import annotations

import secrets
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import KilnError, NotReadyError
from pixelkiln.jobs.queue.connection import check, connect, explained, redis_url
from pixelkiln.jobs.settings import Settings, without_password
from pixelkiln.worker.commands.doctor.finding import Finding

FULL = 0.9  # of maxmemory
# Every command of a role in deploy/users.acl.example, on keys that are not there: {} is one. They run as one
# transaction whose last command removes what the others wrote, so nobody ever sees it.
_PRODUCER = """
hset {} a b|hget {} a|hgetall {}|hmget {} a|hstrlen {} a|hdel {} a
rpush {} a|lpush {} a|lpos {} a|lrange {} 0 0
llen {}|lrem {} 0 a|ltrim {} 1 0|sadd {} a|scard {}|smembers {}|sscan {} 0|srem {} a|zadd {} 1 a|zcard {}
zrange {} 0 0|zrangebyscore {} 0 0|zscore {} a|zremrangebyscore {} 0 0|zrem {} a
xadd {} * a b|xrevrange {} + -|evalsha none 0|exists {}|expire {} 9
persist {}|type {}|del {}|get {}|getrange {} 0 0|time|script load return|publish kiln:calls orders|unlink {}
"""
_WORKER = """
hincrbyfloat {} a 1|hkeys {}|hlen {}|del {}|hsetnx {} a b|del {}|rpush {} a|lmove {} {} LEFT RIGHT
lindex {} 0|lpop {}
rpop {}|set {} a|pttl {}|ttl {}|srandmember {}|memory usage {}|blpop {} 1|unlink {}
"""
# What `kiln batch` does, on keys of its own that are gone at once: an older ACL file lets nobody write there.
_BATCHES = (
    (keys.BATCH, "hset {} a b|hmget {} a b|type {}|expire {} 9|unlink {}"),
    (keys.BATCHES, "zadd {} nx 1 a|zrange {} 0 0|type {}|zrem {} a|unlink {}"),
    (keys.Key(keys.DEADLINES), "zadd {} 0 kiln-doctor|zrem {} kiln-doctor"),
)


def look_at_queue(settings: Settings) -> list[Finding]:
    """Redis as this machine's user has it; what is tried there leaves nothing."""
    try:
        with connect(settings, timeout=5.0) as connection:
            check(settings, connection)
            role = _role(settings, connection)
            batches = _batches(settings, connection)
            server = _server(connection)
            kept = _kept(settings, connection)
    except KilnError as error:
        return [Finding.of("redis", error)]
    synced, warnings = kept
    about = ", ".join(filter(None, (server, role)))
    where = f"{without_password(redis_url(settings))} ({about}) answers{synced}"
    return [Finding("ok", "redis", where), *batches, *warnings]


def _role(settings: Settings, connection: redis.Redis) -> str:
    """Whose work this user may do. Raises NotReadyError, which names what a producer is refused."""
    with explained(settings):
        _try(connection, _PRODUCER, keys.TRIAL)
    try:
        with explained(settings):
            _try(connection, _PRODUCER + _WORKER, keys.TRIAL_OWN)
    except NotReadyError as error:
        if "does not permit" not in str(error):
            raise
        return "a producer's rights"
    return "a worker's rights"


def _batches(settings: Settings, connection: redis.Redis) -> list[Finding]:
    """What of `kiln batch` this user may not do. Raises NotReadyError."""
    for key, commands in _BATCHES:
        try:
            with explained(settings):
                _try(connection, commands, key)
        except NotReadyError as error:
            if "does not permit" not in str(error):
                raise
            right = key.prefix + "*" * (key.prefix != key.template)
            what = "kiln batch --deadline" if right == keys.DEADLINES else "kiln batch"
            mend = f"copy the newest deploy/users.acl.example, whose producer may write {right}"
            return [Finding("warning", "redis", f"no right to {right}: {what} is refused to this user", mend)]
    return []


def _try(connection: redis.Redis, commands: str, key: keys.Key) -> None:
    name = key.template.replace("{}", secrets.token_hex(8))
    with connection.pipeline() as pipe:
        for line in commands.replace("\n", "|").split("|"):
            if line:
                pipe.execute_command(*line.format(name, name).split())  # type: ignore[no-untyped-call]
        pipe.execute(raise_on_error=False)


def _server(connection: redis.Redis) -> str:
    """Which one it is, as far as it tells."""
    about = _info(connection, "server")
    name, version = (
        about.get("server_name", "redis"),
        about.get("valkey_version") or about.get("redis_version"),
    )
    return f"{str(name).capitalize()} {version}"[:40] if version else ""


def _info(connection: redis.Redis, section: str) -> dict[str, Any]:
    try:
        about: Any = connection.info(section)
    except redis.ResponseError:  # not permitted
        return {}
    return dict(about)


def _kept(settings: Settings, connection: redis.Redis) -> tuple[str, list[Finding]]:
    """How soon it keeps what it accepts, and what may lose that; roles learn it from INFO, but for fsync."""
    about = _info(connection, "persistence") | _info(connection, "memory")
    try:
        config: Any = connection.config_get("append*", "maxmemory*")
    except redis.ResponseError:  # roles may not
        config = {}
    if not about and not config:
        mend = "an admin's kiln doctor reads it; the newest deploy/users.acl.example lets every role"
        return "", [
            Finding("warning", "redis", "does not tell this user whether it keeps what it accepts", mend)
        ]
    found = []

    def warn(what: str, mend: str, of: str = "redis") -> None:
        found.append(Finding("warning", of, what, mend))

    appends = config.get("appendonly", "yes" if about.get("aof_enabled") else "no") == "yes"
    synced = str(config.get("appendfsync", "")) if appends else ""
    if not appends:
        warn(
            "no append-only file: a crash there loses jobs",
            "redis-cli config set appendonly yes   (and appendfsync always)",
        )
    elif synced == "no":
        warn(
            "appendfsync no: a power cut there loses jobs",
            "redis-cli config set appendfsync everysec   (or always)",
        )
    if about.get("aof_last_write_status", "ok") != "ok":
        found.append(
            Finding(
                "problem", "redis", "it cannot write its append-only file", "free its disk, and see its log"
            )
        )
    policy = config.get("maxmemory-policy", about.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        mend = "redis-cli config set maxmemory-policy noeviction"
        warn(f"may evict jobs when its memory is full ({policy})", mend)
    most, used = int(config.get("maxmemory", about.get("maxmemory", 0))), int(about.get("used_memory", 0))
    if most and used > FULL * most:
        warn(
            f"its memory is {used / most:.0%} full: soon nobody submits",
            "redis-cli config set maxmemory …",
            "redis memory",
        )
    if not most and settings.redis_url is not None:
        mend = "redis-cli config set maxmemory 1gb   (less than the machine has)"
        warn("no maxmemory: where jobs fill the machine, the system ends it", mend, "redis memory")
    if synced in ("", "no"):
        return (
            ", append-only file (how soon it is synced, an admin may read)" if appends and not synced else ""
        ), found
    return f", appendfsync {synced}", found
