"""Lanes: the RQ queues that jobs wait in, one for each kind of work, priority and client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pixelkiln.jobs.catalogue import CATALOGUE, QUANTIZATIONS

PREFIX = "kiln"


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane by its parts, which are taken as they come: strangers name queues."""

    model: str
    quantization: str
    priority: str
    client: str

    @classmethod
    def parse(cls, name: str | bytes) -> Self | None:
        """The lane of that name; None where it is another application's queue."""
        text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        prefix, *parts = text.split(":")
        if prefix != PREFIX or len(parts) != 4 or not all(parts):
            return None
        return cls(*parts)

    @property
    def name(self) -> str:
        """As RQ knows it: `kiln:<model>:<quantization>:<priority>:<client>`."""
        return ":".join((PREFIX, self.model, self.quantization, self.priority, self.client))

    @property
    def kind(self) -> str:
        """What a worker must serve to take from it: `model:quantization`."""
        return f"{self.model}:{self.quantization}"

    @property
    def counted_as(self) -> tuple[str, str]:
        """Model and quantization as numbers are labelled; 'other' for what strangers made up."""
        quantization = self.quantization.partition(">")[0]  # of left jobs, too
        known = self.model in CATALOGUE and quantization in QUANTIZATIONS
        return (self.model, quantization) if known else ("other", "other")

    def __str__(self) -> str:
        return self.name
