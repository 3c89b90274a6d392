"""Checkpoint folders of random weights and any geometry, in the release's layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints import manifest
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.autoencoder import Decoder, Encoder
from pixelkiln.worker.engines.mlx.qwen3 import Layer
from pixelkiln.worker.engines.z_image.checkpoint import weight_files
from pixelkiln.worker.engines.z_image.config import Config
from pixelkiln.worker.engines.z_image.transformer import Transformer

GOLDEN = Path(__file__).parents[3] / "golden" / "z_image"
TINY = GOLDEN / "tiny-z-image"


def describe(folder: Path, **changed: object) -> Path:
    """Write the kiln.json that an engine asks for."""
    facts = {"schema": 1, "model": "z-image-turbo", "recipe": "turbo", "bits": 16}
    facts |= {"source": "test", "revision": "0", **changed}
    digest = manifest.digest(folder, weight_files(folder))
    (folder / "kiln.json").write_text(json.dumps({**facts, "digest": digest}))
    return folder


class Shapes(Weights):
    """Notes what a model asks for."""

    def __init__(self) -> None:
        super().__init__(Path(), {}, mx.float32)
        self.found: dict[str, tuple[int, ...]] = {}

    def tensor(self, name: str, shape: Sequence[int]) -> mx.array:
        self.found[name] = tuple(shape)
        return mx.zeros(shape)


def write(folder: Path, config: Config) -> Path:
    """A described checkpoint folder with these sizes, all in bfloat16."""
    shutil.copytree(TINY, folder)
    transformer, text, vae = Shapes(), Shapes(), Shapes()
    Transformer(transformer, config.transformer)
    Decoder(vae, config.vae)
    Encoder(vae, config.vae)
    for i in range(config.text.num_hidden_layers):
        Layer(text, f"model.layers.{i}", config.text)
    text.tensor("model.embed_tokens.weight", (config.text.vocab_size, config.text.hidden_size))
    text.tensor("model.norm.weight", (config.text.hidden_size,))
    keys = iter(mx.random.split(mx.random.key(7), 2000))
    for part, shapes in (("transformer", transformer), ("text_encoder", text), ("vae", vae)):
        for old in (folder / part).iterdir():
            if old.name != "config.json":
                old.unlink()
        made = {}
        for name, shape in shapes.found.items():
            inputs = 1
            for side in shape[1:]:
                inputs *= side
            centre, spread = (1.0, 0.1) if "norm" in name and len(shape) == 1 else (0.0, inputs**-0.5)
            made[name] = mx.random.normal(shape, mx.bfloat16, centre, spread, next(keys))
        mx.save_safetensors(str(folder / part / "model.safetensors"), made)
    _configure(folder, config)
    return describe(folder)


def _configure(folder: Path, config: Config) -> None:
    one, text, vae = config.transformer, config.text, config.vae
    changed = {
        "transformer": {
            "dim": one.dim,
            "n_heads": one.heads,
            "n_kv_heads": one.heads,
            "n_layers": one.layers,
            "n_refiner_layers": one.refiners,
            "cap_feat_dim": one.text,
            "axes_dims": list(one.axes),
        },
        "text_encoder": {name: getattr(text, name) for name in text.__dataclass_fields__},
        "vae": {
            "block_out_channels": list(vae.channels),
            "layers_per_block": vae.layers,
            "norm_num_groups": vae.groups,
        },
    }
    for part, fields in changed.items():
        path = folder / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))
