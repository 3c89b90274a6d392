"""What a report asks of each family of models: to replay its goldens, and a short bench."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelkiln.jobs.settings import Settings
from pixelkiln.worker import engines
from pixelkiln.worker.commands.mac.places import project


@dataclass(frozen=True, slots=True)
class Golden:
    """Recorded cases and the checkpoint that they were recorded with."""

    name: str
    checkpoint: Path
    cases: Path


def goldens(folder: Path | None = None) -> list[Golden]:
    """Those under `folder`, by default under the checkout's tests/golden, which is not in the wheel."""
    root = folder or project() / "tests" / "golden"
    return [
        Golden(config.parent.name, config.parent, cases.parent)
        for cases in sorted(root.rglob("cases.json"))
        for config in sorted(cases.parent.glob("*/config.json"))
    ]


def verify(golden: Golden) -> list[tuple[str, bool, str]]:
    """By case: its name, whether it holds, and its largest errors or why it has none."""
    from pixelkiln.worker.engines.hidream.golden import replay

    found = []
    for case in replay(golden.checkpoint, golden.cases):
        errors = (("x_pred", case.x_pred), ("z", case.z), ("image", case.image))
        numbers = ", ".join(f"{name} {value:.2g}" for name, value in errors if value is not None)
        found.append((case.name, case.ok, case.skipped or case.error or numbers))
    return found


def bench(folder: Path, side: int, settings: Settings, steps: int = 4) -> list[str]:
    """Seconds a step of a checkpoint, as `kiln models bench` tells them, in lines."""
    from pixelkiln.worker.engines.hidream.bench import bench as measure
    from pixelkiln.worker.engines.hidream.flops import CEILING_SIDE

    product = CEILING_SIDE if engines.facts().metal else 1024  # a CPU would be at it for minutes
    sizes = [(side, side)]
    found = measure(folder, sizes, calibrations=settings.cache_dir, steps=steps, side=product)
    lines = [f"{found.arithmetic}, a large matrix product makes {found.ceiling / 1e12:.2f} TFLOP/s"]
    for row in found.rows:
        size = "x".join(map(str, row.size))
        lines.append(
            f"{row.bits} bits ({row.linears}), {size}: {row.step:.4f} s/step"
            f" ({min(row.seconds):.4f}-{max(row.seconds):.4f}), {row.fraction:.0%} of that,"
            f" weights {row.weight_bytes / 1e9:.2f} GB, peak {row.peak_bytes / 1e9:.2f} GB"
        )
    return lines
