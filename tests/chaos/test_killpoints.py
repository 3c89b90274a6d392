"""A worker is killed, or frozen past its lease, at points between taking a job and forgetting it.

Here those that differ most; `python -m tests.chaos.play` plays all of them.
"""

from __future__ import annotations

import pytest

from tests.chaos.play import SCENES, play
from tests.chaos.scenes import Scene

ALIKE = {
    "load.after",
    "hand-over.after",
    "encode.after",
    "spool.before",
    "spool.draft.before",
    "remove.before",
}
TAKEOVERS = {"take.after", "step.first", "spool.after", "png.after", "sidecar.after", "finish.queued"}
THAWS = {"step.last", "png.before", "png.after", "sidecar.before", "finish.before"}
CHOSEN = [
    scene
    for scene in SCENES
    if (scene.then == "restart" and scene.point not in ALIKE)
    or (scene.then == "takeover" and scene.point in TAKEOVERS and not scene.failing)
    or (scene.then == "thaw" and scene.point in THAWS)
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[Scene, list[str]]:
    """What came of every scene."""
    return play(tmp_path_factory.mktemp("scenes"), CHOSEN)


@pytest.mark.parametrize("scene", CHOSEN, ids=str)
def test_the_job_ends_once(played: dict[Scene, list[str]], scene: Scene) -> None:
    assert played[scene] == []
