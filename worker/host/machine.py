"""What machine this is: for sidecars, the doctor and the memory budget."""

from __future__ import annotations

import platform
import re
import resource
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Self

import psutil

from pixelkiln.worker.host.mac.names import local_host_name
from pixelkiln.worker.host.programs import ask, mac

SHARE = 0.7  # of the machine's memory that a worker may use where no budget is set

WHEELS = ("mlx", "mlx-metal", "mlx-cpu", "mlx-cuda-12", "mlx-cuda-13")  # the last four hold its kernels
PACKAGES = ("pixelkiln", "mlx", "mlx-vlm", "numpy", "pillow", "rq", "redis", "boto3")


@dataclass(frozen=True, slots=True)
class Machine:
    """What every sidecar of one worker says of the machine, and of what runs there."""

    worker: str
    name: str
    system: str
    chip: str
    memory: int  # bytes
    versions: dict[str, str]  # of `PACKAGES` and Python

    @classmethod
    def of(cls, worker: str) -> Self:
        """This machine, on which the worker of that name runs."""
        system = f"{platform.system()} {platform.release()}"
        return cls(worker, platform.node(), system, chip(), memory_bytes(), versions())

    @property
    def version(self) -> str:
        """The version of this project."""
        return self.versions["pixelkiln"]

    def host(self) -> dict[str, str]:
        """The sidecar's part on the machine."""
        return {
            "name": self.name,
            "worker": self.worker,
            "system": self.system,
            "chip": self.chip,
            "memory": str(self.memory),
        }


def memory_bytes() -> int:
    """The machine's memory, or this process's share of it where a cgroup sets one."""
    total = psutil.virtual_memory().total
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return min(total, int(limit))
    except (OSError, ValueError):
        return total


def budget(configured: int | None, limit: int | None = None) -> int:
    """Bytes a worker may use: as configured, else SHARE of the machine's or the GPU's `limit`, if less."""
    if configured is not None:
        return configured
    share = int(memory_bytes() * SHARE)
    return share if limit is None else min(share, limit)


def name(configured: str | None = None) -> str:
    """What to call a worker here: as configured, else the name that outlives a DHCP lease."""
    return configured or (local_host_name() if mac() else "") or platform.node()


def resident_bytes() -> int:
    """Bytes of memory this process holds now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident() -> int:
    """Bytes of memory this process held at most so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if mac() else peak * 1024


def chip() -> str:
    """The processor's own name."""
    if mac():
        asked = ask("sysctl", "-n", "machdep.cpu.brand_string")
        return (asked.text if asked else "") or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def versions() -> dict[str, str]:
    """Of this project, Python and the packages that make the picture."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | build()


def wheel_tag(package: str) -> str:
    """The tag of the wheel that is installed, as "cp312-cp312-macosx_15_0_arm64"; '' for none."""
    try:
        text = distribution(package).read_text("WHEEL") or ""
    except PackageNotFoundError:
        return ""
    return ", ".join(re.findall(r"^Tag: (\S+)", text, re.MULTILINE))


def build() -> dict[str, str]:
    """What changes a picture's bytes beside versions: MLX's wheels and macOS, where they are there."""
    found = {f"{name} wheel": tag for name in WHEELS if (tag := wheel_tag(name))}
    return found | ({"macos": platform.mac_ver()[0]} if mac() else {})


def swap_ins() -> int:
    """Bytes read back from swap since the machine started."""
    if mac():  # psutil's figure there counts what is read from any file
        asked = ask("vm_stat")
        return read_vm_stat(asked.out) if asked else 0
    return int(psutil.swap_memory().sin)


def read_vm_stat(text: str) -> int:
    """Bytes read back from swap, by what macOS's vm_stat prints; 0 where it does not tell."""
    page = re.search(r"page size of (\d+) bytes", text)
    pages = re.search(r"^Swapins:\s*(\d+)\.?\s*$", text, re.MULTILINE)
    return int(page[1]) * int(pages[1]) if page and pages else 0
