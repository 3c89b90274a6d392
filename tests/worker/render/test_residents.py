"""Several models in memory: who leaves for whom, what is freed, and nobody refused for others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, Settings, SpecError
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.jobs.storage.pictures import look
from pixelkiln.worker import engines
from pixelkiln.worker.engines.checkpoints.installed import installed
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.engine import CheckpointError, Engine, Step
from pixelkiln.worker.engines.families import FAMILIES
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.render.health import FAILURES
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.rendered import Rendered
from pixelkiln.worker.render.renderer import Renderer
from tests.tiny import TINY
from tests.worker.engines.held import held
from tests.worker.engines.stand_in.family import MODEL, WEIGHTS, StandIn, StandInEngine
from tests.worker.kinds import MODELS, install

FIRST, SECOND, THIRD, FOURTH = MODELS
SLACK = 2**20  # bytes: half a model


def spec(model: str, **fields: Any) -> RenderSpec:
    known = {"prompt": "a fox", "model": model, "width": 64, "height": 64, "seed": 1}
    return RenderSpec.parse({**known, **fields})


def names(renderer: Renderer) -> list[str]:
    return [kind.partition(":")[0] for kind in renderer.residents.kinds]


@pytest.fixture
def told() -> list[str]:
    """What a worker's record was to say of the models in memory."""
    return []


@pytest.fixture
def renderer(settings: Settings, bucket: Bucket, told: list[str]) -> Iterator[Renderer]:
    install(settings.models_dir)

    def tell(kiln_resident: str | None = None, kiln_used: str = "0") -> None:
        assert int(kiln_used) >= 0
        if kiln_resident is not None:
            told.append(kiln_resident)

    made = Renderer(installed(settings.models_dir), settings, References(bucket), Watchdog(900.0), tell)
    made.budget.total = made.budget.total - made.budget.model + 2**40
    yield made
    made.unload()


def render(renderer: Renderer, model: str, **fields: Any) -> Rendered:
    claim = Claim("job-1", "e1", Lane(model, "bf16", "normal", "default"))
    return renderer.render(claim, spec(model, **fields), 0.0, lambda step: True)


def hold(renderer: Renderer, count: int, **fields: Any) -> None:
    """Give it a budget for `count` of these models, beside which a small job, or this one, is rendered."""
    one = engines.estimate(TINY)
    small = spec(FIRST, **fields)
    share = one.bytes_needed(small) + (count - 1) * one.weights + SLACK  # type: ignore[attr-defined]
    renderer.budget.total += share - renderer.budget.share(small)


def test_the_least_recently_used_leaves(renderer: Renderer, told: list[str]) -> None:
    before, limit = held(), mx.get_memory_limit()
    hold(renderer, 2)
    assert [render(renderer, model).load > 0 for model in (FIRST, SECOND, FIRST)] == [True, True, False]
    assert names(renderer) == [FIRST, SECOND]
    assert render(renderer, THIRD).load > 0
    assert names(renderer) == [THIRD, FIRST]
    assert render(renderer, FIRST).load == 0
    assert render(renderer, SECOND).load > 0
    assert names(renderer) == [SECOND, FIRST]
    assert renderer.residents.loads == 4
    kinds = [[f"{model}:bf16" for model in some] for some in ([FIRST], [SECOND, FIRST], [THIRD, FIRST])]
    assert [told[0], told[1], told[3]] == [",".join(some) for some in kinds]
    beside = renderer.residents.beside(None)
    assert beside == pytest.approx(held() - before, rel=0.01)
    assert mx.get_memory_limit() == renderer.budget.model
    renderer.unload()
    assert (names(renderer), told[-1]) == ([], "")
    assert (mx.get_active_memory(), mx.get_memory_limit()) == (before, limit)


def test_what_is_kept_for_speed_goes_before_a_model(renderer: Renderer) -> None:
    render(renderer, FIRST, prompt="a fox, " * 400)
    hold(renderer, 2)
    first = renderer.residents.latest
    assert first is not None
    loaded = engines.estimate(TINY).weights  # type: ignore[attr-defined]
    assert first.engine.held_bytes() > loaded + SLACK
    render(renderer, SECOND)
    assert names(renderer) == [SECOND, FIRST]
    assert first.engine.held_bytes() == loaded
    assert render(renderer, FIRST).load == 0


def test_a_job_that_fits_alone_is_rendered_whoever_else_is_there(renderer: Renderer) -> None:
    hold(renderer, 4)
    for model in MODELS:
        render(renderer, model)
    assert len(names(renderer)) == 4
    needed = renderer.budget.needed(spec(THIRD, width=256, height=256))
    renderer.budget.total = needed
    assert render(renderer, THIRD, width=256, height=256).load == 0
    assert names(renderer) == [THIRD]
    renderer.budget.total = needed - 1
    with pytest.raises(SpecError, match="256 x 256 at bf16 needs"):
        render(renderer, THIRD, width=256, height=256)
    assert names(renderer) == [THIRD]


def test_one_that_is_refused_sends_nobody_away(renderer: Renderer) -> None:
    hold(renderer, 2)
    render(renderer, FIRST)
    render(renderer, SECOND)
    for model in (FIRST, THIRD):
        with pytest.raises(SpecError, match="2048 x 2048 at bf16 needs"):
            render(renderer, model, width=2048, height=2048)
    assert names(renderer) == [SECOND, FIRST]


