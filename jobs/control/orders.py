"""Orders to workers: pause, resume, drain. Signed, since whoever submits jobs may write to the same Redis.

An order stands in one hash under what it is about until the next about the same takes its place, so a worker
that was away finds it. The channel only tells workers to look: nothing that comes over it is believed.

Beside each order stands its seal, which binds it to one farm: else whoever may write to two farms of one key
could give the orders of the one to the other. Workers of 0.1 read the order alone, so its form stays theirs.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import redis
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pixelkiln.jobs import keys
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.errors import OrderError, UsageError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import NAME_PATTERN

MAX_ORDER = 1024  # bytes
TRIES = 100  # while others give orders, too
MOST_ORDERS = 4096  # that admins can have given
KEPT = 7 * 86_400  # seconds that a resume or a drain is kept

Kind = Literal["farm", "client", "model", "worker"]
Verb = Literal["pause", "resume", "drain"]

_TARGET = re.compile(r"farm|(client|model|worker):([A-Za-z0-9][A-Za-z0-9_.-]{0,79})")
_FARM = re.compile(rb"[0-9a-f]{32}")
_KINDS: dict[Verb, tuple[Kind, ...]] = {
    "pause": ("farm", "client", "model", "worker"),
    "resume": ("farm", "client", "model", "worker"),
    "drain": ("farm", "worker"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a command is about: the farm, or a client, a model or a worker by name.

    A worker goes by its own name, which it keeps until it ends, or by its machine's, which it shares with the
    next one there.
    """

    kind: Kind
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of 'farm', 'client:NAME', 'model:NAME' or 'worker:NAME'. Raises UsageError."""
        found = _TARGET.fullmatch(text)
        if not found:
            raise UsageError(f"{text[:80]!r} is not farm, client:NAME, model:NAME or worker:NAME")
        if found[1] == "model" and found[2] not in CATALOGUE:
            raise UsageError(f"no model {found[2]!r}; there are {', '.join(CATALOGUE)}")
        if found[1] == "client" and not re.fullmatch(NAME_PATTERN, found[2]):
            raise UsageError(f"{found[2]!r} cannot be a client's name")
        return cls(found[1] or "farm", found[2] or "")  # type: ignore[arg-type]

    def covers(self, worker: str) -> bool:
        """Whether a worker of that name is meant."""
        return self.kind == "farm" or (
            self.kind == "worker" and self.name in (worker, worker.rpartition("-")[0])
        )

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


class Order(BaseModel):
    """One order, as it is signed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    verb: Verb
    target: str
    now: bool = False  # a drain: give the running job back, do not finish it
    at: Annotated[float, Field(ge=0, lt=2**53, allow_inf_nan=False)]  # s since the epoch, by Redis's clock

    @property
    def field(self) -> str:
        """What it is about, which is its name in the hash: a resume replaces the pause."""
        return f"{'drain' if self.verb == 'drain' else 'pause'}:{self.target}"

    def check(self) -> Self:
        """Raises UsageError where the verb cannot be said of the target."""
        kind = Target.parse(self.target).kind
        if kind not in _KINDS[self.verb]:
            raise UsageError(f"a {kind} cannot be drained, only a worker or the farm; pause it instead")
        return self

    def signed(self, key: bytes) -> bytes:
        """As it stands in the hash: its code of authentication (HMAC-SHA-256), a space, its JSON."""
        body = self.model_dump_json().encode()
        return hmac.new(key, body, hashlib.sha256).hexdigest().encode() + b" " + body

    @classmethod
    def opened(cls, field: str, text: bytes, key: bytes) -> Self:
        """The order that stands under `field`. Raises OrderError for all that no admin of ours signed."""
        code, _, body = text.partition(b" ")
        if not hmac.compare_digest(code, hmac.new(key, body, hashlib.sha256).hexdigest().encode()):
            raise OrderError("its signature is not by this farm's KILN_ADMIN_KEY")
        try:
            order = cls.model_validate_json(body).check()
        except (ValidationError, UsageError):
            raise OrderError("it is signed, but no order that this version knows") from None
        if order.field != field:
            raise OrderError("it was moved here from elsewhere")
        return order


def seal(farm: bytes, text: bytes, key: bytes) -> bytes:
    """What binds a signed order to the farm of that identity."""
    return hmac.new(key, b"farm " + farm + b" " + text, hashlib.sha256).hexdigest().encode()


def check_seal(there: bytes, farm: bytes, text: bytes, key: bytes) -> None:
    """Raises OrderError where the order was not given on this farm."""
    if not hmac.compare_digest(there, seal(farm, text, key)):
        raise OrderError("it was given on another farm, or by pixelkiln 0.1; give it again with this version")


