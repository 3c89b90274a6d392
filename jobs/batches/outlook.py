"""Whether a batch will be ready by its deadline: what is left of it, by the workers that live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from statistics import median
from typing import TYPE_CHECKING, Any

from pixelkiln.jobs.batches.estimate import speeds
from pixelkiln.jobs.batches.forecast import Deadline, Outlook, Work, forecast
from pixelkiln.jobs.batches.manifest import Manifest
from pixelkiln.jobs.batches.standing import counted
from pixelkiln.jobs.batches.windows import Windows, shown
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.queue.farm import Farm, hours_in
from pixelkiln.jobs.queue.queue import Standing, When
from pixelkiln.jobs.spec import RenderSpec

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln

DEADLINE = "deadline"  # in a manifest's header: ISO 8601, in the zone in which it was given
HOURS = "hours"  # there: when its jobs let themselves be taken, as the last submit that said so wanted it
EVER = 10 * 365 * 86_400.0  # seconds: for as long a job may be taken from its time on


def header(
    deadline: datetime | timedelta | None, when: When | None, zone: tzinfo | None, now: datetime
) -> dict[str, str]:
    """What a manifest's header keeps of a deadline, and of when its jobs may be taken.

    Raises UsageError for a deadline that is over.
    """
    found: dict[str, str] = {}
    if deadline is not None:
        at = (now + deadline if isinstance(deadline, timedelta) else deadline).astimezone(zone)
        if at <= now:
            raise UsageError(f"deadline: {at:%Y-%m-%d %H:%M} is over; name one that is to come")
        found[DEADLINE] = at.isoformat(timespec="seconds")
    if isinstance(when, Windows):
        found[HOURS] = when.told(now)
    elif when is not None:
        due = (now + when if isinstance(when, timedelta) else when).timestamp()
        found[HOURS] = f"{due:.0f}-{due + EVER:.0f}"
    return found


def deadline_of(options: Mapping[str, Any]) -> Deadline | None:
    """The one that a manifest's header names, if any."""
    try:
        at = datetime.fromisoformat(str(options.get(DEADLINE)))
    except ValueError:
        return None
    return Deadline(at, at.tzinfo) if at.tzinfo is not None else None


def expected(kiln: Kiln, manifest: Manifest, standing: Mapping[str, Standing | None]) -> Outlook | None:
    """What is to be expected of a batch now; None without a deadline. Raises NotReadyError."""
    if deadline_of(manifest.options) is None:
        return None
    farm = kiln.farm()
    kinds = {Work.of(entry.fields).kind for entry in manifest.entries}
    return outlook(manifest, standing, farm, speeds(kiln, farm, kinds), datetime.now(UTC))


def planned(kiln: Kiln, specs: Sequence[RenderSpec], options: Mapping[str, Any]) -> Outlook | None:
    """The same of jobs that nobody has sent, under a header with these options."""
    deadline, farm = deadline_of(options), kiln.farm()
    if deadline is None:
        return None
    jobs = [Work.of(spec.wire()) for spec in specs]
    rates = speeds(kiln, farm, {job.kind for job in jobs})
    return _foreseen(deadline, jobs, farm, rates, datetime.now(UTC), str(options.get(HOURS, "")))


def outlook(
    manifest: Manifest,
    standing: Mapping[str, Standing | None],
    farm: Farm,
    speeds: Mapping[str, Mapping[str, float]],
    now: datetime,
) -> Outlook | None:
    """What is to be expected of a batch whose jobs stand so; None where it has no deadline."""
    deadline = deadline_of(manifest.options)
    if deadline is None:
        return None
    counts = counted(standing.values())
    failed = {"failed": counts["failed"], "never sent": counts["missing"]}
    without = ", ".join(f"{number:,} {what}" for what, number in failed.items() if number)
    still = counts["queued"] + counts["started"]
    when = shown(deadline.at, now, deadline.zone)
    if not still and not without:
        return _ended(deadline, standing, now)
    if now >= deadline.at:
        open_ = f"{still:,} to be rendered" if still else ""
        told = f"the deadline {when} has passed: {', '.join(filter(None, (open_, without)))}"
        return Outlook(_iso(deadline), False, (now - deadline.at).total_seconds(), told)
    if not still:
        return Outlook(_iso(deadline), False, None, f"not ready by the deadline {when}: {without}")
    if manifest.paused:
        told = f"whether it is ready by the deadline {when} cannot be told: the batch is paused"
        return Outlook(_iso(deadline), None, None, told)
    jobs = _left(manifest, standing, speeds, now)
    found = _foreseen(deadline, jobs, farm, speeds, now, str(manifest.options.get(HOURS, "")))
    if not without:
        return found
    return Outlook(found.deadline, found.fits, found.late, f"{found.told}; without {without}")


def warned(fits: bool | None, before: bool) -> bool:
    """Whether a deadline counts as one that will not hold; what cannot be told is as it was before."""
    return fits is False or (fits is None and before)


def _foreseen(
    deadline: Deadline,
    jobs: Sequence[Work],
    farm: Farm,
    speeds: Mapping[str, Mapping[str, float]],
    now: datetime,
    hours: str,
) -> Outlook:
    found = forecast(jobs, farm, speeds, now.timestamp(), hours_in(hours))
    fits, told = deadline.verdict(found, now)
    late = max(0.0, found.ends[-1] - deadline.at.timestamp()) if found.complete and found.ends else None
    return Outlook(_iso(deadline), fits, late, told)


def _left(
    manifest: Manifest,
    standing: Mapping[str, Standing | None],
    speeds: Mapping[str, Mapping[str, float]],
    now: datetime,
) -> list[Work]:
    """What has not ended; of what is being rendered, what is left of it. That comes first."""
    usual = {kind: median(rates.values()) for kind, rates in speeds.items() if rates}
    begun: list[Work] = []
    waiting: list[Work] = []
    for entry in manifest.entries:
        stands = standing.get(entry.id)
        if stands is None or stands.state in ("finished", "failed", "cancelled"):
            continue
        work = Work.of(entry.fields)
        if stands.state == "started":
            since = _moment(stands.started_at)
            done = usual.get(work.kind, 0.0) * (now - since).total_seconds() if since else 0.0
            begun.append(Work(work.kind, max(0.0, work.amount - max(0.0, done)), begun=True))
        else:
            waiting.append(work)
    return begun + waiting


def _ended(deadline: Deadline, standing: Mapping[str, Standing | None], now: datetime) -> Outlook:
    """All of it has a picture, or was cancelled."""
    ends = [end for one in standing.values() if one and (end := _moment(one.ended_at))]
    end = max(ends, default=now)
    late = max(0.0, (end - deadline.at).total_seconds())
    when, since = (shown(one, now, deadline.zone) for one in (deadline.at, end))
    told = f"ready since {since}, {'after' if late else 'before'} the deadline {when}"
    return Outlook(_iso(deadline), not late, late, told)


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:  # strangers may have written it
        return None
    return found if found.tzinfo is not None else None


def _iso(deadline: Deadline) -> str:
    return deadline.at.isoformat(timespec="seconds")
