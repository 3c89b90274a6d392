"""Pictures as OpenAI's clients ask for them: the answer comes when they are rendered."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, WithJsonSchema
from starlette.datastructures import UploadFile
from starlette.responses import Response

from pixelkiln.jobs.catalogue import MAX_REFERENCES
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.web.api.jobs import submit
from pixelkiln.jobs.web.api.references import of_form
from pixelkiln.jobs.web.idempotency import Key
from pixelkiln.jobs.web.openapi import REFUSALS, spec_schema
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.reading import reading
from pixelkiln.jobs.web.receiving import heavily, read_form
from pixelkiln.jobs.web.waiting import rendered
from pixelkiln.jobs.web.who import Caller, Farm, Known

router = APIRouter(tags=["as OpenAI's"])

MOST = 10  # pictures of one request
THEIRS = re.compile(r"(gpt-image|chatgpt-image|dall-e)[\w.-]*")  # models that clients name by default

# What is taken and changes nothing, and what is taken with these values alone.
_UNUSED = (
    *("quality", "style", "moderation", "user", "safety_identifier", "input_fidelity", "partial_images"),
    *("output_compression", "complexity"),
)
_ONLY: dict[str, tuple[Any, ...]] = {
    "output_format": ("png",),
    "background": ("opaque", "auto"),
    "stream": (False, "false"),
}
_TEXTS = ("prompt", "negative_prompt", "model", "quantization", "priority", "client", "size")


class Image(BaseModel):
    """One picture."""

    b64_json: str | None = None
    url: str | None = None
    id: str  # of its job
    seed: int | None


class Error(BaseModel):
    """Why there are none."""

    message: str
    type: str
    param: str | None
    code: str | None


class Refusal(BaseModel):
    """Why a request was not done."""

    error: Error


class Images(BaseModel):
    """The pictures."""

    created: int
    data: list[Image]
    error: Error | None = None  # where they failed after more than ten seconds, and `data` is empty


def _schema(images: bool) -> dict[str, Any]:
    """What is taken: OpenAI's fields, and ours beside."""
    schema = spec_schema()
    schema["title"] = "pictures as OpenAI's clients ask for them"
    text = {"type": "string"}
    schema["properties"]["model"] = text | {"description": "one of GET /v1/models; OpenAI's own: any of them"}
    schema["properties"] |= {
        "n": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST}, {"type": "null"}]},
        "size": {"anyOf": [text | {"description": "WIDTHxHEIGHT, or auto"}, {"type": "null"}]},
        "response_format": {"enum": ["b64_json", "url", None]},
        **{name: {"description": "changes nothing"} for name in _UNUSED},
        **{name: {"enum": [*values, None]} for name, values in _ONLY.items()},
    }
    if images:
        binary = {"type": "string", "format": "binary"}
        for name in ("image", "image[]"):
            schema["properties"][name] = {"anyOf": [binary, {"type": "array", "items": binary}]}
        del schema["properties"]["references"]
    return schema


Body = Annotated[dict[str, Any], WithJsonSchema(_schema(images=False))]
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": _schema(images=True)}},
    }
}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"model": Images, "description": "The pictures."},
    **{status: {**told, "model": Refusal} for status, told in REFUSALS.items()},
}


@router.post("/images/generations", summary="Render and wait", response_class=Response, responses=_ANSWER)
async def post_generations(
    kiln: Farm, caller: Known, request: Request, body: Body, key: Key = None
) -> Response:
    """After ten seconds the answer begins, with spaces until the pictures are there."""
    specs, form = _asked(body)
    return await _answer(request, kiln, caller, specs, form, key)


@router.post(
    "/images/edits",
    summary="Render from pictures, and wait",
    response_class=Response,
    responses=_ANSWER,
    openapi_extra=_FORM,
)
async def post_edits(kiln: Farm, caller: Known, request: Request, key: Key = None) -> Response:
    """The same, with `image` one or more times."""
    posted = await read_form(request, max_files=MAX_REFERENCES, max_fields=64, max_part_size=64 * 1024)
    try:
        parts = posted.multi_items()
        images = [one for name, one in parts if name in ("image", "image[]") and isinstance(one, UploadFile)]
        fields = {name: _value(name, one) for name, one in parts if isinstance(one, str)}
        for name, one in parts:
            if isinstance(one, UploadFile) and name not in ("image", "image[]"):
                raise ProblemError(400, f"{name[:60]}: no file is taken under that name", name[:60])
        specs, wanted = _asked(fields)
        if not images:
            raise ProblemError(400, "image: is missing", "image")
        names = [await heavily(request, partial(of_form, kiln, one, "image")) for one in images]
    finally:
        await posted.close()
    specs = [{**spec, "references": names} for spec in specs]
    return await _answer(request, kiln, caller, specs, wanted, key)


async def _answer(
    request: Request,
    kiln: Kiln,
    caller: Caller,
    specs: list[dict[str, Any]],
    form: str,
    key: str | None,
) -> Response:
    asked = [request.url.path, specs, form]
    referring = any(spec.get("references") for spec in specs)
    jobs = await reading(request, caller, lambda: submit(kiln, caller, specs, key, asked), referring)
    return await rendered(request, kiln, caller, jobs, form)


def _asked(body: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The specs that are meant, and in which form their pictures are wanted. Raises ProblemError."""
    given = {name: value for name, value in body.items() if value is not None}
    fields = {name: value for name, value in given.items() if name in RenderSpec.model_fields}
    n, size, form = given.get("n", 1), given.get("size", "auto"), given.get("response_format", "b64_json")
    known = {*fields, "n", "size", "response_format", *_UNUSED, *_ONLY}
    for name in given.keys() - known:
        raise ProblemError(400, f"{name[:60]}: no such field here", name[:60])
    for name, values in _ONLY.items():
        if given.get(name, values[0]) not in values:
            raise ProblemError(400, f"{name}: only {values[0]!r} is there", name)
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST:
        raise ProblemError(400, f"n: must be a whole number from 1 to {MOST}", "n")
    if form not in ("b64_json", "url"):
        raise ProblemError(400, "response_format: must be b64_json or url", "response_format")
    if size != "auto":
        sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size) if isinstance(size, str) else None
        if sides is None:
            raise ProblemError(400, "size: must be WIDTHxHEIGHT, as 1024x1024, or auto", "size")
        fields |= {"width": int(sides[1]), "height": int(sides[2])}
    if isinstance(fields.get("model"), str) and THEIRS.fullmatch(fields["model"]):
        del fields["model"]  # one that is served
    seed = fields.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool):  # each another picture
        return [{**fields, "seed": seed + more} for more in range(n)], form
    return [fields] * n, form


def _value(name: str, text: str) -> Any:
    """A field of a form, which is text whatever it was."""
    if name in _TEXTS:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
