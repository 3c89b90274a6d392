"""What pictures are called at home: readable, unique, and fit for a Mac, a NAS and Windows."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.hints import nearest
from pixelkiln.jobs.spec import RenderSpec

DEFAULT = "{n:04}-{prompt:40}-{seed}"
MAX_NAME = 180  # bytes of UTF-8, number and ending aside: an encrypted home has 143 to 255, most disks 255
ENDING = ".png"
_PART = re.compile(r"\{([^{}]*)\}")
_NUMBERS = ("n", "seed", "width", "height", "steps")
_TEXTS = ("prompt", "id", "model", "quantization", "client", "priority")
_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE
)
_KEPT = "-_.,()+='!@~"  # beside letters, digits and the marks on them
_COLUMNS = ("n", "file", "state", "id", "prompt", "negative_prompt", "model", "quantization")
_MORE = ("width", "height", "seed", "steps", "guidance", "strength", "error")


@dataclass(frozen=True, slots=True)
class Template:
    """Names made of a job's fields: `{n:04}-{prompt:40}-{seed}`.

    After a colon stands how many digits a number has at least, or how many characters of a text are kept.
    """

    parts: tuple[tuple[str, str, int], ...]  # text before, field, its digits or characters; 0 for all

    @classmethod
    def parse(cls, text: str) -> Self:
        """The template that a text writes. Raises UsageError."""
        parts, at = [], 0
        for found in _PART.finditer(text):
            name, colon, width = found[1].partition(":")
            known = name in (*_NUMBERS, *_TEXTS) or (name.startswith("label.") and len(name) > 6)
            if not known:
                near = nearest(name, (*_NUMBERS, *_TEXTS, "label.NAME"))
                told = f"did you mean {{{near}}}?" if near else f"there are {', '.join((*_NUMBERS, *_TEXTS))}"
                raise UsageError(f"--names: {{{name[:40]}}} is no field; {told}")
            if colon and not re.fullmatch(r"0?[1-9]\d?", width):
                raise UsageError(f"--names: {found[0][:40]} needs a number from 1 to 99 behind the colon")
            parts.append((text[at : found.start()], name, int(width or 0)))
            at = found.end()
        template = cls((*parts, (text[at:], "", 0)))
        literal = "".join(before for before, _, _ in template.parts)
        if refused := re.search(r'[<>:"/\\|?*{}\x00-\x1f\x7f]', literal):
            raise UsageError(f"--names: no file's name has {refused[0]!r} on every disk; leave it out")
        if not parts:
            raise UsageError("--names: names no field; {n} tells pictures apart")
        return template

    def stem(self, number: int, job_id: str, spec: RenderSpec) -> str:
        """The name of one picture without its ending, fit for every disk."""
        known: dict[str, Any] = {"n": number, "id": job_id}
        texts = []
        for before, name, width in self.parts:
            if name.startswith("label."):
                value: Any = spec.labels.get(name.removeprefix("label."), "")
            else:
                value = known[name] if name in known else getattr(spec, name) if name else ""
            texts.append(before)
            if name in _NUMBERS:
                texts.append("" if value is None else f"{value:0{width or 1}}")
            else:
                texts.append(_slug(value, width))
        return _fit("".join(texts))


def file_names(template: Template, jobs: Iterable[tuple[int, str, RenderSpec]]) -> list[str]:
    """A name for each job, by its number in the batch, its id and spec: no two are one on any disk.

    Disks of Macs and Windows take `Fox` and `fox`, or the two ways to write é, for one: a later one of such a
    kind gets `~2`. The same jobs in the same order have the same names.
    """
    taken: set[str] = set()
    tried: dict[str, int] = {}  # by folded name, the number that was given last
    names = []
    for number, job_id, spec in jobs:
        stem = name = template.stem(number, job_id, spec)
        folded = _folded(stem)
        again = tried.get(folded, 1)
        while _folded(name) in taken:
            again += 1
            name = f"{stem}~{again}"
        tried[folded] = again
        taken.add(_folded(name))
        names.append(name + ENDING)
    return names


def index_csv(rows: Sequence[tuple[int, str, str, str, RenderSpec, str]]) -> bytes:
    """`index.csv`: for each job its number, file ('' where there is none), state, id, spec and error.

    With a byte order mark, by which spreadsheets know UTF-8, and a column for each label. Text that a
    spreadsheet would compute has an apostrophe before it: others than its reader may have written it.
    """
    labels = sorted({name for row in rows for name in row[4].labels})
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow((*_COLUMNS, *_MORE, *(f"label.{name}" for name in labels)))
    for number, file, state, job_id, spec, error in rows:
        known: Mapping[str, Any] = {"n": number, "file": file, "state": state, "id": job_id, "error": error}
        values = [known[name] if name in known else getattr(spec, name) for name in (*_COLUMNS, *_MORE)]
        writer.writerow([_cell(one) for one in (*values, *map(spec.labels.get, labels))])
    return text.getvalue().encode("utf-8-sig", "replace")


def _cell(value: object) -> object:
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return "" if value is None else f"'{value}" if formula else value


def _slug(text: str, width: int) -> str:
    """A text as part of a name: letters and digits of any script, a dash for each run of anything else."""
    text = unicodedata.normalize("NFC", text)
    plain = "".join(one if _is_letter(one) else "-" for one in text)
    plain = re.sub(r"-+", "-", plain).strip("-")
    return _cut(plain, width).strip("-") if width else plain


def _is_letter(one: str) -> bool:
    return one.isalnum() or unicodedata.category(one) in ("Mn", "Mc") or one == "_"


def _cut(text: str, width: int) -> str:
    """The first `width` characters, no mark parted from its letter; at a dash where one is near."""
    if len(text) <= width:
        return text
    while width > 1 and unicodedata.category(text[width])[0] == "M":
        width -= 1
    cut = text[:width]
    dash = cut.rfind("-")
    return cut[:dash] if text[width] != "-" and dash >= width * 2 // 3 else cut


def _fit(name: str) -> str:
    """The name where every disk takes it, else the nearest that they do."""
    name = unicodedata.normalize("NFC", name)
    name = "".join(one if _is_letter(one) or one in _KEPT else "-" for one in name)
    name = re.sub(r"-{2,}", "-", name).strip("-. ")
    while len(name.encode("utf-8", "replace")) > MAX_NAME:
        name = _cut(name, len(name) - 1).strip("-. ")
    if _DEVICES.match(name):
        name = f"_{name}"
    return name or "picture"


def _folded(name: str) -> str:
    """What disks that tell no case apart, nor one way to write a letter from another, make of a name."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", name).upper().casefold()).casefold()
