"""Many jobs of four kinds in turn that do not all fit: does what MLX holds come back to what it was?

In one process, which alone can ask MLX: python -m tests.soak --switching --jobs 300
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import mlx.core as mx

from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.engines.checkpoints.installed import installed
from pixelkiln.worker.host import machine
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.renderer import Renderer

MIB = 2**20
BITS = ("bf16", "q8", "q6", "q4")  # of the demo's stand-in, as soak.install installs them
WORDS = (1, 20, 120)  # of prompts
SIDES = (64, 128)
ROOM = 2 * MIB  # beside the largest job: for one other model


@dataclass
class Switched:
    """What one run showed; bytes."""

    before: int  # that MLX held
    after: int = 0
    loads: int = 0
    unknown: list[int] = field(default_factory=list)  # after each job: what MLX held and no model names
    peaks: dict[tuple[str, int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    resident: list[int] = field(default_factory=list)  # of the process, after each job

    def faults(self) -> list[str]:
        """What broke a promise."""
        found = []
        if self.after != self.before:
            found.append(f"MLX held {self.before} bytes before and {self.after} after all had left")
        if self.loads <= len(BITS):
            found.append(f"{self.loads} loads: no model had to leave")
        if max(self.unknown) > min(self.unknown) + MIB // 4:
            found.append(f"beside models MLX held {min(self.unknown)} to {max(self.unknown)} bytes")
        return found

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{len(self.resident)} jobs, {self.loads} loads; MLX held {self.before} B, then {self.after}"
        tenth = max(1, len(self.resident) // 10)
        first, last = (max(part) / MIB for part in (self.resident[:tenth], self.resident[-tenth:]))
        yield f"resident: at most {first:.1f} MiB in the first tenth, {last:.1f} in the last"
        for about, peaks in sorted(self.peaks.items()):
            yield f"  {about}: {len(peaks)} peaks, {min(peaks) / MIB:.2f} to {max(peaks) / MIB:.2f} MiB"


def spec(bits: str, words: int, side: int, seed: int) -> RenderSpec:
    """One job."""
    about = {"model": "demo", "quantization": bits, "width": side, "height": side, "seed": seed}
    return RenderSpec.parse({**about, "prompt": " ".join(["fox"] * words)})


def switch(settings: Settings, jobs: int, seed: int = 1) -> Switched:
    """Render jobs of four kinds, with sizes and prompts at random; beside a large one few models fit."""
    served = installed(settings.models_dir)
    renderer = Renderer(served, settings, References(Bucket.open(settings)), Watchdog(900.0))
    budget, rng, found = renderer.budget, random.Random(seed), Switched(mx.get_active_memory())
    needed = []
    for bits in BITS:
        large = spec(bits, max(WORDS), max(SIDES), 0)
        needed.append(renderer.residents.get(served[f"demo:{bits}"], large)[0].engine.bytes_needed(large))
    renderer.unload()
    budget.total += max(needed) + ROOM - budget.share(large)
    for n in range(jobs):
        bits, words, side = BITS[n % 4] if n < 8 else rng.choice(BITS), rng.choice(WORDS), rng.choice(SIDES)
        claim = Claim(f"job-{n}", "e1", Lane("demo", bits, "normal", "default"))
        rendered = renderer.render(claim, spec(bits, words, side, n), 0.0, lambda step: True)
        found.peaks[bits, words, side].append(rendered.memory.peak_mlx)
        del rendered
        held = renderer.residents.beside(None)
        found.unknown.append(mx.get_active_memory() - found.before - held)
        found.resident.append(machine.resident_bytes())
    found.loads = renderer.residents.loads - len(BITS)
    renderer.unload()
    found.after = mx.get_active_memory()
    return found
