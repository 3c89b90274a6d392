"""Qwen3's layers as the text encoder of Z-Image's golden checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from pixelkiln.worker.engines.checkpoints.configs import Qwen3Config, read_config
from pixelkiln.worker.engines.checkpoints.stored import tensors, weight_files
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.mlx.qwen3 import TextEncoder

GOLDEN = Path(__file__).parents[3] / "golden" / "z_image"
FOLDER = GOLDEN / "tiny-z-image" / "text_encoder"


def encoder(keep: bool = True, layers: int = 2, folder: Path = FOLDER) -> TextEncoder:
    config = read_config(folder, Qwen3Config.parse)
    return TextEncoder(folder, tensors(weight_files(folder)), config, layers, mx.float32, keep)


@pytest.mark.parametrize("keep", [True, False])
def test_features_are_as_recorded(keep: bool) -> None:
    encode = encoder(keep)
    for name in ("tall", "long", "exact"):
        record = mx.load(str(GOLDEN / f"{name}.safetensors"))
        assert isinstance(record, dict)
        (found,) = encode(np.array(record["input_ids"]).tolist(), [2])
        np.testing.assert_allclose(found, record["prompt_embeds"], atol=2e-5)


def test_states_of_several_layers_are_those_of_fewer() -> None:
    ids = [5, 9, 200, 31]
    first, last = encoder()(ids, [1, 2])
    np.testing.assert_array_equal(first, encoder(layers=1)(ids, [1])[0])
    np.testing.assert_array_equal(last, encoder()(ids, [2])[0])
    zeroth, _ = encoder()(ids, [0, 2])
    table = mx.load(str(FOLDER / "model-00001-of-00003.safetensors"))["model.embed_tokens.weight"]
    np.testing.assert_array_equal(zeroth, table[mx.array(ids)].astype(mx.float32))


def test_pads_change_nothing_before_them_and_see_no_pad() -> None:
    (alone,) = encoder()([5, 9, 200], [2])
    (padded,) = encoder()([5, 9, 200, 7, 7], [2], padded=2)
    (others,) = encoder()([5, 9, 200, 8, 7], [2], padded=2)
    # Five rows and three may go to kernels that sum in another order, as they do on AMD's processors.
    np.testing.assert_allclose(padded[:3], alone, atol=2e-5)
    np.testing.assert_allclose(padded[4], others[4], atol=2e-5)  # it does not look at the pad before it
    (unmasked,) = encoder()([5, 9, 200, 7, 7], [2])
    assert mx.abs(unmasked[4] - padded[4]).max() > 1e-3


def test_layers_that_nothing_needs_are_not_read(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "text"))
    index = json.loads((folder / "model.safetensors.index.json").read_bytes())["weight_map"]
    for file in sorted(set(index.values())):
        held = mx.load(str(folder / file))
        assert isinstance(held, dict)
        kept = {name: array for name, array in held.items() if not name.startswith("model.layers.2.")}
        mx.save_safetensors(str(folder / file), kept)
    assert len(encoder(folder=folder)([1, 2], [2])) == 1
    with pytest.raises(CheckpointError, match=r"no tensor model\.layers\.2\."):
        encoder(folder=folder, layers=3)


def test_a_tensor_that_is_no_part_of_it_is_told() -> None:
    folder = GOLDEN / "tiny-z-image" / "vae"
    stored = {**tensors(weight_files(FOLDER)), **tensors(weight_files(folder))}
    config = read_config(FOLDER, Qwen3Config.parse)
    with pytest.raises(CheckpointError, match="is not part of this model"):
        TextEncoder(FOLDER, stored, config, 2, mx.float32, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_act", "gelu"), ("num_key_value_heads", 3), ("head_dim", "wide"), ("attention_bias", True)],
)
def test_what_is_not_computed_is_refused(tmp_path: Path, key: str, value: object) -> None:
    config = json.loads((FOLDER / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path, Qwen3Config.parse)


def test_weights_that_changed_since_are_not_mixed_with_the_others(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "text"))
    encode = encoder(keep=False, folder=folder)
    encode([1, 2], [2])
    file = folder / "model-00002-of-00003.safetensors"
    file.write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match="its weights changed"):
        encode([1, 2], [2])
