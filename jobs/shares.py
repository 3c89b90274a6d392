"""How many steps are cheap ones, said in words: fast, or a draft."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pixelkiln.jobs.batches.rows import Row
from pixelkiln.jobs.catalogue import CATALOGUE, DEFAULT_MODEL
from pixelkiln.jobs.errors import UsageError

STEPS = ("steps", "coarse_steps")


def fewer(
    steps: int | None,
    coarse_steps: int | None,
    fast: bool,
    draft: bool,
    model: str | None,
    size: tuple[int, int] | None,
) -> dict[str, int | None]:
    """`steps` and `coarse_steps` of a picture; the shares are those of its model and size.

    Where no model is named, of the one with the largest usual size. Raises UsageError for two ways of saying
    how many.
    """
    if (coarse_steps is not None) + fast + draft > 1 or (draft and steps is not None):
        raise UsageError("--draft says --steps and --coarse-steps, --fast the second; give one of them")
    one = CATALOGUE.get(model or "", CATALOGUE[DEFAULT_MODEL])
    shares = one.shares(*(size or one.size))
    if draft:
        return dict(zip(STEPS, shares.draft, strict=True))
    if fast:
        usual = CATALOGUE[DEFAULT_MODEL].steps.default
        coarse_steps = round(shares.fast * (steps or usual) / usual)
    return dict(zip(STEPS, (steps, coarse_steps), strict=True))


def shortened(rows: Iterable[Row], fast: bool, draft: bool) -> list[Row]:
    """Rows of which those that say nothing of their steps take --fast or --draft; UsageError for both."""
    if not (fast or draft):
        return list(rows)
    return [row if row.fields.keys() & set(STEPS) else _shortened(row, fast, draft) for row in rows]


def _shortened(row: Row, fast: bool, draft: bool) -> Row:
    fields = row.fields
    sides = (fields.get("width"), fields.get("height"))
    size = (sides[0], sides[1]) if isinstance(sides[0], int) and isinstance(sides[1], int) else None
    model = fields.get("model")
    found = fewer(None, None, fast, draft, model if isinstance(model, str) else None, size)
    return replace(row, fields={**fields, **{name: value for name, value in found.items() if value}})
