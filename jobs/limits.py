"""What one model lets a job ask for, and the one line that says why it may not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pixelkiln.jobs.catalogue import Model, Setting
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.hints import glimpse

if TYPE_CHECKING:
    from pixelkiln.jobs.spec import RenderSpec

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # tab and newline are text


def check(spec: RenderSpec, model: Model) -> None:
    """Raise SpecError for the first field that `model` does not take as it is."""
    if spec.quantization not in model.quantizations:
        raise SpecError(
            "quantization", f"{model.name} has {', '.join(model.quantizations)}, not {spec.quantization}"
        )
    _check_side("width", spec.width, model)
    _check_side("height", spec.height, model)
    pixels = spec.width * spec.height
    if pixels > model.max_pixels:
        square = f"{model.largest_square} x {model.largest_square}"
        raise SpecError(
            "width, height",
            f"{spec.width} x {spec.height} is {pixels:,} pixels; "
            f"the limit is {model.max_pixels:,} ({square})",
        )
    _check_setting("steps", spec.steps, model.steps, model)
    _check_setting("guidance", spec.guidance, model.guidance, model)
    _check_coarse_steps(spec, model)
    _check_references(spec, model)
    _check_layout(spec, model)
    _check_strength(spec, model)
    _check_negative_prompt(spec, model)
    if spec.blend_seams and not model.seams:
        raise SpecError("blend_seams", f"{model.name} leaves no seams; leave it out")


def check_text(field: str, text: str) -> None:
    """Raise SpecError for a text that holds what no text does."""
    found = _CONTROL.search(text)
    if found:
        raise SpecError(
            field, f"holds the control character U+{ord(found.group()):04X} at position {found.start()}"
        )


def arrangement(spec: RenderSpec) -> tuple[tuple[int, int], int, bool, bool]:
    """What of a job sets its references' sizes: its own, how many they are, boxes or none, aspect kept."""
    return (spec.width, spec.height), len(spec.references), bool(spec.layout), spec.keep_aspect


def beyond(field: str, side: int, model: Model) -> SpecError:
    """The refusal of a side that is shorter or longer than a model's may be, in pixels."""
    if side < model.min_side:
        return SpecError(field, f"must be greater than or equal to {model.min_side}, not {glimpse(side)}")
    return SpecError(field, f"must be less than or equal to {model.max_side}, not {glimpse(side)}")


def _check_side(field: str, side: int, model: Model) -> None:
    if not model.min_side <= side <= model.max_side:
        raise beyond(field, side, model)
    if side % model.grid:
        below = side - side % model.grid
        near = [str(one) for one in (below, below + model.grid) if model.min_side <= one <= model.max_side]
        nearest = f"the nearest {'is' if len(near) == 1 else 'are'} {' and '.join(near)}"
        raise SpecError(field, f"{side} is not a multiple of {model.grid}; {nearest}")


def _check_setting(field: str, value: float | None, setting: Setting, model: Model) -> None:
    if value is None:
        return
    if setting.range is None:
        raise SpecError(field, f"{model.name} has its own, fixed by its recipe; leave it out")
    low, high = setting.range
    if not low <= value <= high:
        raise SpecError(field, f"{glimpse(value)} is out of range; {model.name} takes {low} to {high}")


def off_recipe(spec: RenderSpec, model: Model) -> str:
    """See RenderSpec.off_recipe."""
    usual = int(model.steps.default)
    fewer = model.steps.distilled and spec.steps not in (None, usual)
    told = [f"{spec.steps} of {usual} steps"] if fewer else []
    return ", ".join([*told, f"the first {spec.coarse_steps} coarse"] if spec.coarse_steps else told)


def _check_coarse_steps(spec: RenderSpec, model: Model) -> None:
    if not spec.coarse_steps:
        return
    if not model.coarse:
        raise SpecError("coarse_steps", f"{model.name} takes none; leave it out")
    if spec.references:
        raise SpecError("coarse_steps", "none beside reference pictures; leave it out")
    steps = int(model.steps.default) if spec.steps is None else spec.steps
    if spec.coarse_steps >= steps:
        raise SpecError(
            "coarse_steps", f"{spec.coarse_steps} is out of range; {steps} steps take 0 to {steps - 1}"
        )


def _check_references(spec: RenderSpec, model: Model) -> None:
    count = len(spec.references)
    if count > model.max_references:
        allowed = f"at most {model.max_references}" if model.max_references else "no"
        raise SpecError("references", f"{model.name} takes {allowed} reference pictures")
    if count < model.min_references:
        least = f"at least {model.min_references}"
        raise SpecError("references", f"{model.name} edits pictures and needs {least}")
    if spec.keep_aspect and count != 1:
        raise SpecError("keep_aspect", "needs exactly one reference picture")
    if spec.keep_aspect and not model.keep_aspect:
        raise SpecError("keep_aspect", f"{model.name} has its own rule; leave it out, width and height too")
    if model.references.are_too_many(*arrangement(spec)):
        larger = f"{count} are too many for {spec.width} x {spec.height}; make that larger"
        raise SpecError("references", larger)


def _check_layout(spec: RenderSpec, model: Model) -> None:
    if len(spec.layout) > len(spec.references):
        raise SpecError("layout", f"{len(spec.layout)} boxes for {len(spec.references)} reference pictures")
    if spec.layout and not model.layout:
        raise SpecError("layout", f"{model.name} takes no boxes; leave it out")
    for index, box in enumerate(spec.layout):
        check_text(f"layout.{index}.text", box.text)
        if box.x1 >= box.x2 or box.y1 >= box.y2:
            raise SpecError(f"layout.{index}", "a box needs x1 < x2 and y1 < y2")


def _check_strength(spec: RenderSpec, model: Model) -> None:
    if spec.strength is None:
        if model.strength and spec.references:
            raise SpecError("strength", f"is missing; {model.name} takes a reference picture only with it")
    elif not model.strength:
        raise SpecError("strength", f"{model.name} has none; leave it out")
    elif not spec.references:
        raise SpecError("strength", "needs a reference picture")


def _check_negative_prompt(spec: RenderSpec, model: Model) -> None:
    if spec.negative_prompt is None:
        return
    if not model.negative_prompt:
        raise SpecError("negative_prompt", f"{model.name} takes none; leave it out")
    if spec.guidance is not None and spec.guidance <= 1:
        raise SpecError("negative_prompt", f"has no part at guidance {spec.guidance}; leave it out")
    check_text("negative_prompt", spec.negative_prompt)
