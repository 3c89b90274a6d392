"""What people do on the page, from a form to a farm that is resumed; with mouse, finger and keys alone."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr

from pixelkiln import Kiln, Settings
from pixelkiln.jobs import keys
from pixelkiln.worker.queue.claim import Progress
from pixelkiln.worker.queue.claims import Claims
from tests.browser.conftest import Open
from tests.browser.test_page import SHOWS, faults
from tests.jobs.web.page.rendering import fail, render, settle, store, take
from tests.jobs.web.page.test_new import FILE, picture
from tests.jobs.web.page.test_now import worker

api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
pytestmark = pytest.mark.browser

LONG = 15_000  # ms
DROP = """([where, name, type, text]) => {
    const held = new DataTransfer(), bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    held.items.add(new File([bytes], name, { type }));
    for (const kind of ["dragover", "drop"])
        document.querySelector(where).dispatchEvent(
            new DragEvent(kind, { dataTransfer: held, bubbles: true, cancelable: true }));
}"""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With what signs orders."""
    return settings.model_copy(update={"admin_key": SecretStr("the key of this farm")})


def drop(page: Any, where: str, name: str, kind: str, body: bytes) -> None:
    """A file from another window."""
    page.evaluate(DROP, [where, name, kind, base64.b64encode(body).decode()])


def seen(page: Any, name: str) -> None:
    """Nothing of it is wider than the window, nor keeps people out; a picture of it where one is wanted."""
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1], name
    assert faults(page) == [], name
    if folder := os.environ.get("SHOTS"):
        size = page.viewport_size["width"]
        dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        page.screenshot(
            path=Path(folder) / f"{name}-{size}-{'dark' if dark else 'light'}.png", full_page=True
        )


def ask(page: Any, prompt: str, seed: str) -> str:
    """Fill in the form and send it; the job's id."""
    page.get_by_role("link", name="New", exact=True).click()
    page.get_by_label("Model").select_option("demo")
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Size").select_option("own")
    page.get_by_label("Width").fill("64")
    page.get_by_label("Height").fill("64")
    page.get_by_label("Seed").fill(seed)
    page.get_by_role("button", name="Render", exact=True).click()
    page.wait_for_url("**/pictures/*")
    return str(page.url.rpartition("/")[2])


def rendered(page: Any, kiln: Kiln, job_id: str) -> None:
    """Let it be rendered, with previews that are seen as they come."""
    claims = Claims(kiln.redis, "mac-1")
    claim = take(claims)
    assert claim is not None
    assert claim.job_id == job_id
    for step in (1, 4):
        kiln.redis.set(keys.PREVIEW(claim.lane.client, job_id), shade(step))
        claims.renew([(claim, Progress("rendering", step, 28))])
        kiln.redis.publish(keys.EVENTS, json.dumps({"event": "preview", "job": job_id}))
        api.expect(page.get_by_text(f"rendering {step}/28")).to_be_visible(timeout=LONG)
        page.wait_for_function(SHOWS, arg=step)
    settle(claims, claim, store(kiln, claim))
    api.expect(page.get_by_role("link", name="Download")).to_be_visible(timeout=LONG)


