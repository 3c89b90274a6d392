"""What the prefix cache is worth: a step with it against one that runs the prompt again, in turn, in one run.

python -m tests.benchmarks.prefix [CHECKPOINT]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from pixelkiln.worker.engines.blas import use_openblas

PROMPT = 240  # tokens
GRID = (8, 8)  # image tokens
PAIRS = 40


def main(checkpoint: Path) -> None:
    """Print the ratio of medians and the spread of the pairs' own ratios."""
    use_openblas()
    import mlx.core as mx

    from pixelkiln.worker.engines.hidream.config import Config
    from pixelkiln.worker.engines.hidream.model import Model
    from pixelkiln.worker.engines.hidream.pipeline import predict, prepare
    from pixelkiln.worker.engines.hidream.prefixes import PrefixCache
    from pixelkiln.worker.engines.hidream.recipes import RECIPES
    from pixelkiln.worker.engines.hidream.tokens import Prompts
    from tests.worker.engines.hidream.test_exactness import full_forward

    config = Config.read(checkpoint)
    model, prompts = Model(checkpoint, config, mx.float32), Prompts(checkpoint, config)
    text = "x" * PROMPT
    while len(prompts.encode(text)) > PROMPT:
        text = text[:-1]
    plan = prepare(model, prompts, PrefixCache(2**26), RECIPES["dev"].text, text, GRID)
    z = 7.5 * mx.random.normal((GRID[0] * GRID[1], 3072), key=mx.random.key(0))
    mx.eval(z, plan.times, plan.branches[0].prefix)

    def seconds(forward: Callable[[int], mx.array], i: int) -> float:
        started = time.perf_counter()
        mx.eval(forward(i))
        return time.perf_counter() - started

    pairs = []
    for i in range(PAIRS + 2):
        cached = seconds(lambda k: predict(model, plan, plan.branches[0], z, k), i % 28)
        whole = seconds(lambda k: full_forward(model, plan, z, k, None), i % 28)
        if i >= 2:  # the first two warm up
            pairs.append((cached, whole))
    ratios = sorted(cached / whole for cached, whole in pairs)
    cached, whole = (median(times) * 1e3 for times in zip(*pairs, strict=True))
    print(f"{len(plan.branches[0].ids)} prompt tokens, {GRID[0] * GRID[1]} image tokens, {PAIRS} pairs")
    print(f"with the cache {cached:.2f} ms, without {whole:.2f} ms a step: ratio {cached / whole:.3f}")
    print(f"pairs' own ratios: {ratios[0]:.3f} to {ratios[-1]:.3f}, half of them below {median(ratios):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/tiny-hidream-o1"))
