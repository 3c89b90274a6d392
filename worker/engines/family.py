"""What a family of models brings: all that commands, doctor, budget and renderer ask of one.

Nothing here, and nothing that a family does at import, loads MLX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

from pixelkiln.worker.engines.engine import Engine, EngineError, Estimate

if TYPE_CHECKING:
    from pixelkiln.worker.engines.checkpoints.manifest import Manifest

Size = tuple[int, int]  # width, height in pixels
Share = tuple[int, int]  # steps, and how many of the first are coarse
Progress = Callable[[str, int, int], None]  # tensor just written, bytes written so far, bytes in all
Told = Callable[[str], None]  # what a bench does now, in words


class GoldenError(EngineError):
    """A golden folder cannot be used, or a case's inputs are not what was recorded."""


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded render, replayed: `errors` are the largest absolute ones, by what was compared."""

    name: str
    ok: bool  # whether every error is within its bound
    errors: Mapping[str, float] = field(default_factory=dict)
    fault: str | None = None  # why there are none


@dataclass(frozen=True, slots=True)
class Row:
    """The steps of one width and size."""

    bits: int
    linears: str  # how quantised weights were multiplied
    size: Size
    prompt: int  # tokens
    seconds: tuple[float, ...]  # of each step
    flops: int  # of one step, a product and a sum being two
    ceiling: float  # FLOP/s of a large matrix product, in the same run
    weight_bytes: int  # held before the first step
    peak_bytes: int  # held at most in prefix and steps, weights included

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Slowest less fastest step, in parts of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.step

    @property
    def achieved(self) -> float:
        """FLOP/s."""
        return self.flops / self.step

    @property
    def floor(self) -> float:
        """Seconds of a step at the ceiling."""
        return self.flops / self.ceiling

    @property
    def fraction(self) -> float:
        """Of the ceiling: floor over step."""
        return self.floor / self.step


@dataclass(frozen=True, slots=True)
class Picture:
    """Whole pictures of one width, size and share."""

    bits: int
    size: Size
    steps: int
    coarse_steps: int
    seconds: tuple[float, ...]  # of each, from prompt to pixels


@dataclass(frozen=True, slots=True)
class Bench:
    """One run on one machine."""

    device: str
    mlx: str
    arithmetic: str
    ceiling: float  # FLOP/s
    rows: tuple[Row, ...]
    pictures: tuple[Picture, ...] = ()  # none was asked for

    def facts(self) -> dict[str, object]:
        """As JSON: seconds, bytes and FLOP/s."""
        derived = ("step", "spread", "achieved", "floor", "fraction")
        fields = Row.__dataclass_fields__
        rows = [{name: getattr(row, name) for name in (*fields, *derived)} for row in self.rows]
        return {
            "device": self.device,
            "mlx": self.mlx,
            "arithmetic": self.arithmetic,
            "ceiling": self.ceiling,
            "rows": rows,
            "pictures": [asdict(one) for one in self.pictures],
        }


class Family(Protocol):
    """The models of one architecture. Everything it raises for a folder or a model is an EngineError.

    `arithmetic` is bfloat16, float16 or float32, by default what suits the device. `calibrations` is a folder
    that keeps what was measured of this machine.
    """

    @property
    def configs(self) -> Sequence[str]:
        """What `bench_random` has random weights of, by name."""
        ...

    def recognises(self, folder: Path) -> bool:
        """Whether a folder without kiln.json is laid out as this family's release is."""
        ...

    def weight_files(self, folder: Path) -> list[Path]:
        """The files whose tensors are loaded, of all that may lie in a folder. Raises CheckpointError."""
        ...

    def load(
        self, folder: Path, budget: int | None, arithmetic: str | None, calibrations: Path | None
    ) -> Engine:
        """The engine for a checkpoint folder. Raises CheckpointError.

        It may hold `budget` bytes, until it is allowed others: None says that there is room for all.
        """
        ...

    def estimate(self, folder: Path, arithmetic: str | None, calibrations: Path | None) -> Estimate:
        """What renders with a checkpoint folder need; nothing is loaded. Raises CheckpointError."""
        ...

    def pull(self, model: str, target: Path, repo_id: str | None, revision: str | None) -> Manifest:
        """Fetch a model's weights into a new folder, resumably, check them, and return its kiln.json.

        Raises PullError, and CheckpointError for a model that is not published, weights that do not fit their
        config, a target that exists and a disk too small.
        """
        ...

    def convert(
        self,
        source: Path,
        target: Path,
        bits: int,
        *,
        group_size: int,
        mixed: bool,
        model: str | None,
        progress: Progress | None,
        lora: Path | None = None,
    ) -> Manifest:
        """Write `source` as a new folder of `bits`, and return its kiln.json.

        `lora` is a file to fuse into the weights before that, for a family that takes one. 16 bits keep every
        value, as bfloat16. `model` says whose the weights are where `source` has no kiln.json. Raises
        CheckpointError for a source that does not fit its config, a source that is quantised to other bits
        already, a target that exists and a disk too small; nothing is left of what was begun.
        """
        ...

    def verify(self, folder: Path, golden: Path, names: Sequence[str] | None) -> list[Case]:
        """Replay all or some recorded cases in float32. Raises CheckpointError and GoldenError."""
        ...

    def bench(
        self,
        folder: Path,
        sizes: Sequence[Size],
        steps: int,
        calibrations: Path | None,
        arithmetic: str | None = None,
        told: Told | None = None,
        shares: Sequence[Share] = (),
    ) -> Bench:
        """Time `steps` steps of a checkpoint at each size, and a whole picture of each of `shares`.

        Raises CheckpointError, as for shares of a model that takes none.
        """
        ...

    def bench_random(
        self,
        name: str,
        sizes: Sequence[Size],
        bits: Sequence[int],
        steps: int,
        told: Told | None = None,
        shares: Sequence[Share] = (),
    ) -> Bench:
        """The same of random weights, `name` one of `configs`, one width after another."""
        ...
