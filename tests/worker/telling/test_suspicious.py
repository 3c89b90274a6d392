"""What the checks found in a picture is told wherever its job is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.worker.queue.claims import Claims
from tests.jobs.commands.conftest import run
from tests.jobs.commands.running import Run
from tests.worker.deliver.conftest import impatient, open_delivery
from tests.worker.deliver.stored import Make, Open
from tests.worker.pictures import rendered

__all__ = ["impatient", "open_delivery", "run"]

BLACK = ("black: mean luma 0.0 of 255", "flat: luma spread 0.0 of 255")
WORDS = f"suspicious: {', '.join(BLACK)}"


@pytest.fixture
def night(kiln: Kiln, claims: Claims, open_delivery: Open) -> Iterator[Batch]:
    """Two pictures, the first black."""
    spec = {"model": "demo", "width": 64, "height": 64}
    batch = kiln.batch([{"prompt": "a bat", **spec}, {"prompt": "a fox", **spec}], name="night")
    delivery = open_delivery()
    delivery.start()
    for number in range(2):
        claim = claims.take(["demo:bf16"])
        assert claim is not None
        picture = rendered(claim)
        delivery.put(replace(picture, pixels=picture.pixels * np.uint8(number)))
    batch.wait()
    yield batch
    delivery.close()


def test_every_command_tells_it_in_the_same_words(night: Batch, run: Run) -> None:
    bat, fox = night.ids
    assert WORDS in run("status", bat).out
    assert "suspicious" not in run("status", fox).out
    assert run("status", bat, "--json").json["suspicious"] == list(BLACK)
    watched = run("watch", "night").out.splitlines()
    assert [WORDS in line for line in sorted(watched, key=lambda line: bat not in line)] == [True, False]
    assert "2 finished (1 suspicious)" in run("status", "night").out
    assert run("status", "night", "--json").json["suspicious"] == 1
    assert "2 finished (1 suspicious)" in run("batches").out
    listed = run("jobs", "--batch", "night", "--suspicious").out
    assert bat in listed
    assert WORDS in listed
    assert fox not in listed
    refused = run("jobs", "--suspicious")
    assert refused.code == 2
    assert "name a batch" in refused.err


def test_the_sidecar_tells_it_once_redis_has_forgotten(night: Batch, kiln: Kiln) -> None:
    kiln.redis.delete(*(keys.JOB(one) for one in night.ids))
    assert [one and one.suspicious for one in kiln.statuses(night.ids).values()] == [BLACK, ()]
    assert night.status().suspicious == 1


def test_a_job_tried_again_is_not_suspicious_for_what_was_there(night: Batch, kiln: Kiln) -> None:
    night.retry(again=True)
    assert night.status().suspicious == 0
    assert kiln.status(night.ids[0]).suspicious == ()


def test_a_record_of_before_has_nothing_to_tell(night: Batch, kiln: Kiln) -> None:
    kiln.redis.hdel(keys.JOB(night.ids[0]), "kiln_suspicious")
    assert kiln.status(night.ids[0]).suspicious == ()
    assert night.status().suspicious == 0


def test_what_strangers_write_there_is_fit_to_be_shown(
    kiln: Kiln, submit: Callable[..., str], make_claims: Make
) -> None:
    job_id, claims = submit(id=str(uuid.uuid4())), make_claims()
    claim = claims.take(["demo:bf16"])
    assert claim is not None
    assert claims.finish(claim, {}, 1.0, *BLACK)
    kiln.redis.hset(keys.JOB(job_id), "kiln_suspicious", "\x1b[31mred; ; " + "x" * 9000)
    first, second = kiln.status(job_id).suspicious
    assert first == "\ufffd[31mred"
    assert len(second) < 600
