"""The views of the page, each a module."""

from __future__ import annotations

from fastapi import FastAPI

from pixelkiln.jobs.web.page import frame, now, sign_in
from pixelkiln.jobs.web.page.standing import OpenBatches

VIEWS = (sign_in, now)


def install(app: FastAPI) -> None:
    """Let `app` answer with them, and with the files that they name."""
    app.state.batches = OpenBatches()
    for view in VIEWS:
        app.include_router(view.router, include_in_schema=False)
    app.mount("/static", frame.Static(directory=frame.HERE / "static"))
