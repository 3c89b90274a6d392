"""The API's own description: what FastAPI finds, made true where it cannot know."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from pixelkiln.jobs.schema import schema_of
from pixelkiln.jobs.web.problems import MEDIA, Problem

TITLE, VERSION = "pixelkiln", version("pixelkiln")
SUMMARY = "Pictures, rendered on your own Macs"
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in (
        (400, "It is no request that can be read."),
        (401, "No token, or none that is known."),
        (403, "Not with this token, or from another site's page."),
        (408, "The body came too slowly."),
        (413, "The body is too large."),
        (421, "Without tokens the server answers on its own machine alone."),
        (422, "A field is refused."),
        (429, "Too many requests."),
        (500, "A fault of the server's."),
        (503, "Redis or the bucket is away; Retry-After says when to try again."),
    )
}
NOT_THERE: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is none of that name, or it is another client's."}
}
FILLED_IN = ("model", "quantization", "width", "height", "client")  # at submit, by what is there


def spec_schema() -> dict[str, Any]:
    """What a job may ask for: without defaults that submit does not go by, and in one piece."""
    schema = schema_of()
    box = schema.pop("$defs")["Box"]
    for name in FILLED_IN:
        schema["properties"][name].pop("default", None)
    schema["properties"]["layout"]["items"] = box
    schema["properties"]["client"]["description"] = "the token's; another one only with an admin's token"
    return schema


def describe(routes: list[BaseRoute]) -> dict[str, Any]:
    """The API whose routes these are."""
    found = get_openapi(title=TITLE, version=VERSION, summary=SUMMARY, routes=routes)
    for path in found["paths"].values():
        for operation in path.values():
            _as_problems(operation["responses"])
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return found


def _as_problems(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        content = response.get("content", {})
        if status >= "400" and "application/json" in content and "Problem" in str(content):
            content[MEDIA] = content.pop("application/json")
