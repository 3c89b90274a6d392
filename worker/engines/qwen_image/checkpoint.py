"""A checkpoint folder: the parts whose tensors are loaded, and what each must hold."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.headers import Headers
from pixelkiln.worker.engines.checkpoints.manifest import NAME
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.stored import tensors as read
from pixelkiln.worker.engines.checkpoints.stored import weight_files as files
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.qwen_image import modulation
from pixelkiln.worker.engines.qwen_image.autoencoder import Autoencoder
from pixelkiln.worker.engines.qwen_image.config import Config
from pixelkiln.worker.engines.qwen_image.encoder import Layer, final_norm, token_table
from pixelkiln.worker.engines.qwen_image.transformer import Transformer
from pixelkiln.worker.engines.qwen_image.vision import VisionTower

TRANSFORMER, ENCODER, VAE = PARTS = ("transformer", "text_encoder", "vae")
UNUSED = ("lm_head.",)  # of the language model: no part of inference reads it

# What a model's own configs say; weights that run as another model's give bad pictures, and nothing tells.
_TRAITS = {  # whether it edits, whether its transformer has zero_cond_t
    "qwen-image": (False, False),
    "qwen-image-edit-2509": (True, False),
    "qwen-image-edit-2511": (True, True),
}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of all parts. Raises CheckpointError when one is missing or there is none."""
    return [file for part in PARTS for file in files(folder / part)]


def tensors(folder: Path, part: str) -> dict[str, Stored]:
    """What one part's files hold."""
    return read(files(folder / part))


def checked(folder: Path, model: str | None = None) -> dict[str, Headers]:
    """The headers of all parts, held against their configs, and these against `model`.

    Raises CheckpointError for a tensor that is missing, misshapen or no part of the model.
    """
    config = Config.read(folder)
    check_traits(folder, config, model)
    headers = {part: Headers(folder / part, tensors(folder, part)) for part in PARTS}
    modulation.check(headers[TRANSFORMER], config.transformer)
    Transformer(headers[TRANSFORMER], config.transformer)
    headers[TRANSFORMER].finish(())
    token_table(headers[ENCODER], config.text)
    for i in range(config.text.layers):
        Layer(headers[ENCODER], i, config.text)
    final_norm(headers[ENCODER], config.text)
    VisionTower(headers[ENCODER], config.vision)
    headers[ENCODER].finish(UNUSED)
    Autoencoder(headers[VAE], config.vae)
    return headers


def check_traits(folder: Path, config: Config, model: str | None) -> None:
    """Raise CheckpointError where the configs are another model's than `model`."""
    found = config.edits, config.transformer.zero_cond_t
    if model is not None and found != _TRAITS[model]:
        known = next((name for name, traits in _TRAITS.items() if traits == found), "no model that is known")
        raise CheckpointError(f"{folder}: its configs are of {known}, not of {model}, as {NAME} or you say")


def transformer(config: Config, weights: Weights) -> Transformer:
    """The denoiser, without what is read for each schedule. Raises CheckpointError."""
    made = Transformer(weights, config.transformer)
    weights.finish([name for name in weights.stored if modulation.is_modulation(name)])
    return made


def autoencoder(folder: Path, config: Config, dtype: mx.Dtype) -> Autoencoder:
    """Both halves. Raises CheckpointError."""
    return Autoencoder(Weights(folder / VAE, tensors(folder, VAE), dtype), config.vae)
