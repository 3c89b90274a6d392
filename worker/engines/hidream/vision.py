"""Qwen3-VL's vision tower, DeepStack included: mlx-vlm's module, this project's preprocessing and loading.

mlx-vlm is imported when the first reference picture is seen: it costs two seconds and 100 MB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from PIL import Image

from pixelkiln.worker.engines.checkpoints.files import read_json, real, shown, whole
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream import checkpoint
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.positions import Grid

TOWER = "model.visual."
MOST_PATCH = 64  # of the side of a patch in pixels, of merged ones in patches, of frames
MOST = {"smallest": 65_536, "largest": 2**26}  # pixels: a picture made larger is more tokens than are counted


@dataclass(frozen=True, slots=True)
class Features:
    """What the tower makes of pictures, their tokens in order."""

    embeds: mx.array  # (tokens, hidden)
    deepstack: tuple[mx.array, ...]  # each (tokens, hidden)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """preprocessor_config.json, with Qwen's own values where it is silent."""

    patch: int = 16
    merge: int = 2
    frames: int = 2
    smallest: int = 65_536  # pixels
    largest: int = 16_777_216  # pixels
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @classmethod
    def read(cls, folder: Path) -> Preprocessing:
        """From `folder`, where the file is there."""
        path = folder / "preprocessor_config.json"
        if not path.exists():
            return cls()
        data = read_json(path)
        try:
            return cls._of(data)
        except (TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Preprocessing:
        size = data.get("size") or {}
        stated: dict[str, Any] = {
            "patch": data.get("patch_size"),
            "merge": data.get("merge_size"),
            "frames": data.get("temporal_patch_size"),
            "smallest": size.get("shortest_edge") or data.get("min_pixels"),
            "largest": size.get("longest_edge") or data.get("max_pixels"),
        }
        stated = {name: value for name, value in stated.items() if value is not None}
        for name in stated:
            whole(stated, name, MOST.get(name, MOST_PATCH))
        for name in ("mean", "std"):
            values = data.get(f"image_{name}")
            if values is not None:
                stated[name] = tuple(
                    real({name: one}, name, 1e3) if name == "std" else float(one) for one in values
                )
                if len(stated[name]) != 3 or not all(map(math.isfinite, stated[name])):
                    raise ValueError(f"image_{name} is {shown(values)}, expected three numbers")
        return cls(**stated)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The nearest size in whole merged patches with an area within bounds (Qwen2-VL's smart resize)."""
        unit = self.patch * self.merge
        across, down = (max(unit, round(side / unit) * unit) for side in (width, height))
        if across * down > self.largest:
            shrink = math.sqrt(width * height / self.largest)
            across, down = (max(unit, math.floor(side / shrink / unit) * unit) for side in (width, height))
        elif across * down < self.smallest:
            grow = math.sqrt(self.smallest / (width * height))
            across, down = (math.ceil(side * grow / unit) * unit for side in (width, height))
        return across, down

    def pads(self, width: int, height: int) -> Grid:
        """Rows and columns of the tokens that a picture of this size becomes."""
        across, down = self.size(width, height)
        unit = self.patch * self.merge
        return down // unit, across // unit

    def __call__(self, picture: Image.Image) -> tuple[NDArray[np.float32], Grid]:
        """(patches, channels · frames · patch²) with each merge × merge square's patches together, and rows
        and columns of patches."""
        size = self.size(*picture.size)
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        pixels = (np.asarray(picture, np.float32) / np.float32(255) - mean) / std
        p, m = self.patch, self.merge
        rows, columns = size[1] // p, size[0] // p
        split = pixels.reshape(rows // m, m, p, columns // m, m, p, 3).transpose(0, 3, 1, 4, 6, 2, 5)
        patches = np.repeat(split[..., None, :, :], self.frames, axis=-3)
        return patches.reshape(rows * columns, -1), (rows, columns)


class VisionTower:
    """The tower of a checkpoint folder. Its weights are in memory only while it is called."""

    def __init__(self, folder: Path, config: Config, dtype: mx.Dtype) -> None:
        self.folder, self.config, self.dtype = folder, config, dtype
        self.preprocessing = Preprocessing.read(folder)

    def __call__(self, pictures: Sequence[Image.Image]) -> Features:
        """The features of RGB pictures, evaluated. Raises CheckpointError."""
        patches, grids = zip(*map(self.preprocessing, pictures), strict=True)
        grid_thw = mx.array([(1, *grid) for grid in grids])
        pixels = mx.array(np.concatenate(patches)).astype(self.dtype)
        embeds, deepstack = self._load()(pixels, grid_thw)
        mx.eval(embeds, deepstack)
        return Features(embeds, tuple(deepstack))

    def _load(self) -> Any:
        package = "mlx_vlm.models.qwen3_vl"
        settings = import_module(f"{package}.config").VisionConfig.from_dict(dict(self.config.vision))
        if settings.out_hidden_size != self.config.text.hidden_size:
            raise CheckpointError(
                f"{self.folder}: the vision tower's out_hidden_size is {settings.out_hidden_size}, "
                f"the decoder's hidden_size {self.config.text.hidden_size}"
            )
        tower = import_module(f"{package}.vision").VisionModel(settings)
        weights = checkpoint.weights(self.folder, self.dtype)
        shapes = {name: array.shape for name, array in dict(tree_flatten(tower.parameters())).items()}
        loaded = [(name, _read(weights, TOWER + name, shape)) for name, shape in shapes.items()]
        tower.load_weights(loaded)
        # The module drew random weights, which nobody computes; the next draw would hang on them, and so on.
        mx.eval(mx.random.state)
        return tower


def _read(weights: Weights, name: str, shape: tuple[int, ...]) -> mx.array:
    """One tensor of MLX's shape: a convolution's channels come last there, second in the release."""
    if len(shape) != 5:
        return weights.dense(name, shape)
    outputs, *kernel, channels = shape
    stored = weights.stored.get(name)
    if stored is not None and stored.shape == shape:
        return weights.tensor(name, shape)
    return weights.tensor(name, (outputs, channels, *kernel)).transpose(0, 2, 3, 4, 1)
