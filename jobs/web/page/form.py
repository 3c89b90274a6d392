"""The form that asks for pictures: what a model takes, what was typed, and what that asks for."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from starlette.datastructures import FormData

from pixelkiln.jobs.catalogue import CATALOGUE, DEFAULT_MODEL, Model
from pixelkiln.jobs.schema import schema_of
from pixelkiln.jobs.shares import fewer
from pixelkiln.jobs.spec import SHA256_PATTERN, RenderSpec

MOST = 16  # pictures of one form; more are a file's
EDGES = ("x1", "x2", "y1", "y2")
OWN = "own"  # as a choice: what the fields beside say
_SHAPES = ((1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (16, 9), (9, 16))
_TEXTS = (
    *("model", "quantization", "prompt", "negative_prompt", "size", "width", "height", "seed"),
    *("pace", "steps", "coarse_steps", "guidance", "strength", "blend_seams", "keep_aspect"),
    *("priority", "labels", "batch", "many", "client"),
)
_NUMBERS = {"steps": "Steps", "guidance": "Guidance", "strength": "Strength", "blend_seams": "Blend seams"}
_HINTS = {
    "strength": "How much of the picture is rendered anew: near 0 almost nothing, 1 all of it.",
    "blend_seams": "Pixels on each side of a seam; 0 leaves seams alone.",
}
# What a field of a spec is called here, where a refusal is shown.
_SHOWN_AT = {"width": "size", "height": "size", "coarse_steps": "pace", "layout": "references"}


@dataclass(frozen=True, slots=True)
class Number:
    """A field that takes a number, as a model has it."""

    name: str
    label: str
    low: float
    high: float
    step: str
    hint: str


@dataclass(slots=True)
class Picture:
    """A reference, and where it goes as it was typed; '' for nowhere."""

    name: str  # its sha256
    edges: dict[str, str] = field(default_factory=lambda: dict.fromkeys(EDGES, ""))
    text: str = ""  # of its box, which a program may have given

    @property
    def boxed(self) -> bool:
        """Whether any edge was typed."""
        return any(self.edges.values())


@dataclass(slots=True)
class Form:
    """What was typed, by field, and what is wrong with it; nothing is lost when it is shown again."""

    text: dict[str, str]
    pictures: list[Picture] = field(default_factory=list)
    key: str = ""  # the same form sent twice is the same jobs
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, model: str = DEFAULT_MODEL, **text: str) -> Form:
        """Nothing typed yet."""
        blank = {**dict.fromkeys(_TEXTS, ""), "model": model, "priority": "normal", "many": "1"}
        return cls({**blank, **text}, key=secrets.token_hex(16))

    @classmethod
    def of(cls, posted: FormData) -> Form:
        """As it was sent."""
        form = cls.empty()
        for name in _TEXTS:
            given = posted.get(name, "")
            form.text[name] = given.replace("\r\n", "\n") if isinstance(given, str) else ""
        if form.text["model"] not in CATALOGUE:
            form.errors["model"] = "there is no such model"
            form.text["model"] = DEFAULT_MODEL
        lists = {name: _texts(posted, f"box-{name}") for name in (*EDGES, "text")}
        names = [one for one in _texts(posted, "reference") if re.fullmatch(SHA256_PATTERN, one)]
        for at, name in enumerate(names):
            edges = {edge: _at(lists[edge], at) for edge in EDGES}
            form.pictures.append(Picture(name, edges, _at(lists["text"], at)))
        key = posted.get("key")
        if isinstance(key, str) and re.fullmatch(r"[0-9a-f]{32}", key):
            form.key = key
        return form

    @classmethod
    def like(cls, spec: RenderSpec) -> Form:
        """All that a job asks for, but for its seed."""
        model = CATALOGUE[spec.model]
        form = cls.empty(spec.model, quantization=spec.quantization, prompt=spec.prompt)
        size = f"{spec.width}x{spec.height}"
        form.text["size"] = size if size in dict(sizes(model)) else OWN
        form.text |= {"width": str(spec.width), "height": str(spec.height), "priority": spec.priority}
        if spec.coarse_steps or spec.steps is not None:
            form.text["pace"] = OWN
        for name in ("steps", "guidance", "strength", "negative_prompt", "blend_seams", "coarse_steps"):
            value = getattr(spec, name)
            form.text[name] = "" if value == 0 and name != "guidance" else _said(value)
        form.text["keep_aspect"] = "1" if spec.keep_aspect else ""
        form.text["labels"] = "\n".join(f"{name}={text}" for name, text in spec.labels.items())
        form.pictures = [Picture(name) for name in spec.references]
        for picture, box in zip(form.pictures, spec.layout, strict=False):
            picture.edges = {edge: _said(getattr(box, edge)) for edge in EDGES}
            picture.text = box.text
        return form

    @property
    def model(self) -> Model:
        """Of which the form shows the fields."""
        return CATALOGUE[self.text["model"]]

    @property
    def takes(self) -> dict[str, Any]:
        """The fields that the model takes, as its schema has them."""
        found: dict[str, Any] = schema_of(self.text["model"])["properties"]
        return found

    @property
    def numbers(self) -> dict[str, Number]:
        """Those of them that are numbers, with ranges and what is usual."""
        takes = self.takes
        return {name: _number(name, takes[name], self.model) for name in _NUMBERS if name in takes}

    def refuse(self, name: str, message: str) -> None:
        """Note what is wrong with a field of a spec, beside the one of the form that says it."""
        top = re.split(r"[.,]", name)[0]
        message = message.removeprefix(f"{name}: ")
        top = "pace" if top == "steps" and self.model.coarse else _SHOWN_AT.get(top, top)
        self.errors.setdefault(top if top in {*_TEXTS, "references"} else "", message)

    def fields(self) -> dict[str, Any]:
        """What is asked for, as the fields of a spec; `errors` has what is none."""
        takes, text = self.takes, self.text
        found: dict[str, Any] = {"model": text["model"], "prompt": text["prompt"].strip()}
        if not found["prompt"]:
            self.refuse("prompt", "is empty")
        for name in ("quantization", "negative_prompt", "priority"):
            if text[name] and name in takes:
                found[name] = text[name]
        found |= self._size() | self._pace(takes)
        for name, kind in (("seed", int), ("guidance", float), ("strength", float), ("blend_seams", int)):
            if name in takes and text[name].strip():
                value = self._number_in(name, kind)
                found |= {} if value is None else {name: value}
        if text["keep_aspect"] and "keep_aspect" in takes:
            found["keep_aspect"] = True
        if self.pictures and "references" in takes:
            found["references"] = [one.name for one in self.pictures]
            found |= self._layout() if "layout" in takes else {}
        elif self.pictures:
            self.refuse("references", f"{self.model.name} takes no pictures; remove them")
        if labels := self._labels():
            found["labels"] = labels
        return found

    def many(self) -> int:
        """How many pictures, each with a seed of its own."""
        many = self._number_in("many", int) if self.text["many"].strip() else 1
        if many is not None and not 1 <= many <= MOST:
            self.refuse("many", f"must be 1 to {MOST}; more are a file's")
        return int(many or 1)

    def sealed(self, fields: dict[str, Any], client: str) -> str:
        """What its jobs' ids are made of: another thing asked for under the same key is another job."""
        return f"{self.key} {json.dumps([client, self.text['batch'], fields], sort_keys=True)}"

    def _size(self) -> dict[str, int]:
        size = self.text["size"]
        if not size:
            return {}
        if size != OWN and (sides := re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)):
            return {"width": int(sides[1]), "height": int(sides[2])}
        found = {side: self._number_in(side, int) for side in ("width", "height")}
        return {side: int(value) for side, value in found.items() if value is not None}

    def _pace(self, takes: dict[str, Any]) -> dict[str, int]:
        own: dict[str, int | None] = {}
        pace = self.text["pace"] if "coarse_steps" in takes else OWN
        if pace == OWN:
            for name in ("steps", "coarse_steps"):
                if name in takes and self.text[name].strip():
                    value = self._number_in(name, int)
                    own[name] = None if value is None else int(value)
            if "coarse_steps" in takes and not own:
                self.refuse("steps", "say how many steps, or choose one of the others")
        elif pace in ("fast", "draft"):
            size = self._size()
            sides = (size["width"], size["height"]) if len(size) == 2 else None
            own = fewer(None, None, pace == "fast", pace == "draft", self.text["model"], sides)
        return {name: value for name, value in own.items() if value is not None}

    def _layout(self) -> dict[str, Any]:
        boxed = [one for one in self.pictures if one.boxed]
        if boxed != self.pictures[: len(boxed)]:
            self.refuse("references", "boxes go to the first pictures; put those that have one first")
            return {}
        boxes: list[dict[str, Any]] = []
        for one in boxed:
            try:
                edges = {edge: float(one.edges[edge].replace(",", ".")) for edge in EDGES}
            except ValueError:
                self.refuse("references", f"picture {len(boxes) + 1}: a box needs four numbers from 0 to 1")
                return {}
            boxes.append({**edges, **({"text": one.text} if one.text else {})})
        return {"layout": boxes} if boxes else {}

    def _labels(self) -> dict[str, str]:
        found = {}
        for line in self.text["labels"].splitlines():
            name, equals, text = line.strip().partition("=")
            if not equals and name:
                self.refuse("labels", f"{name[:40]!r} is not NAME=TEXT")
            elif name:
                found[name.strip()] = text.strip()
        return found

    def _number_in(self, name: str, kind: Callable[[str], float]) -> float | None:
        typed = self.text[name].strip().replace(",", ".")
        try:
            return kind(typed)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            self.refuse(name, f"must be {what}, not {typed[:20]!r}" if typed else f"{name} is missing")
            return None


