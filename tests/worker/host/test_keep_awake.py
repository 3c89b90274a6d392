"""The inhibitor's process lives as long as it is needed."""

from __future__ import annotations

import os

import pytest

from pixelkiln.worker.host import keep_awake as module
from pixelkiln.worker.host.keep_awake import KeepAwake


def test_the_inhibitor_is_out_of_the_terminals_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_command", lambda: ["sleep", "600"])
    awake = KeepAwake()
    awake.hold()
    child = awake._child
    assert child is not None
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        awake.release()
    assert child.returncode is not None
