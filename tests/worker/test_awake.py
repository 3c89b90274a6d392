"""The inhibitor's process lives as long as it is needed."""

from __future__ import annotations

import os

import pytest

from worker import awake as module
from worker.awake import Awake


def test_the_inhibitor_is_out_of_the_terminals_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_command", lambda: ["sleep", "600"])
    awake = Awake()
    awake.hold()
    child = awake._child
    assert child is not None
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        awake.release()
    assert child.returncode is not None
