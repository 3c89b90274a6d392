"""One forgery: what is written, and how it must end; and the usual ways to write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.hostile.farm import Forger, spec

Forgery = Callable[[Forger, str], Any]
FINISHED, DROPPED, STANDS, WAITS = "finished", "dropped", "stands", "waits"
NOT_RQS = "spec: the job's data is not what RQ's JSONSerializer writes"
NOT_JSON = "spec: the job's data is not JSON"
TOO_LONG = "spec: is more than 131,072 bytes"
OTHER_LANE = "lane: the job waited in "
CONTROL = "holds the control character U+"
NO_REFERENCES = "references: demo takes no reference pictures"
ESCAPE = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31mfailed \u202egnp.exe"
BAD = spec(width=100)  # fails, with this line
BAD_LINE = "width: 100 is not a multiple of 32; the nearest are 96 and 128"


@dataclass(frozen=True, slots=True)
class Form:
    """One way of one kind. `forge` writes it; `ends` as the package says."""

    forge: Forgery
    ends: str
    job_id: str | None = None  # where it must be that one
    also: tuple[tuple[str, str], ...] = ()  # what other jobs, by their ids' suffix, end as


def data(body: bytes, ends: str = NOT_RQS) -> Form:
    """A record that is sound but for its payload."""
    return Form(lambda f, i: f.put(i, body), ends)


def wants(ends: str, **fields: Any) -> Form:
    """A sound job, but for these fields of its spec."""
    return data(spec(**fields), ends)


def record(ends: str = FINISHED, **fields: Any) -> Form:
    """A sound spec in a record with these fields besides, or instead."""
    return Form(lambda f, i: f.put(i, **fields), ends)


def beside(write: Forgery, ends: str = FINISHED, body: bytes | None = None) -> Form:
    """A sound job (or one with that data), and before it is queued something else."""

    def forge(f: Forger, i: str) -> None:
        write(f, i)
        f.put(i, body)

    return Form(forge, ends)


def keys(write: Callable[[Forger, str, str], Any], *names: str, body: bytes | None = None) -> dict[str, Form]:
    """A form for each key name, in which {i} is the job's id: `write` gets the key."""
    ends = FINISHED if body is None else BAD_LINE
    return {name: beside(lambda f, i, n=name: write(f, i, n.format(i=i)), ends, body) for name in names}


def lane(name: str | bytes, ends: str, **fields: Any) -> Form:
    """A job that waits in that lane."""
    return Form(lambda f, i: f.put(i, spec(**fields), name), ends)


def text(f: Forger, i: str, key: str) -> None:
    f.redis.set(key, "text")


def listed(f: Forger, i: str, key: str) -> None:
    f.redis.delete(key)
    f.redis.rpush(key, i, "text")
