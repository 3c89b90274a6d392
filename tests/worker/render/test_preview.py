"""A preview that fails costs no picture and no further preview; one that hangs is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.engines.checkpoints.installed import installed
from pixelkiln.worker.engines.engine import Pixels, Step
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.render.preview import Previews
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.renderer import GiveBackError, Renderer
from tests.waiting import until

CLAIM = Claim("job-1", "e1", Lane("demo", "bf16", "normal", "default"))
SPEC = RenderSpec.parse({"prompt": "a fox", "model": "demo", "width": 64, "height": 64, "seed": 1})


@pytest.fixture
def previews(settings: Settings) -> Iterator[Previews]:
    ticks = count(10.0, 10.0)
    thread = Previews(connect(settings, timeout=5.0), clock=lambda: next(ticks))
    thread.start()
    yield thread
    thread.stop()


def step(preview: Callable[[], Pixels]) -> Step:
    return Step(1, 28, 0.1, preview)


def broken() -> Pixels:
    raise RuntimeError("the device said no")


def test_what_cannot_be_shown_is_passed_over(
    previews: Previews, kiln: Kiln, caplog: pytest.LogCaptureFixture
) -> None:
    previews.offer(CLAIM, step(broken))
    previews.offer(CLAIM, step(lambda: np.zeros((3, 5, 7, 2), np.uint8)))  # no picture
    until(lambda: len(caplog.records) == 2, "both are logged")
    previews.offer(CLAIM, step(lambda: np.zeros((64, 64, 3), np.uint8)))
    until(lambda: kiln.redis.get(keys.PREVIEW("default", "job-1")), "the next one is there")


def test_the_watchdog_times_previews_too(settings: Settings, bucket: Bucket) -> None:
    now = [0.0]
    watchdog = Watchdog(900.0, clock=lambda: now[0])
    renderer = Renderer(installed(settings.models_dir), settings, References(bucket), watchdog)
    seen: list[str | None] = []

    def hangs(_: Step) -> bool:
        now[0] += 1000.0
        seen.append(watchdog.overdue())
        return len(seen) < 2

    with pytest.raises(GiveBackError):
        renderer.render(CLAIM, SPEC, 0.0, hangs)
    assert seen[0] == "job job-1, preview 0"
    assert watchdog.overdue() is None
