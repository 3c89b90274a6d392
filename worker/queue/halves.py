"""Jobs of which a producer that died left the record and no place in a queue: found, and queued."""

from __future__ import annotations

import logging
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.queue.scripts import Script

log = logging.getLogger("kiln.claims")

PAGE = 100  # keys that one call looks at
PAGES = 50  # in one look that is not whole


class Halves:
    """What one worker looks through: some keys at a time, for who lists them all holds nobody up."""

    def __init__(self, connection: redis.Redis, queue: Script) -> None:
        self.connection = connection
        self._queue = queue
        self._cursor = 0
        self._refused = False

    def find(self, *, whole: bool) -> None:
        """Queue those among the next keys; `whole`: among all.

        None where this user may not list keys, as deploy/users.acl.example has it for workers.
        """
        if self._refused:
            return
        if whole:
            self._cursor = 0
        pages = 0
        while whole or pages < PAGES:
            try:
                answer: Any = self.connection.scan(self._cursor, match=keys.JOB("*"), count=PAGE)
            except redis.exceptions.NoPermissionError:
                self._refused = True
                return
            self._cursor, found = answer
            names = (key.removeprefix(keys.JOB.prefix.encode()).decode("utf-8", "replace") for key in found)
            if jobs := [name for name in names if JOB_ID.fullmatch(name)]:
                for job_id in self._queue(jobs=jobs):
                    log.warning("job %s: it was in no queue; queued", job_id.decode())
            pages += 1
            if self._cursor == 0:
                return
