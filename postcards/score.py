"""Measures a checkpoint: how many stated facts its pictures show, and what fewer bits or steps do to them.

Every setting renders the same unseen captions from the same noise, through the engine.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.hidream.convert import convert
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.engines.hidream.seams import blend
from pixelkiln.worker.render.checks import check
from postcards.draw import draw
from postcards.exam import Exam, exam, render
from postcards.looks import psnr
from postcards.reader import read
from postcards.sheet import contact_sheet

RESAMPLES = 2000
BLEND = 2  # pixels, the radius that seams are blended over
SHOWN = 8  # captions on the sheet
GRID = CATALOGUE["demo"].grid

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to render: bits of the weights and denoising steps; no bits are the world's own renderer."""

    bits: int
    steps: int

    def __str__(self) -> str:
        return f"{self.bits} bits, {self.steps} steps" if self.bits else "drawn by the world itself"


@dataclass(frozen=True, slots=True)
class Score:
    """What one setting's pictures are like. Luma and its spread in levels of 255."""

    setting: str
    pictures: int
    facts: int
    held: float  # share of stated facts
    low: float  # of its 95% interval, by resampling captions
    high: float
    luma: float
    luma_shift: float | None = None  # to the first setting
    spread: float = 0.0
    spread_shift: float | None = None
    psnr: float | None = None  # dB, the mean over pictures, to the most bits at the same steps
    seams: float = 0.0  # steps in luma at patch borders over those beside them
    blended: float = 0.0  # the same after blending
    seconds: float | None = None  # a picture, the median
    by_sort: dict[str, tuple[int, int]] = field(default_factory=dict)  # held, stated


def score(folder: Path, out: Path, bits: Sequence[int], steps: Sequence[int], n: int) -> list[Score]:
    """Score every width at the first step count and every step count at the first width; write a report.

    `out` gets score.json, score.md and sheet.png after each setting.
    """
    out.mkdir(parents=True, exist_ok=True)
    questions = exam(n)
    settings = [Setting(width, steps[0]) for width in bits] + [Setting(bits[0], count) for count in steps[1:]]
    drawn = [draw(scene) for scene, _ in questions]
    columns = [(Setting(0, 0), drawn)]
    scores = [judge(str(Setting(0, 0)), questions, drawn)]
    firsts: dict[int, list[Pixels]] = {}  # by steps
    with tempfile.TemporaryDirectory() as scratch:
        for setting in settings:
            own = folder
            if setting.bits != 16:
                own = Path(scratch) / f"q{setting.bits}"
                if not own.exists():
                    convert(folder, own, setting.bits)
            pictures, seconds = _rendered(own, questions, setting.steps)
            first = firsts.setdefault(setting.steps, pictures)
            against = firsts[steps[0]] if setting.steps != steps[0] else first
            scores.append(judge(str(setting), questions, pictures, seconds, against, first))
            print(_row(scores[-1]), flush=True)
            columns.append((setting, pictures))
            _report(out, folder, scores, questions, columns)
    return scores


def judge(
    name: str,
    questions: Exam,
    pictures: Sequence[Pixels],
    seconds: Sequence[float] = (),
    against: Sequence[Pixels] | None = None,
    equal: Sequence[Pixels] | None = None,
) -> Score:
    """Read the pictures and compare them: luma with `against`, noise-equal ones with `equal`."""
    held, stated = np.zeros(len(pictures)), np.zeros(len(pictures))
    by_sort: dict[str, tuple[int, int]] = {}
    for i, ((_, caption), picture) in enumerate(zip(questions, pictures, strict=True)):
        reading = read(picture)
        for fact in caption.facts:
            holds = reading.holds(fact)
            yes, all_ = by_sort.get(fact.sort, (0, 0))
            by_sort[fact.sort] = (yes + holds, all_ + 1)
            held[i] += holds
            stated[i] += 1
    low, high = interval(held, stated)
    looks = [check(picture, GRID) for picture in pictures]
    luma = float(np.mean([look.luma_mean for look in looks]))
    spread = float(np.mean([look.luma_spread for look in looks]))
    ratios = [psnr(a, b) for a, b in zip(pictures, equal or (), strict=False) if not np.array_equal(a, b)]
    others = [check(picture, GRID) for picture in against or ()]
    return Score(
        setting=name,
        pictures=len(pictures),
        facts=int(stated.sum()),
        held=float(held.sum() / stated.sum()),
        low=low,
        high=high,
        luma=luma,
        luma_shift=luma - float(np.mean([look.luma_mean for look in others])) if others else None,
        spread=spread,
        spread_shift=spread - float(np.mean([look.luma_spread for look in others])) if others else None,
        psnr=float(np.mean(ratios)) if ratios else None,
        seams=float(np.mean([look.seam_score for look in looks])),
        blended=float(np.mean([check(blend(picture, BLEND), GRID).seam_score for picture in pictures])),
        seconds=float(np.median(seconds)) if len(seconds) else None,
        by_sort=dict(sorted(by_sort.items())),
    )


