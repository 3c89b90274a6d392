"""The chip, the system, Metal, and how much of the memory Metal lets a process have."""

from __future__ import annotations

import math

from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.mac.looks import GIB, Look, Mac
from pixelkiln.worker.host import machine
from pixelkiln.worker.host.mac.chip import wired_limit

MIB = 2**20
SPARE = 4 * GIB  # bytes that macOS itself needs, whatever iogpu.wired_limit_mb is set to
OLDEST = 14  # macOS that MLX has wheels for
WIRES = 15  # macOS from which on MLX can wire what it holds


def _chip(mac: Mac) -> list[Finding]:
    chip = mac.chip
    if not chip.name:
        return [Finding("warning", "chip", "sysctl does not tell")]
    kinds = f" ({chip.performance} fast, {chip.efficiency} efficient)" if chip.performance else ""
    found = f"{chip.name}, {chip.cores} cores{kinds}, {chip.memory / GIB:.0f} GiB, {chip.model}"
    if not chip.apple:
        return [Finding("problem", "chip", found, "MLX needs Apple silicon (M1 or newer)")]
    return [Finding("ok", "chip", found)]


def _macos(mac: Mac) -> list[Finding]:
    if not mac.version:
        return [Finding("warning", "macos", "sw_vers does not tell")]
    found = ".".join(map(str, mac.version))
    update = "System Settings › General › Software Update, to macOS 15 or newer"
    if mac.version[0] < OLDEST:
        return [Finding("problem", "macos", f"{found}: MLX has no wheel for it", update)]
    if mac.version[0] < WIRES:
        words = f"{found}: nothing is wired before macOS 15, so weights may be paged out between jobs"
        return [Finding("warning", "macos", words, update)]
    return [Finding("ok", "macos", found)]


def _rosetta(mac: Mac) -> list[Finding]:
    if mac.chip.translated:
        mend = (
            "rm -r .venv, then: arch -arm64 ./kiln doctor   (a Terminal opened “using Rosetta” does it too)"
        )
        return [Finding("problem", "rosetta", "this Python is built for Intel and translated", mend)]
    return [Finding("ok", "rosetta", "this Python is not translated")]


def _metal(mac: Mac) -> list[Finding]:
    tags = ", ".join(filter(None, (machine.wheel_tag("mlx"), machine.wheel_tag("mlx-metal"))))
    found = f"{mac.mlx.device or 'no device'} {mac.mlx.architecture}, wheels {tags or 'unknown'}"
    if not mac.mlx.metal:
        mend = "unset MLX_DEVICE, or install again: rm -r .venv, then ./kiln doctor"
        return [Finding("problem", "metal", f"not used: MLX computes on the CPU ({found})", mend)]
    return [Finding("ok", "metal", f"used: {found}")]


def _limit(mac: Mac) -> list[Finding]:
    limit, wanted = mac.mlx.limit, mac.settings.memory
    if limit is None:
        return [Finding("warning", "gpu memory", "Metal tells no limit; a worker counts on its share alone")]
    raised = wired_limit(mac.ask)
    by = f" (iogpu.wired_limit_mb={raised // MIB})" if raised else ""
    used = machine.budget(wanted, limit)
    found = f"Metal lets the GPU have {limit / GIB:.1f} GiB{by}; a worker may use {used / GIB:.1f} GiB"
    if used <= limit:
        return [Finding("ok", "gpu memory", found)]
    if mac.chip.memory and used > mac.chip.memory - SPARE:
        most = (mac.chip.memory - SPARE) / GIB
        mend = f"KILN_MEMORY={most:.0f}GiB at most here: macOS needs the rest"
    else:
        raise_it = f"sudo sysctl iogpu.wired_limit_mb={math.ceil(used / MIB)}"
        mend = f"{raise_it}   (until the next reboot), or a smaller KILN_MEMORY"
    return [Finding("problem", "gpu memory", f"{found} (KILN_MEMORY): more than it gets", mend)]


def _arithmetic(mac: Mac) -> list[Finding]:
    chosen = mac.settings.arithmetic
    if mac.chip.emulates_bfloat16 and chosen in (None, "bfloat16"):
        mend = "kiln models bench CHECKPOINT tells; then KILN_ARITHMETIC=float16 if that is faster"
        return [
            Finding(
                "ok", "arithmetic", f"bfloat16 is emulated on {mac.chip.name}: float16 is worth a try", mend
            )
        ]
    return [Finding("ok", "arithmetic", chosen or "what suits the device")]


LOOKS = (
    Look(
        "chip",
        "model, cores, memory; whether it is Apple silicon",
        "sysctl machdep.cpu hw.memsize hw.model",
        _chip,
    ),
    Look("macos", "version: MLX needs 14, wired weights need 15", "sw_vers -productVersion", _macos),
    Look(
        "rosetta",
        "whether this Python is translated from Intel",
        "sysctl -n sysctl.proc_translated",
        _rosetta,
    ),
    Look(
        "metal",
        "MLX's device and wheel, and whether Metal is used",
        "python -c 'import mlx.core as mx; print(mx.device_info())'",
        _metal,
    ),
    Look(
        "gpu memory", "Metal's working-set limit against KILN_MEMORY", "sysctl iogpu.wired_limit_mb", _limit
    ),
    Look("arithmetic", "bfloat16 or float16 on this chip", "kiln models bench CHECKPOINT", _arithmetic),
)
