"""A file of jobs in a page, between its dry run and the button that sends it."""

from __future__ import annotations

import secrets

import httpx

from pixelkiln.testing import FakeKiln
from tests.jobs.web.page.reading import Page
from tests.jobs.web.page.test_new import blank, hidden, send


def test_a_large_file_that_was_looked_at_can_be_sent(local: httpx.Client, fake: FakeKiln) -> None:
    """Of words that no compression makes smaller: its page carries more than the megabyte of usual fields."""
    file = "".join(f"{secrets.token_hex(1900)}\n" for _ in range(400))
    guard = {"csrf": blank(local)["csrf"]}
    looked = send(local, guard, "/new/file", files={"file": ("night.txt", file)}, timeout=60)
    assert looked.status_code == 200, looked.text
    held = hidden(Page(looked.text))
    assert len(held["file"]) > 2**20
    sent = send(local, {**held, "name": "night"}, "/new/batch", timeout=60)
    assert sent.headers.get("location") == "/batches/night", sent.text
    assert len(fake.open_batch("night").entries) == 400
