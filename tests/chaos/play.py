"""Plays scenes: several at a time, on one store."""

from __future__ import annotations

import queue
import sys
import tempfile
import threading
import time
from pathlib import Path

from pixelkiln.worker.local.seaweed import Seaweed
from tests.chaos.crew import forks
from tests.chaos.points import FAILING, POINTS
from tests.chaos.scenes import Scene, Stage

STAGES = 4  # most of a scene is waiting for a lease
THENS = ("restart", "takeover", "thaw")
ORDINARY = [name for name in POINTS if not name.startswith("fail.")]
SCENES = [
    *(Scene(name, then) for then in THENS for name in ORDINARY),
    *(Scene(name, then, failing=True) for then in THENS for name in FAILING),
]


def play(folder: Path, scenes: list[Scene]) -> dict[Scene, list[str]]:
    """The violations of each scene."""
    waiting: queue.SimpleQueue[Scene] = queue.SimpleQueue()
    for scene in scenes:
        waiting.put(scene)
    found: dict[Scene, list[str]] = {}
    context = forks()
    first = context.Process(target=time.monotonic)  # the fork server imports everything now
    first.start()
    first.join()

    def work(stage_folder: Path) -> None:
        with Stage(stage_folder, store, context) as stage:
            while True:
                try:
                    scene = waiting.get_nowait()
                except queue.Empty:
                    return
                found[scene] = stage.play(scene)

    with Seaweed(folder / "s3") as store:
        threads = [threading.Thread(target=work, args=(folder / f"stage{i}",)) for i in range(STAGES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


def main(words: list[str]) -> int:
    """Play the scenes whose names hold all of `words`, and tell."""
    chosen = [scene for scene in SCENES if all(word in str(scene) for word in words)]
    folder = Path(tempfile.mkdtemp(prefix="kiln-scenes-"))
    started = time.monotonic()
    found = play(folder, chosen)
    for scene in chosen:
        if found.get(scene, ["not played"]):
            print(f"{scene}:", *found.get(scene, ["not played"]), sep="\n    ")
    bad = sum(bool(found.get(scene, True)) for scene in chosen)
    print(f"{len(chosen)} scenes, {bad} bad, {time.monotonic() - started:.0f} s, in {folder}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
