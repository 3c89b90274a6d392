"""The forms that ask for pictures: what each refuses, beside its field, and that nothing is made twice."""

from __future__ import annotations

import io
import re
from typing import Any

import httpx
import pytest
from PIL import Image

from pixelkiln import Kiln, Settings
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.spec import MAX_PROMPT
from pixelkiln.jobs.web.limits import CARRIED
from pixelkiln.jobs.web.page.frame import FIELD, FIELDS, FILES
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.page.reading import HTML, Page, read

SMALL = {"model": "demo", "size": "own", "width": "64", "height": "64"}
DEV = {"model": "hidream-o1-dev", "prompt": "a table"}
FILE = "prompt,model,width,height\na fox,demo,64,64\na hare,demo,64,64\n"


def picture(colour: str = "teal", size: tuple[int, int] = (64, 64)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def hidden(page: Page) -> dict[str, str]:
    """What the first form with a key, or else the last, holds unseen."""
    return {str(one["name"]): one["value"] or "" for one in page.all("input", type="hidden") if "name" in one}


def blank(client: httpx.Client, address: str = "/new") -> dict[str, str]:
    """The guard and the key of a fresh form."""
    held = hidden(read(client, address))
    return {name: held[name] for name in ("csrf", "key")}


def send(client: httpx.Client, fields: dict[str, Any], path: str = "/new", **files: Any) -> httpx.Response:
    return client.post(path, data=fields, headers=HTML, **files)


def fault(answer: httpx.Response, name: str) -> str:
    """What stands beside a field."""
    page = Page(answer.text)
    assert page.faults == []
    found = re.search(rf'id="{name}-fault">([^<]*)<', answer.text)
    return found[1].replace("&#39;", "'") if found else ""


@pytest.mark.parametrize("model", CATALOGUE)
def test_a_form_has_what_its_model_takes(local: httpx.Client, model: str) -> None:
    page = read(local, f"/new?model={model}&prompt=a+fox")
    names = {one.get("name") for tag in ("input", "textarea", "select") for one in page.all(tag)}
    of = CATALOGUE[model]
    assert ("negative_prompt" in names) == of.negative_prompt
    assert ("pictures" in names) == (of.max_references > 0)
    assert ("strength" in names) == of.strength
    assert ("pace" in names) == of.coarse
    assert ("blend_seams" in names) == of.seams
    assert ("guidance" in names) == (of.guidance.range is not None)
    assert "a fox" in page.text
    assert "maxlength" not in page.all("textarea", id="prompt")[0]  # by it browsers cut a long one unsaid


def test_a_form_is_one_job(local: httpx.Client, fake: FakeKiln) -> None:
    fields = {**blank(local), **SMALL, "prompt": "a fox\r\nin snow", "seed": "7", "labels": "of=night"}
    first = send(local, fields)
    again = send(local, fields)  # a double click
    assert (first.status_code, first.headers["location"]) == (303, again.headers["location"])
    (job,) = fake.jobs()
    spec = fake.specs([job])[job.id]
    assert (spec.prompt, spec.seed, spec.labels, spec.width) == ("a fox\nin snow", 7, {"of": "night"}, 64)
    other = send(local, {**fields, "prompt": "a hare"})  # gone back, and changed
    assert other.headers["location"] != first.headers["location"]
    drawn = {**blank(local), **SMALL, "prompt": "an owl"}
    assert send(local, drawn).headers["location"] == send(local, drawn).headers["location"]
    assert len(fake.jobs()) == 3


def test_several_are_a_batch_with_seeds_of_their_own(local: httpx.Client, fake: FakeKiln) -> None:
    fields = {**blank(local), **SMALL, "prompt": "a fox", "many": "3", "batch": "foxes", "seed": "5"}
    for _ in range(2):
        assert send(local, fields).headers["location"] == "/batches/foxes"
    assert [entry.spec.seed for entry in fake.open_batch("foxes").entries] == [5, 6, 7]
    other = send(local, {**fields, **blank(local), "prompt": "a hare"})
    assert "already" in fault(other, "batch")
    unnamed = send(local, {**fields, **blank(local), "batch": "", "seed": ""}).headers["location"]
    assert len({entry.spec.seed for entry in fake.open_batch(unnamed.rpartition("/")[2]).entries}) == 3


@pytest.mark.parametrize(
    ("fields", "name", "said"),
    [
        ({"prompt": " "}, "prompt", "is empty"),
        ({"prompt": "a\x07"}, "prompt", "control character"),
        ({"seed": "x"}, "seed", "must be a whole number, not 'x'"),
        ({"seed": "-1"}, "seed", "greater"),
        ({"prompt": "x" * 4001}, "prompt", "the limit is 4,000"),
        ({"pace": "own", "steps": "99"}, "pace", "out of range"),
        ({"pace": "own"}, "pace", "say how many"),
        ({"pace": "own", "coarse_steps": "1.5"}, "pace", "whole number"),
        ({"width": "65"}, "size", "not a multiple of 32"),
        ({"width": ""}, "size", "width is missing"),
        ({"labels": "night"}, "labels", "'night' is not NAME=TEXT"),
        ({"labels": "Night=1"}, "labels", "must be 1 to 48"),
        ({"many": "99"}, "many", "must be 1 to 16"),
        ({"batch": "a b"}, "batch", "must be letters"),
        ({"client": "A B"}, "client", "must be 1 to 48"),
        ({"model": "dall-e"}, "model", "no such model"),
        ({"quantization": "q3"}, "quantization", "must be"),
        ({"model": "qwen-image", "guidance": "99"}, "guidance", "out of range"),
        ({"model": "z-image-turbo", "strength": "0.5"}, "strength", "needs a reference picture"),
        ({"model": "hidream-o1-dev", "keep_aspect": "1"}, "keep_aspect", "exactly one reference"),
        ({"model": "qwen-image-edit-2511"}, "references", "needs at least 1"),
    ],
)
def test_bad_input_is_told_beside_its_field_and_kept(
    local: httpx.Client, fake: FakeKiln, fields: dict[str, str], name: str, said: str
) -> None:
    typed = {**blank(local), **SMALL, "prompt": "a fox & <b>", "size": "own", **fields}
    typed |= {} if fields.get("model", "demo") == "demo" else {"width": "1024", "height": "1024"}
    answer = send(local, typed)
    assert answer.status_code == 422
    assert said in fault(answer, name)
    assert "Nothing was sent." in answer.text
    if "prompt" not in fields:
        assert "a fox &amp; &lt;b&gt;</textarea>" in answer.text
    assert f'value="{typed["key"]}"' in answer.text
    for one in ("seed", "batch", "many"):
        assert not fields.get(one) or f'value="{fields[one]}"' in answer.text
    assert fake.jobs() == []


def test_pictures_are_checked_shown_ordered_and_removed(local: httpx.Client, fake: FakeKiln) -> None:
    fields = {**blank(local), **DEV}
    files = [("pictures", ("a.png", picture("red"))), ("pictures", ("b.png", b"none"))]
    shown = send(local, {**fields, "act": "add"}, files=files)
    assert "b.png: " in fault(shown, "references")
    (red,) = [one["value"] for one in Page(shown.text).all("input", name="reference")]
    assert local.get(f"/references/{red}").headers["content-type"] == "image/webp"
    answer = send(
        local, {**fields, "act": "add", "reference": red}, files=[("pictures", ("c.png", picture("blue")))]
    )
    names = [one["value"] for one in Page(answer.text).all("input", name="reference")]
    assert names[0] == red
    moved = send(local, {**fields, "act": "later:0", "reference": names})
    assert [one["value"] for one in Page(moved.text).all("input", name="reference")] == names[::-1]
    gone = send(local, {**fields, "act": "remove:1", "reference": names})
    assert [one["value"] for one in Page(gone.text).all("input", name="reference")] == [red]
    other = send(local, {**fields, "act": "model", "model": "demo", "reference": names})
    assert [one["value"] for one in Page(other.text).all("input", name="reference")] == names  # kept
    assert fake.jobs() == []
    edges = {"x1": ["0.1", ""], "x2": ["0,5", ""], "y1": ["0", ""], "y2": ["1", ""]}
    boxes = {f"box-{edge}": values for edge, values in edges.items()}
    sent = send(local, {**fields, "reference": names, **boxes})
    assert sent.status_code == 303, sent.text
    (job,) = fake.jobs()
    spec = fake.specs([job])[job.id]
    assert list(spec.references) == names
    assert [(box.x1, box.x2, box.y1, box.y2) for box in spec.layout] == [(0.1, 0.5, 0.0, 1.0)]
    wrong = send(local, {**fields, "reference": names, **boxes, "box-x2": ["x", ""]})
    assert "four numbers" in fault(wrong, "references")
    wrong = send(local, {**fields, "reference": names, **{name: one[::-1] for name, one in boxes.items()}})
    assert "first pictures" in fault(wrong, "references")


def test_a_job_is_taken_as_a_beginning(local: httpx.Client, fake: FakeKiln) -> None:
    name = hidden(
        Page(send(local, {**blank(local), **DEV, "act": "add"}, files={"pictures": picture()}).text)
    )["reference"]
    box = {"x1": 0.25, "x2": 1.0, "y1": 0.0, "y2": 0.5, "text": "left"}
    asked: dict[str, Any] = {**DEV, "seed": 9, "steps": 20, "references": [name], "layout": [box]}
    asked |= {"blend_seams": 2, "labels": {"of": "night"}, "priority": "low", "width": 512, "height": 768}
    job = fake.submit(asked)  # type: ignore[arg-type]
    page = read(local, f"/new?from={job.id}")
    assert "That picture's was 9" in page.text
    fields: dict[str, Any] = {}
    for tag in page.all("input"):
        if tag.get("name") and (tag.get("type") not in ("radio", "checkbox", "file") or "checked" in tag):
            fields.setdefault(str(tag["name"]), tag.get("value") or "")
    fields |= {"model": DEV["model"], "prompt": DEV["prompt"], "labels": "of=night", "size": "own"}
    sent = send(local, fields | {"priority": "low"})
    made = fake.specs([fake.status(sent.headers["location"].rpartition("/")[2])])
    (spec,) = made.values()
    assert spec.differs(job.spec) == ["seed"]
    assert (spec.labels, spec.priority) == (job.spec.labels, job.spec.priority)


@pytest.mark.parametrize("pace", ["fast", "draft"])
def test_fast_and_draft_are_the_commands_own(local: httpx.Client, fake: FakeKiln, pace: str) -> None:
    sent = send(local, {**blank(local), "model": "demo", "prompt": "a fox", "pace": pace})
    (spec,) = fake.specs([fake.status(sent.headers["location"].rpartition("/")[2])]).values()
    shares = CATALOGUE["demo"].shares(256, 256)
    wanted = (None, shares.fast) if pace == "fast" else shares.draft
    assert (spec.steps, spec.coarse_steps) == wanted


def test_what_is_held_of_a_form_in_memory_is_bounded(local: httpx.Client) -> None:
    fields = {**blank(local), **SMALL}
    long = {**fields, "prompt": "x" * (FIELD + 1)}
    many = {**fields, **{f"field-{number}": "" for number in range(FIELDS)}}
    none = [("pictures", (f"{number}.png", b"")) for number in range(FILES + 1)]
    for sent, files in ((long, []), (long, none[:1]), (many, []), (many, none[:1]), (fields, none)):
        answer = local.post("/new", data=sent, files=files, headers=HTML)
        assert (answer.status_code, "aximum" in answer.text) == (400, True)
    longest = {**fields, "prompt": "\N{FOX FACE}" * MAX_PROMPT}
    for files in ([], [("steps", (None, ""))]):
        assert local.post("/new", data=longest, files=files, headers=HTML).status_code == 303
    file = {**fields, "name": "n", "file": "A" * (CARRIED - 2) + "=="}
    assert send(local, file, "/new/batch").status_code == 422  # it is read, and is none
    assert send(local, {**file, "more": file["file"]}, "/new/batch").status_code == 413


def test_an_outage_keeps_what_was_typed(local: httpx.Client, fake: FakeKiln) -> None:
    fields = {**blank(local), **SMALL, "prompt": "typed for long"}
    with fake.away():
        answer = send(local, fields)
    assert answer.status_code == 503
    assert "typed for long" in answer.text
    assert "Nothing was sent." in answer.text
    assert send(local, fields).status_code == 303


def test_forms_of_others_and_for_others_are_refused(door: Door, fake: FakeKiln) -> None:
    one, admin = door("one"), door("admin")
    fields = {**blank(one), **SMALL, "prompt": "a fox"}
    for bad in ({**fields, "csrf": ""}, {**fields, "csrf": blank(door("two"))["csrf"]}):
        assert send(one, bad).status_code == 403
    assert send(one, {**fields, "client": "two"}).status_code == 404
    assert 'name="client"' not in one.get("/new", headers=HTML).text
    assert send(admin, {**fields, **blank(admin), "client": "two"}).status_code == 303
    assert [job.client for job in fake.jobs(client=None)] == ["two"]
    job = fake.as_client("two").submit(prompt="an owl", model="demo")
    assert one.get(f"/new?from={job.id}", headers=HTML).status_code == 404
    assert one.get(f"/references/{'0' * 64}", headers=HTML).status_code == 404
    for path, name in (("/new/file", "file"), ("/new/batch", "file")):
        assert send(one, {name: ""}, path).status_code == 403


def test_a_file_is_looked_at_and_then_sent(real: Door, kiln: Kiln) -> None:
    local, mine = real("one"), kiln.as_client("one")
    guard = {"csrf": blank(local)["csrf"]}
    plan = send(local, guard, "/new/file", files={"file": ("cards v2.csv", FILE)})
    assert plan.status_code == 200
    page = Page(plan.text)
    assert page.faults == []
    assert {"a fox", "a hare"} <= set(page.words)
    assert mine.jobs() == []
    held = hidden(page)
    assert re.search(r'name="name"[^>]* value="cards-v2"', plan.text)
    wrong = send(local, {**held, "name": "a b"}, "/new/batch")
    assert (wrong.status_code, mine.jobs()) == (422, [])
    assert "must be letters" in fault(wrong, "name")
    for _ in range(2):
        sent = send(local, {**held, "name": "cards"}, "/new/batch")
        assert sent.headers["location"] == "/batches/cards"
    assert len(mine.jobs()) == 2
    more = send(local, {**guard, "name": "cards"}, "/new/file", files={"file": ("c.csv", FILE)})
    assert "There is a batch of that name, of 2." in more.text


def test_a_file_is_sent_for_a_night(real: Door, kiln: Kiln) -> None:
    local, mine = real("one"), kiln.as_client("one")
    plan = send(local, {"csrf": blank(local)["csrf"]}, "/new/file", files={"file": ("cards.csv", FILE)})
    held = {**hidden(Page(plan.text)), "name": "cards", "pace": "draft", "not_before": "2090-01-01T22:00Z"}
    for late in ("soon", "2020-01-01", "x" * 300):
        wrong = send(local, {**held, "deadline": late}, "/new/batch")
        assert (wrong.status_code, mine.jobs()) == (422, [])
        assert re.search("is no time|is over", fault(wrong, "deadline"))
        assert '<option value="draft" selected>' in wrong.text
    look = send(local, {**held, "deadline": "9h", "act": "look"}, "/new/batch")
    assert (look.status_code, mine.jobs()) == (200, [])
    assert "<dt>deadline</dt>" in look.text
    assert re.search(r"on the server&#39;s clock it is \d\d:\d\d\.", look.text)
    assert Page(look.text).faults == []
    assert send(local, {**held, "deadline": "9h"}, "/new/batch").status_code == 303
    assert {job.not_before for job in mine.jobs()} == {"2090-01-01T22:00:00Z"}
    assert {spec.steps for spec in mine.specs(mine.jobs()).values()} == {
        CATALOGUE["demo"].shares(64, 64).draft[0]
    }
    status = mine.open_batch("cards").status()
    assert status.deadline is not None


def test_what_is_wrong_in_a_file_is_told_by_line_and_column(real: Door, kiln: Kiln) -> None:
    local, mine = real("one"), kiln.as_client("one")
    guard = {"csrf": blank(local)["csrf"]}
    rows = FILE + "an owl,demo,65,64\nan elk,nomodel,64,64\n"
    plan = send(local, guard, "/new/file", files={"file": ("c.csv", rows)})
    assert "2 rows are refused" in plan.text
    assert re.search(r'data-name="line">4</th><td data-name="column">width</td>', plan.text)
    held = {**hidden(Page(plan.text)), "name": "cards"}
    refused = send(local, held, "/new/batch")
    assert "mend the file" in fault(refused, "skip")
    assert mine.jobs() == []
    assert send(local, {**held, "skip": "1"}, "/new/batch").status_code == 303
    assert len(mine.jobs()) == 2


@pytest.mark.parametrize("body", [b"", b"\x89PNG\r\n\x1a\n", b'{"jobs": [', b"prompt,colour\na fox,red\n"])
def test_what_is_no_file_of_jobs_is_told(local: httpx.Client, body: bytes) -> None:
    guard = {"csrf": blank(local)["csrf"]}
    answer = send(local, guard, "/new/file", files={"file": ("c.csv", body)})
    assert answer.status_code == 422
    page = Page(answer.text)
    assert page.faults == []
    for held in ("", "AAAA", "x" * 9):
        assert send(local, {**guard, "name": "n", "file": held}, "/new/batch").status_code == 422


def test_over_real_servers(real: Door, kiln: Kiln, settings: Settings) -> None:
    one = real("one")
    made = send(one, {**blank(one), **DEV, "act": "add"}, files={"pictures": picture()})
    name = hidden(Page(made.text))["reference"]
    assert one.get(f"/references/{name}").content[8:12] == b"WEBP"
    assert real("two").get(f"/references/{name}").status_code == 404
    assert real("admin").get(f"/references/{name}?client=one").status_code == 200
    sent = send(one, {**blank(one), **DEV, "reference": name, "many": "2"})
    assert sent.status_code == 303, fault(sent, "references")
    assert read(one, sent.headers["location"]).faults == []
