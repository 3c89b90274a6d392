"""What the service asks of an engine. No `mx.array` crosses this seam: pixels leave as numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelkiln.jobs.spec import RenderSpec

Pixels = NDArray[np.uint8]  # (height, width, 3), RGB


@dataclass(frozen=True, slots=True)
class Facts:
    """What made one picture: the model in memory, and how it was sampled."""

    engine: str  # the family
    model: str
    recipe: str
    bits: int  # of quantised weights; 16: none are
    source: str
    revision: str
    digest: str  # of the weights
    versions: Mapping[str, str]  # of the packages that computed
    device: str
    arithmetic: str
    linears: str  # how quantised weights were multiplied
    steps: int
    guidance: float  # above 1 a second, unconditional branch ran
    scheduler: str
    # What else a family says, by name: a part that was not kept in memory, a prompt that was cut.
    told: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, str]:
        """As PNG and sidecar hold it: flat, and text throughout."""
        names = [one.name for one in fields(self) if one.name not in ("versions", "told")]
        return {**{name: str(getattr(self, name)) for name in names}, **self.told, **self.versions}


@dataclass(frozen=True, slots=True)
class Step:
    """One finished part of a render: index 0 is the prompt's prefix, 1 … total are denoising steps.

    `seconds` is wall time with the result evaluated. `preview` makes x̂0 as pixels, (height, width, 3); call
    it on the render thread, before asking for the next step. The last step carries the `pixels`, the `facts`
    of what made them, and the seconds its decoding took beyond the step itself. `left` says as how many
    steps like this one the rest counts, where the rest is not alike.
    """

    index: int
    total: int
    seconds: float
    preview: Callable[[], Pixels] | None = None
    pixels: Pixels | None = None
    facts: Facts | None = None
    decode_seconds: float = 0.0
    left: float | None = None


class Estimate(Protocol):
    """What renders with a checkpoint need, before it is loaded."""

    def bytes_needed(self, spec: RenderSpec) -> int:
        """Bytes a render of `spec` needs, weights included. A lower bound: it assumes a short prompt."""
        ...


class Engine(Protocol):
    """A model in memory, maybe one of several. Load, render and close it on one thread.

    MLX's own limits are the process's: see worker.engines.limits.
    """

    def render(self, spec: RenderSpec, references: Sequence[Image.Image] = ()) -> Iterator[Step]:
        """Yield one Step per finished part; closing the iterator stops the render.

        Raises NonFiniteError at the step that made one, SpecError for what this model cannot do.
        """
        ...

    def bytes_needed(self, spec: RenderSpec) -> int:
        """Peak bytes a render of `spec` needs, weights included, with nothing it can do without."""
        ...

    def held_bytes(self) -> int:
        """Bytes its arrays hold between two renders: weights, and what is kept for speed."""
        ...

    def allow(self, budget: int) -> None:
        """Hold at most `budget` bytes from now on, the next render's included.

        Never less than `bytes_needed` of it; what is beyond that is for what may be kept for speed.
        """
        ...

    def trim(self) -> None:
        """Free what is only kept for speed."""
        ...

    def reset_peak(self) -> None:
        """Begin to measure anew what `peak_bytes` tells."""
        ...

    def peak_bytes(self) -> int:
        """The most bytes that arrays held since `reset_peak`, other engines' included."""
        ...

    def close(self) -> None:
        """Give the weights' memory back."""
        ...


class EngineError(Exception):
    """An engine could not do what was asked; the message names file, tensor or step."""


class CheckpointError(EngineError):
    """A checkpoint folder lacks a file, or a tensor has another shape than its config says."""


class NonFiniteError(EngineError):
    """A step produced NaN or infinity."""

    def __init__(self, step: int) -> None:
        super().__init__(f"step {step} produced non-finite values")
        self.step = step


class DeviceError(EngineError):
    """The GPU failed: this process may never compute again, and what it computes is not to be trusted."""


_DEVICE_FAULTS = ("[METAL] Command buffer execution failed", "kIOGPUCommandBufferCallbackError")


def device_fault(error: Exception) -> DeviceError | None:
    """`error` as the GPU's own, where it is: MLX raises RuntimeError, and only its text tells."""
    if isinstance(error, RuntimeError) and any(fault in str(error) for fault in _DEVICE_FAULTS):
        return DeviceError(" ".join(str(error).split()))
    return None
