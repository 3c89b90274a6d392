"""`kiln up` started again under workers and producers that go on: what they know stays true, or follows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.instance import Instance
from tests.tiny import TINY_MODELS
from tests.waiting import until
from tests.worker.local.others import another_listens

KILN = Path(sys.executable).with_name("kiln")


@contextmanager
def running(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of ours in `folder` for the length of the block; its lines go to a file there."""
    environment = os.environ | {
        "KILN_MODELS_DIR": str(TINY_MODELS),
        "KILN_SPOOL_DIR": "spool",
        "HOME": str(folder),
    }
    with (
        (folder / f"{words[0]}.log").open("ab") as log,
        subprocess.Popen([KILN, *words], cwd=folder, env=environment, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextmanager
def servers(folder: Path) -> Iterator[Instance]:
    """`kiln up` in `folder`, ready."""
    with running(folder, "up") as process:
        ready = until(lambda: process.poll() is not None or Instance.read(folder / ".kiln"), "it is up")
        assert isinstance(ready, Instance), (folder / "up.log").read_text()
        yield ready


def picture(kiln: Kiln, folder: Path) -> bytes:
    """A job's picture, from submit to fetch."""
    job = kiln.submit(prompt="a fox", model="demo", width=64, height=64)
    until(lambda: kiln.status(job.id).ended, f"{job.id} has ended", 60)
    return kiln.fetch(job.id, folder).read_bytes()


def test_a_live_worker_and_producer_go_on(tmp_path: Path) -> None:
    home = tmp_path / ".kiln"
    with ExitStack() as stack:
        with servers(tmp_path) as first:
            kiln = stack.enter_context(Kiln(Settings(home=home)))
            worker = stack.enter_context(running(tmp_path, "worker"))
            first_picture = picture(kiln, tmp_path)
        master, *_ = json.loads((home / "s3" / "kept.json").read_text())["ports"]
        with ExitStack() as others:
            for port in (master, 7333, 17333):  # one of SeaweedFS's own, and its WebDAV's
                with suppress(OSError):  # held by another already
                    others.enter_context(another_listens(port))
            with servers(tmp_path) as again:
                assert (again.redis_url, again.s3_endpoint) == (first.redis_url, first.s3_endpoint)
                assert picture(kiln, tmp_path).startswith(first_picture[:8])
        for kept in home.glob("*/kept.json"):  # as one is told to where an address is taken
            kept.unlink()
        with servers(tmp_path) as moved:
            assert moved.redis_url != first.redis_url
            assert moved.secret_key != first.secret_key
            assert picture(kiln, tmp_path).startswith(first_picture[:8])
        assert worker.poll() is None
