"""The views of the page, each a module."""

from __future__ import annotations

from anyio import CapacityLimiter
from fastapi import FastAPI

from pixelkiln.jobs.web.lately import Lately
from pixelkiln.jobs.web.page import acts, batches, farm, files, frame, gallery, new, now, picture, sign_in
from pixelkiln.jobs.web.page.pictures import Warnings
from pixelkiln.jobs.web.page.standing import Standings

VIEWS = (sign_in, now, gallery, picture, batches, new, files, acts, farm)
ROUTERS = tuple(one.router for one in VIEWS)
MAKING = 2  # thumbnails that are made at once


def install(app: FastAPI) -> None:
    """Let `app` have what they keep."""
    app.state.standings, app.state.warnings = Standings(), Warnings()
    app.state.lately = Lately()
    app.state.making = CapacityLimiter(MAKING)
    for name in frame.templates().list_templates():  # compiled now, not for whoever comes first
        frame.templates().get_template(name)
