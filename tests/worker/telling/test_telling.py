"""A worker tells addresses of what ends, and no receiver, however bad, delays a render."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, NotReadyError, Settings, keys
from pixelkiln.jobs.webhooks import Webhook
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.service import Service
from pixelkiln.worker.telling import reach
from pixelkiln.worker.telling.teller import Teller
from tests.waiting import until
from tests.worker.telling.receivers import Receiver, receiving
from tests.worker.working import working

SECRET = "a secret of forty-two letters or so"
DOCS = Path(__file__).parents[3] / "docs/telling.md"
SPEC = {"model": "demo", "width": 64, "height": 64}


def telling(settings: Settings, *urls: str, **more: Any) -> Settings:
    """The farm whose workers tell these."""
    update = {"webhooks": urls, "webhook_secret": SecretStr(SECRET), "webhook_hosts": ("127.0.0.1",), **more}
    return settings.model_copy(update=update)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    with receiving(one):
        yield one


@pytest.fixture
def make_teller(settings: Settings, receiver: Receiver) -> Iterator[Callable[..., Teller]]:
    """One that sends; `look` is called by the test."""
    made: list[Teller] = []

    def make(**more: Any) -> Teller:
        one = Teller(telling(settings, receiver.url, **more), f"worker-{len(made)}")
        for sender in one._senders:
            sender.start()
        made.append(one)
        one.look()  # from now on ends are noted
        return one

    yield make
    for one in made:
        one.stop()
        one._connection.close()


@pytest.fixture
def end(claims: Claims) -> Callable[..., str]:
    """Let a worker end the next job; its id."""

    def act(error: str = "", *suspicious: str) -> str:
        claim = claims.take(["demo:bf16"])
        assert claim is not None
        result = {"png": "p.png", "sidecar": "s.json", "sha256": "0"}
        ended = claims.fail(claim, error, 1.0) if error else claims.finish(claim, result, 1.0, *suspicious)
        assert ended
        return claim.job_id

    return act


def nothing_left(kiln: Kiln, receiver: Receiver) -> bool:
    name = Webhook.parse(receiver.url).name
    return not kiln.redis.exists(keys.OUTBOX(name), keys.OUTBOX_DUE(name))


def genuine() -> Callable[..., bool]:
    """The lines that the docs give to receivers."""
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert code is not None
    lines = [line for line in code[1].splitlines() if line.strip()]
    assert len(lines) <= 10
    found: dict[str, Any] = {}
    exec(code[1], found)
    check: Callable[..., bool] = found["genuine"]
    return check


def test_no_receiver_delays_a_render(
    settings: Settings, submit: Callable[..., str], kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, silent, failing = Receiver(), Receiver(silent=True), Receiver(status=500)
    away = Receiver(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data/"})
    connected, connect = list[Any](), socket.create_connection

    def noted(address: Any, *more: Any, **named: Any) -> socket.socket:
        connected.append(address[0])
        return connect(address, *more, **named)

    monkeypatch.setattr(reach.socket, "create_connection", noted)
    with receiving(good, silent, failing, away), socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))  # and does not listen
        gone = f"http://127.0.0.1:{dead.getsockname()[1]}/"
        where = telling(settings, silent.url, gone, away.url, failing.url, good.url)
        counts = {
            one: f"{Webhook.parse(url).name}:failed"
            for one, url in {"gone": gone, "away": away.url, "failing": failing.url}.items()
        }
        first = submit()
        then: list[str] = []

        def done() -> bool:
            """Once the silent one is asked of the first, another is rendered; the good one hears of both."""
            if not silent.requests:
                return False
            if not then:
                then.append(submit(seed=2))
            told = [one["id"] for one in good.events("job.done")]
            failed: Any = kiln.redis.hgetall(keys.TELLING)
            return told == [first, then[0]] and all(one.encode() in failed for one in counts.values())

        working(Service(where, ["demo"]), done)
        assert kiln.status(then[0]).state == "finished"
        assert not silent.release.is_set()  # to this moment it has not answered
    assert away.requests
    assert failing.requests
    assert set(connected) == {"127.0.0.1"}
    headers, body = good.requests[0]
    check = genuine()
    assert check(SECRET, headers["Kiln-Signature"], body)
    assert not check(SECRET, headers["Kiln-Signature"], body + b" ")
    assert not check("another secret", headers["Kiln-Signature"], body)
    assert not check(SECRET, headers["Kiln-Signature"].replace("t=", "t=1"), body)
    event = good.events("job.done")[0]
    status = kiln.status(first)
    assert status.result is not None
    assert event == {
        "event": headers["Kiln-Event"],
        "type": "job.done",
        "id": first,
        "client": "default",
        "batch": None,
        "state": "finished",
        "error": "",
        "suspicious": list(status.suspicious),
        "png": status.result.png,
        "sidecar": status.result.sidecar,
        "submitted_at": status.submitted_at,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
    }


def test_a_farm_that_tells_nobody_notes_nothing(
    submit: Callable[..., str], end: Callable[..., str], kiln: Kiln
) -> None:
    submit()
    kiln.cancel([submit()])
    end()
    assert not list(kiln.redis.scan_iter("kiln:ends*"))
    assert not list(kiln.redis.scan_iter("kiln:outbox*"))


def test_failed_suspicious_and_cancelled_are_told(
    make_teller: Callable[..., Teller],
    submit: Callable[..., str],
    end: Callable[..., str],
    kiln: Kiln,
    receiver: Receiver,
) -> None:
    one = make_teller(webhook_prompts=True)
    ids = [submit(prompt="a fox"), submit(prompt="a bat"), submit(prompt="an owl")]
    kiln.cancel([ids[2]])
    end("it broke")
    end("", "black: mean luma 0.0 of 255")
    one.look()
    told = until(lambda: len(receiver.requests) == 3 and receiver.events("job.done"), "all are told")
    facts = {
        event["id"]: (event["state"], event["error"], event["suspicious"], event["prompt"]) for event in told
    }
    assert facts == {
        ids[0]: ("failed", "it broke", [], "a fox"),
        ids[1]: ("finished", "", ["black: mean luma 0.0 of 255"], "a bat"),
        ids[2]: ("cancelled", "", [], "an owl"),
    }
    until(lambda: nothing_left(kiln, receiver), "nothing is left")


def test_a_batch_is_told_once_each_time_it_has_ended(
    make_teller: Callable[..., Teller], end: Callable[..., str], kiln: Kiln, receiver: Receiver
) -> None:
    one = make_teller()
    batch = kiln.batch([{"prompt": str(number), **SPEC} for number in range(3)], name="night")

    def ends(number: int) -> list[dict[str, Any]]:
        one.look()
        one.look()
        sent = len(receiver.requests)
        until(lambda: nothing_left(kiln, receiver), "all is told")
        found = receiver.events("batch.done")
        assert len(found) == number, (sent, found)
        return found

    end("", "black")
    end("it broke")
    ends(0)
    end()
    (first,) = ends(1)
    assert {name: first[name] for name in ("batch", "client", "state", "total")} == {
        "batch": "night",
        "client": "default",
        "state": "failed",
        "total": 3,
    }
    counts = ("finished", "failed", "cancelled", "forgotten", "suspicious")
    assert [first[name] for name in counts] == [2, 1, 0, 0, 1]
    kiln.redis.xadd(keys.ENDS, {"job": batch.ids[0]})  # read twice, as after a worker died
    ends(1)
    batch.retry_failed()
    ends(1)
    end()
    second = ends(2)[1]
    assert (second["state"], second["finished"]) == ("finished", 3)
    assert second["event"] != first["event"]
    kiln.batch([{"prompt": str(number), **SPEC} for number in range(4)], name="night")
    kiln.cancel(batch.ids)  # all have ended: nothing changes
    ends(2)
    kiln.cancel([job for job in kiln.open_batch("night").ids if job not in batch.ids])
    assert [ends(3)[2][name] for name in counts] == [3, 0, 1, 0, 1]


def test_a_batch_that_is_not_sent_to_its_end_is_not_done(
    make_teller: Callable[..., Teller],
    end: Callable[..., str],
    kiln: Kiln,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, add = make_teller(), kiln.queue.add

    def first_only(jobs: Any, *more: Any, **named: Any) -> list[bool]:
        return [*add(jobs[:1], *more, **named), False]

    rows = [{"prompt": "1", **SPEC}, {"prompt": "2", **SPEC}]
    with monkeypatch.context() as patch:
        patch.setattr(kiln.queue, "add", first_only)
        kiln.batch(rows, name="night")
    end()
    one.look()
    until(lambda: receiver.events("job.done") and nothing_left(kiln, receiver), "the job is told")
    assert not receiver.events("batch.done")
    kiln.batch(rows, name="night")
    last = end()
    kiln.redis.delete(keys.JOB(next(job for job in kiln.open_batch("night").ids if job != last)))  # forgotten
    one.look()
    (event,) = until(lambda: receiver.events("batch.done"), "the batch is told")
    assert (event["finished"], event["forgotten"], event["total"]) == (1, 1, 2)


def test_clients_do_not_share_a_group(
    make_teller: Callable[..., Teller],
    end: Callable[..., str],
    kiln: Kiln,
    receiver: Receiver,
) -> None:
    one = make_teller()
    kiln.submit_many([{"prompt": "1", "client": "alice", **SPEC}], batch="plain")
    first = end()
    kiln.submit_many([{"prompt": "2", "client": "bob", **SPEC}], batch="plain")
    one.look()
    (event,) = until(lambda: receiver.events("batch.done"), "the batch is told")
    assert (event["client"], event["total"]) == ("alice", 1)
    assert receiver.events("job.done")[0]["id"] == first


def test_a_batch_that_ends_unnoted_is_found(
    make_teller: Callable[..., Teller], end: Callable[..., str], kiln: Kiln, receiver: Receiver
) -> None:
    one = make_teller()
    batch = kiln.batch([{"prompt": "1", **SPEC}, {"prompt": "2", **SPEC}], name="night")
    end()
    one.look()
    (left,) = (job for job in batch.ids if not kiln.status(job).ended)
    kiln.redis.hset(keys.JOB(left), mapping={"status": "canceled", "ended_at": "2099-01-01T00:00:00.0Z"})
    one._open_at = 0.0  # a minute later
    one.look()
    assert until(lambda: receiver.events("batch.done"), "the batch is told")[0]["cancelled"] == 1


def test_one_worker_tells_and_another_goes_on(
    make_teller: Callable[..., Teller],
    submit: Callable[..., str],
    end: Callable[..., str],
    receiver: Receiver,
    kiln: Kiln,
) -> None:
    first, second = make_teller(), make_teller()
    assert (first._turn.is_set(), second._turn.is_set()) == (True, False)
    submit()
    end()
    second.look()
    assert kiln.redis.xlen(keys.ENDS) == 2
    first.stop()
    second.look()
    until(lambda: len(receiver.requests) == 1, "it is told")
    assert second._turn.is_set()


def test_whatever_strangers_note_is_no_end(
    make_teller: Callable[..., Teller],
    submit: Callable[..., str],
    kiln: Kiln,
    receiver: Receiver,
    end: Callable[..., str],
) -> None:
    one, waiting = make_teller(), submit()
    kiln.redis.set(keys.JOB("text"), "x")
    kiln.redis.hset(keys.JOB("foreign"), mapping={"status": "finished", "origin": "default"})
    kiln.redis.hset(
        keys.JOB("odd"), mapping={"status": "finished", "origin": "kiln:a:b:c:d", "group_id": "\xff/"}
    )
    for job in ("text", "foreign", "none", "../x", "\xff", "x" * 5000, waiting):
        kiln.redis.xadd(keys.ENDS, {"job": job})
    kiln.redis.xadd(keys.ENDS, {"other": "x"})
    kiln.redis.xadd(keys.ENDS, {"job": "odd"})
    one.look()
    until(lambda: len(receiver.requests) == 1, "the last is told")
    assert [event["id"] for event in receiver.events("job.done")] == ["odd"]
    assert kiln.redis.xlen(keys.ENDS) == 1
    kiln.redis.delete(keys.ENDS)
    kiln.redis.lpush(keys.ENDS, "a list")
    assert end() == waiting  # it ends all the same
    one.look()
    assert kiln.redis.type(keys.ENDS) == b"stream"


def test_without_a_secret_no_worker_starts(settings: Settings) -> None:
    with pytest.raises(NotReadyError, match="KILN_WEBHOOK_SECRET"):
        Service(telling(settings, "https://example.com/", webhook_secret=None), ["demo"])
