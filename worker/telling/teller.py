"""The threads that tell: one reads who ended, one for each address sends, so that none waits for others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import NotReadyError, SpecError
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.jobs.queue.record import JOB_ID, spec_in
from pixelkiln.jobs.queue.status import JobStatus, read_statuses
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import MAX_WIRE
from pixelkiln.jobs.webhooks import Webhook
from pixelkiln.worker.telling.batches import Batches
from pixelkiln.worker.telling.events import Event, client_of, of_job
from pixelkiln.worker.telling.outbox import AT_ONCE, Due, Outbox
from pixelkiln.worker.telling.reach import Resolve, TellError, resolve
from pixelkiln.worker.telling.sending import send, signature, trusted

log = logging.getLogger("kiln.telling")

EVERY = 1.0  # seconds between two looks at who ended
OPEN = 60.0  # seconds between two looks at batches that had not ended: RQ's own tools note no end
REST = 60.0  # seconds, at most, without a try at an address that has just failed
TIMEOUT = 3.0  # seconds that a call to Redis may take


class Teller(threading.Thread):
    """Tells of ends, beside the render path, for all workers while it is this one's turn."""

    @classmethod
    def of(cls, settings: Settings, worker: str) -> Teller | None:
        """One for that worker, where the settings name addresses. Raises NotReadyError."""
        return cls(settings, worker) if settings.webhooks else None

    def __init__(self, settings: Settings, worker: str, find: Resolve = resolve) -> None:
        """Raises NotReadyError without a secret to sign with."""
        super().__init__(name="tell", daemon=True)
        if settings.webhook_secret is None:
            raise NotReadyError(
                "KILN_WEBHOOKS without KILN_WEBHOOK_SECRET, by which receivers know who tells;"
                " make one with: openssl rand -hex 32"
            )
        hooks = [Webhook.parse(text) for text in settings.webhooks]
        self._connection = connect(settings, timeout=TIMEOUT, most=1)
        self._outbox = Outbox(self._connection, worker, [hook.name for hook in hooks])
        self._batches = Batches(self._connection)
        self._prompts = settings.webhook_prompts
        self._ending, self._turn = threading.Event(), threading.Event()
        self._open_at = 0.0  # monotonic
        self._trouble = ""
        secret = settings.webhook_secret.get_secret_value().encode()
        self._senders = [
            _Sender(hook, secret, settings.webhook_hosts, self._outbox, self._turn, self._ending, find)
            for hook in hooks
        ]

    def run(self) -> None:
        """Tell until stopped."""
        for sender in self._senders:
            sender.start()
        while not self._ending.is_set():
            more = False
            try:
                more = self.look()
                self._trouble = ""
            except redis.RedisError as error:
                if not self._trouble:
                    log.warning("nobody is told of ends now: %s", error)
                self._trouble = str(error)
            except Exception:
                log.exception("ends are not told now")
            self._ending.wait(0 if more else EVERY)

    def stop(self) -> None:
        """Let another worker tell; what is being sent ends with the process."""
        self._ending.set()
        self._turn.set()  # so that nobody waits for it
        if self.is_alive():
            self.join(TIMEOUT)
        try:
            self._outbox.yield_turn()
        except redis.RedisError as error:
            log.debug("another worker tells in a while: %s", error)

    def look(self) -> bool:
        """Make of some ends what is told of them; whether there may be more."""
        if not self._outbox.my_turn():
            self._turn.clear()
            return False
        self._turn.set()
        self._outbox.open()
        notes = self._outbox.ended()
        jobs = list(dict.fromkeys(job for _, job in notes if job))
        events, batches = self._ends(jobs)
        if time.monotonic() >= self._open_at:
            self._open_at = time.monotonic() + OPEN
            batches |= dict.fromkeys(self._batches.open)
        looked = (self._batches.look(*one) for one in batches)
        settled = [one for one in looked if one is not None]
        if jobs or settled or len(notes) > 1:
            self._outbox.put(events, settled, [note for note, _ in notes])
        if events or settled:
            for sender in self._senders:
                sender.news.set()
        return len(notes) == AT_ONCE

    def _ends(self, jobs: list[str]) -> tuple[list[Event], dict[tuple[str, str], None]]:
        """What is told of jobs, and the batches that they are of; a job that waits again is told later."""
        with self._connection.pipeline(transaction=False) as pipe:
            for job in jobs:
                pipe.hget(keys.JOB(job), "group_id")
                pipe.hstrlen(keys.JOB(job), "data")
            answers = pipe.execute(raise_on_error=False)
        events, batches = [], dict[tuple[str, str], None]()
        statuses = read_statuses(self._connection, jobs)
        for job, group, size in zip(jobs, answers[::2], answers[1::2], strict=True):
            status = statuses[job]
            client = client_of(status) if status is not None else None
            if status is None or client is None:
                continue
            batch = group.decode("utf-8", "replace") if isinstance(group, bytes) else ""
            batch = batch if JOB_ID.fullmatch(batch) else ""
            if batch:
                batches[client, batch] = None
            if status.ended:
                events.append(of_job(status, client, batch, self._prompt(status, size)))
        return events, batches

    def _prompt(self, status: JobStatus, size: Any) -> str | None:
        if not self._prompts or not isinstance(size, int) or size > MAX_WIRE:
            return None
        data: Any = self._connection.hget(keys.JOB(status.id), "data")
        try:
            return spec_in(data or b"").prompt
        except SpecError:
            return None


class _Sender(threading.Thread):
    """Sends what is due to one address."""

    def __init__(
        self,
        hook: Webhook,
        secret: bytes,
        named: tuple[str, ...],
        outbox: Outbox,
        turn: threading.Event,
        ending: threading.Event,
        find: Resolve,
    ) -> None:
        super().__init__(name=f"tell {hook.host}", daemon=True)
        self._hook, self._secret, self._named, self._find = hook, secret, named, find
        self._outbox, self._turn, self._ending = outbox, turn, ending
        self._context = trusted()
        self.news = threading.Event()

    def run(self) -> None:
        """Send while it is this worker's turn."""
        rest = 0.0
        while not self._ending.is_set():
            self._turn.wait()
            self.news.clear()
            if self._ending.wait(rest):
                return
            try:
                due = self._outbox.due(self._hook.name)
                if due is None:
                    rest = 0.0
                    self.news.wait(EVERY)
                else:
                    rest = 0.0 if self._sent(due) else min(REST, due.pause)
            except redis.RedisError as error:
                log.debug("%s is told later: %s", self._hook.host, error)
                rest = EVERY
            except Exception:
                log.exception("%s is told later", self._hook.host)
                rest = REST

    def _sent(self, one: Due, clock: Callable[[], float] = time.time) -> bool:
        body = one.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "pixelkiln",
            "Kiln-Event": one.event,
            "Kiln-Signature": signature(self._secret, int(clock()), body),
        }
        try:
            send(self._hook, body, headers, self._named, self._context, find=self._find)
        except TellError as error:
            again = self._outbox.failed(self._hook.name, one)
            if not one.tries or not again:
                then = "is tried again for a day" if again else "is told no more, after a day"
                log.warning("event %s %s: %s", one.event, then, plain(str(error)))
            return False
        self._outbox.done(self._hook.name, one, "told")
        return True
