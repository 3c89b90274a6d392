"""Which endings bring a service back, and which keep it away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from pixelkiln.jobs.errors import KilnError, NotReadyError, StorageAwayError, StorageRefusedError, UsageError
from pixelkiln.jobs.queue.connection import connect, explained
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.host.restarts import REFUSALS, Record, hold, kind_of, meaning


def ended(record: Path, error: BaseException | None, gave_up: int = 78) -> int:
    def work() -> None:
        if error is not None:
            raise error

    return hold(work, record, lambda text: None, gave_up=gave_up, clock=lambda: 1.0)


ENDINGS: list[tuple[BaseException | None, str, list[int]]] = [
    (None, "left", [0, 0]),
    (KeyboardInterrupt(), "left", [0, 0]),  # how `up` is told to leave
    (UsageError("no such setting"), "lasting", [78, 78]),
    (NotReadyError("Redis is unreachable"), "passing", [3] * 9),
    (StorageAwayError("the bucket is unreachable"), "passing", [3] * 9),
    (StorageRefusedError("wrong key"), "refused", [3] * (REFUSALS - 1) + [78, 3]),
    (KilnError("unwell"), "passing", [1] * 9),
]


@pytest.mark.parametrize(("error", "kind", "codes"), ENDINGS, ids=lambda one: str(one)[:20])
def test_endings_and_exit_codes(
    tmp_path: Path, error: BaseException | None, kind: str, codes: list[int]
) -> None:
    record = tmp_path / "state" / "worker.json"
    assert [ended(record, error) for _ in codes] == codes
    found = Record.read(record)
    assert found is not None
    assert (found.kind, found.reason) == (kind, str(error) if isinstance(error, KilnError) else "")


def test_launchd_is_told_to_stay_away_by_exit_code_0(tmp_path: Path) -> None:
    record = tmp_path / "worker.json"
    assert ended(record, UsageError("no"), gave_up=0) == 0
    found = Record.read(record)
    assert found is not None
    assert found.gave_up


def test_refusals_count_in_a_row_only(tmp_path: Path) -> None:
    record = tmp_path / "worker.json"
    refused, away = StorageRefusedError("no"), NotReadyError("away")
    for _ in range(REFUSALS):
        assert ended(record, refused) == 3
        assert ended(record, away) == 3
    with pytest.raises(ZeroDivisionError):
        ended(record, ZeroDivisionError())  # a traceback, exit code 1, and it comes again
    found = Record.read(record)
    assert found is not None
    assert (found.kind, found.gave_up) == ("passing", False)


def test_a_process_that_was_killed_leaves_no_old_reason(tmp_path: Path) -> None:
    record = tmp_path / "worker.json"
    ended(record, NotReadyError("away"))
    with pytest.raises(SystemExit):
        hold(lambda: _leave(record), record, lambda text: None, gave_up=0)


def _leave(record: Path) -> None:
    found = Record.read(record)
    assert found is not None
    assert (found.kind, found.reason) == ("running", "")
    raise SystemExit


def test_a_record_that_cannot_be_kept_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert ended(tmp_path / "file" / "worker.json", NotReadyError("away")) == 3
    (tmp_path / "torn").write_text("{")
    assert Record.read(tmp_path / "torn") is None


def spoiled_password(url: str) -> str:
    head, _, tail = url.rpartition("@")
    return f"{head}x@{tail}"


REAL: dict[str, tuple[Callable[[Settings], Settings], str]] = {
    "right": (lambda settings: settings, ""),
    "wrong password": (
        lambda settings: settings.model_copy(
            update={"redis_url": SecretStr(spoiled_password(settings.redis_url.get_secret_value()))}  # type: ignore[union-attr]
        ),
        "refused",
    ),
    "nobody there": (
        lambda settings: settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}),
        "passing",
    ),
    "no address": (
        lambda settings: settings.model_copy(update={"redis_url": SecretStr("redis://h:x/")}),
        "lasting",
    ),
    "no bucket": (lambda settings: settings.model_copy(update={"s3_bucket": "not-there"}), "refused"),
    "storage away": (
        lambda settings: settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:1"}),
        "passing",
    ),
}


@pytest.mark.parametrize("case", REAL)
def test_what_real_servers_say_is_told_apart(settings: Settings, case: str) -> None:
    change, kind = REAL[case]
    changed = change(settings)
    found = ""
    try:
        with explained(changed), connect(changed) as connection:
            connection.ping()
        Bucket.open(changed, attempts=1).check()
    except KilnError as error:
        found = kind_of(error)
    assert found == kind


def test_meanings() -> None:
    assert "watchdog" in meaning(75)
    assert "protected folder" in meaning(126)
    assert "EX_CONFIG" in meaning(78)
    assert "signal 31" in meaning(None, 31)
    assert "killed" in meaning(None, 9)
    assert "exit code 99" in meaning(99)
