"""A worker is killed, or frozen past its lease, at each point between taking a job and forgetting it."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest

from tests.chaos.crew import forks
from tests.chaos.points import FAILING, POINTS
from tests.chaos.scenes import Scene, Stage
from worker.local.seaweed import Seaweed

STAGES = 4  # scenes played at a time: most of a scene is waiting for a lease

ORDINARY = [name for name in POINTS if not name.startswith("fail.")]
SCENES = [
    *(Scene(name, then) for then in ("restart", "takeover", "thaw") for name in ORDINARY),
    *(Scene(name, then, failing=True) for then in ("restart", "takeover", "thaw") for name in FAILING),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What came of every scene."""
    folder: Path = tmp_path_factory.mktemp("scenes")
    return play(folder, SCENES)


def play(folder: Path, scenes: list[Scene]) -> dict[str, list[str]]:
    """The violations of each scene, several played at a time."""
    waiting: queue.SimpleQueue[Scene] = queue.SimpleQueue()
    for scene in scenes:
        waiting.put(scene)
    found: dict[str, list[str]] = {}
    context = forks()

    def work(stage_folder: Path) -> None:
        with Stage(stage_folder, store, context) as stage:
            while not waiting.empty():
                try:
                    scene = waiting.get_nowait()
                except queue.Empty:
                    return
                found[str(scene)] = stage.play(scene)

    with Seaweed(folder / "s3") as store:
        threads = [threading.Thread(target=work, args=(folder / f"stage{i}",)) for i in range(STAGES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


@pytest.mark.parametrize("scene", [str(scene) for scene in SCENES])
def test_the_job_ends_once(played: dict[str, list[str]], scene: str) -> None:
    assert played[scene] == []
