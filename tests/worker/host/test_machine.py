"""What the machine tells of itself."""

from __future__ import annotations

import pytest

from pixelkiln.worker.host.machine import Machine, peak_resident, read_vm_stat, resident_bytes, swap_ins

VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               12345.
Pageins:                                9876543.
Pageouts:                                 54321.
Swapins:                                     42.
Swapouts:                                    99.
"""


def test_swap_ins_are_counted_by_vm_stat() -> None:
    assert read_vm_stat(VM_STAT) == 42 * 16384


@pytest.mark.parametrize("text", ["", "Swapins: 42.", VM_STAT.replace("42.", "many")])
def test_what_vm_stat_does_not_tell_is_none(text: str) -> None:
    assert read_vm_stat(text) == 0


def test_this_machine_tells() -> None:
    assert swap_ins() >= 0
    assert peak_resident() > resident_bytes() // 2  # the two are counted a little differently
    machine = Machine.of("studio-1")
    host = machine.host()
    assert list(host) == ["name", "worker", "system", "chip", "memory"]
    assert (host["worker"], host["memory"]) == ("studio-1", str(machine.memory))
    assert all(host.values())
    assert machine.version == machine.versions["pixelkiln"]
    assert {"python", "pixelkiln", "mlx", "rq", "redis"} <= machine.versions.keys()
