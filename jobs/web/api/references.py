"""Reference pictures, uploaded once by content."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.web.receiving import heavily, received
from pixelkiln.jobs.web.who import Farm, Known

router = APIRouter(tags=["references"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The picture's file, as it is: PNG, JPEG, WebP and others.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
        },
    }
}


class Reference(BaseModel):
    """A picture that jobs of this client may name."""

    name: str  # its sha256, which specs name it by


@router.post("/references", status_code=201, summary="Upload a picture", openapi_extra=_BODY)
async def post_reference(kiln: Farm, caller: Known, request: Request) -> Reference:
    """It is decoded before it is stored, as a worker would; the same picture again is the same reference."""
    async with received(request) as path:
        return Reference(name=await heavily(request, lambda: stored(kiln, path, "body")))


def stored(kiln: Kiln, path: Path, field: str) -> str:
    """The name of a picture that was sent as `field` and is stored now. Raises SpecError."""
    try:
        return kiln.upload(path)
    except SpecError as error:  # which names the file, as it is called here alone
        raise SpecError(field, str(error).removeprefix(f"{error.field}: ")) from None


def of_form(kiln: Kiln, image: UploadFile, field: str) -> str:
    """The same of a picture in a form."""
    with tempfile.NamedTemporaryFile(prefix="kiln-serve-") as file:
        while part := image.file.read(2**20):
            file.write(part)
        file.flush()
        return stored(kiln, Path(file.name), field)
