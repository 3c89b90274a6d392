"""Says a scene in English: some of its facts, in one of many wordings, with the list of what was stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from postcards.facts import Fact, group_facts, place, relations
from postcards.scene import Scene, sample

NOUNS: dict[str, tuple[tuple[str, str], ...]] = {  # singular, plural
    "house": (("house", "houses"), ("cottage", "cottages")),
    "lighthouse": (("lighthouse", "lighthouses"),),
    "windmill": (("windmill", "windmills"),),
    "tent": (("tent", "tents"),),
    "tree": (("tree", "trees"),),
    "pine": (("pine", "pines"), ("pine tree", "pine trees"), ("fir tree", "fir trees")),
    "cat": (("cat", "cats"),),
    "fox": (("fox", "foxes"),),
    "rabbit": (("rabbit", "rabbits"), ("bunny", "bunnies")),
    "boat": (("boat", "boats"), ("sailing boat", "sailing boats"), ("sailboat", "sailboats")),
    "balloon": (("balloon", "balloons"), ("hot-air balloon", "hot-air balloons")),
    "kite": (("kite", "kites"),),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "big": ("big", "large", "tall")}
COLOUR_WORDS = {"purple": ("purple", "purple", "violet")}  # the rest go by their own names
COUNT_WORDS = {1: ("a", "a", "a", "one", "a single"), 2: ("two", "two", "a pair of"), 3: ("three",)}
PLACE_WORDS = {
    "left": ("on the left", "to the left", "on the left side", "at the left"),
    "right": ("on the right", "to the right", "on the right side", "at the right"),
    "centre": ("in the middle", "in the centre", "in the center"),
}
TIME_WORDS = {
    "dawn": ("at dawn", "at sunrise", "early in the morning", "at daybreak"),
    "day": ("by day", "at noon", "in the daytime", "on a bright day"),
    "dusk": ("at dusk", "at sunset", "in the evening", "at nightfall"),
    "night": ("at night", "by night", "after dark", "in the night"),
}
LAND_WORDS = {
    "sea": ("by the sea", "at the seaside", "on the coast", "at the beach", "by the ocean"),
    "hills": ("in the hills", "among green hills", "in a hilly land", "among rolling hills"),
    "mountains": (
        "in the mountains",
        "below the mountains",
        "at the foot of the mountains",
        "among tall mountains",
    ),
    "desert": ("in the desert", "among sand dunes", "in a sandy desert", "in the dunes"),
    "snow": ("in the snow", "in a snowy land", "on a snowy plain", "in winter"),
}
LAND_NAMES = {
    "sea": ("the sea", "the coast", "the seaside", "a beach"),
    "hills": ("green hills", "the hills", "rolling hills"),
    "mountains": ("the mountains", "tall mountains"),
    "desert": ("the desert", "a sandy desert", "sand dunes"),
    "snow": ("a snowy land", "a snowy plain", "snow all around"),
}
RELATION_WORDS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "in front of": ("in front of",),
    "behind": ("behind",),
    "above": ("above", "high above", "over"),
    "below": ("below", "under"),
}
OPENINGS = ("", "", "", "", "A postcard of ", "A picture of ", "A drawing of ")


@dataclass(frozen=True, slots=True)
class Caption:
    """A text and the facts that it states."""

    text: str
    facts: tuple[Fact, ...]


def caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """One of the many things to say of a scene; equal generators give equal captions."""
    return _Speaker(scene, rng).caption()


def captioned(
    seed: int, index: int, size: tuple[int, int] | None = None, wording: int = 0
) -> tuple[Scene, Caption]:
    """Scene `index` of a row and one caption of it; other `wording`s say it otherwise."""
    scene = sample(seed, index, size)
    return scene, caption(scene, np.random.default_rng([seed, index, wording + 1]))


class _Speaker:
    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        self.stated: list[Fact] = []

    def caption(self) -> Caption:
        scene = self.scene
        time = self._stated_if(0.92, Fact("time", value=scene.time))
        land = self._stated_if(0.95, Fact("land", value=scene.land))
        sky = self._sky()
        subjects = self._subjects()
        when = self._pick(TIME_WORDS[scene.time]) if time else ""
        where = self._pick(LAND_WORDS[scene.land]) if land else ""
        style = int(self.rng.integers(5))
        if style == 0 and (when or where):
            setting = " ".join(self._shuffled([when, where]))
            text = f"{setting}{self._pick((':', ','))} {self._listed(subjects + sky)}"
        elif style == 1 and land:
            view = f"{self._pick(LAND_NAMES[scene.land])} {when}".strip()
            text = f"{view} with {self._listed(subjects + sky)}"
        elif style == 2:
            head = " ".join(part for part in (self._listed(subjects), *self._shuffled([where, when])) if part)
            text = ". ".join([head, *(_capital(self._sentence(part)) for part in sky)])
        elif style == 3:
            sentences = [self._sentence(part) for part in subjects + sky]
            setting = " ".join(part for part in self._shuffled([when, where]) if part)
            text = ". ".join(_capital(part) for part in [setting, *sentences] if part)
        else:
            parts = [self._listed(subjects), *self._shuffled([where, when])]
            text = " ".join(part for part in parts if part) + (f", with {self._listed(sky)}" if sky else "")
            text = self._pick(OPENINGS) + text
        return Caption(self._finished(text), tuple(dict.fromkeys(self.stated)))

    def _subjects(self) -> list[str]:
        """A phrase for each group; one that stands in a stated relation names the other there."""
        scene, rng = self.scene, self.rng
        groups = [scene.groups[int(i)] for i in rng.permutation(len(scene.groups))]
        bonds = relations(scene)
        bond = bonds[int(rng.integers(len(bonds)))] if bonds and rng.random() < 0.35 else None
        phrases, names = [], {}
        for group in groups:
            facts = group_facts(scene, group)
            colour = self._stated_if(0.95, facts["colour"])
            telling = 0.2 if len(group.members) > 1 else {"small": 0.9, "big": 0.4}[facts["size"].value]
            size = self._stated_if(telling, facts["size"])
            count = int(facts["count"].value)
            self.stated.append(facts["count"])
            singular, plural = NOUNS[group.kind][int(rng.integers(len(NOUNS[group.kind])))]
            names[group.kind] = singular
            words = []
            if size:
                words.append(self._size(group.kind, facts["size"].value))
            if colour:
                words.append(self._pick(COLOUR_WORDS.get(facts["colour"].value, (facts["colour"].value,))))
            phrase = _article(
                self._pick(COUNT_WORDS[count]), " ".join([*words, plural if count > 1 else singular])
            )
            bound = bond is not None and bond.subject == group.kind
            where = facts.get("place")
            if where and not bound and self._stated_if(0.5 if where.value == "centre" else 0.95, where):
                phrase += " " + self._pick(PLACE_WORDS[where.value])
            phrases.append((group.kind, phrase))
        if bond is None:
            return [phrase for _, phrase in phrases]
        self.stated.append(bond)
        said = self._pick(RELATION_WORDS[bond.sort])
        order = dict(phrases)
        first, second = order.pop(bond.subject), order.pop(bond.value)
        if rng.random() < 0.5:
            pair = [f"{first} {said} {second}"]
        else:
            pair = [second, f"{first} {said} the {names[bond.value]}"]
        return [*pair, *order.values()] if rng.random() < 0.5 else [*order.values(), *pair]

    def _size(self, kind: str, size: str) -> str:
        words = SIZE_WORDS[size]
        upright = kind in ("house", "lighthouse", "windmill", "tree", "pine")
        return self._pick(words if upright or size == "small" else words[:2])

    def _sky(self) -> list[str]:
        scene, rng = self.scene, self.rng
        said = []
        if scene.light is not None and rng.random() < 0.92:
            body = "moon" if scene.time == "night" else "sun"
            words = f"the {body}"
            self.stated.append(Fact("light", body))
            if body == "moon" and rng.random() < 0.7:
                shape = "crescent" if scene.crescent else "full"
                self.stated.append(Fact("moon", value=shape))
                words = f"a {shape} moon"
            where = place(scene.light[0], scene.width)
            if where and self._stated_if(0.75, Fact("light", body, where)):
                words += " " + self._pick(PLACE_WORDS[where])
            said.append(words)
        if scene.stars and self._stated_if(0.9, Fact("stars")):
            said.append(self._pick(("stars", "many stars", "a starry sky")))
        count = len(scene.clouds)
        if self._stated_if(0.95 if count else 0.15, Fact("clouds", value=str(count))):
            number = self._pick(COUNT_WORDS[count]) if count else ""
            clouds = f"{number} cloud{'s' if count > 1 else ''}"
            where = place(scene.clouds[0][0], scene.width) if count == 1 else None
            if where and self._stated_if(0.6, Fact("cloud", value=where)):
                clouds += " " + self._pick(PLACE_WORDS[where])
            said.append(clouds if count else self._pick(("a clear sky", "no clouds", "a cloudless sky")))
        return self._shuffled(said)

    def _sentence(self, phrase: str) -> str:
        """The phrase as a clause of its own."""
        if phrase.startswith(("no ", "stars", "many ", "two ", "three ", "a pair")):
            return self._pick((f"there are {phrase}", f"we see {phrase}"))
        if phrase.startswith("the "):
            return self._pick((f"{phrase} shines", f"we see {phrase}"))
        return self._pick((f"there is {phrase}", f"we see {phrase}"))

    def _listed(self, phrases: Sequence[str]) -> str:
        if len(phrases) < 2:
            return "".join(phrases)
        glue = self._pick((" and ", ", and "))
        return ", ".join(phrases[:-1]) + glue + phrases[-1]

    def _stated_if(self, chance: float, fact: Fact) -> bool:
        if self.rng.random() >= chance:
            return False
        self.stated.append(fact)
        return True

    def _pick(self, choices: Sequence[str]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def _shuffled(self, parts: list[str]) -> list[str]:
        return [parts[int(i)] for i in self.rng.permutation(len(parts))]

    def _finished(self, text: str) -> str:
        text = " ".join(text.split()).strip(" ,:")
        if self.rng.random() < 0.75:
            text = _capital(text)
        return text + "." if self.rng.random() < 0.6 else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _article(count: str, noun: str) -> str:
    if count == "a" and noun[0] in "aeiou":
        count = "an"
    return f"{count} {noun}"
