"""One look at a Mac: what it is about, by which command, and what is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pixelkiln.jobs.errors import KilnError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.queue.connection import redis_url
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker import engines
from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.host.mac.chip import Chip, read_chip, system_version
from pixelkiln.worker.host.mac.power import Power, read_power
from pixelkiln.worker.host.mac.proxies import Proxies, read_proxies
from pixelkiln.worker.host.programs import Ask

GIB = 2**30


class Mac:
    """What several looks share, read once when it is first asked for."""

    def __init__(self, settings: Settings, asked: Ask, home: Path) -> None:
        self.settings = settings
        self.ask = asked
        self.home = home

    @cached_property
    def chip(self) -> Chip:
        """By sysctl."""
        return read_chip(self.ask)

    @cached_property
    def version(self) -> tuple[int, ...]:
        """Of macOS; () where it is not told."""
        return system_version(self.ask)

    @cached_property
    def power(self) -> Power:
        """By pmset and ioreg."""
        return read_power(self.ask)

    @cached_property
    def proxies(self) -> Proxies:
        """By scutil."""
        return read_proxies(self.ask)

    @cached_property
    def mlx(self) -> engines.DeviceFacts:
        """By MLX."""
        return engines.device_facts()

    @cached_property
    def addresses(self) -> Mapping[str, str]:
        """The farm's URLs by what they lead to; with passwords, so not to be shown."""
        try:
            instance = Instance.read(self.settings.home) if self.settings.redis_url is None else None
            s3 = self.settings.s3_endpoint or (
                instance.s3_endpoint if instance else "https://s3.amazonaws.com"
            )
            return {"Redis": redis_url(self.settings), "S3": s3}
        except KilnError:  # told where Redis is looked at
            return {}


@dataclass(frozen=True, slots=True)
class Look:
    """One thing to look at."""

    what: str  # the finding's name
    tells: str  # what it is about, for those who are not on a Mac
    by: str  # the command that a person would type to see the same
    find: Callable[[Mac], list[Finding]]
