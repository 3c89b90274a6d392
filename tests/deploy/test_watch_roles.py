"""Who sees what in `kiln watch`, with the credentials that `deploy/` gives."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Kiln
from pixelkiln.jobs.watching.watcher import Watcher
from tests.deploy.test_roles import Farm, farm, small

__all__ = ["farm"]


@pytest.mark.parametrize("farm", ["policies"], indirect=True)
def test_a_producer_watches_and_sees_no_previews(farm: Farm) -> None:
    alice = farm.producer("alice")
    night = alice.batch([small()] * 2, name="night")
    with Kiln(farm.settings("admin")) as admin:
        held = {"kiln_state": f"rendering {night.ids[0]}", "queues": "demo:bf16"}
        admin.redis.sadd("rq:workers", "rq:worker:mini")
        admin.redis.hset("rq:worker:mini", mapping=held)
        admin.redis.sadd("rq:worker:mini:executions", f"{night.ids[0]}:e")
        progress = {"status": "started", "worker_name": "mini", "meta": '{"phase": "rendering"}'}
        admin.redis.hset(f"rq:job:{night.ids[0]}", mapping=progress)
        admin.redis.set(f"kiln:preview:alice:{night.ids[0]}", b"RIFF0000WEBP", ex=60)
        found = Watcher(alice, previews=4).look()
        assert [(one.name, one.started, one.queued) for one in found.batches] == [("night", 1, 1)]
        assert [one.id for one in found.held["mini"]] == [night.ids[0]]
        assert found.previews == {}
        assert Watcher(admin, previews=4).look().previews == {night.ids[0]: b"RIFF0000WEBP"}
    alice.close()
