"""Which job is taken next, and that it is taken once."""

from __future__ import annotations

import threading

import pytest
import redis

from pixelkiln.jobs import Kiln
from pixelkiln.jobs.queue.record import read_spec
from pixelkiln.worker.queue import claims as module
from pixelkiln.worker.queue.claim import new_execution
from pixelkiln.worker.queue.claims import STALE, Claims
from tests.worker.queue.farm import (
    DEMO,
    LANE,
    RESULT,
    Make,
    Rewire,
    Submit,
    taken,
    took,
)


def test_nothing_to_take(claims: Claims) -> None:
    assert claims.take(DEMO) is None


def test_takes_in_the_order_of_submission(claims: Claims, submit: Submit) -> None:
    jobs = [submit() for _ in range(4)]
    assert [taken(claims) for _ in range(5)] == [*jobs, None]


def test_a_claim_says_what_the_worker_needs(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit(client="studio", seed=7)
    claim = took(claims)
    assert (claim.job_id, claim.lane.client, claim.attempt, claim.crashes) == (job_id, "studio", 1, 0)
    assert claim.lane.name == "kiln:demo:bf16:normal:studio"
    assert claim.submitted_at == kiln.status(job_id).submitted_at
    assert read_spec(claim.data, claim.lane, job_id).seed == 7
    assert claims.holds(claim)


def test_only_what_is_served_is_taken(claims: Claims, submit: Submit) -> None:
    job_id = submit(model="hidream-o1-dev", quantization="q6")
    assert taken(claims, "hidream-o1-dev:bf16", "demo:bf16", "dev:q6") is None
    assert taken(claims, "hidream-o1-dev:q6") == job_id


@pytest.mark.parametrize(
    "model", ["z-image-turbo", "flux2-klein-4b", "flux2-klein-base-4b", "qwen-image", "qwen-image-edit-2511"]
)
def test_a_job_stays_for_a_worker_that_has_its_model(claims: Claims, submit: Submit, model: str) -> None:
    edit = {"references": ["0" * 64]} if "edit" in model else {}
    job_id, other = submit(model=model, quantization="q6", **edit), submit()
    assert taken(claims, "demo:bf16", f"{model}:q8") == other
    assert taken(claims, "demo:bf16", f"{model}:q8") is None
    assert taken(claims, f"{model}:q6") == job_id


def test_higher_priority_first(claims: Claims, submit: Submit) -> None:
    low, normal, high = (submit(priority=p, client=f"c{i}") for i, p in enumerate(("low", "normal", "high")))
    assert [taken(claims) for _ in range(3)] == [high, normal, low]


def test_clients_share_by_gpu_time(claims: Claims, submit: Submit) -> None:
    for client in ("a", "b"):
        for i in range(4):
            submit(id=f"{client}{i}", client=client)
    order = []
    for _ in range(6):
        claim = took(claims)
        order.append(claim.lane.client)
        claims.finish(claim, RESULT, seconds=60.0 if claim.lane.client == "a" else 20.0)
    assert sorted(order[:2]) == ["a", "b"]
    assert order.count("b") == 4  # three of b's cost what one of a's does


def test_a_client_that_was_away_is_not_owed_the_time(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    for i in range(6):
        submit(id=f"a{i}", client="a")
    for _ in range(3):
        claims.finish(took(claims), RESULT, seconds=1000.0)
    for i in range(4):
        submit(id=f"late{i}", client="late")
    clients = []
    for _ in range(4):
        claim = took(claims)
        clients.append(claim.lane.client)
        claims.finish(claim, RESULT, seconds=1000.0)
    assert clients.count("a") >= 1
    assert clients.count("late") >= 2


def test_the_resident_model_first_among_equals(claims: Claims, submit: Submit) -> None:
    other = submit(model="hidream-o1-dev")
    own = submit(model="demo")
    served = ("hidream-o1-dev:bf16", "demo:bf16")
    claim = claims.take(served, ["demo:bf16"])
    assert claim is not None
    assert claim.job_id == own
    assert taken(claims, *served, resident=["demo:bf16"]) == other


def test_every_resident_model_before_the_others(claims: Claims, submit: Submit) -> None:
    served = ("hidream-o1-dev:bf16", "demo:bf16", "demo:q6", "demo:q4")
    first, second, third = (submit(model="demo", quantization=bits) for bits in ("q4", "q6", "bf16"))
    fourth = submit(model="demo", quantization="q6")
    resident = ["demo:bf16", "demo:q6"]  # among them whoever waits longest
    order = [taken(claims, *served, resident=resident) for _ in range(4)]
    assert order == [second, third, fourth, first]


def test_a_lane_that_waited_long_before_the_resident_model(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    stale = submit(model="hidream-o1-dev")
    submit(model="demo")
    long_ago = module.stamp(
        module.datetime.fromtimestamp(module.datetime.now().timestamp() - STALE - 1, module.UTC)
    )
    kiln.redis.hset(f"rq:job:{stale}", "enqueued_at", long_ago)
    assert taken(claims, "hidream-o1-dev:bf16", "demo:bf16", resident=["demo:bf16"]) == stale


def test_a_take_made_again_gives_the_same_job(claims: Claims, submit: Submit) -> None:
    first, second = submit(), submit()
    execution = new_execution()
    one, again = (claims.take(DEMO, execution=execution) for _ in range(2))
    assert one is not None
    assert again is not None
    assert (one.job_id, one.attempt, one.data) == (again.job_id, again.attempt, again.data)
    assert one.job_id == first
    assert taken(claims) == second


def test_a_take_made_again_after_the_job_went_on_gives_nothing(claims: Claims, submit: Submit) -> None:
    submit()
    submit()
    execution = new_execution()
    claim = claims.take(DEMO, execution=execution)
    assert claim is not None
    assert claims.release(claim)
    assert claims.take(DEMO, execution=execution) is None


def test_a_lost_reply_loses_no_job(rewire: Rewire, make_claims: Make, submit: Submit, kiln: Kiln) -> None:
    settings, proxy = rewire("redis")
    job_id, far = submit(), make_claims("far", settings)
    far.take(DEMO, without=["default"])  # loads the script
    execution = new_execution()
    proxy.lose_reply_to(b'"take"')
    with pytest.raises(redis.RedisError):
        far.take(DEMO, execution=execution)
    assert proxy.lost == 1
    assert kiln.redis.llen(f"rq:queue:{LANE}") == 0
    claim = far.take(DEMO, execution=execution)
    assert claim is not None
    assert (claim.job_id, claim.attempt) == (job_id, 1)


def test_every_job_is_taken_once_however_many_take(make_claims: Make, kiln: Kiln) -> None:
    jobs = kiln.submit_many([{"prompt": "x", "model": "demo"} for _ in range(60)])
    found: list[str] = []

    def work(claims: Claims) -> None:
        while (job_id := taken(claims)) is not None:
            found.append(job_id)

    threads = [threading.Thread(target=work, args=(make_claims(f"w{i}"),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(job.id for job in jobs)


def test_waiting_ends_with_the_ring(claims: Claims, submit: Submit) -> None:
    submit()
    claims.wait(["demo"], 20.0)  # rung already
    threading.Timer(0.05, submit).start()
    claims.wait(["other", "demo"], 20.0)
    assert taken(claims) is not None
