"""One table knows the families; a second one needs its folder, that table and the catalogue, and no more."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, RenderSpec, Settings, SpecError
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.worker import engines
from pixelkiln.worker.commands.app import main
from pixelkiln.worker.engines.checkpoints.installed import Installed
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.families import FAMILIES, family_in, family_of
from pixelkiln.worker.engines.hidream.family import HiDream
from pixelkiln.worker.render.budget import Budget
from pixelkiln.worker.render.checks import check
from pixelkiln.worker.service import Service
from tests.tiny import TINY
from tests.worker.engines.stand_in.family import BYTES, MODEL, WEIGHTS, StandIn, drawn, levels
from tests.worker.working import working

ROOT = Path(__file__).parents[3]
NAMES = (ROOT / "worker/engines/families.py", ROOT / "jobs/catalogue.py")  # the tables


@pytest.fixture
def stand_in(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The second family in both tables, and a folder of its model: a kiln.json and nothing else."""
    monkeypatch.setitem(FAMILIES, MODEL.name, StandIn())
    monkeypatch.setitem(CATALOGUE, MODEL.name, MODEL)
    folder = settings.models_dir / "stand-in"
    StandIn().pull(MODEL.name, folder, None, None)
    return folder


@pytest.fixture
def run(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Run `kiln` in this process: exit code and what it printed."""

    def act(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["kiln", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "300")
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capsys.readouterr().out

    return act


def test_every_model_has_a_family() -> None:
    assert FAMILIES.keys() == CATALOGUE.keys()


def test_the_table_and_its_families_load_no_mlx() -> None:
    code = "import sys, pixelkiln.worker.engines.families; print('mlx' in sys.modules, 'PIL' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split()[0] == "False"


def test_a_folder_tells_its_family(stand_in: Path, tmp_path: Path) -> None:
    assert isinstance(family_in(stand_in), StandIn)
    assert isinstance(family_in(stand_in, "demo"), StandIn)  # kiln.json comes first
    assert isinstance(family_in(TINY), HiDream)
    released = tmp_path / "released"
    released.mkdir()
    with pytest.raises(CheckpointError, match=r"released has no kiln\.json and is laid out as no known"):
        family_in(released)
    assert isinstance(family_in(released, MODEL.name), StandIn)
    (released / "blocks.json").touch()
    assert isinstance(family_in(released), StandIn)
    assert isinstance(family_in(ROOT / "tests/golden/tiny-hidream-o1"), HiDream)
    with pytest.raises(CheckpointError, match="no engine for the model 'x'; there are hidream-o1-dev, "):
        family_of("x")
    (released / "kiln.json").write_text(json.dumps({"model": "x"}))
    with pytest.raises(CheckpointError, match=r"kiln\.json: recipe: "):
        engines.load(released)


def test_a_checkpoint_described_before_there_were_families_loads(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for path in TINY.iterdir():
        if path.name != "kiln.json":
            (folder / path.name).symlink_to(path)
    (folder / "kiln.json").write_text(
        '{"schema": 1, "model": "demo", "recipe": "dev", "bits": 16, "source": "postcards", "revision": "1",'
        ' "digest": "sha256:bbf7f9c6b4b51d6335637b003e3b7b280144816c24d429006f755c2dc6a74358"}\n'
    )
    spec = RenderSpec(prompt="a fox", model="demo", width=64, height=64, seed=1)
    assert engines.estimate(folder).bytes_needed(spec) == engines.estimate(TINY).bytes_needed(spec)
    pictures = []
    for one in (folder, TINY):
        engine = engines.load(one)
        *_, last = engine.render(spec)
        pictures.append(last.pixels)
        engine.close()
    assert np.array_equal(*pictures)


def test_a_second_family_renders_through_the_queue(
    stand_in: Path, settings: Settings, kiln: Kiln, tmp_path: Path
) -> None:
    """Real Redis, real bucket, a real worker that serves both families and changes between them."""
    jobs = kiln.submit_many(
        [
            {"prompt": "a fox", "model": "stand-in", "seed": 1},
            {"prompt": "a fox", "model": "demo", "width": 64, "height": 64},
            {"prompt": "a fox", "model": "stand-in", "seed": 2, "width": 112, "height": 80, "steps": 5},
        ]
    )
    working(Service(settings), lambda: all(kiln.status(job.id).ended for job in jobs))
    assert {kiln.status(job.id).state for job in jobs} == {"finished"}
    for job, seed, size, steps in ((jobs[0], 1, (96, 80), 3), (jobs[2], 2, (112, 80), 5)):
        picture = Image.open(io.BytesIO(kiln.fetch(job.id, tmp_path / "out").read_bytes()))
        assert np.array_equal(np.asarray(picture), levels(drawn("a fox", seed, size)))
        told = picture.info["parameters"].splitlines()[1]
        assert told.startswith(f"Steps: {steps}, Sampler: at once, Seed: {seed}, Size: {size[0]}x{size[1]}, ")
        sidecar = kiln.sidecar(job.id)
        assert (sidecar.model["engine"], sidecar.model["steps"]) == ("stand-in", str(steps))
        assert len(sidecar.timings.steps) == steps
        assert sidecar.checks == check(levels(drawn("a fox", seed, size)), MODEL.grid)  # its own grid's seams


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"width": 100}, "width: 100 is not a multiple of 16; the nearest are 96 and 112"),
        ({"width": 64}, "width: must be greater than or equal to 80, not 64"),
        ({"quantization": "q4"}, "quantization: stand-in has bf16, q8, not q4"),
        ({"references": ["0" * 64]}, "references: stand-in takes no reference pictures"),
        ({"blend_seams": 1}, "blend_seams: stand-in leaves no seams; leave it out"),
    ],
)
@pytest.mark.usefixtures("stand_in")
def test_its_jobs_are_refused_by_its_own_limits(kiln: Kiln, fields: dict[str, object], line: str) -> None:
    with pytest.raises(SpecError) as caught:
        kiln.submit(prompt="x", model="stand-in", **fields)
    assert str(caught.value) == line


def test_the_budget_offers_sizes_that_it_has(stand_in: Path) -> None:
    served = {"stand-in:bf16": Installed("stand-in", "bf16", stand_in)}
    budget = Budget(served, Settings(models_dir=stand_in.parent, memory=2**40))
    assert budget.largest() == {"stand-in:bf16": 384}
    spec = RenderSpec.parse({"prompt": "x", "model": "stand-in", "width": 320, "height": 320})
    needed = budget.needed(spec)
    assert needed > WEIGHTS + BYTES * 320 * 320
    budget.total = needed - 1
    with pytest.raises(SpecError, match=r"; 256 x 256, 128 x 128 would fit$"):
        budget.refuse(spec)


def test_commands_ask_it(stand_in: Path, run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, out = run("models", "list", "--json")
    assert ("stand-in", "bf16") in {(one["model"], one["quantization"]) for one in json.loads(out)}
    code, out = run("doctor", "--json")
    told = next(one for one in json.loads(out) if one["what"] == "models")
    assert told["state"] == "ok"
    assert "stand-in:bf16 (up to 384 x 384)" in told["found"]
    code, out = run("models", "pull", "stand-in", "--to", tmp_path / "pulled", "--json")
    assert (code, json.loads(out)["recipe"]) == (0, "blocks")
    code, out = run("models", "convert", stand_in, tmp_path / "q8", "--bits", "8", "--json")
    assert (code, json.loads(out)["bits"]) == (0, 8)
    assert run("models", "convert", stand_in, tmp_path / "q4", "--bits", "4")[0] == 1


def test_verify_prints_what_it_compared(
    stand_in: Path, run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    recorded = drawn("a fox", 1, (96, 80))
    np.save(tmp_path / "fox.npy", recorded)
    code, out = run("models", "verify", stand_in, tmp_path, "--json")
    assert code == 0
    assert json.loads(out) == {
        "cases": [{"name": "fox", "features": 0.0, "image": 0.0, "ok": True}],
        "ok": True,
    }
    np.save(tmp_path / "fox.npy", np.full_like(recorded, np.nan))
    code, out = run("models", "verify", stand_in, tmp_path, "--json")
    assert code == 1
    assert json.loads(out)["cases"] == [{"name": "fox", "features": 0.0, "image": None, "ok": False}]
    code, out = run("models", "verify", stand_in, tmp_path)
    assert code == 1
    assert all(word in out for word in ("features", "image", "nan", "differs"))


def test_bench_prints_its_rows(stand_in: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, out = run("models", "bench", stand_in, "--size", "96x80", "--steps", "2", "--json")
    (row,) = json.loads(out)["rows"]
    assert (code, row["size"], len(row["seconds"])) == (0, [96, 80], 2)
    random = ("models", "bench", "--random", "--model", "stand-in", "--size", "96x80")
    code, out = run(*random, "--config", "one")
    assert code == 0
    assert "96x80" in out
    assert run(*random, "--config", "two")[0] == 2


@pytest.mark.parametrize("name", ["stand-in", "hidream"])
def test_no_file_but_the_tables_names_a_family(name: str) -> None:
    spelled = (name, name.replace("-", "_"))
    naming = [
        path
        for folder in ("jobs", "worker", "pixelkiln/__init__.py")
        for path in ([ROOT / folder] if folder.endswith(".py") else (ROOT / folder).rglob("*.py"))
        if path not in NAMES
        and ROOT / "worker/engines" / spelled[1] not in path.parents
        and ROOT / "jobs/commands" not in path.parents  # whose help names a model for instance
        and any(one in path.read_text(encoding="utf-8").lower() for one in spelled)
    ]
    assert naming == []
