"""What a picture looks like so far: small, at most one a second, made behind the render thread's back."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from PIL import Image

from pixelkiln.jobs import keys
from pixelkiln.worker.engines.engine import Pixels, Step
from pixelkiln.worker.queue.claim import Claim

log = logging.getLogger("kiln.preview")

EVERY = 1.0  # seconds
SIDE = 256  # pixels, the longer one
KEPT = 300  # seconds Redis keeps the last one


@dataclass(frozen=True, slots=True)
class _Look:
    claim: Claim
    step: int
    total: int
    pixels: Pixels


class Previews(threading.Thread):
    """Publishes previews: WebP under `kiln:preview:<client>:<job>`, and an event that tells of each.

    A preview that is overtaken by the next before it was sent is dropped: it would be old news.
    """

    def __init__(self, connection: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name="previews", daemon=True)
        self._connection = connection
        self._clock = clock
        self._next = 0.0
        self._look: _Look | None = None
        self._ready = threading.Condition()
        self._ending = False

    def offer(self, claim: Claim, step: Step) -> None:
        """Called by the render thread after each step: copies the picture so far if it is time for one."""
        now = self._clock()
        if step.preview is None or step.pixels is not None or now < self._next:
            return
        self._next = now + EVERY
        try:
            look = _Look(claim, step.index, step.total, step.preview())
        except Exception:  # the picture itself may still come out
            log.warning("job %s: no preview", claim.job_id, exc_info=True)
            return
        with self._ready:
            self._look = look
            self._ready.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._ready:
            self._ending = True
            self._ready.notify()
        self.join(timeout=10)

    def run(self) -> None:
        """Publish until stopped."""
        while True:
            with self._ready:
                while self._look is None and not self._ending:
                    self._ready.wait()
                look, self._look = self._look, None
            if look is None:
                return
            try:
                self._publish(look)
            except redis.RedisError as error:  # a preview is worth no retry
                log.debug("no preview: %s", error)
            except Exception:  # the next one may come out
                log.warning("job %s: no preview", look.claim.job_id, exc_info=True)

    def _publish(self, look: _Look) -> None:
        event = {"event": "preview", "job": look.claim.job_id, "step": look.step, "steps": look.total}
        key = keys.PREVIEW(look.claim.lane.client, look.claim.job_id)
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.set(key, small_webp(look.pixels), ex=KEPT)
            pipe.publish(keys.EVENTS, json.dumps(event))
            pipe.execute()


def small_webp(pixels: Pixels) -> bytes:
    """`pixels`, (height, width, 3), shrunk to SIDE and compressed."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=70, method=0)
    return out.getvalue()
