"""Every row is one of four, and the counts of Redis and the bucket stand beside each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pixelkiln import RenderSpec
from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.batches.report.facts import UNKNOWN, gather
from tests.jobs.batches.nights import Night, change, restate, spec


def test_every_row_is_one_of_four() -> None:
    night = Night()
    for end in ("finished", "failed", "cancelled", "finished", "waiting"):
        night.add(spec(), end)
    facts = night.facts()
    assert [one.state for one in facts.told] == ["finished", "failed", "cancelled", "finished", "waiting"]
    assert facts.totals == {"finished": 2, "failed": 1, "cancelled": 1, "waiting": 1}
    assert facts.redis == {"finished": 2, "failed": 1, "cancelled": 1, "queued": 1}
    assert facts.bucket == 2
    assert facts.disagreements == ()
    assert facts.told[1].cause == "out of memory; take a smaller size"
    assert facts.told[0].sidecar is not None
    assert facts.told[0].stored


def test_a_job_at_work_waits_and_tells_where_it_is() -> None:
    night = Night()
    job = night.add(spec(), "waiting")
    restate(night, job, state="started", phase="rendering", step=3, steps=28)
    (one,) = night.facts().told
    assert (one.state, one.cause) == ("waiting", "rendering 3/28")


def test_of_what_redis_has_forgotten_the_bucket_tells() -> None:
    night = Night()
    stored, lost = night.add(spec()), night.add(spec(), "failed")
    night.forget(stored)
    night.forget(lost)
    facts = night.facts()
    assert [(one.state, one.cause) for one in facts.told] == [("finished", None), ("failed", UNKNOWN)]
    assert facts.told[0].worker == "fake-1"
    assert facts.redis == {"unknown": 2}
    assert facts.bucket == 1
    assert facts.disagreements == ()


def lose_picture(night: Night, job: str) -> None:
    del night.kiln._memory.objects[keys.PICTURE("default", job)]


def lose_both(night: Night, job: str) -> None:
    lose_picture(night, job)
    del night.kiln._memory.objects[keys.SIDECAR("default", job)]


def garble(night: Night, job: str) -> None:
    night.kiln._memory.objects[keys.SIDECAR("default", job)] = b"{"


@pytest.mark.parametrize(
    ("spoil", "says", "bucket"),
    [
        (lose_picture, "its picture is not", 0),
        (lose_both, "the bucket has no picture of it", 0),
        (garble, "is not a sidecar", 0),
        (lambda night, job: restate(night, job, state="cancelled"), "has it cancelled; the bucket has", 1),
        (lambda night, job: restate(night, job, state="queued"), "has it queued; the bucket has", 1),
        (lambda night, job: change(night, job, spec=spec("a hare")), "is of another prompt than", 1),
    ],
)
def test_a_disagreement_names_the_job(spoil: Callable[[Night, str], None], says: str, bucket: int) -> None:
    night = Night()
    night.add(spec())
    job = night.add(spec())
    spoil(night, job)
    facts = night.facts()
    ((job_id, words),) = facts.disagreements
    assert job_id == job
    assert says in words
    assert facts.bucket == 1 + bucket
    assert sum(facts.totals.values()) == 2


def test_a_job_that_ends_between_the_two_questions_is_no_disagreement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    night = Night()
    job = night.add(spec())
    ended = night.kiln._farm._jobs[job].status
    restate(night, job, state="started", phase="rendering", result=None)
    get = night.kiln._memory.get

    def settled_meanwhile(key: str) -> bytes | None:
        night.kiln._farm._jobs[job].status = ended
        return get(key)

    monkeypatch.setattr(night.kiln._memory, "get", settled_meanwhile)
    facts = night.facts()
    assert (facts.totals["finished"], facts.redis, facts.disagreements) == (1, {"finished": 1}, ())
    monkeypatch.undo()
    restate(night, job, state="started", phase="delivering")
    facts = night.facts()
    assert (facts.totals["waiting"], facts.disagreements) == (1, ())


def test_what_the_checks_found_is_told() -> None:
    night = Night()
    job = night.add(spec())
    sidecar = night.kiln.sidecar(job)
    change(night, job, checks=sidecar.checks.model_copy(update={"warnings": ["black: \x1b[31mmean"]}))
    (one,) = night.facts().told
    assert one.suspicious == ("black: �[31mmean",)


def test_a_real_farm_tells_the_same(kiln: Kiln) -> None:
    wanted = [spec("a fox"), spec("a hare"), spec("an owl")]
    jobs = kiln.submit_many(wanted)
    kiln.cancel([jobs[1].id])
    entries: list[tuple[int, str, RenderSpec]] = [(n, job.id, job.spec) for n, job in enumerate(jobs, 1)]
    facts = gather(kiln, "night", [*entries, (4, "never-sent", spec())])
    assert [one.state for one in facts.told] == ["waiting", "cancelled", "waiting", "failed"]
    assert facts.redis == {"queued": 2, "cancelled": 1, "unknown": 1}
    assert facts.bucket == 0
