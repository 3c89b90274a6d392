"""The shortened suite: what happens is seen on an open page, without loading it again."""

from __future__ import annotations

import pytest

from pixelkiln import Kiln
from tests.browser.conftest import Open
from tests.jobs.web.page.rendering import render

api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")


def test_a_job_is_seen_on_an_open_page(view: Open, kiln: Kiln) -> None:
    page = view("/")
    api.expect(page.get_by_text("Nothing waits.")).to_be_visible()
    kiln.submit({"prompt": "a fox in the snow", "model": "demo", "width": 64, "height": 64})
    api.expect(page.get_by_text("demo:bf16").first).to_be_visible(timeout=15_000)
    render(kiln)
    api.expect(page.get_by_text("Nothing waits.")).to_be_visible(timeout=15_000)
    page.get_by_role("link", name="Gallery").click()
    page.get_by_role("link", name="a fox in the snow").click()
    api.expect(page.get_by_role("heading", level=1)).to_have_text("a fox in the snow")
