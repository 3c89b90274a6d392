"""How many bytes the autoencoder holds at most, weights apart: the counts follow its code."""

from __future__ import annotations

from collections.abc import Iterator

from pixelkiln.worker.engines.checkpoints.configs import AutoencoderConfig
from pixelkiln.worker.engines.mlx import autoencoder, convolution
from pixelkiln.worker.engines.mlx.memory import Backend

Map = tuple[int, int]  # rows, columns


def decoding(config: AutoencoderConfig, latents: Map, itemsize: int, backend: Backend) -> int:
    """Of decoding latents of so many rows and columns."""
    return max(_decoder(config, latents, itemsize, backend))


def encoding(config: AutoencoderConfig, picture: Map, itemsize: int, backend: Backend) -> int:
    """Of encoding a picture of so many rows and columns of pixels."""
    return max(_encoder(config, picture, itemsize, backend))


def _decoder(config: AutoencoderConfig, size: Map, itemsize: int, backend: Backend) -> Iterator[int]:
    wide = config.channels[::-1]
    yield _middle(wide[0], size, itemsize, backend)
    inputs = wide[0]
    for i, channels in enumerate(wide):
        yield _resnet(inputs, channels, size, itemsize, backend)
        yield _resnet(channels, channels, size, itemsize, backend)
        inputs = channels
        if i + 1 < len(wide):
            larger = (2 * size[0], 2 * size[1])
            taken = _bytes(size, channels, itemsize) + _bytes(larger, channels, itemsize)
            yield taken + _strip(channels, channels, larger, itemsize, backend)
            size = larger
    picture = 3 * _bytes(size, 3, 4)
    yield _bytes(size, inputs, itemsize) + picture + _strip(inputs, 3, size, itemsize, backend)


def _encoder(config: AutoencoderConfig, size: Map, itemsize: int, backend: Backend) -> Iterator[int]:
    inputs = config.channels[0]
    picture = 2 * _bytes(size, 3, 4)
    yield picture + _bytes(size, inputs, itemsize) + _strip(3, inputs, size, itemsize, backend)
    for i, channels in enumerate(config.channels):
        yield picture + _resnet(inputs, channels, size, itemsize, backend)
        yield picture + _resnet(channels, channels, size, itemsize, backend)
        inputs = channels
        if i + 1 < len(config.channels):
            size = (size[0] // 2, size[1] // 2)
    yield picture + _middle(inputs, size, itemsize, backend)


def _middle(channels: int, size: Map, itemsize: int, backend: Backend) -> int:
    """Attention: its input, the norm's, queries, keys, values, the output, and scores of some queries."""
    places = size[0] * size[1]
    held = 6 * _bytes(size, channels, itemsize)
    chunk = min(places, max(1, autoencoder.CHUNK_BYTES // (2 * places * itemsize)))
    rows = chunk * (2 * places + 2 * channels) * itemsize
    return max(held + rows, _resnet(channels, channels, size, itemsize, backend))


def _resnet(inputs: int, outputs: int, size: Map, itemsize: int, backend: Backend) -> int:
    first, second = (_bytes(size, channels, itemsize) for channels in (inputs, outputs))
    norm = min(autoencoder.NORM_BYTES, _bytes(size, max(inputs, outputs), 4))
    shortcut = _strip_rows(outputs, size, itemsize) * size[1] * 2 * (inputs + outputs) * itemsize
    beside = shortcut if inputs != outputs else 0
    if backend.fused:  # a GPU may not have given back the map that the strip before was written to
        beside += second
    return max(
        first + second + _strip(inputs, outputs, size, itemsize, backend),
        first + 2 * second + beside + _strip(outputs, outputs, size, itemsize, backend),
        first + second + 2 * norm,
    )


def _strip(inputs: int, outputs: int, size: Map, itemsize: int, backend: Backend) -> int:
    """What one strip of a convolution holds beside the maps: what goes in, unfolded, and what comes out."""
    rows = _strip_rows(inputs, size, itemsize)
    one = rows * size[1] * inputs * itemsize
    out = rows * size[1] * outputs * itemsize if rows < size[0] else 0
    if backend.fused:  # a GPU unfolds to 64 / 36 of it at most (Winograd's), and of the output
        return 5 * one + 3 * out + 2 * rows * size[1] * outputs * itemsize
    active = 3 * rows * size[1] * inputs * 4  # a CPU activates in float32, one operation after another
    return active + 2 * one + 9 * one + out


def _strip_rows(inputs: int, size: Map, itemsize: int) -> int:
    unfolded = size[1] * 9 * inputs * itemsize
    return min(size[0], max(1, convolution.STRIP_BYTES // unfolded))


def _bytes(size: Map, channels: int, itemsize: int) -> int:
    return size[0] * size[1] * channels * itemsize
