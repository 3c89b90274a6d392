"""What is told of one job, and of one batch, to a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from pixelkiln.jobs.batches.forecast import Outlook
from pixelkiln.jobs.batches.standing import BatchStatus, eta, pace
from pixelkiln.jobs.batches.windows import shown, zone_of
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.output import out
from pixelkiln.jobs.commands.progress import doubts
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.queue import Standing
from pixelkiln.jobs.queue.status import JobStatus

WIDTH = 24  # of a bar
SHOWN = 5  # failures, or jobs being rendered, that are shown of a batch


def facts(kiln: Kiln, status: JobStatus) -> dict[str, Any]:
    """What else is known of a job that has not ended: its place in line, its worker."""
    if status.ended:
        return {}
    workers = kiln.farm().workers
    if status.state == "started":
        seen = next((worker for worker in workers if worker.name == status.worker), None)
        return {"seen": seen.age, "gone": seen.gone} if seen else {"seen": None, "gone": True}
    place = kiln.queue.place(status.id)
    lane = Lane.parse(status.lane)
    if place is None or lane is None:
        return {}
    past = kiln.jobs(state="finished", client=None)
    same = [one for one in past if (other := Lane.parse(one.lane)) and other.kind == lane.kind]
    each = pace(Standing("finished", one.started_at, one.ended_at) for one in same)
    serving = sum(not worker.gone and lane.kind in worker.serves for worker in workers)
    return {"place": place[0], "waiting": place[1], "eta": eta(place[0], each, serving)}


def job(status: JobStatus, more: dict[str, Any], zone: str | None = None) -> str:
    """One job in one line."""
    words = [status.id, "paused" if status.held else status.state]
    if status.not_before:
        due = datetime.fromisoformat(status.not_before)
        words.append(f"waits until {shown(due, datetime.now(UTC), zone_of(zone))}")
    elif status.waits:
        words.append(f"waits {status.waits}")
    if status.phase:
        words.append(f"{status.phase} {status.step}/{status.steps}" if status.steps else status.phase)
    if status.off_recipe:
        words.append(f"off its recipe: {status.off_recipe}")
    if status.attempt > 1:
        words.append(f"attempt {status.attempt}")
    if "place" in more:
        words.append(f"number {more['place']:,} of {more['waiting']:,} in its lane")
    if more.get("eta"):
        words.append(f"done in about {span(more['eta'])}")
    if status.worker and not status.ended:
        words.append(f"on {status.worker}")
    if more.get("seen") is not None:
        words.append(f"seen {more['seen']:.0f} s ago")
    if more.get("gone"):
        words.append("which is gone: another takes it over")
    if status.unheeded:
        words.append(f"not done here: {', '.join(status.unheeded)}")
    if status.error:
        words.append(status.error)
    if status.suspicious:
        words.append(doubts(status))
    if status.result:
        words.append(status.result.png)
    return "  ".join(words)


def show_batch(status: BatchStatus, prompts: dict[str, str]) -> None:
    """Print how a batch fares; `prompts` by job id."""
    of = f" of {status.source}" if status.source else ""
    out.print(f"{status.name}  {status.total:,} pictures{of}, since {status.created[:19]}Z", soft_wrap=True)
    out.print(f"{bar(status)}  {counts(status)}", soft_wrap=True)
    if left := remaining(status):
        out.print(left, soft_wrap=True)
    if status.deadline:
        out.print(deadline(status.deadline), soft_wrap=True)
    for one in status.running[:SHOWN]:
        steps = f" {one.step}/{one.steps}" if one.steps else ""
        _row(one, f"{one.phase or 'taken'}{steps} on {one.worker}", prompts)
    for one in status.failures[:SHOWN]:
        _row(one, one.error, prompts)
    if status.failed > len(status.failures[:SHOWN]):
        more = f"kiln jobs --batch {status.name} --state failed"
        out.print(f"  and {status.failed - SHOWN:,} more that failed: {more}", soft_wrap=True)
    if status.failed:
        out.print(f"try the failed ones again: kiln retry {status.name} --failed", soft_wrap=True)
    if status.suspicious:
        out.print(f"look at what is suspicious: kiln jobs --batch {status.name} --suspicious", soft_wrap=True)
    if status.missing:
        out.print(
            f"{status.missing:,} were never sent, or are forgotten: kiln retry {status.name}", soft_wrap=True
        )
    if status.unlisted:
        out.print(f"{status.unlisted:,} are in the file no more, and stand as they were", soft_wrap=True)


def counts(status: BatchStatus) -> str:
    """How many stand where, those that are none left out."""
    doubtful = f" ({status.suspicious:,} suspicious)" if status.suspicious else ""
    words = {
        f"finished{doubtful}": status.finished,
        "being rendered": status.started,
        "paused" if status.paused else "waiting": status.queued,
        "failed": status.failed,
        "cancelled": status.cancelled,
        "missing": status.missing,
    }
    return ", ".join(f"{number:,} {what}" for what, number in words.items() if number) or "nothing"


def remaining(status: BatchStatus) -> str:
    """How long it will take, as far as that can be told."""
    if status.paused and status.open:
        return f"paused; it waits for: kiln resume {status.name}"
    if not status.open or (status.deadline and status.deadline.fits is not None):
        return ""  # done, or what is said of its deadline says when, by each worker's own speed and hours
    if status.each is None:
        return "how long is known once one of it has finished"
    if status.eta is None:
        return "no worker serves it now: nobody knows how long"
    return f"about {span(status.eta)} left, at {status.each:.1f} s a picture"


def deadline(outlook: Outlook) -> str:
    """What is to be expected of a deadline, in a line."""
    late = f", {span(outlook.late)} late" if outlook.late else ""
    return f"{outlook.told}{late}"


def briefly(outlook: Outlook) -> str:
    """The same in a cell."""
    at = datetime.fromisoformat(outlook.deadline)
    when = shown(at, datetime.now(UTC), at.tzinfo)
    if outlook.fits is None:
        return f"{when}: cannot be told"
    late = f"late by {span(outlook.late)}" if outlook.late else "not ready"
    return f"{when}: {'in time' if outlook.fits else late}"


def bar(status: BatchStatus) -> str:
    """What has ended of all, as a bar."""
    ended = status.total - status.open - status.missing
    full = WIDTH * ended // status.total if status.total else WIDTH
    return f"{'█' * full}{'░' * (WIDTH - full)} {ended:,}/{status.total:,}"


def span(seconds: float) -> str:
    """A time in one or two units."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def _row(status: JobStatus, what: str, prompts: dict[str, str]) -> None:
    prompt = " ".join(prompts.get(status.id, "").split())[:40]
    style = "red" if status.state == "failed" else "green"
    row = Text.assemble("  ", (f"{status.state:8}", style), f"  {status.id}  {prompt}  {what}")
    out.print(row, soft_wrap=True)
