"""A log's lines are the worker's own, whatever strangers wrote."""

from __future__ import annotations

import logging
import subprocess
import sys

from pixelkiln.worker.host.log import LINE, Lines

WORKER = """
import logging
from pixelkiln.worker.host.log import log_to_stderr
log_to_stderr()
for name in ("kiln.test", "rq.worker"):
    try:
        raise ValueError("of a stranger: \\x1b[2J")
    except ValueError:
        logging.getLogger(name).exception("it failed")
"""


def test_an_event_is_one_line_of_bounded_length() -> None:
    text = "a\nforged line\x1b[2J" + "x" * 2000
    record = logging.LogRecord("kiln.test", logging.WARNING, "", 0, "job %s failed", (text,), None)
    line = Lines("%(levelname).1s %(name)s: %(message)s").format(record)
    assert line.startswith("W kiln.test: job a")
    assert line.isprintable()
    assert len(line) == LINE


def test_a_traceback_follows_but_none_of_rqs() -> None:
    environment = {"INVOCATION_ID": "of systemd, which stamps lines itself", "PYTHONUTF8": "1"}
    ran = subprocess.run([sys.executable, "-c", WORKER], env=environment, capture_output=True, text=True)
    lines = ran.stderr.splitlines()
    assert lines[0] == "E kiln.test: it failed"
    assert lines[-2:] == ["ValueError: of a stranger: \ufffd[2J", "E rq.worker: it failed"]
    assert all(line.isprintable() for line in lines)
