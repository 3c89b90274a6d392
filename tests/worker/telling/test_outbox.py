"""What waits to be told: in Redis, bounded, tried again with growing pauses for a day."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.worker.telling import outbox as outboxes
from pixelkiln.worker.telling.events import Event
from pixelkiln.worker.telling.outbox import Outbox

HOOK = "example.com-0"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(kiln: Kiln, clock: Clock) -> Iterator[Callable[..., Outbox]]:
    def act(worker: str = "worker-1") -> Outbox:
        return Outbox(kiln.redis, worker, [HOOK], clock)

    return act


def event(number: int) -> Event:
    return Event.of("job.done", str(number), "now", {"id": str(number)})


def test_pauses_grow_to_an_hour_and_end_after_a_day(
    make: Callable[..., Outbox], clock: Clock, kiln: Kiln
) -> None:
    box, pauses, begun = make(), list[float](), clock.now
    box.put([event(1)], [], [])
    while (due := box.due(HOOK)) is not None:
        before = clock.now
        if not box.failed(HOOK, due):
            break
        assert box.due(HOOK) is None
        clock.now += due.pause
        pauses.append(clock.now - before)
    assert pauses[:4] == [10.0, 20.0, 40.0, 80.0]
    assert set(pauses[9:]) == {3600.0}
    assert 82_000 < clock.now - begun <= 86_400
    assert kiln.redis.hgetall(keys.TELLING) == {
        f"{HOOK}:failed".encode(): str(len(pauses)).encode(),
        f"{HOOK}:dropped".encode(): b"1",
    }
    assert not kiln.redis.exists(keys.OUTBOX(HOOK), keys.OUTBOX_DUE(HOOK))


def test_the_same_end_is_one_event_and_they_stay_in_order(make: Callable[..., Outbox], clock: Clock) -> None:
    box, told = make(), list[str]()
    box.put([event(number) for number in range(5)], [], [])
    box.put([event(3)], [], [])  # its notes were read twice
    clock.now += 1
    while (due := box.due(HOOK)) is not None:
        told.append(due.body)
        box.done(HOOK, due, "told")
    assert told == [event(number).body for number in range(5)]


def test_of_too_many_the_newest_are_dropped_and_counted(
    make: Callable[..., Outbox], kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "MOST", 3)
    box = make()
    box.put([event(number) for number in range(3)], [], [])
    box.put([event(3), event(4)], [], [])
    assert kiln.redis.zcard(keys.OUTBOX_DUE(HOOK)) == 3
    assert kiln.redis.hget(keys.TELLING, f"{HOOK}:dropped") == b"2"


def test_of_many_notes_the_oldest_come_first_and_none_is_lost(
    make: Callable[..., Outbox], kiln: Kiln
) -> None:
    box, read = make(), list[str]()
    box.open()
    for number in range(250):
        kiln.redis.xadd(keys.ENDS, {"job": f"j{number}"})
    while len(notes := box.ended()) > 1:
        if not read:  # noted while these are looked at
            kiln.redis.xadd(keys.ENDS, {"job": "late"})
        box.put([], [], [note for note, _ in notes])
        read += [job for _, job in notes if job]
    assert read == [*(f"j{number}" for number in range(250)), "late"]
    assert kiln.redis.xlen(keys.ENDS) == 1


def test_what_cannot_be_read_is_in_nobodys_way(make: Callable[..., Outbox], clock: Clock, kiln: Kiln) -> None:
    box = make()
    box.put([event(1), event(2)], [], [])
    kiln.redis.hset(keys.OUTBOX(HOOK), event(1).id, "{")
    clock.now += 1
    assert box.due(HOOK) is None
    due = box.due(HOOK)
    assert due is not None
    assert due.body == event(2).body


def test_another_worker_finds_what_waits(make: Callable[..., Outbox], clock: Clock) -> None:
    first, second = make("worker-1"), make("worker-2")
    assert first.my_turn()
    assert not second.my_turn()
    assert first.my_turn()
    first.put([event(1)], [], [])
    first.yield_turn()
    clock.now += 1
    assert second.my_turn()
    assert not first.my_turn()
    due = second.due(HOOK)
    assert due is not None
    assert due.body == event(1).body
    first.yield_turn()  # it is not its own
    assert second.my_turn()
