"""Reference pictures as the two models take them, resized as the model's authors do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelkiln.jobs.proportions import Size
from pixelkiln.jobs.references import Fitted, fit
from pixelkiln.worker.engines.checkpoints.files import read_json, real, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.qwen_image.bicubic import resized
from pixelkiln.worker.engines.qwen_image.config import VisionConfig
from pixelkiln.worker.engines.qwen_image.packing import Grid

MOST_PIXELS = 2**26  # of what the processor may ask for: beyond it are more tokens than are counted


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How processor/preprocessor_config.json prepares pictures for the vision tower."""

    smallest: int  # pixels
    largest: int  # pixels
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path, vision: VisionConfig) -> Preprocessing:
        """From a checkpoint folder. Raises CheckpointError, as where it disagrees with the tower's config."""
        path = folder / "processor/preprocessor_config.json"
        data = read_json(path)
        try:
            return cls._of(data, vision)
        except KeyError as error:
            raise CheckpointError(f"{path} has no {error.args[0]!r}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    @classmethod
    def _of(cls, data: dict[str, Any], vision: VisionConfig) -> Preprocessing:
        for key, expected in (
            ("patch_size", vision.patch),
            ("merge_size", vision.merge),
            ("temporal_patch_size", vision.frames),
        ):
            if data.get(key, expected) != expected:
                raise ValueError(f"{key} is {shown(data[key])}, the vision tower's {expected}")
        size = data.get("size") or {}
        bounds = {
            "min_pixels": size.get("shortest_edge") or data.get("min_pixels"),
            "max_pixels": size.get("longest_edge") or data.get("max_pixels"),
        }
        mean = tuple(float(one) for one in data["image_mean"])
        std = tuple(real({"image_std": one}, "image_std", 1e3) for one in data["image_std"])
        if not len(mean) == len(std) == 3 or not all(map(math.isfinite, mean)):
            raise ValueError("image_mean and image_std must have three numbers each")
        largest = whole(bounds, "max_pixels", MOST_PIXELS)
        return cls(whole(bounds, "min_pixels", largest), largest, mean, std)

    def size(self, size: Size, unit: int) -> Size:
        """The nearest size in multiples of `unit` with an area within bounds (Qwen2-VL's smart resize)."""
        width, height = size
        across, down = (max(unit, round(side / unit) * unit) for side in size)
        if across * down > self.largest:
            shrink = math.sqrt(width * height / self.largest)
            across, down = (max(unit, math.floor(side / shrink / unit) * unit) for side in size)
        elif across * down < self.smallest:
            grow = math.sqrt(self.smallest / (width * height))
            across, down = (math.ceil(side * grow / unit) * unit for side in size)
        return across, down


@dataclass(frozen=True, slots=True)
class References:
    """Sizes and copies of reference pictures for a checkpoint."""

    vision: VisionConfig
    preprocessing: Preprocessing
    areas: Fitted

    def seen(self, size: Size) -> Size:
        """The size of the vision tower's copy."""
        return self.preprocessing.size(
            fit(self.areas.vision_area, size), self.vision.patch * self.vision.merge
        )

    def tokens(self, size: Size) -> Grid:
        """Rows and columns of the tokens that a picture of this size becomes in the prompt."""
        unit = self.vision.patch * self.vision.merge
        width, height = self.seen(size)
        return height // unit, width // unit

    def encoded(self, size: Size) -> Size:
        """The size of the autoencoder's copy."""
        return fit(self.areas.area, size)

    def levels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """The vision tower's copy in patches, (patches, 3, patch, patch), merge × merge squares together."""
        copy = picture.resize(fit(self.areas.vision_area, picture.size), Image.Resampling.LANCZOS)
        size = self.seen(picture.size)
        p, m = self.vision.patch, self.vision.merge
        rows, columns = size[1] // p, size[0] // p
        split = resized(np.asarray(copy), size).reshape(rows // m, m, p, columns // m, m, p, 3)
        return split.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, p, p)

    def patches(self, pictures: Sequence[Image.Image]) -> mx.array:
        """What the tower takes of RGB pictures, (patches, 3 · frames · patch²) float32."""
        return self.scaled(np.concatenate([self.levels(picture) for picture in pictures]))

    def scaled(self, levels: NDArray[np.uint8]) -> mx.array:
        """Patches of `levels` as the tower takes them."""
        mean, std = (
            np.array(one, np.float32)[:, None, None]
            for one in (self.preprocessing.mean, self.preprocessing.std)
        )
        values = (levels.astype(np.float32) / np.float32(255) - mean) / std
        frames = np.repeat(values[:, :, None], self.vision.frames, axis=2)
        return mx.array(frames.reshape(len(levels), -1))

    def pixels(self, picture: Image.Image) -> mx.array:
        """The autoencoder's copy of an RGB picture, (height, width, 3) float32 in −1 … 1."""
        copy = picture.resize(self.encoded(picture.size), Image.Resampling.LANCZOS)
        return mx.array(np.asarray(copy, np.float32) / np.float32(255) * 2 - 1)
