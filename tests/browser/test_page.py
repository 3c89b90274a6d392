"""Each view at both widths and in both colours, with pictures, keys, and without JavaScript."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from PIL import Image

from pixelkiln import Kiln, Settings
from pixelkiln.jobs import keys
from pixelkiln.jobs.web.page.pictures import PAGE
from pixelkiln.jobs.web.server import beside
from pixelkiln.worker.queue.claim import Progress
from pixelkiln.worker.queue.claims import Claims
from tests.browser.conftest import Open
from tests.jobs.web.page.rendering import render, take
from tests.jobs.web.page.test_now import worker
from tests.jobs.web.page.test_views import SCRIPT, fill
from tests.jobs.web.serving import serving

api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
pytestmark = pytest.mark.browser

SMALL = {"model": "demo", "width": 64, "height": 64, "seed": 1}
SHOWS = """step => {
    const image = document.querySelector(".so-far img"), canvas = new OffscreenCanvas(1, 1).getContext("2d");
    if (!image?.complete) return false;
    canvas.drawImage(image, 0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data[0] === step * 40;
}"""
GRAVE = ("serious", "critical")


def faults(page: Any) -> list[str]:
    """What axe finds to keep people out."""
    if not (axe := os.environ.get("AXE")):
        return []
    page.evaluate(Path(axe).read_text())  # past the policy, which forbids it as a script
    found = page.evaluate("axe.run()")["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in GRAVE]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_view(view: Open, kiln: Kiln, width: int, scheme: str) -> None:
    ids, failed = fill(kiln)
    kiln.submit({"model": "z-image-turbo", "quantization": "q6", "prompt": SCRIPT})
    worker(kiln, "mac-1", "idle", kiln_memory="16000000000")
    worker(kiln, "mac-2", "rendering x", age=75)
    paths = ["/", "/gallery", "/gallery?q=nothing", "/batches", "/batches/night", "/compare", "/nowhere"]
    paths += [f"/compare?a={ids[0]}&b={ids[1]}", f"/pictures/{failed}", "/sign-in"]
    page = view("/", width, scheme)
    for path in [*paths, *(f"/pictures/{one}" for one in ids)]:
        page.goto(path, wait_until="load")
        wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], path
        assert faults(page) == [], path


def test_previews_come_one_after_another(view: Open, kiln: Kiln) -> None:
    job = kiln.submit({**SMALL, "prompt": "a fox"})
    claims = Claims(kiln.redis, "mac-1")
    claim = take(claims)
    assert claim is not None

    def show(step: int) -> None:
        out = io.BytesIO()
        Image.new("RGB", (32, 32), (step * 40, 0, 0)).save(out, "WEBP", lossless=True)
        kiln.redis.set(keys.PREVIEW(claim.lane.client, job.id), out.getvalue())
        claims.renew([(claim, Progress("rendering", step, 28))])
        kiln.redis.publish(keys.EVENTS, json.dumps({"event": "preview", "job": job.id}))

    page = view("/")
    for step in (1, 3, 5):
        show(step)
        api.expect(page.get_by_text(f"rendering {step}/28")).to_be_visible(timeout=15_000)
        page.wait_for_function(SHOWS, arg=step)


def test_the_gallery_goes_on_and_two_are_compared(view: Open, kiln: Kiln) -> None:
    rows = [{**SMALL, "prompt": f"number {n}"} for n in range(PAGE + 5)]
    kiln.submit_many(rows)
    done = render(kiln)
    page = view("/gallery")
    cards = page.locator(".card")
    api.expect(cards).to_have_count(PAGE)
    page.get_by_role("link", name="More", exact=True).click()
    api.expect(cards).to_have_count(PAGE + 5)
    api.expect(page.locator("#more-link")).to_have_count(0)
    for n in (0, 1, PAGE + 4):  # the third lets the first go
        cards.nth(n).get_by_role("checkbox").check()
    assert page.locator("[name=pick]:checked").count() == 2
    page.get_by_role("button", name="Compare two").click()
    page.wait_for_url("**/compare?a=*")
    assert f"a={done[-2]}&b={done[0]}" in page.url

    slider, top = page.locator("[data-slider]"), page.locator(".side img").first
    assert top.evaluate("image => image.style.clipPath") == "inset(0px 50% 0px 0px)"
    page.locator("body").press("ArrowRight")
    assert top.evaluate("image => image.style.clipPath") == "inset(0px 45% 0px 0px)"
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 60, steps=3)
    page.mouse.up()
    assert top.evaluate("image => image.style.clipPath") == "inset(0px 75% 0px 0px)"
    page.get_by_role("button", name="Side by side").click()
    assert top.evaluate("image => image.style.clipPath") == ""


def test_keys(view: Open, kiln: Kiln) -> None:
    kiln.submit_many([{**SMALL, "prompt": f"number {n}"} for n in range(3)])
    ids = render(kiln)
    page = view(f"/pictures/{ids[1]}")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**/pictures/{ids[0]}")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"**/pictures/{ids[1]}")
    page.keyboard.press("Escape")
    page.wait_for_url("**/gallery")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("number 2")
    page.keyboard.press("Enter")
    page.wait_for_url("**/gallery?q=number+2*")
    api.expect(page.locator(".card")).to_have_count(1)
    page.locator("body").press("?")
    api.expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    api.expect(page.get_by_role("dialog")).to_be_hidden()
    page.locator("body").press("g")
    page.locator("body").press("b")
    page.wait_for_url("**/batches")


def test_a_zip_comes_down(view: Open, kiln: Kiln, tmp_path: Path) -> None:
    fill(kiln)
    page = view("/batches/night")
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download as a zip").click()
    coming.value.save_as(tmp_path / "night.zip")
    with ZipFile(tmp_path / "night.zip") as archive:
        assert len(archive.namelist()) == 10
        assert archive.testzip() is None


def test_without_javascript_all_is_read_and_asked_for(view: Open, kiln: Kiln) -> None:
    ids, failed = fill(kiln)
    page = view("/", java_script_enabled=False)
    api.expect(page.get_by_text("out of memory")).to_be_visible()
    page.get_by_role("link", name="Gallery").click()
    api.expect(page.locator(".card img")).to_have_count(5)
    page.get_by_label("Words of the prompt").fill("alert")
    page.get_by_role("button", name="Show").click()
    api.expect(page.locator(".card")).to_have_count(1)
    page.goto("/gallery?batch=night")
    for n in (0, 1):
        page.get_by_role("checkbox", name="Compare").nth(n).check()
    page.get_by_role("button", name="Compare two").click()
    api.expect(page.locator(".side img")).to_have_count(2)
    page.goto(f"/pictures/{ids[0]}")
    api.expect(page.get_by_text("kiln submit")).to_be_visible()
    page.goto(f"/pictures/{failed}")
    api.expect(page.get_by_text("out of memory")).to_be_visible()


def test_a_page_says_that_its_server_is_away(
    chromium: Any, settings: Settings, tmp_path: Path, kiln: Kiln
) -> None:
    with serving(settings, tmp_path / "none.json") as where:
        page = chromium.new_page(base_url=where)
        page.goto("/")
        api.expect(page.get_by_text("Nothing waits.")).to_be_visible()
    told = page.locator("#unreached")
    api.expect(told).to_contain_text("does not answer", timeout=30_000)
    api.expect(page.get_by_text("Nothing waits.")).to_be_visible()
    page.route("**/", lambda route: route.fulfill(status=502, body=""))  # as of a proxy before it
    page.wait_for_timeout(3_000)
    api.expect(page.get_by_text("Nothing waits.")).to_be_visible()
    page.unroute("**/")
    port = {"serve_port": int(where.rpartition(":")[2])}
    with beside(settings.model_copy(update={**port, "tokens": tmp_path / "none.json"}), None):
        api.expect(told).to_have_count(0, timeout=30_000)
        kiln.submit({"prompt": "a fox", "model": "demo"})
        api.expect(page.get_by_text("demo:bf16").first).to_be_visible(timeout=15_000)
    page.close()


def test_an_outage_is_told_and_over_when_it_is_over(
    chromium: Any, rewire: Any, settings: Settings, tmp_path: Path
) -> None:
    behind, proxy = rewire("redis", settings)
    with serving(behind, tmp_path / "none.json") as where:
        page = chromium.new_page(base_url=where)
        page.goto("/")
        api.expect(page.get_by_text("Nothing waits.")).to_be_visible()
        proxy.cut()
        told = page.locator("#unreached")
        api.expect(told).to_contain_text("It goes on by itself", timeout=30_000)
        api.expect(told).to_contain_text("Redis")
        api.expect(page.get_by_text("Nothing waits.")).to_be_visible()
        late = chromium.new_page(base_url=where)
        late.goto("/")
        api.expect(late.get_by_role("alert")).to_contain_text("asks again")
        proxy.mend()
        api.expect(told).to_have_count(0, timeout=30_000)
        api.expect(late.get_by_text("Nothing waits.")).to_be_visible(timeout=30_000)
        page.close()
        late.close()


def test_a_page_outlives_what_passes(view: Open) -> None:
    page = view("/")
    told = page.locator("#unreached")
    for status in (429, 500, 503):
        body = f'<main id="main"><h1>No</h1><p id="problem">it was {status}</p></main>'
        page.route(
            "**/", lambda route, _, known=(status, body): route.fulfill(status=known[0], body=known[1])
        )
        page.evaluate("htmx.trigger(document.body, 'kiln:changed')")
        api.expect(told).to_contain_text(f": it was {status}. ")
        api.expect(page.get_by_text("Nothing waits.")).to_be_visible()
        page.unroute("**/")
        page.evaluate("htmx.trigger(document.body, 'kiln:changed')")
        api.expect(told).to_have_count(0)


def test_streams_that_are_refused_are_asked_for_ever_later(view: Open, kiln: Kiln) -> None:
    page = view("about:blank")
    asked: list[str] = []

    def refuse(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503)

    page.route("**/v1/events", refuse)
    page.clock.install()
    page.goto("/")
    for _ in range(180):
        page.clock.run_for(1_000)
        page.evaluate("fetch('/static/icon.svg').then(answer => answer.text())")  # what is asked is answered
    assert 5 <= len(asked) <= 9
    page.unroute("**/v1/events")
    with page.expect_response("**/v1/events") as answer:
        page.clock.run_for(60_000)
    assert answer.value.status == 200
    kiln.submit({"prompt": "a fox", "model": "demo"})
    with page.expect_response("**/"):
        page.clock.run_for(1_000)
