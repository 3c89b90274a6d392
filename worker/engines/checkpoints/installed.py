"""The checkpoints a worker has, by the model and quantization their `kiln.json` names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.worker.engines.checkpoints.files import read_json
from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
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


def demo_folder() -> Path:
    """The small checkpoint that ships with the project."""
    return Path(str(files("pixelkiln.worker").joinpath("checkpoints", "demo")))


def installed(models_dir: Path) -> dict[str, Installed]:
    """Every usable checkpoint under `models_dir`, and the demo's, by kind; of two alike the first by name.

    Folders without a whole `kiln.json` are no checkpoints: a conversion writes it last.
    """
    found: dict[str, Installed] = {}
    for folder in (*_folders(models_dir), demo_folder()):
        one = _read(folder)
        if isinstance(one, Installed):
            found.setdefault(one.kind, one)
    return found


def left_out(models_dir: Path) -> dict[Path, str]:
    """What looks like a checkpoint under `models_dir` and is not served: why, and what to do, in one line."""
    found: dict[Path, str] = {}
    served: dict[str, Path] = {}
    if models_dir.exists() and not models_dir.is_dir():
        return {
            models_dir: f"{models_dir} is no folder: set KILN_MODELS_DIR to the one that holds checkpoints"
        }
    if _looks(models_dir):
        found[models_dir] = (
            f"{models_dir} is a checkpoint itself: set KILN_MODELS_DIR to the folder it lies in"
        )
    for folder in _folders(models_dir):
        one = _read(folder)
        if isinstance(one, Installed):
            first = served.setdefault(one.kind, folder)
            if first != folder:
                found[folder] = f"{folder} is {one.kind}, as is {first}, which is served: remove one of them"
        elif _looks(folder):
            found[folder] = one
        elif deeper := next(filter(_looks, _below(folder)), None):
            found[folder] = (
                f"{deeper} is looked for in {models_dir}: move it there, or put a link to it there"
            )
        else:
            found[folder] = f"{folder} holds no checkpoint: remove it; `kiln models pull` fetches a model"
    return found


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that show: a conversion fills a hidden one."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _below(folder: Path) -> Iterator[Path]:
    """The folders in a folder, as deep as the hub's cache lays a snapshot."""
    for one in _folders(folder):
        yield one
        yield from _folders(one)


def _looks(folder: Path) -> bool:
    """Whether somebody took it for a checkpoint."""
    weights = (path.name for path in folder.glob("*.safetensors") if not path.name.startswith("."))
    return next(weights, None) is not None or (folder / NAME).exists() or (folder / "config.json").exists()


def _read(folder: Path) -> Installed | str:
    """The checkpoint in a folder, or why it is none."""
    try:
        described = read_json(folder / NAME)
        model, quantization = described["model"], BITS[described["bits"]]
        if isinstance(model, str) and model in CATALOGUE:
            return Installed(model, quantization, folder)
    except (KeyError, TypeError, CheckpointError):
        pass
    try:
        Manifest.read(folder)
    except CheckpointError as error:
        return str(error)
    return f"{folder / NAME}: model: there are {', '.join(CATALOGUE)}"
