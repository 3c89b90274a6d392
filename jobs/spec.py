"""The wire record of one job: what a producer may ask for, and nothing else.

`RenderSpec` is decoded in one place on each side, `RenderSpec.parse`, with one error, `SpecError`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
)

from pixelkiln.jobs import limits
from pixelkiln.jobs.catalogue import (
    CATALOGUE,
    COMMON_GRID,
    DEFAULT_MODEL,
    MAX_REFERENCES,
    MAX_SIDE,
    MIN_SIDE,
    Model,
)
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.hints import glimpse, hint
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.visible import is_visible

MAX_PROMPT = 4000  # characters
MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MAX_LABELS = 16
MAX_BLEND = 8  # pixels on each side of a seam
MAX_WIRE = 128 * 1024  # bytes of JSON; escaped, a character may need twelve
MAX_COARSE = 99  # steps; a model may have fewer
_LATER = ("strength", "negative_prompt", "coarse_steps")  # than 0.1

Priority = Literal["high", "normal", "low"]  # best first
Quantization = Literal["bf16", "q8", "q6", "q5", "q4"]
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,47}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
LabelValue = Annotated[str, StringConstraints(max_length=200)]
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, json_schema_extra={"multipleOf": COMMON_GRID})]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Box(BaseModel):
    """Where a reference should go: edges as fractions of the picture's width (x) and height (y)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x1: Fraction
    x2: Fraction
    y1: Fraction
    y2: Fraction
    text: Annotated[str, StringConstraints(max_length=200)] = ""


class _InOneLine(type(BaseModel)):  # type: ignore[misc] # pydantic names its own elsewhere in each version
    """A spec that a program makes by its class is refused as one that it submits."""

    def __call__(cls, *given: Any, **fields: Any) -> Any:
        try:
            return super().__call__(*given, **fields)
        except ValidationError as error:
            raise _readable(error) from None


class RenderSpec(BaseModel, metaclass=_InOneLine):
    """One picture to render. Frozen; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, title="pixelkiln render spec")

    version: Literal[1] = 1
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
    model: Annotated[str, Field(json_schema_extra={"enum": list(CATALOGUE)})] = DEFAULT_MODEL
    quantization: Quantization = "bf16"
    width: Side = 1024
    height: Side = 1024
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = (
        None  # absent: drawn at submit, or from the job's id
    )
    steps: int | None = None  # absent: the recipe's own
    guidance: float | None = None  # absent: the recipe's own
    references: Annotated[tuple[Sha256, ...], Field(strict=False, max_length=MAX_REFERENCES)] = ()
    keep_aspect: bool = False  # the picture takes the one reference's proportions
    layout: Annotated[tuple[Box, ...], Field(strict=False, max_length=MAX_REFERENCES)] = ()
    priority: Priority = "normal"
    client: Name = "default"
    labels: Annotated[dict[Name, LabelValue], Field(max_length=MAX_LABELS)] = {}
    blend_seams: Annotated[int, Field(ge=0, le=MAX_BLEND)] = 0  # radius in pixels; 0 leaves the seams alone
    strength: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = (
        None  # how much of the one reference is rendered anew
    )
    negative_prompt: Annotated[str, StringConstraints(max_length=MAX_PROMPT)] | None = (
        None  # what guidance leads away from; absent: the recipe's own
    )
    coarse_steps: Annotated[int, Field(ge=0, le=MAX_COARSE)] = 0  # so many of the first at half the side

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the fields that came later, where they are absent: older readers refuse their names."""
        return {
            name: value for name, value in write(self).items() if name not in _LATER or value not in (None, 0)
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any] | str | bytes) -> Self:
        """Decode and check one spec, from JSON or from a mapping of its fields.

        Raises SpecError, naming the field and what it may be.
        """
        if isinstance(data, str | bytes):
            data = _decode(data)
        if not isinstance(data, Mapping):
            raise SpecError("spec", f"must be an object of fields, not {type(data).__name__}")
        name = data.get("model", DEFAULT_MODEL)
        model = CATALOGUE.get(name) if isinstance(name, str) else None
        size = {"width": model.size[0], "height": model.size[1]} if model else {}
        try:
            spec = cls.model_validate({**size, **data})
        except ValidationError as error:
            raise _readable(error, model) from None
        spec._check()
        return spec

    @property
    def lane(self) -> Lane:
        """The lane this job waits in."""
        return Lane(self.model, self.quantization, self.priority, self.client)

    @property
    def off_recipe(self) -> str:
        """What departs from the way that a distilled model was made for; '' if nothing does."""
        return limits.off_recipe(self, CATALOGUE[self.model])

    def reference_fault(self, size: tuple[int, int]) -> str:
        """Why a picture of `size` (width, height in pixels) cannot be a reference of this; '' if it can."""
        return CATALOGUE[self.model].references.fault(size, *limits.arrangement(self))

    def with_seed(self, job_id: str | None = None) -> Self:
        """This spec with a seed: its own, else derived from `job_id`, else (no id given) drawn now."""
        if self.seed is not None:
            return self
        if job_id is None:
            seed = secrets.randbelow(MAX_SEED + 1)
        else:
            seed = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8], "big") & MAX_SEED
        return self.model_copy(update={"seed": seed})

    def differs(self, other: RenderSpec) -> list[str]:
        """The fields in which two jobs are not one: not priority and labels, which no picture shows."""
        fields = type(self).model_fields.keys() - {"priority", "labels"}
        return sorted(name for name in fields if getattr(self, name) != getattr(other, name))

    def wire(self) -> dict[str, Any]:
        """The JSON form: what is at its default is left out, unless the default is the model's own."""
        sizes = {"width": self.width, "height": self.height}
        return {"version": self.version, **self.model_dump(mode="json", exclude_defaults=True), **sizes}

    def _check(self) -> None:
        """What pydantic's field constraints cannot say, or say badly."""
        model = CATALOGUE.get(self.model)
        if model is None:
            raise SpecError("model", f"no model {self.model[:60]!r}; there are {', '.join(CATALOGUE)}")
        limits.check_text("prompt", self.prompt)
        if not is_visible(self.prompt):
            raise SpecError("prompt", "is empty")
        for name, value in self.labels.items():
            limits.check_text(f"labels.{name}", value)
        limits.check(self, model)


