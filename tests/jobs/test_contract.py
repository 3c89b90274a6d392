"""What a producer may count on, of the real farm and of the one in memory alike."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixelkiln import (
    JobFailedError,
    Kiln,
    NoSuchJobError,
    NotReadyError,
    RenderSpec,
    Settings,
    Sidecar,
    SpecError,
    StorageAwayError,
    UsageError,
)
from pixelkiln.jobs import known
from pixelkiln.testing import FakeKiln
from tests.jobs.farms import door, farm, kiln, new_client, other, resting

__all__ = ["door", "farm", "kiln", "other", "resting"]


def small(**fields: Any) -> Any:
    return {"prompt": "a fox", "model": "demo", "width": 64, "height": 96, **fields}


def submit_failing(kiln: Kiln) -> str:
    """A job that the real worker refuses, and the one in memory because it is told to."""
    if isinstance(kiln, FakeKiln):
        kiln.next_fails("the picture is beyond KILN_MEMORY")
    return kiln.submit(small(width=2048, height=2048)).id


def lane(kiln: Kiln) -> dict[str, int]:
    """Counts of the client's lane."""
    name = f"kiln:demo:bf16:normal:{kiln.settings.client}"
    (found,) = [one for one in kiln.farm().lanes if one.lane == name]
    return {state: getattr(found, state) for state in ("queued", "started", "finished", "failed")}


def test_a_key_stands_for_what_was_asked_for_first(kiln: Kiln) -> None:
    client = kiln.settings.client
    told = [kiln.queue.note(*one) for one in ((client, "k", "a"), (client, "k", "a"), (client, "k", "b"))]
    assert told == ["", "a", "a"]
    assert kiln.queue.note(client, "l", "b") == ""
    assert kiln.queue.note("other", "k", "b") == ""


def test_a_picture_is_submitted_awaited_and_fetched(kiln: Kiln, tmp_path: Path) -> None:
    job = kiln.submit(prompt="a fox", model="demo", width=64, height=96, labels={"a": "b"})
    assert job.created
    assert job.spec.seed is not None
    assert job.spec.client == kiln.settings.client
    (status,) = kiln.wait([job.id])
    assert (status.id, status.state, status.ended, status.error) == (job.id, "finished", True, "")
    assert status.lane == job.spec.lane.name
    assert status.attempt == 1
    assert status.worker
    # A take is stamped before it is sent: a job that comes in meanwhile starts a moment before it was there.
    assert status.started_at < status.ended_at > status.submitted_at
    assert status == kiln.status(job.id)
    path = kiln.fetch(job.id, tmp_path / "home")
    assert path == tmp_path / "home" / f"{job.id}.png"
    with Image.open(path) as image:
        assert image.size == (64, 96)
    sidecar = Sidecar.model_validate_json(path.with_suffix(".json").read_bytes())
    assert sidecar == kiln.sidecar(job.id)
    assert sidecar.spec == job.spec
    assert (sidecar.job.id, sidecar.job.client, sidecar.job.attempt) == (job.id, job.spec.client, 1)
    assert (sidecar.png.width, sidecar.png.height) == (64, 96)
    assert sidecar.png.bytes == path.stat().st_size
    assert status.result is not None
    assert sidecar.png.sha256 == status.result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert kiln.bucket.get(status.result.png) == path.read_bytes()
    assert lane(kiln) == {"queued": 0, "started": 0, "finished": 1, "failed": 0}


def test_one_spec_is_one_picture_and_another_seed_another(kiln: Kiln) -> None:
    jobs = kiln.submit_many([small(seed=1), small(seed=1), small(seed=2)])
    first, same, another = (kiln.sidecar(one.id).png.sha256 for one in kiln.wait([job.id for job in jobs]))
    assert first == same != another


def test_watching_tells_every_change_in_order(kiln: Kiln, resting: Callable[[], object]) -> None:
    job = kiln.submit(small())
    seen = []
    for status in kiln.watch([job.id, job.id], interval=0.01):
        seen.append(status)
        if status.state == "queued":
            resting()
    states = [one.state for one in seen]
    assert states == sorted(states, key=["queued", "started", "finished"].index)
    assert states[0] == "queued"
    assert states[-1] == "finished"
    assert len(set(map(json.dumps, [one.as_dict() for one in seen]))) == len(seen)
    assert {one.phase for one in seen} <= {None, "loading", "rendering", "delivering"}
    assert all(one.step <= one.steps for one in seen)


