"""How batches fare, looked at now and then: counting ten thousand pictures takes its time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from pixelkiln.jobs.batches.standing import BatchStatus
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import NoSuchJobError

FRESH, FRESH_ENDED = 5.0, 60.0  # seconds for which a count is good: of a batch under way, of another
REMEMBERED = 500  # batches


class Standings:
    """What was counted, for a while; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], tuple[float, BatchStatus]] = OrderedDict()

    def of(self, kiln: Kiln, most: int) -> list[BatchStatus]:
        """A client's batches, the newest first. Raises NotReadyError."""
        names = list(kiln.queue.batches(kiln.settings.client))[:most]
        with self._lock:  # one counts, the others have what it counted
            found = [self._of(kiln, name) for name in names]
        return [one for one in found if one is not None]

    def _of(self, kiln: Kiln, name: str) -> BatchStatus | None:
        key = (kiln.settings.client, name)
        when, status = self._known.get(key, (0.0, None))
        if status and time.monotonic() - when < (FRESH if status.open else FRESH_ENDED):
            return status
        try:
            status = kiln.open_batch(name).status()
        except NoSuchJobError:  # it was pruned
            return None
        self._known[key] = time.monotonic(), status
        self._known.move_to_end(key)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return status
