"""What a report asks of each family of models: to replay its goldens, and a short bench."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelkiln.jobs.settings import Settings
from pixelkiln.worker import engines
from pixelkiln.worker.commands.doctor.mac.places import project
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.explore import kept


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
    found = []
    for case in engines.verify(golden.checkpoint, golden.cases):
        numbers = ", ".join(f"{name} {value:.2g}" for name, value in case.errors.items())
        found.append((case.name, case.ok, case.fault or numbers))
    return found


def explored(folder: Path, settings: Settings) -> list[str]:
    """What `kiln models bench --explore` last found of a checkpoint here, in lines; none where it did not."""
    digest, chip = Manifest.read(folder).digest, engines.device_facts().device
    found = kept(settings.cache_dir, digest, chip)
    if found is None:
        return []
    lines = [f"{found.bits} bits, {'x'.join(map(str, found.size))}, MLX {found.mlx}"]
    for one, share in found.shares():
        taken = "overflows" if one.seconds is None else f"{one.seconds:.4f} s"
        lines.append(f"{one.thing}, {one.way}: {taken}{'' if share is None else f', {share:.2f}'}")
    return lines + found.advice()


def bench(folder: Path, side: int, settings: Settings, steps: int = 4) -> list[str]:
    """Seconds a step of a checkpoint, as `kiln models bench` tells them, in lines."""
    found = engines.bench(folder, [(side, side)], steps, settings.cache_dir)
    lines = [f"{found.arithmetic}, a large matrix product makes {found.ceiling / 1e12:.2f} TFLOP/s"]
    for row in found.rows:
        size = "x".join(map(str, row.size))
        lines.append(
            f"{row.bits} bits ({row.linears}), {size}: {row.step:.4f} s/step"
            f" ({min(row.seconds):.4f}-{max(row.seconds):.4f}), {row.fraction:.0%} of that,"
            f" weights {row.weight_bytes / 1e9:.2f} GB, peak {row.peak_bytes / 1e9:.2f} GB"
        )
    if engines.device_facts().metal:
        lines.append(str(engines.compare(folder, (side, side), steps, settings.cache_dir)))
    return lines
