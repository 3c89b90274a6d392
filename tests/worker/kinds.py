"""Several models in one folder of models, as small as the demo's stand-in, whose weights they are."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny import TINY

MODELS = ("demo", "hidream-o1-dev", "hidream-o1-dev-2604", "hidream-o1-full")


def install(models: Path) -> list[str]:
    """Four of them, each a checkpoint of its own; their kinds."""
    for model in MODELS:
        folder = models / model
        folder.unlink(missing_ok=True)
        folder.mkdir()
        for path in TINY.iterdir():
            (folder / path.name).symlink_to(path)
        known = json.loads((TINY / "kiln.json").read_bytes())
        (folder / "kiln.json").unlink()
        (folder / "kiln.json").write_text(json.dumps({**known, "model": model}))
    return [f"{model}:bf16" for model in MODELS]
