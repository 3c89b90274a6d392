"""The golden checkpoint as one of each model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pixelkiln.worker.engines.checkpoints import manifest
from pixelkiln.worker.engines.qwen_image.checkpoint import weight_files

GOLDEN = Path(__file__).parents[3] / "golden" / "qwen_image"
TINY = GOLDEN / "tiny-qwen-image-edit"
LORA = GOLDEN / "tiny-lightning-4steps.safetensors"
EDIT, OLDER, DRAW = "qwen-image-edit-2511", "qwen-image-edit-2509", "qwen-image"


def changed(path: Path, **values: object) -> None:
    """Replace entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values))


def released(folder: Path, model: str = EDIT) -> Path:
    """A copy laid out as the model's release is."""
    shutil.copytree(TINY, folder)
    if model != EDIT:
        changed(folder / "transformer/config.json", zero_cond_t=False)
    if model == DRAW:
        changed(folder / "model_index.json", _class_name="QwenImagePipeline")
        shutil.rmtree(folder / "processor")
    return folder


def described(folder: Path, model: str = EDIT, **facts: object) -> Path:
    """The same with the kiln.json that an engine asks for."""
    released(folder, model)
    told = {"schema": 1, "model": model, "recipe": "draw" if model == DRAW else "edit", "bits": 16}
    told |= {"source": "test", "revision": "0", **facts}
    digest = manifest.digest(folder, weight_files(folder))
    (folder / "kiln.json").write_text(json.dumps({**told, "digest": digest}))
    return folder
