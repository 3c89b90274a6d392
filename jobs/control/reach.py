"""How many workers an order reaches: names are given by people, and several machines may bear one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pixelkiln.jobs.control.orders import Order, Target
from pixelkiln.jobs.errors import NotReadyError

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln


def reached(kiln: Kiln, orders: Sequence[Order]) -> dict[str, int]:
    """By target, the workers at work that an order to it is for; nothing where Redis does not tell.

    Orders about a client or a model are for every worker.
    """
    try:
        names = [worker.name for worker in kiln.farm().workers if not worker.gone]
    except NotReadyError:  # the orders are given
        return {}
    found = {}
    for order in orders:
        target = Target.parse(order.target)
        everyone = target.kind in ("client", "model")
        found[order.target] = sum(everyone or target.covers(name) for name in names)
    return found


def told(workers: int | None) -> str:
    """The number as it is printed behind an order."""
    return "" if workers is None else f"  ({workers} worker{'' if workers == 1 else 's'})"
