"""Times a transformer's forward in diffusers, real size and random weights, for docs/speed.md.

`python -m tests.benchmarks.beside_diffusers z_image flux2 qwen_image --size 1024` on a machine with PyTorch,
CUDA and diffusers, none of which this project depends on. One JSON line a row, for each attention that
PyTorch brings; our own side is `kiln models bench --random --model NAME`, in the same run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

ATTENTIONS = ("native", "_native_cudnn", "_native_flash")
TEXT = 64  # tokens; FLUX.2 has always 512


def z_image(side: int, references: int) -> tuple[Any, Callable[[Any], Any]]:
    """Z-Image-Turbo."""
    import torch
    from diffusers import ZImageTransformer2DModel

    model = ZImageTransformer2DModel(axes_lens=[1536, 512, 512])
    z = torch.randn(16, 1, side // 8, side // 8)
    features = torch.randn(TEXT, 2560)
    return model, lambda t: model([z], t, [features], return_dict=False)[0]


def flux2(side: int, references: int) -> tuple[Any, Callable[[Any], Any]]:
    """FLUX.2-klein-4B; references have the target's size."""
    import torch
    from diffusers import Flux2Transformer2DModel

    model = Flux2Transformer2DModel(
        num_layers=5,
        num_single_layers=20,
        num_attention_heads=24,
        joint_attention_dim=7680,
        guidance_embeds=False,
        axes_dims_rope=(32, 32, 32, 32),
        rope_theta=2000,
    )
    rows = side // 16
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(rows), indexing="ij"), -1).view(-1, 2)
    grids = [
        torch.cat([torch.full((rows**2, 1), 10 * k), place, torch.zeros(rows**2, 1)], -1)
        for k in range(1 + references)
    ]
    words = torch.cat([torch.zeros(512, 3), torch.arange(512)[:, None]], -1)
    z = torch.randn(1, rows**2 * (1 + references), 128)
    text = torch.randn(1, 512, 7680)
    places = torch.cat(grids).float()

    def forward(t: Any) -> Any:
        return model(z, text, t, places, words.float(), return_dict=False)[0]

    return model, forward


def qwen_image(side: int, references: int) -> tuple[Any, Callable[[Any], Any]]:
    """Qwen-Image, and Qwen-Image-Edit-2511 with references of the target's size."""
    import torch
    from diffusers import QwenImageTransformer2DModel

    model = QwenImageTransformer2DModel(zero_cond_t=references > 0)
    rows = side // 16
    z = torch.randn(1, rows**2 * (1 + references), 64)
    text = torch.randn(1, TEXT, 3584)
    shapes = [[(1, rows, rows)] * (1 + references)]

    def forward(t: Any) -> Any:
        return model(z, text, None, t, shapes, return_dict=False)[0]

    return model, forward


FAMILIES = {"z_image": z_image, "flux2": flux2, "qwen_image": qwen_image}


def timed(forward: Callable[[], Any], steps: int) -> list[float]:
    """Seconds of each step after two uncounted."""
    import torch

    taken = []
    for step in range(steps + 2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        forward()
        torch.cuda.synchronize()
        if step > 1:
            taken.append(time.perf_counter() - started)
    return taken


def measure(family: str, side: int, references: int, steps: int) -> None:
    """Print a line for each attention, and what a fault was where there is one."""
    import torch

    torch.set_default_device("cuda")
    torch.set_default_dtype(torch.bfloat16)
    with torch.inference_mode():
        model, forward = FAMILIES[family](side, references)
        model.eval()
        for attention in ATTENTIONS:
            row = {"family": family, "side": side, "references": references, "attention": attention}
            try:
                model.set_attention_backend(attention)
                torch.cuda.reset_peak_memory_stats()
                taken = timed(lambda: forward(torch.full((1,), 0.5)), steps)
                row |= {"seconds": median(taken), "spread": [min(taken), max(taken)]}
                row["peak"] = torch.cuda.max_memory_allocated()
            except Exception as error:  # an attention may not do for a shape or a build
                row["fault"] = f"{type(error).__name__}: {str(error)[:120]}"
            print(json.dumps(row), flush=True)


def main() -> None:
    """From the command line."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("families", nargs="+", choices=FAMILIES)
    asked.add_argument("--size", type=int, nargs="+", default=[1024], help="sides of a square, in pixels")
    asked.add_argument("--references", type=int, default=0)
    asked.add_argument("--steps", type=int, default=8)
    given = asked.parse_args()
    for family in given.families:
        for side in given.size:
            measure(family, side, given.references, given.steps)


if __name__ == "__main__":
    main()
