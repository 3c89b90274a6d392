"""What other ways to compute would take on this chip: each timed beside what is in force, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.worker import engines
from pixelkiln.worker.engines.blas import use_openblas
from pixelkiln.worker.engines.checkpoints.files import read_json, write_json
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.engine import CheckpointError, NonFiniteError
from pixelkiln.worker.engines.family import Bench, Share, Size, Told

LAYERS_AHEAD = (0, 2, 4)  # beside the one that is built in
PRODUCTS = ("quantised", "dequantised")  # as a calibration has their seconds

# What to do where another way is faster by more than chance. Of quantised products nothing: workers measure
# them, and choose, when they first load a checkpoint.
ADVICE = {
    "arithmetic": 'in kiln.toml: arithmetic = "{way}"',
    "layers ahead": "no setting chooses it: please say so in an issue, with `kiln doctor --report`",
    "kernels": "no setting chooses it: please say so in an issue, with `kiln doctor --report`",
    "a picture": "where what it changes may be (docs/quality.md): kiln submit {way}",
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do one thing. Of each thing the first is what is in force."""

    thing: str
    way: str
    seconds: float | None  # None: the model's numbers are too large for it


@dataclass(frozen=True, slots=True)
class Exploration:
    """What one checkpoint took on one chip."""

    chip: str
    mlx: str
    bits: int
    digest: str  # of the weights
    size: Size
    ways: tuple[Way, ...]

    def shares(self) -> Iterator[tuple[Way, float | None]]:
        """Each way with its seconds in parts of those of what is in force."""
        for _, group in groupby(self.ways, lambda one: one.thing):
            usual = None
            for one in group:
                usual = usual or one.seconds
                yield one, one.seconds / usual if one.seconds and usual else None

    def advice(self) -> list[str]:
        """What to do about the fastest way of each thing, if anything."""
        told = []
        for thing, group in groupby(self.shares(), lambda found: found[0].thing):
            share, way = min((share, one.way) for one, share in group if share is not None)
            if share < engines.WORTH and thing in ADVICE:
                told.append(f"{thing} {way}: {share:.2f} of the time; {ADVICE[thing].format(way=way)}")
        return told or ["nothing here is faster than what is in force"]


def explore(
    folder: Path, size: Size, steps: int, cache: Path, arithmetic: str | None, told: Told | None = None
) -> Exploration:
    """Time a checkpoint each way, `arithmetic` being in force, and keep what was found in `cache`.

    Raises CheckpointError.
    """
    use_openblas()
    import mlx.core as mx

    from pixelkiln.worker.engines.mlx import elementwise, pacing

    manifest = Manifest.read(folder)
    shares = _shares(manifest.model, size)

    def run(
        by: str | None = arithmetic,
        within: AbstractContextManager[None] | None = None,
        shares: tuple[Share, ...] = (),
    ) -> Bench | None:
        with within or nullcontext():
            try:
                return engines.bench(folder, [size], steps, cache, by, told, shares)
            except NonFiniteError:
                return None

    found = run(shares=tuple(shares.values()))
    if found is None:
        raise CheckpointError(f"{folder}: its numbers are too large for the arithmetic in force")
    usual = found.rows[0].step
    ways = [Way("arithmetic", found.arithmetic, usual)]
    ways += [Way("arithmetic", one, _step(run(one))) for one in engines.HALVES if one != found.arithmetic]
    ways += _products(cache, found.arithmetic, manifest.digest)
    ways.append(Way("layers ahead", str(pacing.AHEAD), usual))
    ways += [
        Way("layers ahead", str(layers), _step(run(within=pacing.ahead(layers)))) for layers in LAYERS_AHEAD
    ]
    if mx.default_device() == mx.Device(mx.gpu):
        ways.append(Way("kernels", "compiled", usual))
        ways.append(Way("kernels", "separate", _step(run(within=elementwise.separate()))))
    ways += [
        Way("a picture", name, median(one.seconds)) for name, one in zip(shares, found.pictures, strict=True)
    ]
    made = Exploration(found.device, found.mlx, manifest.bits, manifest.digest, size, tuple(ways))
    cache.mkdir(parents=True, exist_ok=True)
    partial = _path(cache, manifest.digest).with_suffix(".partial")
    write_json(partial, asdict(made))
    partial.replace(_path(cache, manifest.digest))
    return made


def kept(cache: Path, digest: str, chip: str) -> Exploration | None:
    """The last one of these weights on this chip, if it can be read."""
    try:
        data = read_json(_path(cache, digest))
        ways = tuple(
            Way(one["thing"], one["way"], one["seconds"] and float(one["seconds"])) for one in data["ways"]
        )
        width, height = data["size"]
        made = Exploration(data["chip"], data["mlx"], data["bits"], data["digest"], (width, height), ways)
    except (CheckpointError, OSError, ValueError, KeyError, TypeError):
        return None
    return made if made.chip == chip else None


def _path(cache: Path, digest: str) -> Path:
    return cache / f"explored-{digest.removeprefix('sha256:')[:16]}.json"


def _step(found: Bench | None) -> float | None:
    return None if found is None else found.rows[0].step


def _shares(name: str, size: Size) -> dict[str, Share]:
    """What a job of that model may choose, by how it says so."""
    model = CATALOGUE.get(name)
    if model is None or not model.coarse:
        return {}
    steps, shares = int(model.steps.default), model.shares(*size)
    return {"in full": (steps, 0), "--fast": (steps, shares.fast), "--draft": shares.draft}


def _products(cache: Path, arithmetic: str, digest: str) -> list[Way]:
    """A layer of quantised weights by rows of input, as it was measured when these were first loaded."""
    from pixelkiln.worker.engines.checkpoints import calibrate
    from pixelkiln.worker.engines.mlx.arithmetic import dtype

    found = calibrate.kept(cache, dtype(arithmetic), digest)
    ways: list[Way] = []
    if found is None:
        return ways
    for rows, both in found.seconds.items():
        thing = f"a layer, {rows} rows"
        pair = [Way(thing, way, taken) for way, taken in zip(PRODUCTS, both, strict=True)]
        ways += reversed(pair) if int(rows) >= found.dequantize_from else pair
    return ways
