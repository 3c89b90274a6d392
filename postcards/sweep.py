"""Scores a checkpoint by size, steps and coarse steps: many settings, many pictures at once.

Every setting of a size renders the same captions from the same seeds. Pictures are read by other processes.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.worker.engines.hidream.coarse import halved
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.engines.hidream.flops import step_flops
from pixelkiln.worker.engines.hidream.positions import Grid
from pixelkiln.worker.engines.hidream.recipes import RECIPES
from postcards.batch import Asked, Batches
from postcards.checkpoint import Geometry
from postcards.draw import draw
from postcards.exam import Exam, exam, render
from postcards.looks import PATCH, Look, Pixels, kept, look
from postcards.score import interval
from postcards.sheet import contact_sheet

FULL = RECIPES["dev"].text.steps
PROMPT = 40  # tokens, for counting a step's arithmetic
SHOWN = 24  # captions on a page


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to render: `scale` times the captions' sizes, in so many steps, the first of them coarse."""

    scale: int
    steps: int
    coarse: int

    def __str__(self) -> str:
        size = "formats" if self.scale == 1 else "doubles"
        return f"{size}, {self.steps} steps" + (f", {self.coarse} of them coarse" if self.coarse else "")


Measured = tuple[float, float, float]  # and its 95% interval, by resampling captions


@dataclass(frozen=True, slots=True)
class Row:
    """What one setting's pictures are like."""

    scale: int
    steps: int
    coarse: int
    pictures: int
    facts: int
    held: Measured  # share of stated facts
    sharpness: Measured  # mean absolute Laplacian, levels of 255
    psnr: Measured | None  # dB, to as many steps without coarse ones, from equal seeds
    agree: Measured | None  # share of stated facts that hold here and in the full run alike, or in neither
    kept: Measured | None  # share of the full run's things that stand here too
    seams: float
    tokens: float  # patches of a picture, over all steps
    gflop: float  # of a picture
    seconds: float | None  # of a picture, alone, in the engine: the median
    by_sort: dict[str, tuple[int, int]]  # held, stated


def settings(scales: Sequence[int], steps: Sequence[int], coarse: Sequence[int]) -> list[Setting]:
    """Every size with every step count and every share; `coarse` is of the most steps."""
    found = [
        Setting(scale, count, round(share * count / max(steps)))
        for scale in scales
        for count in steps
        for share in sorted(coarse)
    ]
    return [one for one in dict.fromkeys(found) if one.coarse < one.steps]


def sweep(
    folder: Path, out: Path, rows: Sequence[Setting], n: int, processes: int, timed: int, most: int = 32
) -> list[Row]:
    """Score every setting; `out` gets sweep.json, sweep.md after each, and a page of pictures a size.

    `timed` pictures of each setting are rendered alone, by the engine, and timed.
    """
    out.mkdir(parents=True, exist_ok=True)
    questions, found = exam(n), list[Row]()
    batches = Batches(folder, Geometry(), most)
    engine = HiDreamEngine.load(folder) if timed else None
    full: dict[int, list[Look]] = {}  # by scale
    equal: dict[tuple[int, int], list[Pixels]] = {}  # by scale and steps
    pages: dict[int, list[tuple[Setting, list[Pixels]]]] = {}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for scale in {one.scale for one in rows}:
            drawn = [draw(scene, scale) for scene, _ in questions[:SHOWN]]
            pages[scale] = [(Setting(scale, 0, 0), drawn)]
        for setting in sorted(rows, key=lambda one: (one.scale, -one.steps, one.coarse)):
            asked = [
                Asked(caption.text, _grid(scene.width, scene.height, setting.scale), index)
                for index, (scene, caption) in enumerate(questions)
            ]
            pictures = batches.render(asked, setting.steps, setting.coarse)
            others = equal.setdefault((setting.scale, setting.steps), pictures)
            work = zip(pictures, [setting.scale] * n, others, strict=True)
            looks = pool.map(look, work, chunksize=4)
            first = full.setdefault(setting.scale, looks)
            seconds = _alone(engine, questions[:timed], setting) if engine else None
            found.append(_row(folder, setting, questions, looks, first, asked, seconds))
            print(_line(found[-1]), flush=True)
            if (setting.steps, setting.coarse) in _shown(setting.scale):
                pages[setting.scale].append((setting, pictures[:SHOWN]))
                _page(questions, pages[setting.scale]).save(out / f"page{setting.scale}.jpg", quality=88)
            record = [asdict(row) for row in found]
            (out / "sweep.json").write_text(json.dumps(record, indent=1) + "\n")
            (out / "sweep.md").write_text(table(found))
    return found


