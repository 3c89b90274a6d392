"""What the released model needs of memory, by job, size and bits: computed, before any weights are here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.configs import CONFIGS
from pixelkiln.worker.engines.hidream.memory import (
    Load,
    dequantized_bytes,
    prefix_bytes,
    weights_at,
    working_bytes,
)
from pixelkiln.worker.engines.hidream.patches import grid
from pixelkiln.worker.engines.hidream.references import bounds
from pixelkiln.worker.engines.mlx.memory import Backend

Size = tuple[int, int]  # width, height in pixels

PROMPT = 256  # tokens, a long prompt
ITEM_BYTES = 2  # of bfloat16
SIZES = ((512, 512), (1024, 1024), (1536, 1536), (2048, 2048))
BITS = (4, 5, 6, 8, 16)
GPU = Backend(fused=True, waiting=16)

RELEASE_VISION = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "out_hidden_size": 4096,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 16,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": (8, 16, 24),
}
RELEASE = Config(CONFIGS["release"], RELEASE_VISION, 151655, 151652, 151653)


@dataclass(frozen=True, slots=True)
class Job:
    """A kind of job."""

    name: str
    references: int = 0
    guided: bool = False


JOBS = (
    Job("text to image, dev"),
    Job("text to image, full", guided=True),
    Job("edit, one reference", references=1),
    Job("two references", references=2),
)


@dataclass(frozen=True, slots=True)
class Need:
    """One line of the table."""

    job: str
    size: Size
    bits: int
    bytes: int  # at most, weights included


def table(
    config: Config = RELEASE,
    jobs: Sequence[Job] = JOBS,
    sizes: Sequence[Size] = SIZES,
    bits: Sequence[int] = BITS,
    backend: Backend = GPU,
) -> Iterator[Need]:
    """Every job at every size and width, in bfloat16 arithmetic, behind a prompt of PROMPT tokens."""
    for job in jobs:
        for size in sizes:
            for width in bits:
                yield Need(job.name, size, width, needed(config, job, size, width, backend))


def needed(
    config: Config,
    job: Job,
    size: Size,
    bits: int,
    backend: Backend = GPU,
    prompt: int = PROMPT,
    itemsize: int = ITEM_BYTES,
) -> int:
    """Bytes one job holds at most, as Engine.bytes_needed counts them with an empty prefix cache."""
    target, patches, pads = bounds(size, job.references)
    load = Load(
        prompt=prompt + job.references * pads,
        patches=prod(grid(*target)),
        references=patches,
        pads=(pads,) * job.references,
        branches=2 if job.guided else 1,
    )
    dequantized = 0 if bits == 16 else dequantized_bytes(config.text, itemsize)
    tower = tower_bytes(config.vision) if job.references else 0
    working = working_bytes(config, load, itemsize, tower, backend)
    return weights_at(config.text, bits) + prefix_bytes(config.text, load, itemsize) + dequantized + working


def tower_bytes(vision: Mapping[str, Any]) -> int:
    """Bytes of a Qwen3-VL vision tower's matrices in bfloat16."""
    hidden, inner = vision["hidden_size"], vision["intermediate_size"]
    merged = hidden * vision["spatial_merge_size"] ** 2
    blocks = vision["depth"] * (4 * hidden**2 + 2 * hidden * inner)
    mergers = (1 + len(vision["deepstack_visual_indexes"])) * merged * (merged + vision["out_hidden_size"])
    pixels = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    return 2 * int(blocks + mergers + hidden * (pixels + vision["num_position_embeddings"]))
