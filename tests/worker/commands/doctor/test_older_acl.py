"""A producer with an ACL file from before batches: doctor names what it lacks, and so does the command."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, NotReadyError, Settings, keys
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.worker.commands.doctor.queue import look_at_queue
from pixelkiln.worker.queue.deadlines import Deadlines
from tests.worker.commands.doctor.broken import admin, redis_server

ACL = Path(__file__).parents[4] / "deploy" / "users.acl.example"
ROW: Any = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}
BATCH, BATCHES, DEADLINES = "~kiln:batch:*", "~kiln:batches:*", "%W~kiln:deadlines"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with redis_server(tmp_path / "redis") as found:
        yield found


def role(address: str, settings: Settings, name: str = "producer", lacks: str = "") -> Settings:
    """The farm as a role has it, by the ACL file without one of its rules."""
    (line,) = (line for line in ACL.read_text().splitlines() if line.startswith(f"user {name} "))
    rules = line.replace("CHANGE-ME", "word").split()[2:]
    assert not lacks or lacks in rules
    admin(address).execute_command("ACL", "SETUSER", name, "reset", *(one for one in rules if one != lacks))
    return settings.model_copy(update={"redis_url": SecretStr(f"redis://{name}:word@{address}/0")})


@pytest.mark.parametrize(
    ("lacks", "told"),
    [
        (BATCH, "no right to kiln:batch:*: kiln batch is refused to this user"),
        (BATCHES, "no right to kiln:batches:*: kiln batch is refused to this user"),
        (DEADLINES, "no right to kiln:deadlines: kiln batch --deadline is refused to this user"),
    ],
)
def test_a_right_that_is_missing_is_named(address: str, settings: Settings, lacks: str, told: str) -> None:
    where = role(address, settings, lacks=lacks)
    found, warning, *_ = look_at_queue(where)
    assert (found.state, warning.state, warning.found) == ("ok", "warning", told)
    right = lacks.partition("~")[2]
    assert warning.mend == f"copy the newest deploy/users.acl.example, whose producer may write {right}"
    with Kiln(where) as kiln:
        with pytest.raises(NotReadyError, match="does not permit this user that"):
            kiln.batch([ROW], name="refused", deadline=timedelta(days=1))
        assert kiln.farm().lanes == ()  # and nothing was sent
        if lacks == DEADLINES:  # without one it goes on
            assert kiln.batch([ROW], name="night").sent.new == 1


def test_with_the_newest_nothing_is_missing_and_nothing_is_left(address: str, settings: Settings) -> None:
    where = role(address, settings)
    assert [one.found for one in look_at_queue(where) if "no right" in one.found] == []
    assert admin(address).dbsize() == 0
    with Kiln(where) as kiln:
        batch = kiln.batch([ROW], name="night", deadline=timedelta(days=1))
        with connect(role(address, settings, "worker")) as worker:
            Deadlines(worker).look(time.time())  # as the worker's role may
        found: Any = kiln.redis.hget(keys.BATCH("default", batch.name), "fits")
        assert found == b"unknown"