def _shown(scale: int) -> set[tuple[int, int]]:
    """Steps and coarse ones of a page's columns: in full, --fast, too many, --draft."""
    model = CATALOGUE["demo"]
    shares = model.shares(model.size[0] * scale, model.size[1] * scale)
    return {(FULL, 0), (FULL, shares.fast), (FULL, 24), shares.draft}


def _grid(width: int, height: int, scale: int) -> Grid:
    return height * scale // PATCH, width * scale // PATCH


def _alone(engine: HiDreamEngine, questions: Exam, setting: Setting) -> float:
    """The median over square pictures, the first of which is not counted."""
    side, seconds = 256 * setting.scale, []
    for index, (_, caption) in enumerate([questions[0], *questions]):
        own = render(engine, caption.text, (side, side), index, setting.steps, setting.coarse)[1]
        seconds.append(own)
    return float(np.median(seconds[1:]))


def _row(
    folder: Path,
    setting: Setting,
    questions: Exam,
    looks: Sequence[Look],
    full: Sequence[Look],
    asked: Sequence[Asked],
    seconds: float | None,
) -> Row:
    n = len(looks)
    held, stated, same, stay, stood = (np.zeros(n) for _ in range(5))
    by_sort: dict[str, tuple[int, int]] = {}
    for i, ((_, caption), one, other) in enumerate(zip(questions, looks, full, strict=True)):
        for fact in caption.facts:
            holds = one.reading.holds(fact)
            yes, all_ = by_sort.get(fact.sort, (0, 0))
            by_sort[fact.sort] = (yes + holds, all_ + 1)
            held[i] += holds
            stated[i] += 1
            same[i] += holds == other.reading.holds(fact)
        stay[i], stood[i] = kept(other.reading, one.reading)
    ratios = np.array([one.psnr for one in looks if one.psnr is not None])
    itself = looks is full
    config = Config.read(folder).text

    def spent(count: Callable[[Grid], float]) -> float:
        coarse, fine = setting.coarse, setting.steps - setting.coarse
        return float(np.mean([coarse * count(halved(one.grid)) + fine * count(one.grid) for one in asked]))

    return Row(
        **asdict(setting),
        pictures=n,
        facts=int(stated.sum()),
        held=_measured(held, stated),
        sharpness=_measured(np.array([one.sharpness for one in looks])),
        psnr=_measured(ratios) if len(ratios) else None,
        agree=None if itself else _measured(same, stated),
        kept=None if itself else _measured(stay, stood),
        seams=float(np.mean([one.seams for one in looks])),
        tokens=spent(lambda grid: grid[0] * grid[1]),
        gflop=spent(lambda grid: step_flops(config, PROMPT, grid[0] * grid[1]) / 1e9),
        seconds=seconds,
        by_sort=dict(sorted(by_sort.items())),
    )


def _measured(values: NDArray[np.float64], of: NDArray[np.float64] | None = None) -> Measured:
    of = np.ones(len(values)) if of is None else of
    return float(values.sum() / max(of.sum(), 1)), *interval(values, of)


def _said(one: Measured | None, form: str) -> str:
    return "" if one is None else f"{one[0]:{form}} ({one[1]:{form}}–{one[2]:{form}})"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "size": lambda r: "formats" if r.scale == 1 else "doubles",
    "steps": lambda r: str(r.steps),
    "coarse": lambda r: str(r.coarse),
    "facts held": lambda r: _said(r.held, ".1%"),
    "sharpness": lambda r: _said(r.sharpness, ".3f"),
    "PSNR, dB": lambda r: _said(r.psnr, ".1f"),
    "facts as in the full run": lambda r: _said(r.agree, ".1%"),
    "things where it has them": lambda r: _said(r.kept, ".1%"),
    "seams": lambda r: f"{r.seams:.3f}",
    "tokens": lambda r: f"{r.tokens:,.0f}",
    "GFLOP": lambda r: f"{r.gflop:,.1f}",
    "s alone": lambda r: "" if r.seconds is None else f"{r.seconds:.3f}",
}


def _line(row: Row) -> str:
    return f"| {' | '.join(cell(row) for cell in COLUMNS.values())} |"


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    return "\n".join([f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *map(_line, rows)]) + "\n"


def _page(questions: Exam, columns: Sequence[tuple[Setting, Sequence[Pixels]]]) -> Image.Image:
    def cells() -> Iterator[tuple[Pixels, str]]:
        for row, (_, caption) in enumerate(questions[:SHOWN]):
            for setting, pictures in columns:
                told = f"{setting}: " if setting.steps else "drawn by the world itself: "
                yield pictures[row], told + caption.text

    return contact_sheet(list(cells()), len(columns))
