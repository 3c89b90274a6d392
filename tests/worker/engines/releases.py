"""Folders of a release's size without its weights, in its layout and with the goldens' tokenizer.

The files are sparse: they take no room, and read as zeros.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

from pixelkiln.worker.engines.checkpoints import convert, shards, staging
from pixelkiln.worker.engines.checkpoints.files import read_json, write_json
from pixelkiln.worker.engines.checkpoints.headers import Headers
from pixelkiln.worker.engines.checkpoints.shards import Group, Piece
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.families import family_of

GOLDEN = Path(__file__).parents[2] / "golden"
QWEN3 = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
}
QWEN2 = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
}
VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "out_hidden_size": 3584,
}
VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32}


class Asked(Headers):
    """Holds what it is asked for: a release's tensors, in bfloat16."""

    def __init__(self) -> None:
        super().__init__(Path(), {})

    def _find(self, name: str) -> Stored:
        return self.stored[name]

    def _expect(self, name: str, shape: Sequence[int]) -> Stored:
        found = Stored(Path(), name, "BF16", tuple(shape), 2 * prod(shape), 0)
        self.stored = {**self.stored, name: found}
        return found


def z_image(folder: Path) -> dict[str, Asked]:
    """Z-Image-Turbo's parts."""
    from pixelkiln.worker.engines.mlx.autoencoder import Decoder, Encoder
    from pixelkiln.worker.engines.z_image.config import Config
    from pixelkiln.worker.engines.z_image.transformer import Transformer

    transformer = {"dim": 3840, "n_heads": 30, "n_kv_heads": 30, "n_layers": 30, "n_refiner_layers": 2}
    transformer |= {"cap_feat_dim": 2560, "axes_dims": [32, 48, 48]}
    _configured("z_image", folder, {"transformer": transformer, "text_encoder": QWEN3, "vae": VAE})
    config = Config.read(folder)
    asked = {part: Asked() for part in ("transformer", "text_encoder", "vae")}
    Transformer(asked["transformer"], config.transformer)
    _qwen3(asked["text_encoder"], config.text, config.text_layers)
    Decoder(asked["vae"], config.vae)
    Encoder(asked["vae"], config.vae)
    return asked


def flux2(folder: Path) -> dict[str, Asked]:
    """FLUX.2-klein-4B's parts."""
    from pixelkiln.worker.engines.flux2.latents import Vae
    from pixelkiln.worker.engines.flux2.model import Config
    from pixelkiln.worker.engines.flux2.text import LAYERS
    from pixelkiln.worker.engines.flux2.transformer import Transformer

    transformer = {"num_attention_heads": 24, "attention_head_dim": 128, "num_layers": 5}
    transformer |= {"num_single_layers": 20, "in_channels": 128, "joint_attention_dim": 7680}
    transformer |= {"axes_dims_rope": [32, 32, 32, 32]}
    parts = {"transformer": transformer, "text_encoder": QWEN3, "vae": VAE | {"latent_channels": 32}}
    _configured("flux2", folder, parts)
    config = Config.read(folder)
    asked = {part: Asked() for part in parts}
    Transformer(asked["transformer"], config.transformer)
    _qwen3(asked["text_encoder"], config.text, LAYERS)
    Vae(asked["vae"], config.vae)
    return asked


def qwen_image(folder: Path) -> dict[str, Asked]:
    """Qwen-Image-Edit-2511's parts."""
    from pixelkiln.worker.engines.qwen_image import modulation
    from pixelkiln.worker.engines.qwen_image.autoencoder import Autoencoder
    from pixelkiln.worker.engines.qwen_image.config import Config
    from pixelkiln.worker.engines.qwen_image.encoder import Layer, final_norm, token_table
    from pixelkiln.worker.engines.qwen_image.transformer import Transformer
    from pixelkiln.worker.engines.qwen_image.vision import VisionTower

    transformer = {"num_layers": 60, "num_attention_heads": 24, "attention_head_dim": 128}
    transformer |= {"joint_attention_dim": 3584, "axes_dims_rope": [16, 56, 56]}
    tiny = read_json(_tiny("qwen_image") / "text_encoder/config.json")
    text = QWEN2 | {"text_config": tiny["text_config"] | QWEN2}
    text["vision_config"] = tiny["vision_config"] | VISION
    parts = {"transformer": transformer, "text_encoder": text, "vae": {"base_dim": 96}}
    _configured("qwen_image", folder, parts)
    config = Config.read(folder)
    asked = {part: Asked() for part in parts}
    modulation.check(asked["transformer"], config.transformer)
    Transformer(asked["transformer"], config.transformer)
    token_table(asked["text_encoder"], config.text)
    for i in range(config.text.layers):
        Layer(asked["text_encoder"], i, config.text)
    final_norm(asked["text_encoder"], config.text)
    VisionTower(asked["text_encoder"], config.vision)
    Autoencoder(asked["vae"], config.vae)
    return asked


FAMILIES: Mapping[str, tuple[str, str, Callable[[Path], dict[str, Asked]]]] = {
    "z_image": ("z-image-turbo", "turbo", z_image),
    "flux2": ("flux2-klein-4b", "distilled", flux2),
    "qwen_image": ("qwen-image-edit-2511", "edit", qwen_image),
}


def made(base: Path, family: str, bits: int) -> Path:
    """The folder of a family's release at so many bits below `base`, made where it is not there."""
    model, recipe, parts = FAMILIES[family]
    folder, release = base / f"{family}-{bits}", base / f"{family}-16"
    if not release.exists():
        _release(release, model, recipe, parts)
    if not folder.exists():
        how = {"group_size": 64, "mixed": False, "model": model, "progress": None}
        with (
            mock.patch.object(convert, "write", _sparse),
            mock.patch.object(convert, "staged", lambda target, size: staging.staged(target)),
        ):
            family_of(model).convert(release, folder, bits, **how)
    return folder


def _tiny(family: str) -> Path:
    (found,) = (GOLDEN / family).glob("tiny-*/")
    return found


def _configured(family: str, folder: Path, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """The goldens' folder with other sizes, without weights."""
    shutil.copytree(_tiny(family), folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    for name, sizes in parts.items():
        path = folder / name / "config.json"
        write_json(path, read_json(path) | dict(sizes))


def _qwen3(asked: Asked, config: Any, layers: int) -> None:
    from pixelkiln.worker.engines.mlx.qwen3 import TABLE, Layer

    asked.tensor(TABLE, (config.vocab_size, config.hidden_size))
    for i in range(layers):
        Layer(asked, f"model.layers.{i}", config)


def _release(folder: Path, model: str, recipe: str, parts: Callable[[Path], dict[str, Asked]]) -> None:
    for name, asked in parts(folder).items():
        pieces = [Piece(one.name, one.dtype, one.shape) for one in asked.stored.values()]
        _sparse(folder / name, [Group(tuple(pieces), list)])
    told = {"schema": 1, "model": model, "recipe": recipe, "bits": 16, "source": "none"}
    write_json(folder / "kiln.json", told | {"revision": "none", "digest": f"sha256:{0:064x}"})


def _sparse(folder: Path, groups: Sequence[Group], *_: object, **__: object) -> None:
    """One file of zeros in place of shards.write, but for the bias of what is predicted.

    Guidance divides by the prediction's norm.
    """
    header = shards._header(groups)
    path = folder / "model.safetensors"
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(len(header) + sum(group.size for group in groups))
        at = len(header)
        for piece in (piece for group in groups for piece in group.pieces):
            if piece.name == "proj_out.bias":
                file.seek(at)
                file.write(b"\x80\x3f" * (piece.size // 2))  # ones
            at += piece.size
