"""A picture on its way to the spool is in memory until it is there."""

from __future__ import annotations

import errno
import os

import pytest

from pixelkiln.jobs import Kiln
from pixelkiln.worker.deliver import encoder
from pixelkiln.worker.deliver.spool import Spool
from tests.waiting import until
from tests.worker.deliver.stored import Open, Take, finished
from tests.worker.pictures import rendered


def test_a_full_spool_is_waited_for_and_told_once(
    open_delivery: Open,
    take: Take,
    kiln: Kiln,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: object) -> None:
        tried.append(True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tried: list[bool] = []
    claim, delivery = take(), open_delivery()
    monkeypatch.setattr(encoder, "AGAIN", 0.02)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "put", full)
        delivery.start()
        delivery.put(rendered(claim))
        until(lambda: len(tried) > 3, "it has tried again and again")
        assert delivery.trouble is not None
        assert delivery.trouble.endswith(": No space left on device")
    finished(kiln, claim)
    assert delivery.trouble is None
    assert len([one for one in caplog.records if "cannot be spooled" in one.message]) == 1