def test_a_known_id_is_that_job(kiln: Kiln, resting: Callable[[], object]) -> None:
    name = new_client("job")
    first = kiln.submit(small(prompt="first", seed=0), id=name)
    assert first.created
    for same in (small(prompt="first"), small(prompt="first", seed=0, priority="high", labels={"a": "b"})):
        again = kiln.submit_many([same, small()], ids=[name, new_client("job")])
        assert [job.created for job in again] == [False, True]
        assert again[0].spec == first.spec
    resting()
    kiln.wait([name])
    assert not kiln.submit(small(prompt="first"), id=name).created
    assert kiln.sidecar(name).spec == first.spec


@pytest.mark.parametrize("stands", ["queued", "finished", "by its sidecar alone"])
def test_an_id_is_one_pictures_for_good(
    kiln: Kiln, other: Kiln, resting: Callable[[], object], stands: str
) -> None:
    name, free = new_client("job"), new_client("job")
    first = kiln.submit(small(), id=name)
    if stands != "queued":
        resting()
        kiln.wait([name])
    if stands == "by its sidecar alone":
        forget(kiln, name)
    same = kiln.submit(small(), id=name)
    assert not same.created  # the seed, too, is the id's
    assert same.spec == first.spec
    with pytest.raises(
        SpecError, match=rf"^id: {name} was used before, for another picture \(another prompt, "
    ):
        kiln.submit_many([small(), small(prompt="three blue boats", seed=99)], ids=[free, name])
    if stands != "by its sidecar alone":  # which another client does not see
        with pytest.raises(SpecError, match="another client's"):
            other.submit(small(), id=name)
    assert kiln.statuses([free]) == {free: None}
    assert kiln.status(name).state == ("queued" if stands == "queued" else "finished")


def test_an_id_means_one_thing_in_one_call(kiln: Kiln, resting: Callable[[], object]) -> None:
    name, free = new_client("job"), new_client("job")
    with pytest.raises(SpecError, match="for another picture"):
        kiln.submit_many([small(), small(), small(prompt="an owl")], ids=[name, free, name])
    assert kiln.statuses([name, free]) == {name: None, free: None}
    jobs = kiln.submit_many([small(), small(), small()], ids=[name, free, name])
    assert [job.created for job in jobs] == [True, True, False]
    assert lane(kiln)["queued"] == 2


