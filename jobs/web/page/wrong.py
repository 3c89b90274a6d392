"""What is wrong on the farm, each with its mend, in the words of `kiln status` and `kiln submit`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pixelkiln.jobs.commands.about import span
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.farm import Farm, WorkerStatus
from pixelkiln.jobs.web.numbers import does
from pixelkiln.jobs.web.who import Caller

if TYPE_CHECKING:
    from pixelkiln.jobs.web.page.now import Waiting


OTHERS = "It is for those who run this farm to mend."


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong."""

    what: str
    mend: str  # in words
    command: str = ""  # that mends it
    grave: bool = True  # red; else it is as somebody wanted it, and told all the same
    resumes: str = ""  # the target that a button may resume


def wrongs(
    farm: Farm, workers: Sequence[WorkerStatus], waiting: Iterable[Waiting], caller: Caller
) -> list[Wrong]:
    """All of it, the worst first; to who does not run the farm without the commands that mend it."""
    found = [*_no_workers(farm), *_unserved(farm, waiting), *_workers(workers), *_paused(farm, caller)]
    return found if caller.admin else [replace(one, mend=OTHERS, command="", resumes="") for one in found]


def paused(farm: Farm, lane: Lane) -> str:
    """Which pause keeps a lane's jobs from being taken by any worker; '' for none."""
    kept = ("farm", f"model:{lane.model}", f"client:{lane.client}")
    return next((one for one in kept if one in farm.paused), "")


def waits_for(farm: Farm, lane: Lane) -> str:
    """Why nobody takes a lane's jobs now; '' where somebody may."""
    if target := paused(farm, lane):
        return f"the {target} is paused" if target == "farm" else f"{target} is paused"
    if any(not one.gone for one in farm.workers):
        kind = lane.kind.partition(">")[0]
        return "" if kind in farm.served else f"no worker serves {kind} now"
    return "no worker is there now"


def _no_workers(farm: Farm) -> list[Wrong]:
    if any(not one.gone for one in farm.workers):
        return []
    return [Wrong("No worker is there now.", "Jobs wait until one is. Start one on a Mac:", "kiln worker")]


def _unserved(farm: Farm, waiting: Iterable[Waiting]) -> list[Wrong]:
    """Jobs of kinds that nobody serves, where others are served."""
    kinds = {one.lane.kind.partition(">")[0] for one in waiting if one.queued}
    missing = sorted(kinds - farm.served)
    if not missing or not farm.served:
        return []
    what = f"No worker serves {', '.join(missing)} now (there is {', '.join(sorted(farm.served))})."
    return [Wrong(what, "Its jobs wait until one does. On a Mac that has the model:", "kiln worker")]


def _workers(workers: Iterable[WorkerStatus]) -> list[Wrong]:
    found = []
    for one in workers:
        if one.gone:
            _, _, was = one.state.partition("; was ")
            what = f"{one.name} is gone: last seen {span(one.age or 0)} ago"
            what += f"; it was {was}." if was else "."
            mend = f"Others take over what it held. Look at {one.host or 'its machine'}; there:"
            found.append(Wrong(what, mend, "kiln doctor"))
        elif does(one) == "blocked":  # not who was paused: that is told once, with what resumes it
            found.append(Wrong(f"{one.name} {one.state}.", f"On {one.host or 'its machine'}:", "kiln doctor"))
    return found


def _paused(farm: Farm, caller: Caller) -> list[Wrong]:
    mine = [
        one
        for one in farm.paused
        if caller.admin or not one.startswith("client:") or one == f"client:{caller.client}"
    ]
    return [
        Wrong(f"{one} is paused.", "It waits for:", f"kiln resume {one}", grave=False, resumes=one)
        for one in sorted(mine)
    ]
