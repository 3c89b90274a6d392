"""How many connections a worker holds: plans of hosted servers count them."""

from __future__ import annotations

from typing import Any

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.worker.service import SHARED, Service
from tests.worker.working import all_ended, working

USUAL = 4  # docs/roles.md says so


def clients(kiln: Kiln) -> set[str]:
    found: Any = kiln.redis.client_list()
    return {one["id"] for one in found}


def test_a_worker_holds_few(settings: Settings, kiln: Kiln) -> None:
    """While it renders, publishes previews, delivers, settles what others follow, hears orders and idles."""
    before, seen = clients(kiln), [0]
    service = Service(settings, ["demo"])
    ids = [kiln.submit(prompt="x", model="demo", width=512, height=512).id for _ in range(4)]
    done = all_ended(kiln, ids)

    def idle() -> bool:
        seen.append(len(clients(kiln) - before))
        states = [one.state for one in kiln.farm().workers]
        return done() and states == ["idle"]

    working(service, idle)
    assert seen[-1] >= 2
    assert seen[-1] <= USUAL
    assert max(seen) <= 2 * SHARED