def shade(step: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (step * 40, 0, 0)).save(out, "WEBP", lossless=True)
    return out.getvalue()


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")]
)
def test_from_a_form_to_the_farm(view: Open, kiln: Kiln, width: int, scheme: str) -> None:
    page = view("/", width, scheme)

    ids = []
    for seed in ("1", "2"):  # submit, watch previews arrive, open the picture
        worker(kiln, "mac-1", "idle", kiln_memory="16000000000", kiln_orders="")  # its heart beats
        ids.append(ask(page, "a lighthouse at dusk", seed))
        seen(page, "waiting")
        rendered(page, kiln, ids[-1])
        seen(page, "picture")

    page.get_by_role("link", name="Compare with the older").click()  # A/B
    page.wait_for_url("**/compare?*")
    api.expect(page.locator(".side img")).to_have_count(2)
    seen(page, "compare")

    page.get_by_role("link", name="New", exact=True).click()  # drop a batch file
    page.wait_for_url("**/new")
    seen(page, "new")
    drop(page, "main", "cards.csv", "text/csv", (FILE + "an elk,nomodel,64,64\n").encode())
    api.expect(page.get_by_text("1 row is refused")).to_be_visible(timeout=LONG)
    seen(page, "file")
    page.get_by_role("button", name="Send 2 pictures").click()
    api.expect(page.get_by_text("mend the file")).to_be_visible()
    page.get_by_label("Send the others").check()
    page.get_by_role("button", name="Send 2 pictures").click()
    page.wait_for_url("**/batches/cards")

    fail(kiln, "out of memory")  # retry a failure
    api.expect(page.get_by_text("out of memory")).to_be_visible(timeout=LONG)
    seen(page, "failure")
    page.get_by_role("button", name="Try again: a fox").click()
    api.expect(page.get_by_text("out of memory")).to_have_count(0)
    api.expect(page.locator("#told")).to_contain_text("It is tried again")

    page.get_by_role("button", name="Pause").click()  # pause and resume
    api.expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert take(Claims(kiln.redis, "mac-1")) is None
    seen(page, "paused")
    page.get_by_role("button", name="Resume").click()
    api.expect(page.get_by_role("button", name="Pause")).to_be_visible()
    assert len(render(kiln)) == 2
    api.expect(page.locator(".card img")).to_have_count(2, timeout=LONG)

    worker(kiln, "mac-1", "idle", kiln_memory="16000000000", kiln_orders="")  # its heart beats still
    page.get_by_role("link", name="Farm").click()
    page.wait_for_url("**/farm")
    seen(page, "farm")
    page.get_by_role("button", name="Pause farm").click()
    api.expect(page.locator(".done")).to_contain_text("farm paused")
    page.get_by_role("button", name="Drain worker:mac-1").click()
    api.expect(page.get_by_role("heading", name="Drain mac-1?")).to_be_visible()
    seen(page, "sure")
    page.get_by_role("link", name="Leave it").click()
    page.wait_for_url("**/farm")


def test_an_answer_finds_its_page_where_its_button_is_gone(view: Open, kiln: Kiln) -> None:
    (job,) = kiln.submit_many([{"prompt": "a fox", "model": "demo", "width": 64, "height": 64}])
    fail(kiln, "out of memory")
    page, held = view("/"), list[Any]()
    page.route("**/retry", lambda route: held.append(route))
    page.get_by_role("button", name="Try again: a fox").click()
    kiln.retry([job.id])  # somebody else did, which the page tells before the answer comes
    api.expect(page.get_by_text("out of memory")).to_have_count(0, timeout=LONG)
    held[0].continue_()
    api.expect(page.locator("#told")).to_contain_text("It is tried again")
    api.expect(page.locator("main")).to_have_count(1)


def test_boxes_are_drawn_with_mouse_and_keys(view: Open, kiln: Kiln) -> None:
    page = view("/new?model=hidream-o1-dev&prompt=a+table")
    for colour in ("red", "blue"):
        drop(page, "#pictures", f"{colour}.png", "image/png", picture(colour))
        api.expect(page.locator(".ref")).to_have_count(1 if colour == "red" else 2, timeout=LONG)
    paper = page.locator(".paper svg")
    paper.scroll_into_view_if_needed()
    at = paper.bounding_box()
    side = min(at["width"], at["height"])
    left, top = at["x"] + (at["width"] - side) / 2, at["y"] + (at["height"] - side) / 2

    def drag(x: float, y: float, to_x: float, to_y: float) -> None:
        page.mouse.move(left + x * side, top + y * side)
        page.mouse.down()
        page.mouse.move(left + to_x * side, top + to_y * side, steps=4)
        page.mouse.up()

    def edges(number: int) -> list[float]:
        inputs = page.locator(f"[data-box='{number}'] input")
        return [round(float(inputs.nth(n).input_value() or -1), 2) for n in range(4)]

    def near(number: int, *wanted: float) -> bool:
        return all(abs(one - other) < 0.02 for one, other in zip(edges(number), wanted, strict=True))

    drag(0.1, 0.2, 0.4, 0.6)
    assert near(0, 0.1, 0.4, 0.2, 0.6), edges(0)
    drag(0.2, 0.4, 0.3, 0.4)  # moved
    assert near(0, 0.2, 0.5, 0.2, 0.6), edges(0)
    drag(0.5, 0.6, 0.6, 0.8)  # by its corner
    assert near(0, 0.2, 0.6, 0.2, 0.8), edges(0)
    seen(page, "boxes")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    assert near(0, 0.19, 0.59, 0.2, 0.79), edges(0)
    page.locator(".paper").focus()
    page.keyboard.press("n")
    assert edges(1) == [0.25, 0.75, 0.25, 0.75]
    page.keyboard.press("Delete")
    assert edges(1) == [-1, -1, -1, -1]
    page.get_by_role("spinbutton", name="Picture 1: left").fill("0.05")
    assert "left 5," in page.locator(".paper g").first.get_attribute("aria-label")
    page.get_by_role("button", name="Picture 2 one earlier").click()
    api.expect(page.locator("[data-box='1'] input").first).to_have_value("0.05")
    page.get_by_role("button", name="Picture 2 one earlier").click()
    api.expect(page.locator("[data-box='0'] input").first).to_have_value("0.05")
    assert page.get_by_label("Prompt", exact=True).input_value() == "a table"
    page.get_by_role("button", name="Render", exact=True).click()
    page.wait_for_url("**/pictures/*")
    (spec,) = kiln.specs([kiln.status(page.url.rpartition("/")[2])]).values()
    assert (len(spec.references), len(spec.layout), spec.layout[0].x1) == (2, 1, 0.05)


