"""How many bytes a render needs, from the config and the file headers, before anything runs.

The counts follow the code: what is alive at the widest point of each phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pixelkiln.jobs.proportions import Size
from pixelkiln.worker.engines.mlx.convolution import STRIP_BYTES
from pixelkiln.worker.engines.mlx.memory import Backend
from pixelkiln.worker.engines.qwen_image.autoencoder import CHUNK_BYTES
from pixelkiln.worker.engines.qwen_image.config import (
    LATENT,
    PATCH,
    TextConfig,
    TransformerConfig,
    VaeConfig,
    VisionConfig,
)
from pixelkiln.worker.engines.qwen_image.modulation import VECTORS
from pixelkiln.worker.engines.qwen_image.transformer import RATIO

SLACK = 1.03  # over what is counted: small arrays, and what an allocator rounds up
HALVES = 2  # halves of a block whose weights may be dequantised at once: the one submitted, the one that runs


@dataclass(frozen=True, slots=True)
class Load:
    """What one render puts through the models."""

    size: Size  # of the target, pixels
    prompts: tuple[int, ...]  # tokens that go through the language model, one number a branch
    pads: tuple[int, ...] = ()  # of these, each picture's
    references: tuple[Size, ...] = ()  # of the autoencoder's copies, pixels
    steps: int = 1

    @property
    def tokens(self) -> int:
        """Of the target."""
        return _tokens(self.size)

    @property
    def image(self) -> int:
        """Of target and references."""
        return self.tokens + sum(map(_tokens, self.references))


def _tokens(size: Size) -> int:
    return size[0] * size[1] // (LATENT * PATCH) ** 2


def dequantized_bytes(config: TransformerConfig, itemsize: int) -> int:
    """Blocks' weights that exist dequantised at once, where that is how they are multiplied."""
    return HALVES * 2 * RATIO * 2 * config.width**2 * itemsize  # two streams' MLPs


def table_bytes(config: TransformerConfig, steps: int, itemsize: int) -> int:
    """A schedule's vectors."""
    times = steps + config.zero_cond_t
    return times * config.width * (2 * VECTORS * config.layers + 2) * itemsize


def modulating_bytes(config: TransformerConfig, itemsize: int) -> int:
    """What making them holds beside them: one stream's weights of one block, as stored and as used."""
    return 2 * VECTORS * config.width**2 * itemsize


def step_bytes(config: TransformerConfig, load: Load, itemsize: int, backend: Backend) -> int:
    """The most a step holds beside weights and vectors."""
    width, image = config.width, load.image
    text = max(load.prompts)
    both = text + image
    constants = (len(load.prompts) * text + image - load.tokens) * width * itemsize
    turns = len(load.prompts) * both * config.head_dim * 4
    states = (4 + 2 * len(load.prompts)) * load.tokens * config.channels * 4
    stream = both * width * itemsize
    # The streams; queries, keys and values of each, joined, and two of them turned; a CPU gives one back.
    attention = 8 * stream
    if not backend.fused:
        attention += (config.heads + 1) * both**2 * itemsize - stream
    mlp = (3 + 2 * RATIO) * image * width * itemsize
    # As wide as an MLP's inner layer, as an H100 was measured; a CPU's lie within what its attention unfolds.
    waiting = RATIO * backend.waiting * stream if backend.fused else 0
    return constants + turns + states + 2 * stream + max(attention, mlp) + waiting


def text_bytes(config: TextConfig, load: Load, itemsize: int, backend: Backend) -> int:
    """The most a layer of the language model holds beside its weights."""
    tokens, longest = sum(load.prompts), max(load.prompts)
    scores = 0 if backend.fused else (config.heads + 1) * longest**2 * itemsize
    attention = 5 * longest * config.hidden * itemsize + scores
    return 3 * tokens * config.hidden * itemsize + max(attention, 4 * longest * config.inner * itemsize)


def vision_bytes(config: VisionConfig, load: Load, itemsize: int, backend: Backend) -> int:
    """The most the vision tower holds beside its weights."""
    square = config.merge**2
    patches = sum(load.pads) * square
    pixels = patches * 3 * config.frames * config.patch**2 * (4 + 2 * itemsize)
    largest = 0 if backend.fused else max(load.pads) * square
    inner = patches * max(4 * config.hidden, 4 * config.inner) * itemsize
    return (
        pixels + 6 * patches * config.hidden * itemsize + inner + (config.heads + 1) * largest**2 * itemsize
    )


def decoding_bytes(config: VaeConfig, size: Size, itemsize: int) -> int:
    """The most that making pixels of latents holds beside weights."""
    widths = [config.base * one for one in (config.multiples[-1], *reversed(config.multiples))]
    return _maps(config, widths, size, itemsize, range(len(config.multiples) - 1, -1, -1))


def encoding_bytes(config: VaeConfig, size: Size, itemsize: int) -> int:
    """The most that making latents of pixels holds beside weights."""
    widths = [config.base * one for one in (1, *config.multiples)]
    return _maps(config, widths, size, itemsize, range(len(config.multiples)))


def _maps(config: VaeConfig, widths: list[int], size: Size, itemsize: int, halvings: range) -> int:
    """Maps of the widest stage, halved so often, with a strip being convolved; and the middle's attention.

    A convolution behind a norm unfolds it, with as much again around that; one that grows a map unfolds more
    channels. Measured where MLX unfolds all that it convolves, on a CPU.
    """
    worst, middle = 0, widths[-1] if halvings.step > 0 else widths[0]
    for (inputs, outputs), times in zip(pairwise(widths), halvings, strict=True):
        places = (size[0] >> times) * (size[1] >> times)
        normed, grown = (
            min(9 * places * one * itemsize, STRIP_BYTES) for one in (outputs, max(inputs, outputs))
        )
        maps = places * (max(inputs, outputs) + 2 * outputs) * itemsize
        worst = max(worst, maps + int(max(2.25 * normed, 1.35 * grown)))
    places = size[0] * size[1] // LATENT**2
    scores = min(4 * places**2, CHUNK_BYTES) * 2
    return max(worst, 9 * places * middle * itemsize + scores) + size[0] * size[1] * 3 * 8
