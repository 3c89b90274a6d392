"""The chip, its memory and the system that runs on it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pixelkiln.worker.host.programs import Ask, ask

_GENERATION = re.compile(r"Apple M(\d+)\b")


@dataclass(frozen=True, slots=True)
class Chip:
    """As sysctl tells it; 0 or '' where it does not."""

    name: str  # "Apple M2 Pro"
    model: str  # "Mac14,12"
    cores: int
    performance: int  # of the cores
    efficiency: int
    memory: int  # bytes
    apple: bool  # Apple silicon, whatever this Python was built for
    translated: bool  # the asking process runs under Rosetta

    @property
    def generation(self) -> int:
        """4 of an M4; 0 where the name has none."""
        found = _GENERATION.match(self.name)
        return int(found[1]) if found else 0

    @property
    def emulates_bfloat16(self) -> bool:
        """M1 and M2 have no bfloat16 arithmetic: Metal makes it of float32."""
        return self.generation in (1, 2)


def read_chip(asked: Ask = ask) -> Chip:
    """The chip of this Mac."""

    def number(name: str) -> int:
        text = sysctl(name, asked)
        return int(text) if text.isdigit() else 0

    return Chip(
        name=sysctl("machdep.cpu.brand_string", asked),
        model=sysctl("hw.model", asked),
        cores=number("hw.ncpu"),
        performance=number("hw.perflevel0.logicalcpu"),
        efficiency=number("hw.perflevel1.logicalcpu"),
        memory=number("hw.memsize"),
        apple=number("hw.optional.arm64") == 1,
        # Asked of a child process, which Rosetta translates if it does us; an Intel Mac has no such sysctl.
        translated=number("sysctl.proc_translated") == 1,
    )


def wired_limit(asked: Ask = ask) -> int | None:
    """Bytes that iogpu.wired_limit_mb lets the GPU hold; None while macOS decides (it then reads 0)."""
    text = sysctl("iogpu.wired_limit_mb", asked)
    return int(text) * 2**20 if text.isdigit() and int(text) else None


def system_version(asked: Ask = ask) -> tuple[int, ...]:
    """(15, 6, 1) of macOS 15.6.1; () where it is not told."""
    found = asked("sw_vers", "-productVersion")
    text = found.text if found else ""
    return tuple(int(part) for part in text.split(".")) if re.fullmatch(r"\d+(\.\d+)*", text) else ()


def sysctl(name: str, asked: Ask = ask) -> str:
    """One value; '' where this machine has none of that name."""
    found = asked("sysctl", "-n", name)
    return found.text if found else ""