def identity(connection: redis.Redis, key: bytes) -> bytes:
    """The farm's identity, drawn here where it has none.

    The orders that stand then are taken for its own: 0.1 gave them, without seals. Raises redis.RedisError.
    """
    with connection.pipeline() as pipe:
        for _ in range(TRIES):
            try:
                pipe.watch(keys.FARM, keys.ORDERS)  # type: ignore[no-untyped-call]
                there: Any = pipe.get(keys.FARM) if pipe.type(keys.FARM) == b"string" else b""
                if _FARM.fullmatch(there):
                    return bytes(there)
                farm = secrets.token_hex(16).encode()
                seals = {field: seal(farm, text, key) for field, text in _standing(pipe, key).items()}
                pipe.multi()
                pipe.set(keys.FARM, farm)
                pipe.delete(keys.SEALS)
                if seals:
                    pipe.hset(keys.SEALS, mapping=seals)  # type: ignore[arg-type]
                pipe.execute()
            except redis.WatchError:  # another draws it, or gives an order
                continue
            return farm
    raise redis.ConnectionError("the farm's identity is written all the time")


def _standing(pipe: Any, key: bytes) -> dict[bytes, bytes]:
    """The orders that are signed with the key; none where there are more than admins can have given."""
    if pipe.type(keys.ORDERS) != b"hash" or pipe.hlen(keys.ORDERS) > MOST_ORDERS:
        return {}
    found = {}
    for field, text in pipe.hgetall(keys.ORDERS).items():
        with suppress(OrderError):
            Order.opened(field.decode("utf-8", "replace"), text, key)
            found[field] = text
    return found


def give(connection: redis.Redis, order: Order, key: bytes) -> Order:
    """Sign an order and put it where workers look, newer than the one it replaces; the order as given.

    Raises redis.RedisError: it may then have been given, and may be given again.
    """
    with connection.pipeline() as pipe:
        for _ in range(TRIES):
            try:
                pipe.watch(keys.ORDERS, keys.FARM)  # type: ignore[no-untyped-call]
                farm = identity(connection, key)
                server: Any = connection.time()
                there: Any = pipe.hget(keys.ORDERS, order.field)
                try:
                    last = Order.opened(order.field, there, key).at if there else 0.0
                except OrderError:
                    last = 0.0
                order = order.model_copy(update={"at": max(server[0] + server[1] / 1e6, last + 1e-3)})
                stale = _stale(pipe, order, key)
                pipe.multi()
                if stale:
                    pipe.hdel(keys.ORDERS, *stale)
                    pipe.hdel(keys.SEALS, *stale)
                text = order.signed(key)
                pipe.hset(keys.ORDERS, order.field, text)
                pipe.hset(keys.SEALS, order.field, seal(farm, text, key))
                pipe.set(keys.SERIAL, uuid.uuid4().hex)
                pipe.publish(keys.CALLS, "orders")
                pipe.execute()
            except redis.WatchError:  # another admin was faster; this order shall be the newer
                continue
            return order
    raise redis.ConnectionError("the orders are written all the time")


def _stale(pipe: Any, order: Order, key: bytes) -> list[str]:
    """Orders that need not be kept: resumes and drains that are older than KEPT; looked for now and then."""
    if pipe.hlen(keys.ORDERS) < 64:
        return []
    found = []
    for field, text in pipe.hgetall(keys.ORDERS).items():
        name = field.decode("utf-8", "replace")
        try:
            other = Order.opened(name, text, key)
        except OrderError:
            continue
        if other.verb != "pause" and other.at < order.at - KEPT and name != order.field:
            found.append(name)
    return found


def admin_key(settings: Settings) -> bytes | None:
    """The key that signs orders: the settings', else the local instance's; None where there is none."""
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value().encode()
    instance = Instance.read(settings.home) if settings.redis_url is None else None
    return instance.admin_key.get_secret_value().encode() if instance else None


def fingerprint(key: bytes | None, of: bytes = b"sealed orders") -> str:
    """What a worker shows of its key, so that one that will not obey is noticed; '' where it has none."""
    return hmac.new(key, of, hashlib.sha256).hexdigest()[:8] if key else ""


def obeys(shown: str, key: bytes | None) -> bool:
    """Whether a worker that shows this fingerprint obeys orders given with the key.

    0.1 has another fingerprint: its workers obey these orders, and its admins are told that newer workers
    will not obey theirs, which have no seals.
    """
    return shown in (fingerprint(key), fingerprint(key, b"fingerprint"))
