"""One name, two machines at the same moment."""

from __future__ import annotations

import threading
from typing import Any

from pixelkiln.jobs import Kiln, Settings


def test_two_submit_the_same_name_at_once(settings: Settings) -> None:
    """Each row is one job, whoever was faster; none is lost from the manifest, in Redis or in the bucket."""
    start = threading.Barrier(4)
    problems: list[BaseException] = []

    def submit(own: int) -> None:
        rows: list[Any] = [{"prompt": f"fox {n}", "model": "demo"} for n in range(150)]
        try:
            with Kiln(settings) as kiln:
                start.wait(30)
                kiln.batch([*rows, {"prompt": f"only {own}", "model": "demo"}], name="night")
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=submit, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []
    with Kiln(settings) as kiln:
        batch = kiln.open_batch("night")
        assert (len(batch.entries), len(set(batch.ids)), batch.status().queued) == (154, 154, 154)
        assert sorted(entry.number for entry in batch.entries) == list(range(1, 155))
        assert kiln.redis.llen("rq:queue:kiln:demo:bf16:normal:default") == 154
        kiln.redis.delete("kiln:batch:default:night")
        assert set(kiln.open_batch("night").ids) == set(batch.ids)
