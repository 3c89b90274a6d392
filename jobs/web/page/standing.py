"""How batches fare that have not ended, looked at now and then: counting ten thousand takes its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from pixelkiln.jobs.batches.standing import BatchStatus
from pixelkiln.jobs.client import Kiln

FRESH = 5.0  # seconds for which a count is good
CLIENTS = 12  # whose batches are looked at
EACH = 6  # batches of one client, the newest


class OpenBatches:
    """What was counted, for a while; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, list[BatchStatus]]] = {}

    def of(self, kiln: Kiln, clients: Sequence[str]) -> list[BatchStatus]:
        """Batches of these clients of which something waits or is rendered."""
        return [one for client in clients[:CLIENTS] for one in self._of(kiln, client) if one.open]

    def _of(self, kiln: Kiln, client: str) -> list[BatchStatus]:
        with self._lock:  # one counts, the others have what it counted
            when, batches = self._known.get(client, (float("-inf"), []))
            if time.monotonic() - when > FRESH:
                batches = [one.status() for one in kiln.as_client(client).batches(EACH)]
                self._known[client] = time.monotonic(), batches
            return batches
