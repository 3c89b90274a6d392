"""What buttons do to jobs, batches and the farm: each client its own, and only from pages of here."""

from __future__ import annotations

import httpx
import pytest

from pixelkiln import Kiln, Settings
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.page.reading import HTML, Page, read
from tests.jobs.web.page.rendering import fail, render
from tests.jobs.web.page.test_new import hidden, send
from tests.jobs.web.page.test_now import worker
from tests.jobs.web.serving import serving

SMALL = {"model": "demo", "width": 64, "height": 64}


def guard(client: httpx.Client) -> dict[str, str]:
    return {"csrf": hidden(read(client, "/new"))["csrf"]}


@pytest.fixture
def one(settings: Settings) -> Kiln:
    return Kiln(settings).as_client("one")


def test_a_job_is_cancelled_tried_again_and_rendered_anew(local: httpx.Client, fake: FakeKiln) -> None:
    fake.next_fails("out of memory")
    job = fake.submit(prompt="a fox", **SMALL)  # type: ignore[misc]
    fake.work()
    where = f"/pictures/{job.id}"
    assert "Try again" in read(local, where).text
    held = guard(local)
    for _ in range(2):  # a double click
        assert send(local, held, f"{where}/retry").headers["location"] == where
    assert fake.status(job.id).state == "queued"
    assert send(local, held | {"next": "/?x=1"}, f"{where}/cancel").headers["location"] == "/?x=1"
    assert fake.status(job.id).state == "cancelled"
    elsewhere = send(local, held | {"next": "//elsewhere.example"}, f"{where}/retry")
    assert elsewhere.headers["location"] == "/"
    fake.work()
    assert fake.status(job.id).state == "finished"
    asked = send(local, held, f"{where}/again")
    assert (asked.status_code, fake.status(job.id).state) == (200, "finished")
    assert "Render it anew in its place?" in asked.text
    assert Page(asked.text).faults == []
    assert send(local, hidden(Page(asked.text)), f"{where}/again").status_code == 303
    assert fake.status(job.id).state == "queued"


def test_another_seed_is_another_job_once(local: httpx.Client, fake: FakeKiln) -> None:
    job = fake.submit(prompt="a fox", seed=5, labels={"of": "night"}, **SMALL)  # type: ignore[misc]
    fake.work()
    where = f"/pictures/{job.id}"
    held = hidden(read(local, where))
    first, again = (send(local, held, f"{where}/another").headers["location"] for _ in range(2))
    assert first == again != where
    new = fake.specs([fake.status(first.rpartition("/")[2])]).popitem()[1]
    assert new.differs(job.spec) == ["seed"]
    assert new.labels == job.spec.labels
    assert send(local, {"csrf": held["csrf"]}, f"{where}/another").status_code == 422
    assert len(fake.jobs()) == 2


def test_a_batch_is_paused_resumed_prioritized_and_cancelled(local: httpx.Client, fake: FakeKiln) -> None:
    fake.batch([{"prompt": "a fox", **SMALL}, {"prompt": "a hare", **SMALL}], name="night")  # type: ignore[list-item]
    where, held = "/batches/night", guard(local)
    assert send(local, held, f"{where}/pause").headers["location"] == where
    assert fake.open_batch("night").status().paused
    assert "Resume" in read(local, where).text
    send(local, held, f"{where}/resume")
    assert not fake.open_batch("night").status().paused
    assert send(local, held, f"{where}/prioritize").status_code == 422
    assert send(local, held | {"priority": "high"}, f"{where}/prioritize").status_code == 303
    assert {job.lane.split(":")[3] for job in fake.jobs()} == {"high"}
    asked = send(local, held, f"{where}/cancel")
    assert "Cancel what is left of night?" in asked.text
    assert fake.open_batch("night").status().queued == 2
    send(local, hidden(Page(asked.text)), f"{where}/cancel")
    assert fake.open_batch("night").status().cancelled == 2


def test_all_that_failed_are_tried_again(real: Door, one: Kiln) -> None:
    one.batch([{"prompt": "a fox", **SMALL}, {"prompt": "a hare", **SMALL}], name="night")  # type: ignore[list-item]
    fail(one, "out of memory")
    fail(one, "out of memory")
    client = real("one")
    page = read(client, "/batches/night")
    assert page.words.count("Try again") == 2
    assert send(client, guard(client), "/batches/night/retry").headers["location"] == "/batches/night"
    assert len(render(one)) == 2


def test_what_is_anothers_is_not_there_and_no_page_of_elsewhere_acts(real: Door, one: Kiln) -> None:
    (job,) = one.batch([{"prompt": "a fox", **SMALL}], name="night").sent.jobs  # type: ignore[list-item]
    paths = [f"/pictures/{job.id}/{act}" for act in ("cancel", "retry", "again", "another")]
    paths += [f"/batches/night/{verb}" for verb in ("pause", "resume", "retry", "cancel", "prioritize")]
    mine, theirs = real("one"), real("two")
    for path in paths:
        more = {"priority": "low", "sure": "1", "key": "0" * 32}
        assert send(theirs, guard(theirs) | more, path).status_code == 404, path
        assert send(theirs, guard(theirs) | more | {"client": "one"}, path).status_code == 404, path
        for bad in ("", "0" * 32, guard(theirs)["csrf"]):
            assert send(mine, more | {"csrf": bad}, path).status_code == 403, path
        other = mine.post(path, data=guard(mine) | more, headers=HTML | {"Origin": "http://x.example"})
        assert other.status_code == 403, path
    assert one.status(job.id).state == "queued"
    admin = real("admin")
    answer = send(admin, guard(admin) | {"client": "one"}, "/batches/night/pause")
    assert answer.headers["location"] == "/batches/night?client=one"
    assert one.open_batch("night").status().paused
    assert send(admin, guard(admin), f"/pictures/{job.id}/cancel").status_code == 303
    assert one.status(job.id).state == "cancelled"


