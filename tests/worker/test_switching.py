"""Jobs of four models in turn through a real worker: how often each is loaded, and what is told of that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pixelkiln.jobs import Kiln, RenderSpec, Settings
from pixelkiln.worker import engines
from pixelkiln.worker.service import Service
from tests.tiny import TINY
from tests.worker.kinds import MODELS, install
from tests.worker.working import all_ended, working

ROUNDS = 3
SMALL = {"prompt": "a fox", "width": 64, "height": 64}


@pytest.fixture
def service(settings: Settings) -> Service:
    install(settings.models_dir)
    return Service(settings)


def hold(service: Service, count: int) -> None:
    """Give it a budget for `count` of the models, and half a one more."""
    job = RenderSpec.parse({**SMALL, "model": "demo"})
    one, budget = engines.estimate(TINY), service._renderer.budget
    share = one.bytes_needed(job) + (count - 1) * one.weights + 2**20  # type: ignore[attr-defined]
    budget.total += share - budget.share(job)


def in_turn(kiln: Kiln, clients: Callable[[str], str]) -> list[str]:
    """ROUNDS jobs of each model, submitted in turn."""
    specs = [{**SMALL, "model": model, "client": clients(model)} for model in MODELS * ROUNDS]
    return [kiln.submit(RenderSpec.parse({**spec, "seed": n})).id for n, spec in enumerate(specs)]


def loads(kiln: Kiln, service: Service, ids: list[str]) -> dict[str, int]:
    """How often each model was loaded, by the sidecars."""
    sidecars = [kiln.sidecar(job_id) for job_id in ids]
    counted = dict.fromkeys(MODELS, 0)
    for one in sidecars:
        counted[one.spec.model] += one.timings.load > 0
    assert sum(counted.values()) == service._renderer.residents.loads
    return counted


def test_where_all_fit_each_is_loaded_once(service: Service, kiln: Kiln) -> None:
    """Whoever the clients are, and however fairness has their models alternate."""
    hold(service, len(MODELS))
    ids = in_turn(kiln, lambda model: f"of-{model}")
    resident: list[tuple[str, ...]] = []

    def done() -> bool:
        if all_ended(kiln, ids)():
            resident.extend(worker.resident for worker in kiln.farm().workers)
        return any(len(kinds) == len(MODELS) for kinds in resident)

    working(service, done)  # the record tells of all within a beat
    assert {kiln.status(job_id).state for job_id in ids} == {"finished"}
    assert loads(kiln, service, ids) == dict.fromkeys(MODELS, 1)
    assert sorted(resident[-1]) == sorted(f"{model}:bf16" for model in MODELS)


def test_where_two_fit_jobs_of_one_client_load_each_once(service: Service, kiln: Kiln) -> None:
    """Of one client's lanes those of the models in memory come first, until one has waited for long."""
    hold(service, 2)
    ids = in_turn(kiln, lambda model: "default")
    working(service, all_ended(kiln, ids))
    assert {kiln.status(job_id).state for job_id in ids} == {"finished"}
    assert loads(kiln, service, ids) == dict.fromkeys(MODELS, 1)


def test_where_two_fit_clients_go_before_models(
    service: Service, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients with a model each are served in turn, at a load a job at most; never three are in memory."""
    hold(service, 2)
    most = [0]
    begin = service._renderer.residents.begin

    def counting(*arguments: object) -> None:
        most.append(len(service._renderer.residents.kinds))
        begin(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(service._renderer.residents, "begin", counting)
    ids = in_turn(kiln, lambda model: f"of-{model}")
    working(service, all_ended(kiln, ids))
    assert {kiln.status(job_id).state for job_id in ids} == {"finished"}
    assert max(most) == 2
    counted = loads(kiln, service, ids)
    assert all(1 <= count <= ROUNDS for count in counted.values())
    first = sorted(ids, key=lambda job_id: kiln.sidecar(job_id).job.started_at)[: len(MODELS)]
    assert {kiln.sidecar(job_id).spec.model for job_id in first} == set(
        MODELS
    )  # nobody waits for another's second
