"""Renders whole pictures at a release's size without its weights: what is counted beside what MLX held.

`python -m tests.benchmarks.whole_renders z_image --bits 16 6 --size 1024 --folder FOLDER` makes the folders
below FOLDER and renders within the counted budget, so that the text encoder is read for its turn. One JSON
line a picture. Weights are zeros, which tells nothing of speed. docs/memory.md has an H100's figures.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from PIL import Image

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines import load
from pixelkiln.worker.engines.mlx.limits import limits
from tests.worker.engines.releases import FAMILIES, made

PROMPT = "a lighthouse above a stormy sea at dusk, its beam over wet rocks, gulls in the wind"


def main() -> None:
    """Run as the module says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 6])
    parser.add_argument("--size", type=int, nargs="+", default=[1024])
    parser.add_argument("--references", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--words", type=int, default=1, help="how often the prompt is repeated")
    args = parser.parse_args()
    model = FAMILIES[args.family][0]
    for bits in args.bits:
        folder = made(args.folder, args.family, bits)
        jobs = [
            RenderSpec(
                prompt=" ".join([PROMPT] * args.words),
                model=model,
                quantization="bf16" if bits == 16 else f"q{bits}",
                width=side,
                height=side,
                seed=1,
                steps=args.steps,
                references=tuple(f"{i:064x}" for i in range(count)),
            )
            for side in args.size
            for count in args.references
        ]
        for spec in jobs:
            print(json.dumps({"family": args.family, "bits": bits} | _rendered(folder, spec)), flush=True)


def _rendered(folder: Path, spec: RenderSpec) -> dict[str, Any]:
    began = time.perf_counter()
    engine = load(folder, budget=0)
    loaded = time.perf_counter() - began
    needed = engine.bytes_needed(spec)
    engine.allow(needed)
    engine.reset_peak()
    references = [Image.effect_noise((spec.width, spec.height), 80).convert("RGB") for _ in spec.references]
    seconds, last = [], None
    with limits(needed):
        for last in engine.render(spec, references):
            seconds.append(last.seconds)
    assert last is not None
    assert last.pixels is not None
    peak = engine.peak_bytes()
    told = {"size": spec.width, "references": len(references), "counted": needed, "peak": peak}
    told |= {"over": round(needed / peak - 1, 4), "held": engine.held_bytes(), "load": round(loaded, 1)}
    told |= {"first": round(seconds[0], 2), "steps": len(seconds) - 1}
    engine.close()
    return told | {"step": round(seconds[-1], 4), "decode": round(last.decode_seconds, 3)}


if __name__ == "__main__":
    main()
