"""Chromium, and a server of this checkout before real servers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pixelkiln import Kiln, Settings
from tests.jobs.web.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]
WHOLE = "the whole suite is: python -m tests.browser"
EXPECTED = (
    "status of 503",
    "status of 404",
    "status of 422",
    "status of 429",
    "status of 500",
)  # that the console may tell of: the test wants them


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long ones are run by name alone."""
    if "browser" not in (config.option.markexpr or ""):
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason=WHOLE))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's; without it, or playwright, the test skips."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def kiln(settings: Settings) -> Iterator[Kiln]:
    with Kiln(settings) as kiln:
        yield kiln


@pytest.fixture
def where(settings: Settings, tmp_path: Path) -> Iterator[str]:
    """A server without tokens."""
    with serving(settings, tmp_path / "none.json") as address:
        yield address


@pytest.fixture
def view(chromium: Browser, where: str) -> Iterator[Open]:
    """Opens a view; at the end nothing was refused by the policy, nothing failed and nothing was missing."""
    with ExitStack() as stack:
        told: list[str] = []

        def open_view(path: str, width: int = 1280, scheme: Any = "light", **more: Any) -> Page:
            size = {"width": width, "height": 900 if width > 600 else 844}
            context = chromium.new_context(base_url=where, viewport=size, color_scheme=scheme, **more)
            stack.callback(context.close)
            page = context.new_page()
            page.on(
                "console", lambda one: told.append(one.text) if one.type in ("error", "warning") else None
            )
            page.on("pageerror", lambda one: told.append(str(one)))
            page.goto(path)
            return page

        yield open_view
        assert [one for one in told if not any(word in one for word in EXPECTED)] == []
