"""Addresses and commands in the settings, and what `kiln doctor` says of them."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.jobs import Settings, UsageError
from pixelkiln.worker.telling import reach
from tests.jobs.commands.conftest import run
from tests.jobs.commands.running import Run

__all__ = ["run"]

SECRET = "a secret of forty-two letters or so"


def test_addresses_are_words_or_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ('webhooks = ["https://a/", "https://b/"]', 'on_batch_done = ["say", "a b"]')
    (tmp_path / "kiln.toml").write_text("\n".join(lines))
    settings = Settings.load()
    assert settings.webhooks == ("https://a/", "https://b/")
    assert settings.on_batch_done == ("say", "a b")
    monkeypatch.setenv("KILN_WEBHOOKS", "https://c/x?y=z  https://d/")
    monkeypatch.setenv("KILN_ON_BATCH_DONE", "notify-send 'a b' \"c\"")
    settings = Settings.load()
    assert settings.webhooks == ("https://c/x?y=z", "https://d/")
    assert settings.on_batch_done == ("notify-send", "a b", "c")
    assert "https://" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("KILN_WEBHOOKS", "hooks.example.com", "must be addresses as https://host/path, parted by spaces"),
        ("KILN_WEBHOOKS", "https://u:hunter2@a/", "the address at a must have neither a user nor a fragment"),
        ("KILN_WEBHOOKS", " ".join(f"https://h{n}/" for n in range(9)), "may be 8 addresses, not 9"),
        ("KILN_WEBHOOK_SECRET", "hunter2", "needs at least 16 characters"),
        ("KILN_ON_BATCH_DONE", "say 'it", "No closing quotation"),
    ],
)
def test_what_is_none_is_told_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, told: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(UsageError, match=f"^{name}(_0)?: {re.escape(told)}") as refused:
        Settings.load()
    assert "hunter2" not in str(refused.value)


@pytest.mark.usefixtures("environment")
def test_doctor_says_in_words_which_address_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"good.example": ["1.1.1.1"], "cloud.example": ["1.1.1.1", "169.254.169.254"]}
    resolve = socket.getaddrinfo

    def known(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if not str(host).endswith(".example"):
            return resolve(host, port, *more, **named)
        return [(2, 1, 6, "", (address, port)) for address in found.get(host, ["10.0.0.9"])]

    monkeypatch.setattr(reach.socket, "getaddrinfo", known)
    hooks = ("https://good.example/a?b=hunter2", "https://cloud.example/", "http://nas.example/")
    monkeypatch.setenv("KILN_WEBHOOKS", " ".join(hooks))
    told = [one for one in run("doctor", "--json").json if one["what"] == "webhooks"]
    assert [(one["state"], one["found"]) for one in told] == [
        ("problem", "no KILN_WEBHOOK_SECRET: no worker starts"),
        ("ok", "good.example is told of what ends (at 1.1.1.1)"),
        ("problem", "cloud.example is link-local (169.254.169.254) and is told nothing"),
        ("problem", "nas.example is told in the clear"),
    ]
    assert all("KILN_WEBHOOK_HOSTS" in one["mend"] for one in told[2:])
    monkeypatch.setenv("KILN_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("KILN_WEBHOOK_HOSTS", "NAS.example cloud.example")
    ran = run("doctor", "--json")
    assert {one["state"] for one in ran.json if one["what"] == "webhooks"} == {"ok"}
    assert "hunter2" not in ran.out
    assert SECRET not in ran.out