def interval(held: NDArray[np.float64], stated: NDArray[np.float64]) -> tuple[float, float]:
    """95% of what sums of `held` over sums of `stated` come to when captions are drawn again."""
    rng = np.random.default_rng(0)
    rows = rng.integers(len(held), size=(RESAMPLES, len(held)))
    shares = held[rows].sum(1) / np.maximum(stated[rows].sum(1), 1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def _rendered(folder: Path, questions: Exam, steps: int) -> tuple[list[Pixels], list[float]]:
    engine = HiDreamEngine.load(folder)
    try:
        found = [
            render(engine, caption.text, (scene.width, scene.height), index, steps)
            for index, (scene, caption) in enumerate(questions)
        ]
    finally:
        engine.close()
    return [pixels for pixels, _ in found], [seconds for _, seconds in found]


COLUMNS: dict[str, Callable[[Score], str]] = {
    "setting": lambda s: s.setting,
    "facts held": lambda s: f"{s.held:.1%} ({s.low:.1%}–{s.high:.1%})",
    "luma": lambda s: f"{s.luma:.1f}",
    "shift": lambda s: "" if s.luma_shift is None else f"{s.luma_shift:+.2f}",
    "spread": lambda s: f"{s.spread:.1f}",
    "shift of spread": lambda s: "" if s.spread_shift is None else f"{s.spread_shift:+.2f}",
    "PSNR, dB": lambda s: "" if s.psnr is None else f"{s.psnr:.1f}",
    "seams": lambda s: f"{s.seams:.3f}",
    "blended": lambda s: f"{s.blended:.3f}",
    "s a picture": lambda s: "" if s.seconds is None else f"{s.seconds:.2f}",
}


def _row(one: Score) -> str:
    return f"| {' | '.join(cell(one) for cell in COLUMNS.values())} |"


def table(scores: Sequence[Score]) -> str:
    """The scores in Markdown: one row a setting, then the facts held by sort."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *map(_row, scores), ""]
    sorts = sorted(scores[0].by_sort)
    lines += [f"| held of stated | {' | '.join(sorts)} |", "|---" * (len(sorts) + 1) + "|"]
    for one in scores:
        cells = [f"{one.by_sort[sort][0]}/{one.by_sort[sort][1]}" for sort in sorts]
        lines.append(f"| {one.setting} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _report(
    out: Path,
    folder: Path,
    scores: Sequence[Score],
    questions: Exam,
    columns: Sequence[tuple[Setting, Sequence[Pixels]]],
) -> None:
    facts = HiDreamEngine.load(folder).facts(RenderSpec(prompt="a postcard", model="demo"))
    record = {"model": facts.record(), "scores": [asdict(one) for one in scores]}
    (out / "score.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    (out / "score.md").write_text(table(scores))
    _sheet(questions, columns).save(out / "sheet.png")


def _sheet(questions: Exam, columns: Sequence[tuple[Setting, Sequence[Pixels]]]) -> Image.Image:
    def cells() -> Iterator[tuple[Pixels, str]]:
        for row, (_, caption) in enumerate(questions[:SHOWN]):
            for setting, pictures in columns:
                held = read(pictures[row])
                missed = [str(fact) for fact in caption.facts if not held.holds(fact)]
                note = f" Not: {', '.join(missed)}." if missed else ""
                yield pictures[row], f"{setting}: {caption.text}{note}"

    return contact_sheet(list(cells()), len(columns))