def test_another_picture_under_a_used_id_fails_where_nobody_saw_it(
    kiln: Kiln, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket could not be asked at submit: delivery looks again, and what was there stays."""
    name = new_client("job")
    kiln.submit(small(), id=name)
    kiln.wait([name])
    forget(kiln, name)
    before = kiln.fetch(name, tmp_path).read_bytes()

    def away(*_: object) -> None:
        raise StorageAwayError("away")

    with monkeypatch.context() as patch:
        patch.setattr(known, "get_committed", away)
        assert kiln.submit(small(prompt="three blue boats", seed=99), id=name).created
    (status,) = kiln.wait([name])
    assert status.state == "failed"
    assert status.error.startswith(f"id: {name} was used before, for another picture (another prompt, seed)")
    forget(kiln, name)
    assert kiln.status(name).state == "finished"
    assert kiln.fetch(name, tmp_path / "after").read_bytes() == before


def forget(kiln: Kiln, job_id: str) -> None:
    """As when the days are over for which the queue keeps a job."""
    if isinstance(kiln, FakeKiln):
        del kiln._farm._jobs[job_id]
    else:
        kiln.redis.delete(f"rq:job:{job_id}", f"rq:results:{job_id}")


def test_drawn_ids_differ(kiln: Kiln, resting: Callable[[], object]) -> None:
    jobs = kiln.submit_many([small()] * 3, batch=new_client("batch"))
    assert len({job.id for job in jobs}) == 3
    assert lane(kiln)["queued"] == 3
    assert set(kiln.cancel([job.id for job in jobs]).values()) == {"queued"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": 65}, "width"),
        ({"width": 4096, "height": 4096}, "width, height"),
        ({"prompt": ""}, "prompt"),
        ({"model": "none"}, "model"),
        ({"colour": "red"}, "colour"),
        ({"seed": "1"}, "seed"),
        ({"client": "A B"}, "client"),
        ({"references": ["0" * 64]}, "references"),
        ({"references": [Path("nothing.png")]}, "references"),
    ],
)
def test_a_bad_spec_keeps_all_out(kiln: Kiln, fields: dict[str, Any], field: str) -> None:
    name = new_client("job")
    with pytest.raises(SpecError) as error:
        kiln.submit_many([small(), small(**fields)], ids=[name, new_client("job")])
    assert error.value.field == field
    assert kiln.statuses([name]) == {name: None}


def test_wrong_use_keeps_all_out(kiln: Kiln) -> None:
    name = new_client("job")
    for ids in ([name], [name, "a/b"], [name, ""]):
        with pytest.raises(UsageError):
            kiln.submit_many([small(), small()], ids=ids)
    with pytest.raises(UsageError):
        kiln.submit_many([small()], ids=[name], batch="a:b")
    with pytest.raises(UsageError):
        kiln.submit(RenderSpec.parse(small()), prompt="another", id=name)  # type: ignore[call-overload]
    assert kiln.statuses([name]) == {name: None}


def test_a_job_that_failed_says_why(kiln: Kiln, tmp_path: Path) -> None:
    job_id = submit_failing(kiln)
    (status,) = kiln.wait([job_id])
    assert (status.state, status.ended, status.result) == ("failed", True, None)
    assert "KILN_MEMORY" in status.error
    for act in (kiln.sidecar, lambda one: kiln.fetch(one, tmp_path)):
        with pytest.raises(JobFailedError, match=f"job {job_id} is failed, not finished: .*KILN_MEMORY"):
            act(job_id)
    assert lane(kiln)["failed"] == 1
    assert kiln.submit(small()).created  # others go on
    assert list(tmp_path.iterdir()) == []


def test_cancelling_tells_what_each_was(kiln: Kiln, other: Kiln, resting: Callable[[], object]) -> None:
    first, second = (job.id for job in kiln.submit_many([small(), small()]))
    assert other.cancel([first]) == {first: "foreign"}
    assert other.cancel([first], any_client=True) == {first: "queued"}
    assert kiln.cancel([first, "nothing", second]) == {
        first: "cancelled",
        "nothing": "unknown",
        second: "queued",
    }
    assert [one.state for one in kiln.wait([first, second])] == ["cancelled", "cancelled"]
    with pytest.raises(JobFailedError, match="is cancelled, not finished"):
        kiln.sidecar(first)
    resting()
    done, lost = kiln.submit(small()).id, submit_failing(kiln)
    kiln.wait([done, lost])
    assert kiln.cancel([done, lost]) == {done: "finished", lost: "failed"}
    with pytest.raises(UsageError):
        kiln.cancel(["a/b"])


def test_cancelling_all_of_a_client(kiln: Kiln, other: Kiln, resting: Callable[[], object]) -> None:
    mine = [job.id for job in kiln.submit_many([small(), small(priority="high")])]
    target = f"client:{kiln.settings.client}"
    with pytest.raises(UsageError, match="--any-client"):
        other.cancel_all(target)
    assert other.cancel_all("farm") == {}
    assert kiln.cancel_all(target) == dict.fromkeys(mine, "queued")
    assert kiln.cancel_all("model:demo") == {}


def test_higher_priority_goes_first(kiln: Kiln, resting: Callable[[], object]) -> None:
    jobs = kiln.submit_many(
        [small(priority="low"), small(priority="normal"), small(priority="high"), small(priority="high")]
    )
    resting()
    low, normal, high, later = kiln.wait([job.id for job in jobs])
    assert high.started_at < later.started_at < normal.started_at < low.started_at


def test_a_pause_is_told_and_holds_until_the_resume(
    kiln: Kiln, other: Kiln, resting: Callable[[], object]
) -> None:
    held, free = kiln.submit(small()).id, other.submit(small()).id
    other.wait([free])
    assert kiln.status(held).state == "queued"
    assert f"client:{kiln.settings.client}" in kiln.farm().paused
    assert kiln.workers_ignoring_orders() == []
    resting()
    assert [one.state for one in kiln.wait([held])] == ["finished"]


def test_orders_are_checked(kiln: Kiln) -> None:
    order = kiln.drain("worker:nobody")
    assert (order.verb, order.target, order.now) == ("drain", "worker:nobody", False)
    for act in (kiln.pause, kiln.resume, kiln.drain):
        with pytest.raises(UsageError):
            act("everything")
    with pytest.raises(UsageError, match="cannot be drained"):
        kiln.drain(f"client:{kiln.settings.client}")
    kiln.settings = kiln.settings.model_copy(update={"admin_key": None, "redis_url": "redis://127.0.0.1:1/0"})
    with pytest.raises(NotReadyError, match="KILN_ADMIN_KEY is not set"):
        kiln.pause("farm")


def test_the_farm_tells_who_serves(kiln: Kiln) -> None:
    (worker,) = kiln.farm().workers
    assert worker.name
    assert worker.host
    assert worker.seen
    assert "demo:bf16" in worker.serves
    assert "demo:bf16" in kiln.farm().served
    told = kiln.farm().as_dict()
    assert set(told) == {"lanes", "workers"}
    keys = {"age", "name", "state", "serves", "host", "seen", "paused", "orders", "memory", "largest"}
    assert set(told["workers"][0]) == {*keys, "used", "resident", "hours", "speeds"}
    json.dumps(told)


def test_a_prompt_that_is_no_field_is_told(kiln: Kiln) -> None:
    with pytest.raises(UsageError, match=r"a prompt is a field: prompt="):
        kiln.submit("a fox", model="demo")  # type: ignore[call-overload]
    for wrong in ("a fox", ["a fox"], [None]):
        with pytest.raises(SpecError, match=r"^spec: must be a RenderSpec or its fields, as prompt="):
            kiln.submit_many(wrong)  # type: ignore[arg-type]


def test_what_is_not_there(kiln: Kiln, tmp_path: Path) -> None:
    job = kiln.submit(small())
    found = kiln.statuses(["nothing", job.id])
    assert list(found) == ["nothing", job.id]
    assert found["nothing"] is None
    for act in (kiln.status, kiln.sidecar, lambda one: kiln.fetch(one, tmp_path)):
        with pytest.raises(NoSuchJobError, match="no job nothing in the queue"):
            act("nothing")
    with pytest.raises(NoSuchJobError):
        list(kiln.watch([job.id, "nothing"]))
    with pytest.raises(UsageError, match=r"^job id: "):
        kiln.status("no/id")
    assert kiln.wait([]) == []


def test_a_reference_is_stored_once_by_its_content(kiln: Kiln, other: Kiln, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (64, 64), "red").save(path)
    name = kiln.upload(path)
    assert name == kiln.upload(str(path)) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert kiln.bucket.get(f"refs/{kiln.settings.client}/{name}") == path.read_bytes()
    assert kiln.bucket.get(f"refs/{other.settings.client}/{name}") is None
    assert kiln.upload(path, client=other.settings.client) == name
    assert other.bucket.get(f"refs/{other.settings.client}/{name}") == path.read_bytes()
    path.write_text("no picture")
    with pytest.raises(SpecError, match=r"^references .*red.png.: is not a picture"):
        kiln.upload(path)


def test_references_given_as_paths_are_uploaded_for_the_jobs_client(
    kiln: Kiln, other: Kiln, resting: Callable[[], object], tmp_path: Path
) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (64, 64), "red").save(path)
    job = kiln.submit(prompt="a toy", model="hidream-o1-dev", references=[path], keep_aspect=True)
    assert kiln.bucket.get(f"refs/{kiln.settings.client}/{job.spec.references[0]}") == path.read_bytes()
    theirs = RenderSpec.parse({"prompt": "x", "client": other.settings.client, "model": "hidream-o1-dev"})
    assert kiln.submit(theirs).spec.client == other.settings.client
    ids = [*kiln.cancel_all("farm"), *other.cancel_all("farm")]
    assert job.id in ids
    assert len(ids) == 2


def test_what_is_left_out_is_filled_in_told_and_recorded(kiln: Kiln) -> None:
    job = kiln.submit(prompt="a fox", width=64, height=64)
    assert f"{job.spec.model}:{job.spec.quantization}" in kiln.farm().served
    assert job.filled == {"model", "quantization"}
    kiln.settings = kiln.settings.model_copy(update={"model": "demo"})
    mine = kiln.submit({"prompt": "a fox", "width": 64, "height": 64})
    assert (mine.spec.model, mine.spec.quantization) == ("demo", "bf16")
    kiln.wait([job.id, mine.id])
    assert kiln.sidecar(mine.id).spec == mine.spec
    spec = RenderSpec.parse({"prompt": "a fox", "client": kiln.settings.client})
    assert kiln.submit(spec).spec.lane == spec.lane  # a spec says all, as on the wire


def test_an_id_stands_for_one_picture_whatever_is_filled_in(
    kiln: Kiln, resting: Callable[[], object]
) -> None:
    name = new_client("job")
    first = kiln.submit(prompt="a fox", id=name)
    kiln.settings = kiln.settings.model_copy(update={"model": "z-image-turbo:q4"})
    again = kiln.submit(prompt="a fox", id=name)
    assert (again.created, again.spec) == (False, first.spec)
    with pytest.raises(SpecError, match=r"\(another .*model, quantization"):
        kiln.submit(prompt="a fox", model="z-image-turbo", quantization="q4", id=name)


def test_an_edits_size_follows_from_its_picture(
    kiln: Kiln, resting: Callable[[], object], tmp_path: Path
) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (150, 93), "red").save(path)
    jobs = [kiln.submit(prompt="x", model="flux2-klein-4b", quantization="q6", references=[path])]
    jobs.append(kiln.submit({**jobs[0].spec.wire(), "references": [kiln.upload(path)]}))
    named = [*jobs[0].spec.references]
    jobs.append(kiln.submit(prompt="x", model="flux2-klein-4b", quantization="q6", references=named))
    assert {(job.spec.width, job.spec.height) for job in jobs} == {(144, 80)}
    assert [bool(job.filled) for job in jobs] == [True, False, True]
    kiln.cancel([job.id for job in jobs])
    with pytest.raises(SpecError, match=r"^references\.0: refs/.* is not in the bucket; upload it"):
        kiln.submit(prompt="x", model="flux2-klein-4b", references=["0" * 64])


def test_closed_at_the_end_of_the_block_and_usable_after(kiln: Kiln) -> None:
    with kiln as same:
        assert same is kiln
        job = kiln.submit(small())
    kiln.close()
    assert [one.state for one in kiln.wait([job.id])] == ["finished"]
    assert kiln.sidecar(job.id).job.id == job.id


def test_pictures_of_others_are_fetched_by_those_who_may_read_them(
    kiln: Kiln, other: Kiln, tmp_path: Path
) -> None:
    job = kiln.submit(small())
    kiln.wait([job.id])
    assert other.status(job.id) == kiln.status(job.id)
    assert other.fetch(job.id, tmp_path).read_bytes() == kiln.fetch(job.id, tmp_path / "mine").read_bytes()


def examples() -> list[str]:
    """The Python of README.md, as it stands there."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("where", ["real", "in memory"])
def test_the_readmes_first_example_runs(
    request: pytest.FixtureRequest,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if where == "real":
        request.getfixturevalue("farm")  # sets the variables that it reads
    else:
        monkeypatch.setattr("pixelkiln.Kiln", FakeKiln)
    monkeypatch.chdir(tmp_path)
    exec(examples()[0], {})
    path = Path(capsys.readouterr().out.strip())
    with Image.open(path) as image:
        assert image.size == (256, 256)
    assert sorted(one.suffix for one in Path("renders").iterdir()) == [".json", ".png"]


def test_the_readmes_example_of_a_test_runs() -> None:
    exec(examples()[1], {})


def test_the_readmes_example_for_plain_rq_runs(farm: Settings) -> None:
    assert farm.redis_url is not None
    names: dict[str, Any] = {"url": farm.redis_url.get_secret_value()}
    exec(examples()[2], names)
    with Kiln(farm) as kiln:
        (status,) = kiln.wait([names["job"].id])
    assert status.state == "finished"
    names["queue"].connection.close()
