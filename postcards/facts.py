"""What can be said of a scene, as plain records that a caption states and a reader checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from postcards.scene import Group, Scene
from postcards.sprites import KINDS


class Fact(NamedTuple):
    """One statement: what sort, of which subject, which value.

    | sort | subject | value |
    |---|---|---|
    | time, land | – | a name of the palette |
    | light | sun, moon | – or a place |
    | moon | – | full, crescent |
    | stars | – | – |
    | clouds | – | 0 … 3 |
    | cloud | – | the place of the only one |
    | count | a kind | 1 … 3: no more and no fewer |
    | colour, size | a kind | holds for every one of the kind |
    | place | a kind | of the middle of all of the kind |
    | left of, right of, in front of, behind, above, below | a kind | the other kind |
    """

    sort: str
    subject: str = ""
    value: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in self if part)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where something stands: centre x and base y in pixels, and whether it is up in the sky."""

    x: float
    y: float
    aloft: bool


def place(x: float, width: int) -> str | None:
    """The third of the picture that a centre lies in, None when it is near a border of thirds."""
    share = x / width
    if share <= 0.345:
        return "left"
    if share >= 0.655:
        return "right"
    return "centre" if 0.41 <= share <= 0.59 else None


def relation(a: Spot, b: Spot, width: int, height: int) -> tuple[str, ...]:
    """What holds of `a` towards `b`, both lone subjects."""
    across, near = (a.x - b.x) / width, 0.15
    found = []
    if abs(across) >= 0.22:
        found.append("left of" if across < 0 else "right of")
    if abs(across) <= near and a.aloft != b.aloft:
        found.append("above" if a.aloft else "below")
    if abs(across) <= near and not a.aloft and not b.aloft and abs(a.y - b.y) >= 0.08 * height:
        found.append("in front of" if a.y > b.y else "behind")
    return tuple(found)


def spot(group: Group) -> Spot:
    """Where a lone subject stands."""
    member = group.members[0]
    return Spot(member.x, member.y, KINDS[member.kind].home == "sky")


def group_facts(scene: Scene, group: Group) -> dict[str, Fact]:
    """Count, colour, size and (away from the borders of thirds) place, by sort."""
    first = group.members[0]
    facts = [
        Fact("count", group.kind, str(len(group.members))),
        Fact("colour", group.kind, first.colour),
        Fact("size", group.kind, first.size),
    ]
    where = place(group.x, scene.width)
    if where:
        facts.append(Fact("place", group.kind, where))
    return {fact.sort: fact for fact in facts}


def relations(scene: Scene) -> list[Fact]:
    """All that holds between two lone subjects, both ways round."""
    lone = [group for group in scene.groups if len(group.members) == 1]
    return [
        Fact(word, a.kind, b.kind)
        for a in lone
        for b in lone
        if a is not b
        for word in relation(spot(a), spot(b), scene.width, scene.height)
    ]