def test_boxes_are_drawn_with_a_finger(view: Open, kiln: Kiln) -> None:
    page = view("/new?model=hidream-o1-dev&prompt=a+table", 390, "dark", has_touch=True, is_mobile=True)
    drop(page, "#pictures", "red.png", "image/png", picture("red"))
    paper = page.locator(".paper svg")
    paper.scroll_into_view_if_needed()
    at = paper.bounding_box()
    session = page.context.new_cdp_session(page)
    for kind, x, y in (("Start", 0.2, 0.2), ("Move", 0.4, 0.5), ("Move", 0.6, 0.7), ("End", 0, 0)):
        spot = {"x": at["x"] + x * at["width"], "y": at["y"] + y * at["height"]}
        points = [] if kind == "End" else [spot]
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    found = [float(page.locator("[data-box='0'] input").nth(n).input_value()) for n in range(4)]
    assert [abs(one - other) < 0.03 for one, other in zip(found, (0.2, 0.6, 0.2, 0.7), strict=True)] == [
        True
    ] * 4
    seen(page, "touch")


def test_with_keys_alone(view: Open, kiln: Kiln) -> None:
    page = view("/new?model=demo")

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == name:
                return
        raise AssertionError(f"{name} is not reached")

    tab_to("prompt")
    page.keyboard.type("a fox")
    tab_to("seed")
    page.keyboard.type("x")
    page.keyboard.press("Enter")
    api.expect(page.locator("#seed-fault")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "wrong"
    seen(page, "wrong")
    tab_to("seed")
    page.keyboard.press("Control+a")
    page.keyboard.type("5")
    tab_to("render")
    page.keyboard.press("Enter")
    page.wait_for_url("**/pictures/*")
    (spec,) = kiln.specs([kiln.status(page.url.rpartition("/")[2])]).values()
    assert (spec.prompt, spec.seed) == ("a fox", 5)


def test_without_javascript_all_is_done(view: Open, kiln: Kiln) -> None:
    page = view("/new?model=demo&prompt=a+fox", java_script_enabled=False)
    page.get_by_label("Model").select_option("z-image-turbo")
    page.get_by_role("button", name="Show what it takes").click()
    page.locator("#pictures").set_input_files(
        {"name": "red.png", "mimeType": "image/png", "buffer": picture("red")}
    )
    page.get_by_role("button", name="Add").click()
    api.expect(page.locator(".ref img")).to_have_count(1)
    page.get_by_role("button", name="Render", exact=True).last.click()
    api.expect(page.locator("#strength-fault")).to_be_visible()
    page.get_by_label("Strength").fill("0.5")
    page.get_by_role("button", name="Render", exact=True).last.click()
    page.wait_for_url("**/pictures/*")
    page.get_by_role("button", name="Cancel").click()
    api.expect(page.get_by_text("It was cancelled.")).to_be_visible()
    page.get_by_role("link", name="Change and render").click()
    api.expect(page.get_by_label("Strength")).to_have_value("0.5")
    page.goto("/new")
    page.locator("#file").set_input_files({"name": "c.csv", "mimeType": "text/csv", "buffer": FILE.encode()})
    page.get_by_role("button", name="Look at it").click()
    page.get_by_role("button", name="Send 2 pictures").click()
    page.wait_for_url("**/batches/c")
    assert len(kiln.open_batch("c").entries) == 2
