"""The checkpoints a worker has, by the model and quantization their `kiln.json` names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.worker.engines.checkpoints.files import read_json
from pixelkiln.worker.engines.engine import CheckpointError

BITS = {16: "bf16", 8: "q8", 6: "q6", 5: "q5", 4: "q4"}


@dataclass(frozen=True, slots=True)
class Installed:
    """One checkpoint folder."""

    model: str
    quantization: str
    folder: Path

    @property
    def kind(self) -> str:
        """As lanes name it: `model:quantization`."""
        return f"{self.model}:{self.quantization}"

    def weight_bytes(self) -> int:
        """Bytes of its weight files, which is about what they take in memory."""
        return sum(path.stat().st_size for path in self.folder.rglob("*.safetensors") if path.is_file())


def demo_folder() -> Path:
    """The small checkpoint that ships with the project."""
    return Path(str(files("pixelkiln.worker").joinpath("checkpoints", "demo")))


def installed(models_dir: Path) -> dict[str, Installed]:
    """Every usable checkpoint under `models_dir`, and the demo's, by kind; of two alike the first by name.

    Folders without a whole `kiln.json` are no checkpoints: a conversion writes it last.
    """
    folders = [*sorted(models_dir.glob("*/")), demo_folder()] if models_dir.is_dir() else [demo_folder()]
    found: dict[str, Installed] = {}
    for folder in folders:
        try:
            manifest = read_json(folder / "kiln.json")
            model, quantization = manifest["model"], BITS[manifest["bits"]]
        except (CheckpointError, KeyError, TypeError):
            continue
        if isinstance(model, str) and model in CATALOGUE:
            one = Installed(model, quantization, folder)
            found.setdefault(one.kind, one)
    return found
