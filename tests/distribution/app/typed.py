"""A typed app, for `mypy --strict`: what is right passes, each slip is found."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from pixelkiln import (
    Box,
    CancelOutcome,
    Farm,
    JobStatus,
    Kiln,
    KilnError,
    LaneStatus,
    NotReadyError,
    Order,
    RenderSpec,
    Result,
    Sidecar,
    SpecFields,
    StorageAwayError,
    Submitted,
    WorkerStatus,
)
from pixelkiln.testing import FakeKiln


def right(kiln: Kiln) -> None:
    """Every call as it is meant."""
    job = kiln.submit(
        prompt="a fox",
        model="demo",
        quantization="q6",
        width=64,
        height=64,
        seed=None,
        steps=4,
        guidance=1.0,
        references=[Path("a.png"), "0" * 64],
        layout=[{"x1": 0.0, "x2": 0.5, "y1": 0.0, "y2": 0.5}, Box(x1=0, x2=1, y1=0, y2=1)],
        priority="high",
        client="studio",
        labels={"a": "b"},
        id="mine",
    )
    assert_type(job, Submitted)
    fields: SpecFields = {"prompt": "a fox", "model": "demo"}
    kiln.submit(fields)
    kiln.submit(RenderSpec.parse({"prompt": "a fox"}), id="other")
    kiln.submit_many([fields, {"prompt": "a hare"}, RenderSpec.parse({"prompt": "a hen"})], batch="night")
    assert_type(kiln.status(job.id), JobStatus)
    assert_type(kiln.status(job.id).result, Result | None)
    assert_type(kiln.statuses([job.id]), dict[str, JobStatus | None])
    assert_type(kiln.cancel([job.id]), dict[str, CancelOutcome])
    assert_type(kiln.sidecar(job.id), Sidecar)
    assert_type(kiln.fetch(job.id), Path)
    assert_type(kiln.farm(), Farm)
    assert_type(kiln.farm().lanes, tuple[LaneStatus, ...])
    assert_type(kiln.farm().workers, tuple[WorkerStatus, ...])
    assert_type(kiln.pause("farm"), Order)


def slips(kiln: Kiln) -> None:
    """Each of these is an error; were it none, mypy would say that its ignore is unused."""
    kiln.submit(prompt="a fox", colour="red")  # type: ignore[call-overload]
    kiln.submit(prompt="a fox", width="64")  # type: ignore[call-overload]
    kiln.submit(prompt="a fox", priority="urgent")  # type: ignore[call-overload]
    kiln.submit(model="demo")  # type: ignore[call-overload]
    kiln.submit_many([{"prompt": "a fox", "sead": 1}])  # type: ignore[list-item]
    kiln.submit_many([{"prompt": 1}])  # type: ignore[list-item]
    print(kiln.farm().workers[0].stat)  # type: ignore[attr-defined]
    if kiln.cancel(["a"])["a"] == "canceled":  # type: ignore[comparison-overlap]
        pass


def test_my_app() -> None:
    """The double is a Kiln."""
    with FakeKiln() as kiln:
        assert_type(kiln, FakeKiln)
        right(kiln)
    try:
        right(Kiln())
    except StorageAwayError as error:
        assert_type(error.exit_code, int)
        away: NotReadyError = error
        ours: KilnError = away
        print(ours)
