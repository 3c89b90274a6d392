"""From what a producer asks for to a spec that says all: what is left out is filled in at submit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pixelkiln.jobs.catalogue import CATALOGUE, Model
from pixelkiln.jobs.choice import Kind, choose
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.fields import SpecFields
from pixelkiln.jobs.proportions import Size
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import RenderSpec

Fault = Callable[[Size], str]  # of a picture's size; '' for none

SIDES = frozenset(("width", "height"))
_UNKNOWN = "0" * 64  # stands for a picture that is not uploaded yet


@dataclass(frozen=True, slots=True)
class Asked:
    """What a producer asks for, and the fields that it left to submit."""

    spec: RenderSpec
    filled: frozenset[str]  # model, quantization, width, height: those that what is there decided
    given: frozenset[str] = frozenset()  # the fields that the producer named


class Completion:
    """Fills in what specs leave out. Raises SpecError for what none can be.

    `served` tells each `model:quantization` of living workers. `upload` stores a reference for a client and
    gives its name, called once all else is found good, with what tells whether a picture of that size can be
    one; `size_of` tells the size of one that is there, by its name, client and field.
    """

    def __init__(
        self,
        settings: Settings,
        served: Callable[[], Collection[str]],
        upload: Callable[[Path, str, Fault], str],
        size_of: Callable[[str, str, str], Size],
    ) -> None:
        self._settings = settings
        self._served = cache(served)
        self._upload = upload
        self._size_of = cache(size_of)

    def all(self, given: Iterable[RenderSpec | SpecFields | Mapping[str, Any] | Asked]) -> list[Asked]:
        """The specs that are meant; a SpecError tells the place of the one at fault."""
        found = []
        for place, one in enumerate(given):
            try:
                found.append(one if isinstance(one, Asked) else self.of(one))
            except SpecError as error:
                error.place = place
                raise
        return found

    def of(self, given: RenderSpec | SpecFields | Mapping[str, Any]) -> Asked:
        """The spec that is meant, of the settings' client where it names none."""
        named_so = given.model_fields_set if isinstance(given, RenderSpec) else None
        if isinstance(given, RenderSpec):  # it says all, as on the wire, but for a client that was not set
            given = given.model_dump(mode="json", exclude={"client"} - given.model_fields_set)
        if not isinstance(given, Mapping):  # a program without types
            wrong = type(given).__name__  # type: ignore[unreachable]
            raise SpecError("spec", f"must be a RenderSpec or its fields, as prompt=…, not {wrong}")
        told = frozenset(given if named_so is None else named_so)
        fields = {"client": self._settings.client, **given}
        blind = {**fields, **_without_paths(fields)}
        self._refuse(blind)
        chosen = choose(blind, self._settings.model, self._served, lambda kind: _is_taken({**blind, **kind}))
        spec = RenderSpec.parse({**blind, **chosen})
        filled = chosen.keys() - given.keys()
        if "model" in filled:
            filled |= SIDES - given.keys()
        named = fields.get("references", ())
        decides = CATALOGUE[spec.model].references.decides
        if not spec.references or SIDES & given.keys():
            decides = None
        if decides is None and not any(isinstance(one, Path) for one in named):
            return Asked(spec, frozenset(filled), told)
        names, sizes = self._stored(spec, named, decides)
        size = {} if decides is None else _size(CATALOGUE[spec.model], sizes[decides % len(names)])
        fields = {**fields, **chosen, **size, "references": names}
        return Asked(RenderSpec.parse(fields), frozenset(filled | size.keys()), told)

    def _refuse(self, fields: Mapping[str, Any]) -> None:
        """Raise SpecError for what is wrong whoever lives: nobody is asked what is served for that."""
        named = fields.get("model")
        if named is None and self._settings.model:
            named = Kind.parse(self._settings.model).model
        known = named is None or (isinstance(named, str) and named in CATALOGUE)
        if not known or (named is not None and "quantization" in fields):
            return  # looked at as it is
        faults = []
        for name in CATALOGUE if named is None else [named]:
            kind = {"model": name, "quantization": CATALOGUE[name].preferred(())}
            try:
                RenderSpec.parse({**kind, **fields})
            except SpecError as fault:
                faults.append(fault)
            else:
                return
        if len({str(fault) for fault in faults}) == 1:
            raise faults[0]

    def _stored(
        self, spec: RenderSpec, named: Collection[str | Path], decides: int | None
    ) -> tuple[list[str], dict[int, Size]]:
        """The names of the references, each in the bucket now; sizes by place, the deciding one's too."""
        names: list[str] = []
        sizes: dict[int, Size] = {}
        for index, one in enumerate(named):

            def fault(size: Size, index: int = index) -> str:
                sizes[index] = size
                return spec.reference_fault(size)

            if isinstance(one, Path):
                names.append(self._upload(one, spec.client, fault))
            else:
                names.append(one)
                if decides is not None and index == decides % len(named):
                    field = f"references.{index}"
                    if wrong := fault(self._size_of(one, spec.client, field)):
                        raise SpecError(field, wrong)
        return names, sizes


def _without_paths(fields: Mapping[str, Any]) -> dict[str, Any]:
    named = fields.get("references")
    if not isinstance(named, list | tuple):
        return {}
    return {"references": [_UNKNOWN if isinstance(one, Path) else one for one in named]}


def _is_taken(fields: Mapping[str, Any]) -> bool:
    try:
        RenderSpec.parse(fields)
    except SpecError:
        return False
    return True


def _size(model: Model, picture: Size) -> dict[str, int]:
    """Width and height that follow from a reference of that size. Raises SpecError."""
    width, height = model.references.output(picture)
    if not model.fits(width, height):
        raise SpecError(
            "width, height",
            f"{width} x {height}, which follows from a picture of {picture[0]} x {picture[1]}, is beyond"
            f" {model.name}; name a size, or crop it",
        )
    return {"width": width, "height": height}
