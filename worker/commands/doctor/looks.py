"""What is in force on this machine, and what is wrong with it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from pixelkiln.jobs.batches.windows import shown
from pixelkiln.jobs.catalogue import DEFAULT_MODEL
from pixelkiln.jobs.control.orders import admin_key, fingerprint
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.queue import look_at_queue
from pixelkiln.worker.commands.doctor.storage import look_at_bucket
from pixelkiln.worker.commands.doctor.watched import look_at_metrics, look_at_server
from pixelkiln.worker.engines.checkpoints.installed import Installed, installed, left_out
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.host import machine, programs
from pixelkiln.worker.render.budget import Budget

GIB = 2**30


def examine(settings: Settings) -> list[Finding]:
    """Look at everything a farm needs on this machine; what is tried leaves nothing behind."""
    looks: list[Callable[[Settings], list[Finding]]] = [
        _versions,
        _machine,
        _mlx,
        look_at_queue,
        _orders,
        look_at_bucket,
        _disk,
        _models,
        _hours,
        _webhooks,
        look_at_server,
        look_at_metrics,
        _sleep,
        _mac,
    ]
    return [finding for look in looks for finding in look(settings)]


def _versions(settings: Settings) -> list[Finding]:
    versions = machine.versions()
    return [Finding("ok", "versions", ", ".join(f"{name} {number}" for name, number in versions.items()))]


def _machine(settings: Settings) -> list[Finding]:
    from pixelkiln.worker import engines

    total, limit = machine.memory_bytes(), engines.device_facts().limit
    budget = machine.budget(settings.memory, limit)
    share = "KILN_MEMORY" if settings.memory is not None else f"{machine.SHARE:.0%}; KILN_MEMORY sets another"
    if budget == limit and settings.memory is None:
        share = "Metal's limit; KILN_MEMORY sets another"
    found = f"{machine.chip()}, {total / GIB:.0f} GiB; a worker may use {budget / GIB:.1f} GiB ({share})"
    if budget > total:
        return [Finding("problem", "memory", found, "set KILN_MEMORY below what the machine has")]
    return [Finding("ok", "memory", found)]


def _mlx(settings: Settings) -> list[Finding]:
    from pixelkiln.worker.engines import device

    name = device()
    if sys.platform == "darwin" and platform.machine() != "arm64":
        return [Finding("problem", "mlx", name, "use a Python for arm64; this one runs under Rosetta")]
    return [Finding("ok", "mlx", name)]


def _orders(settings: Settings) -> list[Finding]:
    key = admin_key(settings)
    if key is None:
        mend = "set KILN_ADMIN_KEY, the same for workers and for those who give orders: openssl rand -hex 32"
        return [
            Finding("warning", "orders", "no key: kiln pause, resume and drain are not obeyed here", mend)
        ]
    return [Finding("ok", "orders", f"obeyed where they are signed with the key {fingerprint(key)}")]


def _disk(settings: Settings) -> list[Finding]:
    folder = settings.spool_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{folder} has {free / GIB:.1f} GiB free"
    if free < settings.spool_free:
        mend = f"free some, or set KILN_SPOOL_DIR; the worker stops at {settings.spool_free / GIB:.1f} GiB"
        return [Finding("problem", "spool", found, mend)]
    return [Finding("ok", "spool", found)]


def _models(settings: Settings) -> list[Finding]:
    return [
        *_served(settings),
        *(Finding("warning", "models", why) for why in left_out(settings.models_dir).values()),
    ]


def _served(settings: Settings) -> list[Finding]:
    found = installed(settings.models_dir)
    largest = dict(sorted(Budget(found, settings).largest().items()))
    faults = {kind: _fault(found[kind], settings) for kind, side in largest.items() if not side}
    mend = "put that right, or pull or convert it again"
    broken = [
        Finding(
            "problem",
            "models",
            f"{kind} cannot be loaded: {why}",
            "put that right, or pull or convert it again",
        )
        for kind, why in faults.items()
        if why
    ]
    whole = {kind: side for kind, side in largest.items() if not faults.get(kind)}
    names = ", ".join(
        f"{kind} (up to {side} x {side})" if side else f"{kind} (not one picture)"
        for kind, side in whole.items()
    )
    if not all(whole.values()):
        mend = "kiln models convert … --bits 6, or a larger KILN_MEMORY"
        return [Finding("problem", "models", names, mend), *broken]
    if broken:
        return [*([Finding("ok", "models", names)] if whole else []), *broken]
    if set(largest) == {"demo:bf16"}:
        folder = settings.models_dir
        gone = "" if folder.is_dir() else f"; {folder} is not there (KILN_MODELS_DIR)"
        mend = f"kiln models pull {DEFAULT_MODEL}"
        return [Finding("warning", "models", f"only the demo's, {names}{gone}", mend)]
    return [Finding("ok", "models", names)]


def _fault(one: Installed, settings: Settings) -> str:
    """What is wrong with a checkpoint beside its size, if anything."""
    from pixelkiln.worker import engines

    try:
        engines.estimate(one.folder, settings.arithmetic, settings.cache_dir)
    except CheckpointError as error:
        return str(error)
    return ""


def _hours(settings: Settings) -> list[Finding]:
    windows, now = settings.windows, datetime.now(UTC)
    if windows is None:
        return []
    found = f"a worker works {windows.text} ({settings.zone or 'in the zone of this machine'}); it "
    if windows.is_open(now):
        ends = windows.closes(now)
        found += f"works until {shown(ends, now, windows.zone)}" if ends else "works always"
    else:
        found += f"sleeps until {shown(windows.opens(now), now, windows.zone)}"
    return [Finding("ok", "window", found)]


def _webhooks(settings: Settings) -> list[Finding]:
    """Whether anything would be sent to each address; nothing is."""
    from pixelkiln.jobs.webhooks import Webhook
    from pixelkiln.worker.telling.reach import TellError, addresses

    found: list[Finding] = []
    if settings.webhooks and settings.webhook_secret is None:
        mend = "make one with: openssl rand -hex 32"
        found.append(Finding("problem", "webhooks", "no KILN_WEBHOOK_SECRET: no worker starts", mend))
    for hook in map(Webhook.parse, settings.webhooks):
        try:
            where = ", ".join(addresses(hook, settings.webhook_hosts))
        except TellError as error:
            why, _, mend = str(error).partition("; ")
            found.append(Finding("problem", "webhooks", why, mend))
        else:
            found.append(Finding("ok", "webhooks", f"{hook.host} is told of what ends (at {where})"))
    return found


def _sleep(settings: Settings) -> list[Finding]:
    tool = "caffeinate" if sys.platform == "darwin" else "systemd-inhibit"
    if programs.find(tool):
        return [Finding("ok", "sleep", f"{tool} keeps the machine awake while there is work")]
    return [Finding("warning", "sleep", f"no {tool} here: the machine may sleep during a render")]


def _mac(settings: Settings) -> list[Finding]:
    from pixelkiln.worker.commands.doctor.mac import look

    return look(settings) if sys.platform == "darwin" else []
