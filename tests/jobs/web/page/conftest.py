"""Views as they are now: a test does more within a second than people do."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look is good for another."""
    monkeypatch.setattr("pixelkiln.jobs.web.page.now.FRESH", 0.0)
