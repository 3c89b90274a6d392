"""The inhibitor's process lives as long as it is needed."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pixelkiln.worker.host import keep_awake as module
from pixelkiln.worker.host.keep_awake import KeepAwake


def test_the_inhibitor_is_out_of_the_terminals_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_command", lambda *_: ["sleep", "600"])
    awake = KeepAwake()
    awake.hold()
    child = awake._child
    assert child is not None
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        awake.release()
    assert child.returncode is not None


class Inhibitors:
    """Stands in for subprocess: which inhibitors run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alive: list[list[str]] = []
        monkeypatch.setattr(module.subprocess, "Popen", self.start)

    def start(self, command: list[str], **options: object) -> Inhibitor:
        self.alive.append(command)
        return Inhibitor(command, self.alive)

    @property
    def flags(self) -> list[list[str]]:
        return [[word for word in command if word in ("-i", "-s")] for command in self.alive]


class Inhibitor:
    def __init__(self, command: list[str], alive: list[list[str]]) -> None:
        self.command, self._alive = command, alive

    def poll(self) -> int | None:
        return None if self.command in self._alive else 0

    def terminate(self) -> None:
        self._alive.remove(self.command)

    def wait(self) -> int:
        return 0


@pytest.fixture
def inhibitors(monkeypatch: pytest.MonkeyPatch) -> Inhibitors:
    return Inhibitors(monkeypatch)


def test_a_mac_on_mains_stays_awake_between_jobs(
    inhibitors: Inhibitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "mac", lambda: True)
    awake = KeepAwake("mains")
    for _ in range(2):
        awake.idle()
        assert inhibitors.flags == [["-s"]]  # counts while it is plugged in, says caffeinate(8)
        awake.hold()
        assert inhibitors.flags == [["-i", "-s"]]
    awake.release()
    assert inhibitors.alive == []


def test_the_inhibitor_watches_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mac", lambda: True)
    assert module._command("-s") == ["/usr/bin/caffeinate", "-s", "-w", str(os.getpid())]


@pytest.mark.parametrize("apple", [True, False])
def test_always_and_working(inhibitors: Inhibitors, monkeypatch: pytest.MonkeyPatch, apple: bool) -> None:
    monkeypatch.setattr(module, "mac", lambda: apple)
    monkeypatch.setattr(module, "_command", lambda *flags: ["inhibit", *flags])
    awake = KeepAwake("always")
    awake.idle()
    assert inhibitors.flags == [["-i", "-s"]]
    awake.release()
    awake = KeepAwake("working")
    awake.idle()
    assert inhibitors.alive == []
    awake.hold()
    assert len(inhibitors.alive) == 1
    awake.idle()
    assert inhibitors.alive == []


def test_elsewhere_the_plug_is_looked_at_now_and_then(
    inhibitors: Inhibitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, plugged = [0.0], [True]
    monkeypatch.setattr(module, "mac", lambda: False)
    monkeypatch.setattr(module, "_command", lambda *flags: ["inhibit"])
    monkeypatch.setattr(
        module.psutil,
        "sensors_battery",
        lambda: SimpleNamespace(power_plugged=plugged[0]),
        raising=False,
    )
    awake = KeepAwake("mains", lambda: now[0])
    awake.idle()
    assert inhibitors.alive
    plugged[0] = False
    awake.idle()
    assert inhibitors.alive  # not looked at again yet
    now[0] = module.LOOK
    awake.idle()
    assert inhibitors.alive == []
    awake.hold()
    assert inhibitors.alive


def test_an_inhibitor_that_does_not_start_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_command", lambda *flags: ["/nowhere/caffeinate"])
    monkeypatch.setattr(module, "mac", lambda: True)
    awake = KeepAwake()
    for _ in range(3):
        awake.idle()
    assert len(caplog.records) == 1
