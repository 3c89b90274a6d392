"""What a program writes of a spec: its fields by name and type, so that an editor and mypy know them."""

# No `from __future__ import annotations`: with it, Python does not see which fields are required.
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, Required, TypedDict

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import Box, Priority, Quantization, RenderSpec

Fault = Callable[[tuple[int, int]], str]  # of a width and a height in pixels; '' for none


class BoxFields(TypedDict):
    """A Box: edges as fractions of the picture's width (x) and height (y)."""

    x1: float
    x2: float
    y1: float
    y2: float
    text: NotRequired[str]


class SpecFields(TypedDict, total=False):
    """The fields of a RenderSpec as `Kiln.submit` takes them; what is left out has the model's default."""

    version: Literal[1]
    prompt: Required[str]
    model: str
    quantization: Quantization
    width: int  # pixels
    height: int  # pixels
    seed: int | None  # absent: drawn, or derived from the id where one is given
    steps: int | None  # only where the model lets one choose
    guidance: float | None  # only where the model lets one choose
    references: Sequence[str | Path]  # a Path is uploaded; text is the name of an uploaded one
    keep_aspect: bool  # the picture takes the one reference's proportions
    layout: Sequence[Box | BoxFields]  # where each reference goes
    priority: Priority
    client: str  # absent: the settings'
    labels: dict[str, str]
    blend_seams: int  # radius in pixels


def checked(
    spec: RenderSpec | SpecFields | Mapping[str, Any], client: str, upload: Callable[[Path, str, Fault], str]
) -> RenderSpec:
    """The spec that is meant; of `client` where it names none. Raises SpecError.

    `upload` stores a reference for a client and gives its name: called once all else is found good, with what
    tells whether a picture of that size can be one.
    """
    if isinstance(spec, RenderSpec):  # wire() omits a default client even when it was set explicitly
        named_client = {"client": spec.client} if "client" in spec.model_fields_set else {}
        spec = {**spec.wire(), **named_client}
    if not isinstance(spec, Mapping):
        raise SpecError("spec", f"must be a RenderSpec or its fields, as prompt=…, not {type(spec).__name__}")
    fields: dict[str, Any] = {"client": client, **spec}
    named = fields.get("references", ())
    if isinstance(named, list | tuple) and any(isinstance(one, Path) for one in named):
        fault = RenderSpec.parse({**fields, "references": ["0" * 64] * len(named)}).reference_fault
        fields["references"] = [
            upload(one, fields["client"], fault) if isinstance(one, Path) else one for one in named
        ]
    return RenderSpec.parse(fields)