def _decode(data: str | bytes) -> Any:
    if len(data) > MAX_WIRE:
        raise SpecError("spec", f"is {len(data):,} bytes; the limit is {MAX_WIRE:,}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SpecError("spec", f"is not JSON: {error}") from None


_PLAIN = {
    "missing": "is missing",
    "string_too_short": "is empty",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "string_unicode": "is not valid Unicode text",
}
_BEYOND = ("greater_than_equal", "less_than_equal")  # what all models have; one may have less
_PATTERNS = {
    NAME_PATTERN: "must be 1 to 48 of a-z, 0-9, - and _, beginning with a letter or digit",
    SHA256_PATTERN: "must be 64 hexadecimal digits, the picture's sha256",
}


def _readable(error: ValidationError, model: Model | None = None) -> SpecError:
    """The first of pydantic's findings as one line; never more than a glimpse of the value."""
    first = error.errors(include_url=False)[0]
    field = ".".join(_printable(str(part)[:60]) for part in first["loc"] if part != "[key]") or "spec"
    kind, value, bounds = first["type"], first["input"], first.get("ctx", {})
    if kind == "extra_forbidden":
        return SpecError(field, f"no such field; there are {', '.join(RenderSpec.model_fields)}")
    if model and field in ("width", "height") and kind in _BEYOND:
        return limits.beyond(field, value, model)
    if kind in _PLAIN:
        return SpecError(field, _PLAIN[kind])
    if kind == "string_too_long":
        return SpecError(field, f"is {len(value):,} characters; the limit is {bounds['max_length']:,}")
    if kind == "string_pattern_mismatch":
        return SpecError(field, _PATTERNS[bounds["pattern"]])
    message = first["msg"][:1].lower() + first["msg"][1:]
    message = message.replace("input should", "must", 1).replace("must have", "may have", 1)
    shown = glimpse(value) if isinstance(value, str | int | float | bool | None) else ""
    if not 0 < len(shown) <= 60:
        return SpecError(field, message)
    return SpecError(field, f"{message}, not {shown}{hint(field, value)}")


def _printable(name: str) -> str:
    """A name that strangers chose, so that a message stays one line."""
    return name if name.isprintable() else ascii(name)
