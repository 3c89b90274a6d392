"""The autoencoder of Z-Image's golden checkpoint, whole and in strips."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.worker.engines.checkpoints.configs import AutoencoderConfig, read_config
from pixelkiln.worker.engines.checkpoints.stored import tensors, weight_files
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx import autoencoder, convolution
from pixelkiln.worker.engines.mlx.autoencoder import Decoder, Encoder, GroupNorm, from_pixels, to_pixels
from pixelkiln.worker.engines.mlx.convolution import Conv

GOLDEN = Path(__file__).parents[3] / "golden" / "z_image"
SCALING, SHIFT = 0.3611, 0.1159


@pytest.fixture(scope="module")
def coders() -> tuple[Decoder, Encoder]:
    folder = GOLDEN / "tiny-z-image" / "vae"
    config = read_config(folder, AutoencoderConfig.parse)
    weights = Weights(folder, tensors(weight_files(folder)), mx.float32)
    made = Decoder(weights, config), Encoder(weights, config)
    weights.finish(ignore=())
    return made


@pytest.fixture
def strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that every map has several."""
    monkeypatch.setattr(convolution, "STRIP_BYTES", 60_000)
    monkeypatch.setattr(autoencoder, "CHUNK_BYTES", 3_000)
    monkeypatch.setattr(autoencoder, "NORM_BYTES", 20_000)


def record(name: str) -> dict[str, mx.array]:
    found = mx.load(str(GOLDEN / f"{name}.safetensors"))
    assert isinstance(found, dict)
    return found


def decoded(coders: tuple[Decoder, Encoder], name: str, step: int) -> mx.array:
    return coders[0](record(name)[f"latents.{step}"].transpose(1, 2, 0) / SCALING + SHIFT)


def encoded(coders: tuple[Decoder, Encoder]) -> mx.array:
    picture = np.asarray(Image.open(GOLDEN / "edit.ref0.png").convert("RGB"))
    return (coders[1](from_pixels(picture)) - SHIFT) * SCALING


def test_a_picture_is_as_recorded(coders: tuple[Decoder, Encoder]) -> None:
    for name, step in (("tall", 7), ("wide", 7), ("edit", 4)):
        ours = to_pixels(decoded(coders, name, step)).astype(np.int32)
        assert np.abs(ours - np.array(record(name)["image"])).max() <= 1


def test_latents_of_a_picture_are_as_recorded(coders: tuple[Decoder, Encoder]) -> None:
    latents = record("edit")["image_latents"].transpose(1, 2, 0)
    np.testing.assert_allclose(encoded(coders), latents, atol=2e-5)


def test_pieces_give_what_the_whole_gives(
    coders: tuple[Decoder, Encoder], request: pytest.FixtureRequest
) -> None:
    whole = decoded(coders, "tall", 7), encoded(coders)
    request.getfixturevalue("strips")
    np.testing.assert_allclose(decoded(coders, "tall", 7), whole[0], atol=1e-5)
    np.testing.assert_allclose(encoded(coders), whole[1], atol=1e-5)


@pytest.mark.parametrize(
    ("side", "stride", "padding", "scale"),
    [(3, 1, (1, 1), 1), (3, 2, (0, 1), 1), (3, 1, (1, 1), 2), (1, 1, (0, 0), 1)],
)
def test_every_convolution_is_the_whole_one(
    monkeypatch: pytest.MonkeyPatch, side: int, stride: int, padding: tuple[int, int], scale: int
) -> None:
    keys = mx.random.split(mx.random.key(0), 3)
    x = mx.random.normal((22, 14, 8), key=keys[0])
    conv = Conv(
        mx.random.normal((6, side, side, 8), key=keys[1]),
        mx.random.normal((6,), key=keys[2]),
        stride,
        padding,
    )
    larger = mx.repeat(mx.repeat(mx.abs(x), scale, axis=0), scale, axis=1)
    padded = mx.pad(larger, [padding, padding, (0, 0)])
    expected = mx.conv2d(padded[None], conv.weight, stride=stride)[0] + conv.bias
    for size in (2**28, 30_000, 1):
        monkeypatch.setattr(convolution, "STRIP_BYTES", size)
        np.testing.assert_allclose(conv(x, before=mx.abs, scale=scale), expected, atol=1e-4)
        added = conv(x, before=mx.abs, scale=scale, after=lambda a, b: mx.arange(a, b)[:, None, None])
        rows = mx.arange(len(expected))[:, None, None]
        np.testing.assert_allclose(added, expected + rows, atol=1e-4)


def test_strips_hold_less(monkeypatch: pytest.MonkeyPatch) -> None:
    x = mx.random.normal((256, 64, 32), key=mx.random.key(0))
    conv = Conv(mx.random.normal((32, 3, 3, 32), key=mx.random.key(1)), mx.zeros((32,)), padding=(1, 1))
    mx.eval(x, conv.weight, conv.bias)

    def peak(size: int) -> int:
        monkeypatch.setattr(convolution, "STRIP_BYTES", size)
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        mx.eval(conv(x, before=mx.abs))
        return mx.get_peak_memory() - before

    whole, cut = peak(2**30), peak(2**20)
    assert cut < whole / 3
    assert cut < x.nbytes + 4 * 2**20  # the output is written in place


def test_a_norm_sees_the_whole_map(strips: None) -> None:
    class Given(Weights):
        def __init__(self) -> None:
            pass

        def tensor(self, name: str, shape: object) -> mx.array:
            return mx.array([1.0, 2.0, 3.0, 4.0]) if name.endswith("weight") else mx.array([0.5, 0, 0, 1])

    x = np.random.default_rng(0).normal(3.0, 2.0, (64, 40, 4)).astype(np.float32)
    groups = x.reshape(-1, 2, 2).astype(np.float64)
    mean, spread = groups.mean(axis=(0, 2), keepdims=True), groups.std(axis=(0, 2), keepdims=True)
    y = ((groups - mean) / np.sqrt(spread**2 + 1e-6)).reshape(x.shape) * [1, 2, 3, 4] + [0.5, 0, 0, 1]
    norm = GroupNorm(Given(), "norm", 4, 2, active=False)
    np.testing.assert_allclose(norm.of(mx.array(x))(mx.array(x[:5])), y[:5], atol=1e-5)
    norm.active = True
    np.testing.assert_allclose(norm.of(mx.array(x))(mx.array(x)), y / (1 + np.exp(-y)), atol=1e-5)
