"""Webhooks with the credentials that `deploy/` gives, and with those of before."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

from pixelkiln.jobs import keys
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.telling.teller import Teller
from tests.deploy.test_roles import Farm, farm, small
from tests.waiting import until
from tests.worker.telling.receivers import Receiver, receiving

__all__ = ["farm"]


@pytest.mark.parametrize("farm", ["policies"], indirect=True)
def test_a_worker_tells_and_a_producer_notes_what_it_cancels(farm: Farm) -> None:
    receiver, alice = Receiver(), farm.producer("alice")
    with receiving(receiver), connect(farm.settings("worker")) as connection:
        more: dict[str, Any] = {"webhooks": (receiver.url,), "webhook_hosts": ("127.0.0.1",)}
        settings = farm.settings("worker", webhook_secret=SecretStr("a secret that is long enough"), **more)
        teller = Teller(settings, "worker-1")
        for sender in teller._senders:
            sender.start()
        teller.look()
        night = alice.batch([small(prompt="1"), small(prompt="2"), small(prompt="3")], name="told")
        claims = Claims(connection, "worker-1")
        claim = claims.take(["demo:bf16"])
        assert claim is not None
        assert claims.fail(claim, "it broke")
        rest = [job for job in night.ids if job != claim.job_id]
        alice.cancel(rest[:1])
        teller.look()
        until(lambda: len(receiver.events("job.done")) == 2, "both are told")
        assert not receiver.events("batch.done")
        for act in (
            lambda: alice.redis.xrevrange(keys.ENDS),
            lambda: alice.redis.get(keys.TELLER),
            lambda: alice.redis.hset(keys.OUTBOX("x"), "x", "y"),
            lambda: alice.redis.set(keys.TOLD("alice", "told"), "y"),
        ):
            with pytest.raises(NoPermissionError):
                act()
        with connect(farm.settings("admin")) as admin:  # an ACL file of before
            admin.execute_command("ACL", "SETUSER", "producer", "resetkeys", *OLD)
        alice.redis.connection_pool.disconnect()
        assert alice.cancel(rest[1:]) == {rest[1]: "queued"}
        teller._open_at = 0.0  # a minute later
        teller.look()
        (event,) = until(lambda: receiver.events("batch.done"), "the batch is told")
        assert (event["failed"], event["cancelled"]) == (1, 2)
        assert len(receiver.events("job.done")) == 2
        teller.stop()
        teller._connection.close()
    alice.redis.close()
    assert isinstance(alice.redis, redis.Redis)


OLD = ("~rq:*", "~kiln:bell:*", "~kiln:own:*", "~kiln:batch:*", "~kiln:batches:*", "%W~kiln:mail")