def sizes(model: Model) -> list[tuple[str, str]]:
    """Usual sizes of a model's pictures, as WIDTHxHEIGHT and as people read them."""
    area = model.size[0] * model.size[1]
    found: dict[str, str] = {}
    for across, down in _SHAPES:
        scale = sqrt(area / (across * down))
        width, height = (round(side * scale / model.grid) * model.grid for side in (across, down))
        if model.fits(width, height):
            shape = "square" if across == down else f"{across}:{down}"
            found.setdefault(f"{width}x{height}", f"{width} × {height}, {shape}")
    return list(found.items())


def _number(name: str, about: dict[str, Any], model: Model) -> Number:
    about = about["anyOf"][0] if "anyOf" in about else about
    low, high = about.get("minimum", about.get("exclusiveMinimum", 0)), about["maximum"]
    hint = _HINTS.get(name, "")
    if name in ("steps", "guidance"):
        usual = getattr(model, name).default
        hint = f"{low:g} to {high:g}; left empty: the recipe's own, usually {usual:g}."
    whole = about["type"] == "integer"
    return Number(name, _NUMBERS[name], low, high, "1" if whole else "any", hint)


def _texts(posted: FormData, name: str) -> list[str]:
    return [one.strip() for one in posted.getlist(name)[:64] if isinstance(one, str)]


def _at(texts: list[str], at: int) -> str:
    return texts[at] if at < len(texts) else ""


def _said(value: Any) -> str:
    return "" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)
