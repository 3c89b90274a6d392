"""Every view, holding what harms if anything does: well-formed, escaped, by its policy, each client's own."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from pixelkiln import Kiln, Settings
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.jobs.web.page.views import VIEWS
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.page.reading import HTML, read
from tests.jobs.web.page.rendering import fail, render

SCRIPT = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> {{7*7}} &amp;"
PROMPTS = (
    SCRIPT,
    "منارة بيضاء على اليمين وقارب برتقالي",
    "x" * 4000,
    "a line\nanother, with `marks` and $(whoami)",
    "turned \u202eround\u202c and \u200bunseen",
)
SMALL = {"model": "demo", "width": 64, "height": 64}


# What of one's could be asked for, by route; a route that is not here yet fails, until it is said here.
ANOTHERS: dict[str, tuple[str, ...]] = {
    "/": (),
    "/gallery": ("/gallery?batch=night", "/gallery?client=one"),
    "/gallery.zip": ("/gallery.zip?batch=night", "/gallery.zip?client=one"),
    "/pictures/{id}": ("/pictures/{a}",),
    "/thumbnails/{id}": ("/thumbnails/{a}",),
    "/previews/{id}": ("/previews/{a}",),
    "/compare": ("/compare?a={a}&b={b}",),
    "/batches": ("/batches?client=one",),
    "/batches/{name}": ("/batches/night", "/batches/night?client=one"),
    "/new": ("/new?from={a}",),
    "/references/{name}": (),  # by its name, below one's own client's: test_new.py
    "/farm": (),  # an admin's: test_acts.py
    "/sign-in": (),
    "/favicon.ico": (),
}


@pytest.fixture
def kiln(settings: Settings) -> Kiln:
    """As client one."""
    return Kiln(settings).as_client("one")


def fill(kiln: Kiln) -> tuple[list[str], str]:
    """A batch of hostile prompts, rendered but for one that failed; ids of the others, and that one's."""
    rows = [{**SMALL, "prompt": prompt, "seed": 1, "labels": {"note": SCRIPT[:60]}} for prompt in PROMPTS]
    kiln.batch([{**SMALL, "prompt": "it fails", "seed": 1}, *rows], name="night", source="<b>.csv")
    failed = fail(kiln, f"out of memory; {SCRIPT}")
    return render(kiln, ("dark",)), failed


def test_every_view_is_well_formed_and_escaped(real: Door, kiln: Kiln) -> None:
    ids, failed = fill(kiln)
    kiln.submit({**SMALL, "prompt": SCRIPT})  # waits
    client = real("one")
    paths = ["/", "/gallery", "/gallery?q=a&model=demo&label=note", "/gallery?suspicious=1", "/batches"]
    paths += ["/batches/night", f"/compare?a={ids[0]}&b={ids[1]}", "/compare"]
    paths += [f"/pictures/{one}" for one in [*ids, failed]]
    texts = {path: read(client, path).text for path in paths}
    assert f"out of memory; {SCRIPT}" in texts[f"/pictures/{failed}"].replace("\n", " ")
    assert "alert('x')" in texts["/gallery"]  # as words
    assert "\u202e" not in "".join(texts.values())
    assert "49" not in texts[f"/compare?a={ids[0]}&b={ids[1]}"]
    assert "out of memory" in texts["/"]
    assert "out of memory" in texts["/batches/night"]
    assert "kiln submit" in texts[f"/pictures/{ids[0]}"]


def test_what_is_anothers_is_not_there(real: Door, kiln: Kiln) -> None:
    ids, _ = fill(kiln)
    two = real("two")
    for route in ANOTHERS:
        for asked in ANOTHERS[route]:
            path = asked.format(a=ids[0], b=ids[1])
            answer = two.get(path, headers=HTML)
            assert answer.status_code == 404, path
            assert "out of memory" not in answer.text
    for path in ("/", "/gallery", "/batches"):
        text = read(two, path).text
        assert "night" not in text
        assert "alert" not in text
    assert "out of memory" not in read(two, "/").text
    admin = real("admin")
    assert "out of memory" in read(admin, "/").text
    assert read(admin, "/gallery").all("a", href=f"/pictures/{ids[0]}")
    assert "night" in read(admin, "/batches?client=one").text
    assert read(admin, "/batches/night?client=one").all("a", href="/gallery?batch=night&client=one")


def test_every_view_is_asked_for_what_is_anothers() -> None:
    routes = [route for view in VIEWS for route in view.router.routes]
    assert {route.path for route in routes if "GET" in route.methods} == set(ANOTHERS)  # type: ignore[attr-defined]


def test_what_is_no_address_is_told(local: httpx.Client) -> None:
    for path, status in (
        ("/nowhere", 404),
        ("/pictures/none", 404),
        ("/pictures/a%20b", 422),
        ("/batches/none", 404),
        ("/gallery?cursor=forged", 422),
        ("/gallery?batch=a/b", 422),
        ("/gallery?suspicious=perhaps", 422),
        ("/compare?pick=a", 422),
        ("/compare?pick=a&pick=b&pick=c", 422),
        ("/compare?a=a&b=b", 404),
    ):
        read(local, path, status)
    assert local.get("/pictures/none").headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/", "/gallery", "/batches", "/pictures/a"])
def test_where_redis_is_away_the_page_says_so_and_asks_again(
    local: httpx.Client, fake: FakeKiln, path: str
) -> None:
    with fake.away():
        page = read(local, path, 503)
    assert page.all("main", **{"hx-get": path})
    assert "goes on by itself" in page.text
    read(local, path, 404 if path == "/pictures/a" else 200)


def test_what_the_stylesheet_and_scripts_are(local: httpx.Client) -> None:
    page = read(local, "/")
    named = [one["src"] for one in page.all("script")] + [one["href"] for one in page.all("link")]
    assert len(named) == 5
    for path in named:
        answer = local.get(str(path))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert "immutable" not in local.get("/static/page.css").headers["cache-control"]
    assert local.get("/static/../app.py").status_code == 404
    assert local.get("/static/%2e%2e/frame.py").status_code == 404


@pytest.mark.parametrize(
    ("endpoint", "addressing", "host"),
    [
        ("https://s3.example:9000", "path", "https://s3.example:9000"),
        ("https://s3.example:9000", "virtual", "https://night.s3.example:9000"),
        (None, "path", "https://s3.amazonaws.com"),
        (None, "virtual", "https://night.s3.amazonaws.com"),
    ],
)
def test_where_pictures_come_from_the_bucket_the_policy_lets_them(
    local: httpx.Client,
    fake: FakeKiln,
    monkeypatch: pytest.MonkeyPatch,
    endpoint: str | None,
    addressing: str,
    host: str,
) -> None:
    assert "img-src 'self' blob: data:;" in local.get("/", headers=HTML).headers["content-security-policy"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    told = {"s3_endpoint": endpoint, "s3_addressing": addressing, "s3_bucket": "night", "image_links": True}
    fake.settings = fake.settings.model_copy(update={**told, "redis_url": SecretStr("redis://nowhere")})
    fake._bucket = Bucket.open(fake.settings)
    policy = local.get("/", headers=HTML).headers["content-security-policy"]
    assert f"img-src 'self' blob: data: {host};" in policy
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    fake._bucket = Bucket.open(fake.settings)
    assert local.get("/gallery", headers=HTML).status_code == 200  # no link can be made
