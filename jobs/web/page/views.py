"""The views of the page, each a module."""

from __future__ import annotations

from anyio import CapacityLimiter
from fastapi import FastAPI

from pixelkiln.jobs.web.lately import Lately
from pixelkiln.jobs.web.page import acts, batches, farm, files, frame, gallery, new, now, picture, sign_in
from pixelkiln.jobs.web.page.pictures import Warnings
from pixelkiln.jobs.web.page.standing import Standings

VIEWS = (sign_in, now, gallery, picture, batches, new, files, acts, farm)
MAKING = 2  # thumbnails that are made at once


def install(app: FastAPI) -> None:
    """Let `app` answer with them, and with the files that they name."""
    app.state.standings, app.state.warnings = Standings(), Warnings()
    app.state.lately = Lately()
    app.state.making = CapacityLimiter(MAKING)
    for name in frame.templates().list_templates():  # compiled now, not for whoever comes first
        frame.templates().get_template(name)
    for view in VIEWS:
        app.include_router(view.router, include_in_schema=False)
    app.mount("/static", frame.Static(directory=frame.HERE / "static"))
