"""One spec gives the same bytes alone, after its worker was killed at it, and after other models' jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, RenderSpec, Settings
from pixelkiln.worker import engines
from pixelkiln.worker.engines.checkpoints.installed import installed
from tests.soak.switching import MODELS, install
from tests.waiting import until
from tests.worker.working import all_ended

# One worker after another, as launchd starts them: each dies at the first step of a job that kills, which it
# does once. They are forked, since importing takes longest; MLX is imported by each.
WORKERS = """
import os, signal
from pathlib import Path
from pixelkiln.jobs import Settings
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.service import Service

plain = Heartbeat.report

def report(heartbeat, claim, progress):
    plain(heartbeat, claim, progress)
    mark = Path(f"{claim.job_id}.was-killed")
    if claim.job_id.startswith("kills-") and progress.step == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

Heartbeat.report = report
while True:
    child = os.fork()
    if not child:
        Service(Settings.load()).run()
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture
def workers(settings: Settings, environment: dict[str, str], tmp_path: Path) -> Iterator[None]:
    install(settings.models_dir)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKERS],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    yield
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def spec(model: str) -> RenderSpec:
    steps = {} if model == "demo" else {"steps": 2}
    about = {"prompt": "a fox", "model": model, "quantization": "bf16", "width": 96, "height": 64, "seed": 5}
    return RenderSpec.parse(about | steps)


def alone(folder: Path, wanted: RenderSpec) -> bytes:
    """What an engine that does nothing else draws."""
    engine = engines.load(folder)
    *_, last = engine.render(wanted)
    engine.close()
    assert last.pixels is not None
    return last.pixels.tobytes()


@pytest.mark.usefixtures("workers")
def test_every_family_draws_the_same_whatever_happens(settings: Settings, kiln: Kiln, tmp_path: Path) -> None:
    models = list(MODELS)
    killing = {model: kiln.submit(spec(model), id=f"kills-{model}").id for model in models}
    until(all_ended(kiln, list(killing.values())), "those that killed their worker are rendered", 120)
    assert {kiln.sidecar(job_id).job.attempt for job_id in killing.values()} == {2}
    assert len(list(tmp_path.glob("*.was-killed"))) == len(models)
    served = installed(settings.models_dir)
    for n, model in enumerate([*models, models[0]]):  # in turn: each after another's
        after = kiln.submit(spec(model), id=f"after-{n}").id
        until(all_ended(kiln, [after]), "it is rendered")
        first, second = (kiln.fetch(job_id, tmp_path / "out") for job_id in (killing[model], after))
        assert first.read_bytes() == second.read_bytes()
        with Image.open(first) as picture:
            assert np.asarray(picture).tobytes() == alone(served[f"{model}:bf16"].folder, spec(model))
