"""Who may ask `kiln serve` here, and where a worker of this machine can be watched."""

from __future__ import annotations

from importlib.util import find_spec

from pixelkiln.jobs.errors import KilnError
from pixelkiln.jobs.network import loopback
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.doctor.finding import Finding


def look_at_server(settings: Settings) -> list[Finding]:
    """The tokens of the server; whether one runs is the system's to tell."""
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        return [Finding("ok", "server", "none here; for one: pip install 'pixelkiln[serve]'")]
    from pixelkiln.jobs.web.server import tokens_of

    tokens = tokens_of(settings)
    path = tokens.path
    try:
        found = tokens.all()
    except KilnError as error:
        return [Finding.of("server", error)]
    if not found:
        told = (
            f"no tokens in {path}: kiln serve answers on this machine alone, and everybody here is its admin"
        )
        return [Finding("ok", "server", told)]
    admins = sum(one.admin for one in found)
    told = f"{len(found)} token{'' if len(found) == 1 else 's'} in {path}, {admins} of an admin"
    if not admins:
        mend = "where anybody shall: kiln token new NAME --admin"
        told = f"{told}: nobody reads its /metrics or gives orders by HTTP"
        return [Finding("warning", "server", told, mend)]
    return [Finding("ok", "server", told)]


def look_at_metrics(settings: Settings) -> list[Finding]:
    """Where a worker tells how it fares."""
    if settings.metrics is None:
        return [Finding("ok", "metrics", "a worker here tells none; KILN_METRICS=127.0.0.1:9464 lets it")]
    found = f"a worker's are at http://{settings.metrics}/metrics, with /healthz and /readyz"
    if not loopback(f"http://{settings.metrics}"):
        found += ", for whoever reaches that address"
    return [Finding("ok", "metrics", found)]
