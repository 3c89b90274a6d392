"""`kiln watch` without ids: live on a terminal, lines elsewhere."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

import typer

from pixelkiln.jobs.batches.windows import zone_of
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.about import counts
from pixelkiln.jobs.commands.live import inline
from pixelkiln.jobs.commands.live.frame import frame, summary
from pixelkiln.jobs.commands.output import err, out, print_json
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.plain import escaped
from pixelkiln.jobs.watching.snapshot import Snapshot
from pixelkiln.jobs.watching.watcher import Watcher

EVERY = 1.0  # seconds from one look to the next
PICTURES = 8  # that are read, where there is room for so many
_AGES = ("age", "seen", "eta")  # what changes by itself


def watch_farm(kiln: Kiln, *, once: bool, as_json: bool, previews: bool | None) -> None:
    """Show the farm until one has seen enough. Raises NotReadyError where Redis does not answer at first."""
    terminal = out.is_terminal and not out.is_dumb_terminal
    how = inline.protocol(os.environ) if terminal and previews is not False else None
    if previews and how is None:
        err.print(
            "kiln: no pictures: this terminal is not known to show any (docs/watching.md)", soft_wrap=True
        )
    if once or as_json or not terminal:
        watcher = Watcher(kiln)
        _once(kiln, watcher, as_json) if once else follow(watcher, as_json, print, time.sleep)
        return
    watcher = Watcher(kiln, previews=PICTURES if how else 0)
    _live(kiln, watcher, how)


def _live(kiln: Kiln, watcher: Watcher, how: inline.Protocol | None) -> None:
    from pixelkiln.jobs.commands.live.reader import Reader
    from pixelkiln.jobs.commands.live.screen import LeftError, live

    reader = Reader(watcher, watcher.look(), pictures=how is not None)
    reader.start()
    try:
        live(reader, out, kiln.settings.client, zone_of(kiln.settings.zone), how)
    except KeyboardInterrupt:
        pass
    except LeftError as left:
        raise typer.Exit(128 + left.number) from None
    finally:
        reader.stop()


def _once(kiln: Kiln, watcher: Watcher, as_json: bool) -> None:
    """One frame, once all batches were looked through."""
    snapshot = watcher.look()
    while snapshot.unread:
        snapshot = watcher.look()
    if as_json:
        print_json({"at": _stamp(snapshot), **snapshot.as_dict()})
        return
    width, height = out.size
    shown = frame(snapshot, width, height, client=kiln.settings.client, zone=zone_of(kiln.settings.zone))
    lines = list(shown.lines[:-1])  # the last one is about keys
    while lines and not lines[-1].plain.strip():
        lines.pop()
    for line in lines:
        out.print(line, no_wrap=True, overflow="ignore", crop=False)


def follow(
    watcher: Watcher, as_json: bool, write: Callable[..., None], sleep: Callable[[float], None]
) -> None:
    """Write a line for every change, for ever; outages are told once, and waited out."""
    last, trouble = "", ""
    while True:
        try:
            snapshot = watcher.look()
        except NotReadyError as error:
            if not last:
                raise
            if str(error) != trouble:
                err.print(f"kiln: {error}; tried again until it answers", soft_wrap=True)
            trouble = str(error)
            sleep(EVERY)
            continue
        trouble = ""
        told = snapshot.as_dict()
        text = json.dumps(_still(told)) if as_json else _line(snapshot)
        if text != last and not (snapshot.unread and not last):
            last = text
            stamp = _stamp(snapshot)
            line = (
                escaped(json.dumps({"at": stamp, **told}, ensure_ascii=False))
                if as_json
                else f"{stamp}  {text}"
            )
            write(line, flush=True)
        sleep(0 if snapshot.unread else EVERY)


def _line(snapshot: Snapshot) -> str:
    """The farm, and the batches that are not done."""
    batches = (f"{one.name}: {counts(one)}" for one in snapshot.batches if one.open)
    return "; ".join([summary(snapshot), *batches])


def _stamp(snapshot: Snapshot) -> str:
    return f"{datetime.fromtimestamp(snapshot.at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _still(value: object) -> object:
    """The same without what changes as time goes by."""
    if isinstance(value, dict):
        return {name: _still(one) for name, one in value.items() if name not in _AGES}
    return [_still(one) for one in value] if isinstance(value, list) else value