def test_a_load_that_fails_beside_others_is_tried_alone(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    render(renderer, FIRST)
    real = engines.load

    def short(*given: Any) -> Engine:
        if names(renderer):
            raise RuntimeError("[malloc] Unable to allocate")
        return real(*given)

    monkeypatch.setattr(engines, "load", short)
    assert render(renderer, SECOND).load > 0
    assert names(renderer) == [SECOND]

    def never(*given: Any) -> Engine:
        raise RuntimeError("[malloc] Unable to allocate")

    monkeypatch.setattr(engines, "load", never)
    with pytest.raises(CheckpointError, match="RuntimeError: \\[malloc\\]"):
        render(renderer, THIRD)
    assert names(renderer) == []


def test_a_canary_is_of_the_last_jobs_model(renderer: Renderer, caplog: pytest.LogCaptureFixture) -> None:
    hold(renderer, 2, width=128, height=128)
    render(renderer, SECOND)
    render(renderer, FIRST)
    for _ in range(FAILURES):
        renderer.failed()
    renderer.heal()
    assert "rendering a canary" in caplog.text
    assert (renderer.unwell, names(renderer)) == (None, [FIRST, SECOND])


def test_what_cures_a_worker_is_done_to_all(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (FIRST, SECOND):
        render(renderer, model)
    loaded = 2 * engines.estimate(TINY).weights  # type: ignore[attr-defined]
    assert renderer.residents.beside(None) > loaded
    monkeypatch.setattr(renderer._health, "cure", lambda: "trim")
    renderer.heal()
    assert (names(renderer), renderer.residents.beside(None)) == ([SECOND, FIRST], loaded)
    monkeypatch.setattr(renderer._health, "cure", lambda: "reload")
    renderer.heal()
    assert names(renderer) == []


PART = 3 * 2**20  # bytes of a part of the model that may be kept between its turns


class Staged(StandInEngine):
    """Keeps a part of itself after a render where there is room for it, as text encoders are."""

    def __init__(self, manifest: Manifest, budget: int) -> None:
        super().__init__(manifest)
        self.budget, self.kept = budget, 0

    def render(self, spec: RenderSpec, references: Sequence[Image.Image] = ()) -> Iterator[Step]:
        self.kept = PART if self.bytes_needed(spec) + PART <= self.budget else 0
        return super().render(spec, references)

    def held_bytes(self) -> int:
        return WEIGHTS + self.kept

    def allow(self, budget: int) -> None:
        self.budget = budget

    def trim(self) -> None:
        self.kept = 0


@pytest.fixture
def staged(settings: Settings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Renderer:
    """A renderer of two kinds of a model that is staged."""
    family = StandIn()

    def load(folder: Path, budget: int, *more: Any) -> Engine:
        return Staged(Manifest.read(folder), budget)

    monkeypatch.setattr(family, "load", load)
    monkeypatch.setitem(FAMILIES, MODEL.name, family)
    monkeypatch.setitem(CATALOGUE, MODEL.name, MODEL)
    one, other = (settings.models_dir / name for name in ("one", "other"))
    family.pull(MODEL.name, one, None, None)
    family.convert(one, other, 8, group_size=64, mixed=False, model=None, progress=None)
    return Renderer(installed(settings.models_dir), settings, References(bucket), Watchdog(900.0))


def picture(bits: str) -> RenderSpec:
    return spec(MODEL.name, width=96, height=80, quantization=bits)


def give(renderer: Renderer, share: int) -> None:
    """A budget that leaves so many bytes for models and references."""
    renderer.budget.total += share - renderer.budget.share(picture("bf16"))


def kept(renderer: Renderer, bits: str) -> tuple[int, int, list[str]]:
    """What the engine of a job keeps, what it was allowed, and who is in memory, after the job."""
    job = picture(bits)
    lane = Lane(job.model, job.quantization, "normal", "default")
    renderer.render(Claim("job-1", "e1", lane), job, 0.0, lambda step: True)
    latest = renderer.residents.latest
    assert latest is not None
    assert isinstance(latest.engine, Staged)
    return latest.engine.kept, latest.engine.budget, [kind.split(":")[1] for kind in renderer.residents.kinds]


def test_engines_are_told_what_they_may_hold_beside_the_others(staged: Renderer) -> None:
    needed = staged.budget.rendering(picture("bf16"))
    give(staged, needed + WEIGHTS + PART)  # for both, and a part of one
    assert kept(staged, "bf16") == (PART, needed + WEIGHTS + PART, ["bf16"])
    assert kept(staged, "q8") == (
        0,
        needed,
        ["q8", "bf16"],
    )  # the part of the other fits beside it, and stays
    assert kept(staged, "bf16") == (PART, needed + PART, ["bf16", "q8"])
    give(staged, needed + WEIGHTS)  # for both without
    assert kept(staged, "q8") == (0, needed, ["q8", "bf16"])
    assert kept(staged, "bf16") == (0, needed, ["bf16", "q8"])
    give(staged, needed)
    assert kept(staged, "q8") == (0, needed, ["q8"])


def test_other_models_leave_for_references(staged: Renderer, kiln: Kiln, tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    Image.effect_noise((640, 640), 50).convert("RGB").save(path)
    edit = picture("q8").model_copy(update={"references": [kiln.upload(path)]})  # for the memory it takes
    needed = staged.budget.rendering(edit) + look(path.read_bytes()).bytes_needed
    give(staged, needed + WEIGHTS - 1)
    assert kept(staged, "bf16")[0] == kept(staged, "q8")[0] == PART
    model = staged.residents.latest
    assert model is not None
    (found,) = staged.residents.pictures(edit, model)
    assert found.size == (640, 640)
    assert staged.residents.kinds == ("stand-in:q8",)
    give(staged, staged.budget.rendering(edit) + 4 * 640 * 640 - 1)
    with pytest.raises(
        SpecError, match="references: take 1,638,400 bytes; this worker has room for 1,638,399"
    ):
        staged.residents.pictures(edit, model)
    assert staged.residents.kinds == ("stand-in:q8",)
