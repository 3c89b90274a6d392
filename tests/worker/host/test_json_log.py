"""Logs for programs: an object a line."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pixelkiln import Settings
from pixelkiln.jobs.logs import LINE, JsonLines
from pixelkiln.worker.commands.service.run import _say
from tests.waiting import until


def told(message: str, *arguments: object, **more: object) -> dict[str, str]:
    record = logging.LogRecord("kiln.test", logging.WARNING, "", 0, message, arguments, None)
    record.__dict__.update(more)
    lines = JsonLines()
    lines.worker = "mac-1"
    text = lines.format(record)
    assert text.isascii()
    assert text.isprintable()
    found: dict[str, str] = json.loads(text)
    return found


def test_a_line_is_an_object_that_names_job_and_worker() -> None:
    found = told("job %s failed: %s", "fox-1", "no\nroom\x1b[2J")
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "logger": "kiln.test",
        "message": "job fox-1 failed: no�room�[2J",
        "worker": "mac-1",
        "job": "fox-1",
    }
    assert "job" not in told("%d pictures wait", 3)
    assert "job" not in told("job done")
    assert len(told("x" * 10_000)["message"]) == LINE


def test_a_traceback_is_in_its_line() -> None:
    try:
        raise ValueError("of a stranger: \x1b[2J")
    except ValueError:
        found = told("it failed", exc_info=sys.exc_info())
    assert found["error"].startswith("Traceback")
    assert "ValueError: of a stranger" in found["error"]


@pytest.mark.parametrize("way", ["setting", "option"])
def test_a_worker_logs_so(settings: Settings, tmp_path: Path, way: str) -> None:
    assert settings.redis_url is not None
    environment = os.environ | {
        "KILN_REDIS_URL": settings.redis_url.get_secret_value(),
        "KILN_S3_ENDPOINT": str(settings.s3_endpoint),
        "KILN_S3_BUCKET": settings.s3_bucket,
        "KILN_MODELS_DIR": str(settings.models_dir),
        "KILN_SPOOL_DIR": str(settings.spool_dir),
    }
    environment |= {"KILN_LOG": "json"} if way == "setting" else {}
    options = ["--log-json"] if way == "option" else []
    log = tmp_path / "log"
    command = [sys.executable, "-P", "-m", "pixelkiln", "worker", "-m", "demo", *options]
    with log.open("wb") as lines, subprocess.Popen(command, env=environment, stderr=lines) as process:
        try:
            until(lambda: " is ready: " in log.read_text() or process.poll() is not None, "it is ready")
        finally:
            process.terminate()
    found = [json.loads(line) for line in log.read_text().splitlines()]
    (ready,) = (one for one in found if " is ready: " in one["message"])
    assert ready["message"].startswith(f"{ready['worker']} is ready")
    assert (ready["level"], ready["logger"]) == ("info", "kiln.worker")


def test_what_a_service_says_is_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KILN_LOG", "json")
    _say("waits 30 s")
    assert json.loads(capsys.readouterr().err)["message"] == "waits 30 s"
