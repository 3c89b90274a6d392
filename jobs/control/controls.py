"""What a producer's door does to a farm while it runs: cancel, pause, resume, drain."""

from __future__ import annotations

from collections.abc import Sequence

from pixelkiln.jobs.control.orders import Order, Target, Verb, admin_key, obeys
from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.queue.queue import CancelOutcome, Queue
from pixelkiln.jobs.queue.record import check_job_id
from pixelkiln.jobs.settings import Settings

NO_KEY = (
    "KILN_ADMIN_KEY is not set, which signs orders: set it to the workers' own, or run this in "
    "the folder where `kiln up` runs"
)


class Controls:
    """The part of Kiln that ends jobs and gives orders."""

    settings: Settings
    queue: Queue

    def cancel(self, job_ids: Sequence[str], *, any_client: bool = False) -> dict[str, CancelOutcome]:
        """End jobs as cancelled: a queued one is gone, a running one stops, a finished picture is not stored.

        What each was: 'queued' or 'started' (and is cancelled now), an end it had reached before, 'unknown',
        or 'foreign' for another client's, which are left alone unless `any_client`.
        """
        ids = [check_job_id(job_id) for job_id in job_ids]
        return self.queue.cancel(ids, "" if any_client else self.settings.client)

    def cancel_all(self, target: str | Target, *, any_client: bool = False) -> dict[str, CancelOutcome]:
        """Cancel all that waits for, or is held by, a target; of this client only, unless `any_client`.

        What each was, as `cancel` tells it: 'queued' or 'started'. Raises UsageError where the target is
        another client and `any_client` was not said.
        """
        target = target if isinstance(target, Target) else Target.parse(target)
        client = "" if any_client else self.settings.client
        if client and target.kind == "client" and target.name != client:
            raise UsageError(f"{target} is another client; --any-client cancels its jobs")
        cancelled: dict[str, CancelOutcome] = {}
        for _ in range(3):  # a job may change its place while the places are looked through
            answers = self.queue.cancel(self.queue.open_jobs(target, client), client)
            new = {job_id: was for job_id, was in answers.items() if was in ("queued", "started")}
            if not new:
                break
            cancelled |= new
        return cancelled

    def pause(self, target: str | Target) -> Order:
        """Let no further job be taken: by the farm or a worker, of a client or a model. Running ones go on.

        Raises UsageError, and NotReadyError where no key is there to sign with.
        """
        return self._order("pause", target)

    def resume(self, target: str | Target) -> Order:
        """End what `pause` began for the very same target. Raises as `pause`."""
        return self._order("resume", target)

    def drain(self, target: str | Target, *, now: bool = False) -> Order:
        """Let a worker, or all that run, finish the running job, deliver and leave; `now` gives the job back.

        Raises as `pause`.
        """
        return self._order("drain", target, now=now)

    @property
    def may_order(self) -> bool:
        """Whether a key is there to sign orders with."""
        return admin_key(self.settings) is not None

    def workers_ignoring_orders(self) -> list[str]:
        """Workers at work that will not obey orders signed with this key: they have another, or none."""
        key = admin_key(self.settings)
        there = [worker for worker in self.queue.farm().workers if not worker.gone]
        return [worker.name for worker in there if not obeys(worker.orders, key)]

    def _order(self, verb: Verb, target: str | Target, now: bool = False) -> Order:
        key = admin_key(self.settings)
        if key is None:
            raise NotReadyError(NO_KEY)
        return self.queue.give(Order(verb=verb, target=str(target), at=0.0, now=now).check(), key)