@pytest.mark.parametrize(
    ("referer", "given", "then"),
    [
        ("{base}/batches/night?client=default", {}, "/batches/night?client=default"),
        ("{base}/gallery", {"next": "/?x=1"}, "/?x=1"),
        ("{base}/gallery", {"next": "//elsewhere.example"}, "/"),
        ("{base}/batches/night/pause", {}, "/"),  # itself what answered the button
        ("http://elsewhere.example/batches", {}, "/"),
        ("{base}//elsewhere.example", {}, "/"),
        ("http://[", {}, "/"),
        ("", {}, "/"),
    ],
)
def test_a_button_pressed_while_redis_is_away_leads_to_its_page(
    local: httpx.Client, fake: FakeKiln, referer: str, given: dict[str, str], then: str
) -> None:
    fake.batch([{"prompt": "a fox", **SMALL}], name="night")  # type: ignore[list-item]
    headers = HTML | {"Referer": referer.format(base=str(local.base_url).rstrip("/"))}
    held = guard(local)
    with fake.away():
        answer = local.post("/batches/night/pause", data=held | given, headers=headers)
    page = Page(answer.text)
    assert (answer.status_code, page.faults) == (503, [])
    (main,) = page.all("main")
    assert (main["hx-get"], main["hx-trigger"]) == (then, "every 5s")
    assert page.all("a", href=then)
    assert local.get(then, headers=HTML).status_code == 200


def test_browsers_tell_pages_of_here_where_a_form_was(local: httpx.Client) -> None:
    """Else the origin that they tell of it is null, and it is refused as another site's."""
    assert local.get("/new", headers=HTML).headers["referrer-policy"] == "same-origin"


def test_the_farm_is_the_admins(door: Door, fake: FakeKiln) -> None:
    client, admin = door("one"), door("admin")
    assert client.get("/farm", headers=HTML).status_code == 403
    order = {"verb": "pause", "target": "farm"}
    assert send(client, guard(client) | order, "/farm/orders").status_code == 403
    assert send(admin, order, "/farm/orders").status_code == 403  # no guard
    assert 'href="/farm"' not in client.get("/", headers=HTML).text
    page = read(admin, "/farm")
    assert "Workers" in page.words
    done = send(admin, guard(admin) | order, "/farm/orders").headers["location"]
    assert "farm paused" in read(admin, done).text
    assert ["every 4s" in admin.get(one, headers=HTML).text for one in (done, "/farm")] == [True, False]
    assert "farm" in fake.farm().paused
    assert "The whole farm is paused." in read(admin, "/farm").text
    now = read(admin, "/")
    assert now.all("form", action="/farm/orders")
    assert not read(client, "/").all("form", action="/farm/orders")
    send(admin, hidden(now), "/farm/orders")
    assert fake.farm().paused == set()
    for target in ("client:two", "model:demo"):
        send(admin, guard(admin) | {"verb": "pause", "target": target}, "/farm/orders")
        assert target in fake.farm().paused
        assert "paused" in read(admin, "/farm").words
    for bad in ({"target": "model:none"}, {"target": "x"}, {"verb": "stop"}):
        answer = send(admin, guard(admin) | order | bad, "/farm/orders")
        assert (answer.status_code, Page(answer.text).faults) == (422, [])


def test_a_drain_is_asked_first(door: Door, fake: FakeKiln) -> None:
    admin = door("admin")
    (worker_name,) = (one.name for one in fake.farm().workers)
    order = {"verb": "drain", "target": f"worker:{worker_name}"}
    asked = send(admin, guard(admin) | order, "/farm/orders")
    assert f"Drain {worker_name}?" in asked.text
    job = fake.submit(prompt="a fox", **SMALL)  # type: ignore[misc]
    assert send(admin, hidden(Page(asked.text)), "/farm/orders").status_code == 303
    fake.work()
    assert fake.status(job.id).state == "queued"  # it has left


def test_without_the_key_the_farm_says_what_is_missing(settings: Settings, one: Kiln, people: object) -> None:
    keyless = settings.model_copy(update={"admin_key": None})
    worker(one, "mac-1", "idle", kiln_memory="16000000000", kiln_hours="4000000000-4000003600")
    with serving(keyless, settings.tokens) as where, httpx.Client(base_url=where) as client:  # no tokens
        assert not read(client, "/").all("form", action="/farm/orders")
        page = read(client, "/farm")
        assert "KILN_ADMIN_KEY is not set" in page.text
        assert {"16.0 GB to use"} <= set(page.words)
        assert all("disabled" in found for found in page.all("button") if "Pause" in str(found))
        answer = send(client, guard(client) | {"verb": "pause", "target": "farm"}, "/farm/orders")
        assert answer.status_code == 503
        assert "KILN_ADMIN_KEY is not set" in answer.text
