"""What is counted of a step and a decode at full size stands above what an H100 held, by at most 15% in all.

Random weights in the releases' shapes, MLX 0.32.4 on CUDA 13, 2026-11-26: docs/speed.md says how.
"""

from __future__ import annotations

import pytest

from pixelkiln.worker.engines.checkpoints.configs import AutoencoderConfig
from pixelkiln.worker.engines.flux2 import memory as flux2
from pixelkiln.worker.engines.flux2.bench import CONFIGS as FLUX2
from pixelkiln.worker.engines.mlx.autoencoder_memory import decoding
from pixelkiln.worker.engines.mlx.memory import Backend
from pixelkiln.worker.engines.qwen_image import memory as qwen_image
from pixelkiln.worker.engines.qwen_image.bench import CONFIGS as QWEN_IMAGE
from pixelkiln.worker.engines.z_image import memory as z_image
from pixelkiln.worker.engines.z_image.bench import CONFIGS as Z_IMAGE

GPU = Backend(fused=True, waiting=16)
SIZE = (1024, 1024)
PATCHES = 64 * 64


def of_z_image(bits: int, references: int) -> float:
    config = Z_IMAGE["release"].transformer
    dequantized = z_image.dequantized_bytes(Z_IMAGE["release"], 2) if bits < 16 else 0
    return z_image._block(config, PATCHES + 64, 2, GPU) * z_image.SLACK + dequantized


def of_flux2(bits: int, references: int) -> float:
    config = FLUX2["release"]
    dequantized = flux2.dequantized_bytes(config, 2) if bits < 16 else 0
    tokens = PATCHES * (1 + references) + 512
    return flux2.block_bytes(config, tokens, 2, GPU) * flux2.SLACK + dequantized


def of_qwen_image(bits: int, references: int) -> float:
    config = QWEN_IMAGE["release"]
    load = qwen_image.Load(SIZE, (64,), references=(SIZE,) * references, steps=10)
    dequantized = qwen_image.dequantized_bytes(config, 2) if bits < 16 else 0
    held = qwen_image.step_bytes(config, load, 2, GPU) + qwen_image.table_bytes(config, 10, 2)
    return held * qwen_image.SLACK + dequantized


@pytest.mark.parametrize(
    ("counted", "bits", "references", "weights", "peak"),
    [  # GB at 1024², quantised weights multiplied as MLX dequantises them
        (of_z_image, 16, 0, 12.310, 13.911),
        (of_z_image, 6, 0, 5.168, 7.054),
        (of_flux2, 16, 0, 7.751, 9.018),
        (of_flux2, 6, 0, 3.380, 5.232),
        (of_qwen_image, 16, 0, 27.211, 28.808),
        (of_qwen_image, 16, 1, 27.211, 30.626),
        (of_qwen_image, 6, 0, 11.073, 13.417),
    ],
)
def test_a_step_holds_what_is_counted(counted, bits, references, weights, peak) -> None:
    total = weights + counted(bits, references) / 1e9
    assert peak <= total <= 1.15 * peak


@pytest.mark.parametrize(("side", "peak"), [(512, 0.448), (1024, 1.313), (2048, 5.608)])
def test_decoding_holds_no_more_than_is_counted(side: int, peak: float) -> None:
    config = AutoencoderConfig((128, 256, 512, 512), 2, 32, 16, quant=False, post_quant=False)
    assert decoding(config, (side // 8, side // 8), 2, GPU) / 1e9 >= peak
