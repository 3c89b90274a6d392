"""A batch's report as data, for programs: what `kiln report --format json` prints."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from pixelkiln.jobs.batches.report import figures, timeline
from pixelkiln.jobs.batches.report.facts import Facts, Told


def data(facts: Facts) -> dict[str, Any]:
    """The report as JSON's types: times in ISO 8601, durations in seconds, memory in bytes."""
    waits = figures.waits(facts)
    return {
        "name": facts.name,
        "client": facts.client,
        "made": facts.made.isoformat(),
        "rows": len(facts.told),
        "totals": dict(facts.totals),
        "redis": facts.redis,
        "bucket": facts.bucket,
        "disagreements": [one._asdict() for one in facts.disagreements],
        "jobs": [_job(one) for one in facts.told],
        "speeds": [_plain(asdict(one)) for one in figures.speeds(facts)],
        "engines": [_plain(asdict(one)) for one in figures.held(facts)],
        "waits": waits._asdict() if waits else None,
        "workers": [_night(one) for one in timeline.nights(facts)],
    }


def _job(one: Told) -> dict[str, Any]:
    sidecar = one.sidecar
    return {
        "number": one.number,
        "id": one.id,
        "state": one.state,
        "cause": one.cause,
        "attempts": one.attempts,
        "enqueued": _iso(one.enqueued),
        "started": _iso(one.started),
        "ended": _iso(one.ended),
        "worker": one.worker,
        "suspicious": list(one.suspicious),
        "stored": one.stored,
        "spec": one.spec.wire(),
        "png": sidecar.png.model_dump() if sidecar else None,
        "timings": sidecar.timings.model_dump() if sidecar else None,
        "memory": sidecar.memory.model_dump() if sidecar else None,
        "host": sidecar.host if sidecar else None,
    }


def _night(one: timeline.Night) -> dict[str, Any]:
    return {
        "worker": one.worker,
        "host": one.host,
        "chip": one.chip,
        **_span(one.span),
        "pictures": one.pictures,
        "failed": one.failed,
        "busy": one.busy,
        "loading": one.loading,
        "idle": one.idle,
        "gaps": [_span(gap) for gap in one.gaps],
    }


def _span(span: timeline.Span) -> dict[str, Any]:
    return {"begin": span.begin.isoformat(), "end": span.end.isoformat()}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Spreads by the names of their parts; asdict leaves named tuples as they are."""
    return {
        name: value._asdict() if isinstance(value, figures.Spread) else value
        for name, value in fields.items()
    }
