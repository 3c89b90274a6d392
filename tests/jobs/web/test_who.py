"""Who may: tokens, hosts, origins."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from pixelkiln import UsageError
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.web import server, tokens
from pixelkiln.jobs.web.tokens import Tokens
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.serving import People, serving
from tests.jobs.web.test_jobs import FOX, sent


def test_a_token_is_kept_hashed_in_a_file_of_its_owner(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "folder" / "tokens.json")
    text = tokens.make("phone", "acme")
    written = tokens.path.read_text()
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert text not in written
    assert text[len("kiln_123456789abc_") :] not in written
    assert tokens.known(text) is None
    found = tokens.find(text)
    assert found is not None
    assert (found.name, found.client, found.admin) == ("phone", "acme", False)
    assert tokens.known(text) == found
    assert tokens.find(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    with pytest.raises(UsageError, match="there already"):
        tokens.make("phone", "acme")
    Tokens(tokens.path).revoke("phone")  # by another process
    assert tokens.known(text) is None
    assert tokens.find(text) is None


def test_a_file_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    tokens.make("phone", "acme")
    tokens.path.chmod(0o644)
    with pytest.raises(NotReadyError, match="may be read by others"):
        Tokens(tokens.path).all()


def test_a_seal_is_kept_with_the_tokens_and_goes_with_none_of_them(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "folder" / "tokens.json")
    seal = tokens.seal()
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    tokens.make("phone", "acme")
    tokens.revoke("phone")
    assert Tokens(tokens.path).seal() == seal != Tokens(tmp_path / "tokens.json").seal()


def test_who_has_no_token_is_told(door: Door, people: People) -> None:
    client = door("one")
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer nonsense"}):
        answer = client.get("/v1/jobs/x", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/v1/openapi.json", headers={"Authorization": ""}).status_code == 200


def test_who_guesses_is_held_up(door: Door, people: People) -> None:
    client, text = door("one"), people.tokens["two"]
    wrong = {"Authorization": f"Bearer {text[:18]}{'x' * 43}"}
    with ThreadPoolExecutor(20) as threads:  # at once, too
        codes = [*threads.map(lambda _: client.get("/v1/jobs/x", headers=wrong).status_code, range(20))]
    assert set(codes) == {401, 429}
    assert codes.count(401) in (10, 11)  # one more is let try each six seconds
    assert client.get("/v1/jobs/x").status_code == 404


def test_a_token_that_many_bring_at_once_is_hashed_once(
    door: Door, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, hashed, really = door("one"), list[str](), tokens._hashed
    monkeypatch.setattr(tokens, "_hashed", lambda *told: hashed.append(told[0]) or really(*told))
    with ThreadPoolExecutor(20) as threads:
        found = [*threads.map(lambda _: client.get("/v1/jobs/x").status_code, range(20))]
    assert (set(found), len(hashed)) == ({404}, 1)


def test_a_client_names_no_other(door: Door) -> None:
    answer = door("one").post("/v1/jobs", json={**FOX, "client": "two"})
    assert (answer.status_code, answer.json()["field"]) == (422, "client")
    assert sent(door("admin"), {**FOX, "client": "two"})["spec"]["client"] == "two"


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}],
)
def test_anothers_page_may_not_act(local: httpx.Client, headers: dict[str, str]) -> None:
    assert local.post("/v1/jobs", json=FOX, headers=headers).status_code == 403
    own = {"Origin": str(local.base_url).rstrip("/")}
    assert local.post("/v1/jobs", json=FOX, headers=own).status_code == 201


def test_without_tokens_it_goes_by_no_other_name(local: httpx.Client) -> None:
    for name in ("rebound.example", "[::1", "127.0.0.1.example:80", "localhost@x", ""):
        assert local.get("/v1/jobs/x", headers={"Host": name}).status_code == 421
    assert local.get("/v1/jobs/x", headers={"Host": "localhost:1"}).status_code == 404


def test_what_a_proxy_passes_on_needs_a_token(local: httpx.Client) -> None:
    for name in ("X-Forwarded-For", "Forwarded"):
        assert local.get("/v1/jobs/x", headers={name: "127.0.0.1"}).status_code == 421


@pytest.mark.parametrize("asked", [True, False], ids=["asked before", "not asked before"])
@pytest.mark.parametrize("here", [True, False], ids=["on this machine", "beyond it"])
def test_without_its_last_token_a_server_stays_closed(
    fake: FakeKiln,
    opened: ExitStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: bool,
    asked: bool,
) -> None:
    monkeypatch.setattr(server, "is_loopback", lambda bound: here)
    known = Tokens(tmp_path / "tokens.json")
    text = known.make("phone", "acme")
    client = opened.enter_context(
        httpx.Client(base_url=opened.enter_context(serving(fake.settings, known.path, fake)))
    )
    if asked:
        assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {text}"}).status_code == 200
    known.revoke("phone")
    assert client.get("/v1/jobs").status_code == 401
    known.path.unlink()
    assert client.get("/v1/jobs").status_code == 401
